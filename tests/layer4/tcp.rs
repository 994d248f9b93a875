//! TCP: bytes both ways, ends and breaks of either side, and which backend.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use gapi::dataplane::{Settings, outcome::Reason};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{harness::*, stage::*};

/// Hands out the connections that it gets.
struct Backend {
    address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Backend {
    fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (sender, accepted) = channel();
        // Ends with its process.
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(PATIENCE)).expect("a time");
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Backend { address, accepted }
    }

    fn next(&self) -> TcpStream {
        self.accepted.recv_timeout(PATIENCE).expect("a connection in time")
    }
}

/// Says its name, then sends back what it gets.
fn echo(name: &'static str) -> SocketAddr {
    let backend = Backend::start();
    let address = backend.address;
    std::thread::spawn(move || {
        for mut stream in backend.accepted {
            std::thread::spawn(move || {
                stream.set_read_timeout(None).expect("no time");
                stream.write_all(name.as_bytes())?;
                io::copy(&mut stream.try_clone()?, &mut stream)?;
                stream.shutdown(Shutdown::Write)
            });
        }
    });
    address
}

fn start(settings: Settings, stage: Stage) -> Gateway {
    let mut gateway = Gateway::start(settings);
    all_bound(&gateway.publish(stage.plan));
    gateway
}

/// A gateway before one backend.
fn pair(settings: Settings) -> (Gateway, SocketAddr, Backend) {
    let (backend, address) = (Backend::start(), free_address());
    let gateway = start(settings, Stage::tcp(address, &[(1, Some(&[backend.address]))]));
    (gateway, address, backend)
}

fn hear(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("in time");
    String::from_utf8(bytes).expect("text")
}

fn is_reset(stream: &mut TcpStream) -> bool {
    match stream.read_to_end(&mut Vec::new()) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            true
        }
        Ok(_) => false,
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
}

fn reason(gateway: &Gateway, reason: Reason) -> u64 {
    gateway.plane.counters().map(|counters| counters.reason(reason)).sum()
}

#[test]
fn weights_are_kept() {
    let (a, b, never) = (echo("a"), echo("b"), echo("n"));
    let address = free_address();
    let _gateway =
        start(Settings::default(), Stage::tcp(address, &[(3, Some(&[a])), (1, Some(&[b])), (0, Some(&[never]))]));
    let seen = tally((0..200).map(|_| hear(&mut connect(address), 1)));
    // Each worker's share is off by less than one.
    assert!((148..=152).contains(&seen["a"]) && !seen.contains_key("n"), "{seen:?}");
}

#[test]
fn either_side_may_end_and_the_other_go_on() {
    let (gateway, address, backend) = pair(Settings::default());
    for client_first in [true, false] {
        let (mut one, mut other) = (connect(address), backend.next());
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
    wait_until("both are counted", || reason(&gateway, Reason::Relayed) == 2);
    assert_eq!(gateway.open(), 0);
}

#[test]
fn who_says_nothing_first_is_connected_all_the_same() {
    let (_gateway, address, backend) = pair(Settings::default());
    let mut client = connect(address);
    backend.next().write_all(b"220 ready").expect("sent");
    assert_eq!(hear(&mut client, 9), "220 ready");
}

#[test]
fn a_break_is_passed_on() {
    let (gateway, address, backend) = pair(Settings::default());
    let (client, mut behind) = (connect(address), backend.next());
    reset(client);
    assert!(is_reset(&mut behind));
    wait_until("told", || reason(&gateway, Reason::ClientGone) == 1);
    let (mut client, mut behind) = (connect(address), backend.next());
    // One that breaks before a word counts as not connected.
    behind.write_all(b"!").expect("sent");
    assert_eq!(hear(&mut client, 1), "!");
    reset(behind);
    assert!(is_reset(&mut client));
    wait_until("told", || reason(&gateway, Reason::BackendReset) == 1);
}

#[test]
fn a_break_is_passed_on_while_bytes_wait() {
    let (gateway, address, backend) = pair(Settings { head_timeout: Duration::from_secs(1), ..Settings::default() });
    // The backend does not read, and the client goes.
    let (mut client, behind) = (connect(address), backend.next());
    client.set_nonblocking(true).expect("set");
    fill(&mut client);
    reset(client);
    wait_until("told", || reason(&gateway, Reason::ClientGone) == 1);
    drop(behind);
    // The client does not read, and the backend goes.
    let (client, mut behind) = (connect(address), backend.next());
    behind.set_nonblocking(true).expect("set");
    fill(&mut behind);
    reset(behind);
    wait_until("told", || reason(&gateway, Reason::BackendReset) == 1);
    drop(client);
}

/// Writes until nothing more is taken for a while; how much was.
fn fill(stream: &mut TcpStream) -> usize {
    let (mut taken, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        match stream.write(&[0; 16 << 10]) {
            Ok(count) => (taken, last) = (taken + count, Instant::now()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    taken
}

#[test]
fn who_does_not_read_stops_the_other() {
    let (_gateway, address, backend) = pair(Settings::default());
    for client_writes in [true, false] {
        let (mut writer, mut reader) = (connect(address), backend.next());
        if !client_writes {
            std::mem::swap(&mut writer, &mut reader);
        }
        writer.set_nonblocking(true).expect("set");
        let taken = fill(&mut writer);
        // The buffers of four sockets, and one of gapi's.
        assert!((64 << 10..64 << 20).contains(&taken), "{taken} bytes");
        writer.set_nonblocking(false).expect("set");
        let rest = std::thread::spawn(move || {
            writer.write_all(&vec![1; 1 << 20]).expect("taken in the end");
        });
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

#[test]
fn much_goes_both_ways_at_once() {
    let (_gateway, address, backend) = pair(Settings::default());
    let (client, behind) = (connect(address), backend.next());
    let (there, back) = (pattern(24 << 20, 1), pattern(24 << 20, 2));
    let say = |stream: &TcpStream, bytes: &[u8]| {
        let (mut stream, bytes) = (stream.try_clone().expect("a descriptor"), bytes.to_vec());
        std::thread::spawn(move || {
            bytes.chunks(7919).for_each(|chunk| stream.write_all(chunk).expect("sent"));
            stream.shutdown(Shutdown::Write).expect("ended");
        })
    };
    let hear = |mut stream: TcpStream| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("in time");
            bytes
        })
    };
    let says = [say(&client, &there), say(&behind, &back)];
    let (at_client, at_backend) = (hear(client), hear(behind));
    assert!(at_backend.join().expect("read") == there, "the bytes are the same");
    assert!(at_client.join().expect("read") == back, "the bytes are the same");
    says.into_iter().for_each(|say| say.join().expect("said"));
}

#[test]
fn an_endpoint_that_refuses_is_skipped() {
    let address = free_address();
    let (dead, live) = (free_address(), echo("a"));
    let gateway = start(Settings::default(), Stage::tcp(address, &[(1, Some(&[dead, live]))]));
    for _ in 0..20 {
        assert_eq!(hear(&mut connect(address), 1), "a");
    }
    let connects: u64 = gateway
        .plane
        .counters()
        .map(|counters| counters.connect_failures.load(std::sync::atomic::Ordering::Relaxed))
        .sum();
    assert!(connects < 10, "it is passed over for a while: {connects}");
}

/// A listener whose queue is full: it neither answers nor refuses.
fn silent() -> (Socket, Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    listener.listen(0).expect("listens");
    let address = listener.local_addr().expect("bound").as_socket().expect("an address");
    let queued = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            _ = socket.connect(&address.into());
            socket
        })
        .collect();
    (listener, queued, address)
}

#[test]
fn an_endpoint_that_is_silent_is_skipped() {
    let (_listener, _queued, mute) = silent();
    let (address, live) = (free_address(), echo("a"));
    let settings = Settings { connect_timeout: Duration::from_millis(300), ..Settings::default() };
    let gateway = start(settings, Stage::tcp(address, &[(1, Some(&[mute, live]))]));
    for _ in 0..6 {
        assert_eq!(hear(&mut connect(address), 1), "a");
    }
    let failures = || -> u64 {
        let each =
            |counters: &gapi::dataplane::Counters| counters.connect_failures.load(std::sync::atomic::Ordering::Relaxed);
        gateway.plane.counters().map(each).sum()
    };
    assert!(failures() > 0, "it was tried");
}

#[test]
fn without_a_backend_the_connection_is_reset() {
    let dead = free_address();
    let shares: [(&[Share<'_>], Reason); 5] = [
        (&[(1, None)], Reason::InvalidBackend),
        (&[], Reason::NoBackend),
        (&[(0, Some(&[dead]))], Reason::NoBackend),
        (&[(1, Some(&[]))], Reason::NoEndpoint),
        (&[(1, Some(&[dead]))], Reason::ConnectFailed),
    ];
    for (shares, why) in shares {
        let address = free_address();
        let gateway = start(Settings::default(), Stage::tcp(address, shares));
        assert!(is_reset(&mut connect(address)), "{why:?}");
        wait_until("told", || reason(&gateway, why) == 1);
    }
}

#[test]
fn an_invalid_share_is_reset_in_its_measure() {
    let (address, live) = (free_address(), echo("a"));
    let _gateway = start(Settings::default(), Stage::tcp(address, &[(1, Some(&[live])), (1, None)]));
    let resets = (0..100).filter(|_| matches!(connect(address).read(&mut [0]), Err(_) | Ok(0))).count();
    assert!((48..=52).contains(&resets), "{resets}");
}

#[test]
fn silence_ends_a_connection() {
    let settings = Settings {
        tcp_idle_timeout: Duration::from_millis(1500),
        head_timeout: Duration::from_secs(1),
        ..Settings::default()
    };
    let (gateway, address, backend) = pair(settings);
    let began = Instant::now();
    let (mut silent, mut behind_silent) = (connect(address), backend.next());
    let (mut speaks, mut behind) = (connect(address), backend.next());
    while gateway.open() == 2 && began.elapsed() < PATIENCE {
        behind.write_all(b".").expect("sent");
        assert_eq!(hear(&mut speaks, 1), ".");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
    assert!(is_open(&mut speaks));
    assert!(silent.read(&mut [0]).is_ok_and(|count| count == 0) || is_reset(&mut silent));
    _ = behind_silent.read(&mut [0]);
    assert_eq!(reason(&gateway, Reason::GatewayEnded), 1);
}

#[test]
fn a_listener_that_left_keeps_its_connections_for_a_while() {
    let settings = Settings { listener_drain_timeout: Duration::from_millis(1500), ..Settings::default() };
    let (mut gateway, address, backend) = pair(settings);
    let (mut client, mut behind) = (connect(address), backend.next());
    gateway.publish(Stage::default().plan);
    wait_until("refused", || TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err());
    client.write_all(b"still").expect("sent");
    assert_eq!(hear(&mut behind, 5), "still");
    behind.write_all(b"here").expect("sent");
    assert_eq!(hear(&mut client, 4), "here");
    let began = Instant::now();
    _ = client.read(&mut [0]);
    assert!(began.elapsed() < PATIENCE, "its grace ends");
    wait_until("told", || reason(&gateway, Reason::GatewayEnded) == 1);
}

#[test]
fn stopping_lets_connections_end_until_its_deadline() {
    let (gateway, address, backend) = pair(Settings::default());
    let (mut ends, mut behind) = (connect(address), backend.next());
    let began = Instant::now();
    let drained = std::thread::spawn(move || gateway.plane.drain(Duration::from_secs(30)));
    std::thread::sleep(Duration::from_millis(200));
    ends.write_all(b"last").expect("sent");
    ends.shutdown(Shutdown::Write).expect("ended");
    assert_eq!(read_to_end(&mut behind), "last");
    behind.write_all(b"bye").expect("sent");
    drop(behind);
    assert_eq!(read_to_end(&mut ends), "bye");
    drained.join().expect("drained");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let (gateway, address, backend) = pair(Settings::default());
    let (mut stays, mut behind) = (connect(address), backend.next());
    let began = Instant::now();
    gateway.plane.drain(Duration::from_millis(500));
    assert!((500..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    _ = (stays.read(&mut [0]), behind.read(&mut [0]));
}

#[test]
fn a_reload_keeps_connections_with_their_backend() {
    let (a, b, address) = (echo("a"), echo("b"), free_address());
    let mut gateway = start(Settings::default(), Stage::tcp(address, &[(1, Some(&[a]))]));
    let mut old = connect(address);
    assert_eq!(hear(&mut old, 1), "a");
    for _ in 0..5 {
        all_bound(&gateway.publish(Stage::tcp(address, &[(1, Some(&[b]))]).plan));
        old.write_all(b"still").expect("sent");
        assert_eq!(hear(&mut old, 5), "still");
        assert_eq!(hear(&mut connect(address), 1), "b");
        let mut without = Stage::tcp(address, &[]);
        without.plan.sockets.values_mut().for_each(|socket| socket.listeners[0].hosts.clear());
        all_bound(&gateway.publish(without.plan));
        old.write_all(b"still").expect("sent");
        assert_eq!(hear(&mut old, 5), "still");
        assert!(is_reset(&mut connect(address)), "no route");
    }
}

#[test]
fn connections_are_bounded() {
    let settings = Settings { max_connections: 4, ..Settings::default() };
    let (gateway, address, backend) = pair(settings);
    let held: Vec<_> = (0..4).map(|_| (connect(address), backend.next())).collect();
    let _waits = connect(address);
    assert!(backend.accepted.recv_timeout(Duration::from_millis(300)).is_err());
    assert_eq!(gateway.open(), 4);
    drop(held);
    backend.next();
}
