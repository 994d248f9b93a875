//! TCP: bytes both ways, ends and breaks of either side, and which backend, on both ways. The tests of user space alone are
//! those of `tests/layer4/tcp.rs` with the same names.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::{
    stage::*,
    support::{network::ip, wait},
};

/// Says its name, then sends back what it gets.
fn echo(stage: &Stage, name: &'static str) -> SocketAddr {
    let backend = Backend::start(stage);
    let address = backend.address;
    thread::spawn(move || {
        loop {
            let mut stream = backend.next();
            thread::spawn(move || {
                stream.set_read_timeout(None)?;
                stream.write_all(name.as_bytes())?;
                io::copy(&mut stream.try_clone()?, &mut stream)?;
                stream.shutdown(Shutdown::Write)
            });
        }
    });
    address
}

/// One backend for all.
fn pair(stage: &Stage) -> Backend {
    let backend = Backend::start(stage);
    stage.serve("TCP", &[(1, Some(&[backend.address]))]);
    backend
}

fn hear(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("in time");
    String::from_utf8(bytes).expect("text")
}

fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an orderly end in time");
    text
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
}

/// Is a new connection reset? That may be before its client knows that it is connected.
fn is_reset_at_once(stage: &Stage) -> bool {
    match stage.try_connect() {
        Ok(mut stream) => is_reset(&mut stream),
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Whom `count` connections came to; "-" where they were reset.
fn tally(stage: &Stage, count: usize) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        let mut name = [0];
        let name = match stage.try_connect().and_then(|mut stream| stream.read(&mut name)) {
            Ok(1) => String::from_utf8_lossy(&name).into_owned(),
            Ok(_) => panic!("an end without a word"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                "-".to_owned()
            }
        };
        *tally.entry(name).or_default() += 1;
    }
    tally
}

/// Five standard deviations of what a fair choice gives; user space is closer.
fn is_share(found: usize, share: f64, of: usize) -> bool {
    let expected = share * of as f64;
    (found as f64 - expected).abs() < 5.0 * (expected * (1.0 - share)).sqrt()
}

fn weights_are_kept(stage: &Stage) {
    let (a, b, never) = (echo(stage, "a"), echo(stage, "b"), echo(stage, "n"));
    stage.serve("TCP", &[(3, Some(&[a])), (1, Some(&[b])), (0, Some(&[never]))]);
    let seen = tally(stage, 400);
    assert!(is_share(seen["a"], 0.75, 400) && seen.len() == 2, "{seen:?}");
    if stage.way == Way::Kernel {
        assert_eq!(stage.carried("TCP"), 400);
    }
}

fn either_side_may_end_and_the_other_go_on(stage: &Stage) {
    let backend = pair(stage);
    for client_first in [true, false] {
        let (mut one, mut other) = (stage.connect(), backend.next());
        if !client_first {
            std::mem::swap(&mut one, &mut other);
        }
        one.write_all(b"my last word").expect("sent");
        one.shutdown(Shutdown::Write).expect("ended");
        assert_eq!(read_to_end(&mut other), "my last word");
        for _ in 0..3 {
            other.write_all(b"and still").expect("half open");
            assert_eq!(hear(&mut one, 9), "and still");
        }
        drop(other);
        assert_eq!(read_to_end(&mut one), "");
    }
}

fn who_says_nothing_first_is_connected_all_the_same(stage: &Stage) {
    let backend = pair(stage);
    let mut client = stage.connect();
    let mut behind = backend.next();
    assert_eq!(behind.peer_addr().expect("connected").ip(), stage.source());
    behind.write_all(b"220 ready").expect("sent");
    assert_eq!(hear(&mut client, 9), "220 ready");
}

fn a_break_is_passed_on(stage: &Stage) {
    let backend = pair(stage);
    let (client, mut behind) = (stage.connect(), backend.next());
    reset(client);
    assert!(is_reset(&mut behind));
    let (mut client, mut behind) = (stage.connect(), backend.next());
    // One that breaks before a word counts as not connected.
    behind.write_all(b"!").expect("sent");
    assert_eq!(hear(&mut client, 1), "!");
    reset(behind);
    assert!(is_reset(&mut client));
}

fn a_break_is_passed_on_while_bytes_wait(stage: &Stage) {
    let backend = pair(stage);
    let (mut client, mut behind) = (stage.connect(), backend.next());
    client.set_nonblocking(true).expect("set");
    fill(&mut client);
    reset(client);
    assert!(is_reset(&mut behind));
    let (mut client, mut behind) = (stage.connect(), backend.next());
    behind.set_nonblocking(true).expect("set");
    fill(&mut behind);
    reset(behind);
    assert!(is_reset(&mut client));
}

/// Writes until nothing more is taken for a while; how much was.
fn fill(stream: &mut TcpStream) -> usize {
    let (mut taken, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        match stream.write(&[0; 16 << 10]) {
            Ok(count) => (taken, last) = (taken + count, Instant::now()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
    taken
}

fn who_does_not_read_stops_the_other(stage: &Stage) {
    let backend = pair(stage);
    for client_writes in [true, false] {
        let (mut writer, mut reader) = (stage.connect(), backend.next());
        if !client_writes {
            std::mem::swap(&mut writer, &mut reader);
        }
        writer.set_nonblocking(true).expect("set");
        let taken = fill(&mut writer);
        assert!((64 << 10..64 << 20).contains(&taken), "{taken} bytes");
        writer.set_nonblocking(false).expect("set");
        let rest = thread::spawn(move || writer.write_all(&vec![1; 1 << 20]).expect("taken in the end"));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("in time");
        assert_eq!(bytes.len(), taken + (1 << 20));
        rest.join().expect("written");
    }
}

/// Bytes that say where they stand.
fn pattern(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|index| ((index ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn much_goes_both_ways_at_once(stage: &Stage) {
    let (there, back) = (&pattern(8 << 20, 1), &pattern(8 << 20, 2));
    let backend = pair(stage);
    let (client, behind) = (stage.connect(), backend.next());
    both_ways(&client, &behind, there, back);
}

/// Sends `there` to the backend and `back` to the client at once, each to its end.
pub fn both_ways(client: &TcpStream, behind: &TcpStream, there: &[u8], back: &[u8]) {
    let say = |mut stream: &TcpStream, bytes: &[u8]| {
        bytes.chunks(7919).for_each(|chunk| stream.write_all(chunk).expect("sent"));
        stream.shutdown(Shutdown::Write).expect("ended");
    };
    let hear = |mut stream: &TcpStream, expected: &[u8]| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("in time");
        assert!(bytes == expected, "the bytes are the same");
    };
    thread::scope(|scope| {
        scope.spawn(|| say(client, there));
        scope.spawn(|| say(behind, back));
        scope.spawn(|| hear(behind, there));
        scope.spawn(|| hear(client, back));
    });
}

fn a_narrow_way_is_found(stage: &Stage) {
    let (there, back) = (&pattern(4 << 20, 3), &pattern(4 << 20, 4));
    for at_backend in [true, false] {
        // What the other end sends fits, and it says of itself that it takes more: only the gateway knows better.
        let (other, here, link, network) = match at_backend {
            true => (&stage.backend, "gateway1", "backend0", 2),
            false => (&stage.client, "gateway0", "client0", 1),
        };
        ip(&format!("link set {here} mtu 1280"));
        other.run(move || {
            ip(&format!("route change 10.{network}.0.0/24 dev {link} mtu 1280 advmss 1460"));
            ip(&format!("-6 route add fd0{network}::/64 dev {link} metric 1 mtu 1280 advmss 1440"));
        });
        let backend = pair(stage);
        let (client, behind) = (stage.connect(), backend.next());
        both_ways(&client, &behind, there, back);
        ip(&format!("link set {here} mtu 1500"));
    }
    if stage.way == Way::Kernel {
        assert!(stage.packets("answered: too big") > 0);
    }
}

fn an_endpoint_that_refuses_is_skipped(stage: &Stage) {
    let (dead, live) = (stage.nobody(), echo(stage, "a"));
    stage.serve("TCP", &[(1, Some(&[dead, live]))]);
    for _ in 0..6 {
        assert_eq!(hear(&mut stage.connect(), 1), "a");
    }
}

/// A listener whose queue is full: it neither answers nor refuses.
fn silent(stage: &Stage) -> (Vec<Socket>, SocketAddr) {
    let own = stage.backend_ip();
    stage.backend.run(move || {
        let domain = Domain::for_address((own, 0).into());
        let listener = Socket::new(domain, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::from(SocketAddr::from((own, 0)))).expect("bound");
        listener.listen(0).expect("listens");
        let address = listener.local_addr().expect("bound");
        let queued = (0..8).map(|_| {
            let socket = Socket::new(domain, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            _ = socket.connect(&address);
            socket
        });
        let held: Vec<Socket> = queued.collect();
        (held.into_iter().chain([listener]).collect(), address.as_socket().expect("an address"))
    })
}

#[test]
fn an_endpoint_that_is_silent_is_skipped() {
    on_both(&[("--connect-timeout", "300ms")], |stage| {
        let ((_held, mute), live) = (silent(stage), echo(stage, "a"));
        stage.serve("TCP", &[(1, Some(&[mute, live]))]);
        for _ in 0..4 {
            assert_eq!(hear(&mut stage.connect(), 1), "a");
        }
    });
}

fn without_a_backend_the_connection_is_reset(stage: &Stage) {
    let nobody = stage.nobody();
    let cases: [&[Share<'_>]; 3] = [&[(1, None)], &[(0, Some(&[nobody]))], &[(1, Some(&[]))]];
    for shares in cases {
        stage.serve("TCP", shares);
        assert!(is_reset_at_once(stage), "{shares:?}");
    }
    stage.serve_without_route("TCP");
    assert!(is_reset_at_once(stage), "no route");
    // The only endpoint refuses: the kernel path passes on just that, user space cannot take back that it accepted.
    stage.serve("TCP", &[(1, Some(&[nobody]))]);
    match stage.way {
        Way::User => assert!(is_reset_at_once(stage)),
        Way::Kernel => {
            assert_eq!(stage.try_connect().expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        }
    }
}

fn an_invalid_share_is_reset_in_its_measure(stage: &Stage) {
    let live = echo(stage, "a");
    stage.serve("TCP", &[(1, Some(&[live])), (1, None)]);
    let seen = tally(stage, 200);
    assert!(is_share(seen["-"], 0.5, 200), "{seen:?}");
}

fn endpoints_of_both_kinds_have_their_shares(stage: &Stage) {
    let far = echo(stage, "f");
    // On the gateway's own machine.
    let near = std::net::TcpListener::bind((stage.source(), 0)).expect("this machine's");
    let address = near.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in near.incoming().flatten() {
            _ = stream.write_all(b"n");
        }
    });
    stage.serve("TCP", &[(3, Some(&[far])), (1, Some(&[address]))]);
    let seen = tally(stage, 300);
    assert!(is_share(seen["n"], 0.25, 300), "{seen:?}");
}

/// Nothing has come, and what is said arrives.
fn goes_on(client: &mut TcpStream, behind: &mut TcpStream) {
    behind.write_all(b".").expect("sent");
    assert_eq!(hear(client, 1), ".");
    client.write_all(b"!").expect("sent");
    assert_eq!(hear(behind, 1), "!");
}

/// Whoever speaks on a connection that is over learns of it, at the latest by then.
fn is_over(stream: &mut TcpStream) -> bool {
    _ = stream.write_all(b"?");
    // Ended, reset, or broken.
    !matches!(stream.read(&mut [0]), Ok(1..))
}

#[test]
fn silence_ends_a_connection() {
    on_both(&[("--tcp-idle-timeout", "1500ms")], |stage| {
        let backend = pair(stage);
        let (mut silent, mut behind_silent) = (stage.connect(), backend.next());
        let (mut speaks, mut behind) = (stage.connect(), backend.next());
        goes_on(&mut silent, &mut behind_silent);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            goes_on(&mut speaks, &mut behind);
            thread::sleep(Duration::from_millis(50));
        }
        assert!(is_over(&mut silent) && is_over(&mut behind_silent));
        goes_on(&mut speaks, &mut behind);
    });
}

#[test]
fn a_short_time_of_silence_is_for_the_silent_alone() {
    on_both(&[("--tcp-idle-timeout", "800ms")], |stage| {
        let backend = pair(stage);
        // On a busy machine one that speaks may be silent for long all the same; not each time.
        let kept = (0..10).any(|_| {
            let (mut speaks, mut behind) = (stage.connect(), backend.next());
            (0..80).all(|_| {
                thread::sleep(Duration::from_millis(20));
                let mut byte = [0];
                speaks.write_all(b"!").and_then(|()| behind.read_exact(&mut byte)).is_ok()
                    && behind.write_all(b".").and_then(|()| speaks.read_exact(&mut byte)).is_ok()
            })
        });
        assert!(kept);
    });
}

#[test]
fn a_listener_that_left_keeps_its_connections_for_a_while() {
    on_both(&[("--listener-drain-timeout", "1500ms")], |stage| {
        let backend = pair(stage);
        let (mut client, mut behind) = (stage.connect(), backend.next());
        stage.withdraw("TCP");
        wait("refused", PATIENCE, || stage.try_connect().is_err());
        goes_on(&mut client, &mut behind);
        // The kernel path says so when somebody speaks.
        wait("its grace ends", PATIENCE, || {
            client.set_read_timeout(Some(Duration::from_millis(300))).expect("a time");
            _ = client.write_all(b"?");
            matches!(client.read(&mut [0]), Err(error) if error.kind() != ErrorKind::WouldBlock)
                || client.peek(&mut [0]).is_ok_and(|read| read == 0)
        });
    });
}

fn a_reload_keeps_connections_with_their_backend(stage: &Stage) {
    let (a, b) = (echo(stage, "a"), echo(stage, "b"));
    stage.serve("TCP", &[(1, Some(&[a]))]);
    let mut old = stage.connect();
    assert_eq!(hear(&mut old, 1), "a");
    for _ in 0..3 {
        stage.serve("TCP", &[(1, Some(&[b]))]);
        old.write_all(b"still").expect("sent");
        assert_eq!(hear(&mut old, 5), "still");
        assert_eq!(hear(&mut stage.connect(), 1), "b");
        stage.serve_without_route("TCP");
        old.write_all(b"still").expect("sent");
        assert_eq!(hear(&mut old, 5), "still");
        assert!(is_reset_at_once(stage), "no route");
    }
}

/// What needs no flags, one after the other on the same machines.
const ALL: &[(&str, Body)] = &[
    ("weights_are_kept", weights_are_kept),
    ("either_side_may_end_and_the_other_go_on", either_side_may_end_and_the_other_go_on),
    ("who_says_nothing_first_is_connected_all_the_same", who_says_nothing_first_is_connected_all_the_same),
    ("a_break_is_passed_on", a_break_is_passed_on),
    ("a_break_is_passed_on_while_bytes_wait", a_break_is_passed_on_while_bytes_wait),
    ("who_does_not_read_stops_the_other", who_does_not_read_stops_the_other),
    ("much_goes_both_ways_at_once", much_goes_both_ways_at_once),
    ("an_endpoint_that_refuses_is_skipped", an_endpoint_that_refuses_is_skipped),
    ("without_a_backend_the_connection_is_reset", without_a_backend_the_connection_is_reset),
    ("an_invalid_share_is_reset_in_its_measure", an_invalid_share_is_reset_in_its_measure),
    ("endpoints_of_both_kinds_have_their_shares", endpoints_of_both_kinds_have_their_shares),
    ("a_reload_keeps_connections_with_their_backend", a_reload_keeps_connections_with_their_backend),
    // Leaves routes behind.
    ("a_narrow_way_is_found", a_narrow_way_is_found),
];

#[test]
fn all_without_flags() {
    all_on_both(ALL);
}
