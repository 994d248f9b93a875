//! UDP: sessions, who answers whom, and when it ends, on both ways. The tests of user space alone are those of
//! `tests/layer4/udp.rs` with the same names.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{stage::*, support::wait};

/// Asks until an answer comes: datagrams may be lost on a busy machine.
fn ask(client: &UdpSocket, question: &str) -> String {
    let mut buffer = vec![0; 1 << 16];
    client.set_read_timeout(Some(Duration::from_secs(3))).expect("a time");
    for _ in 0..10 {
        client.send(question.as_bytes()).expect("sent");
        if let Ok(length) = client.recv(&mut buffer) {
            return String::from_utf8_lossy(&buffer[..length]).into_owned();
        }
    }
    panic!("no answer to {question:?}");
}

/// Likewise for what has to come in one go: it may take several, each with a client of its own.
fn in_one_go(stage: &Stage, go: impl Fn(&UdpSocket) -> io::Result<()>) {
    let went = (0..10).any(|_| {
        let client = stage.datagrams();
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("a time");
        go(&client).is_ok()
    });
    assert!(went, "datagrams are lost each time");
}

fn hear_soon(client: &UdpSocket) -> Option<String> {
    let mut buffer = vec![0; 1 << 16];
    client.set_read_timeout(Some(Duration::from_secs(3))).expect("a time");
    let length = client.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn hear(client: &UdpSocket) -> String {
    let mut buffer = vec![0; 1 << 16];
    let length = client.recv(&mut buffer).expect("an answer in time");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// What comes within a moment.
fn soon(client: &UdpSocket) -> Option<String> {
    let mut buffer = [0; 64];
    client.set_read_timeout(Some(Duration::from_millis(150))).expect("a time");
    let heard = client.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    heard
}

/// Asks until somebody answers; who.
fn ask_until_answered(client: &UdpSocket) -> String {
    let mut answer = None;
    wait("an answer", PATIENCE, || {
        // An error of the datagram before is told here.
        _ = client.send(b"");
        answer = soon(client);
        answer.is_some()
    });
    answer.expect("waited for")
}

fn tally(clients: &[UdpSocket]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    clients.iter().for_each(|client| *tally.entry(ask(client, "")).or_default() += 1);
    tally
}

fn clients(stage: &Stage, count: usize) -> Vec<UdpSocket> {
    (0..count).map(|_| stage.datagrams()).collect()
}

fn a_client_keeps_its_backend(stage: &Stage) {
    let (a, b) = (stage.echo("a"), stage.echo("b"));
    stage.serve("UDP", &[(1, Some(&[a.address, b.address]))]);
    let clients = clients(stage, 20);
    let firsts: Vec<_> = clients.iter().map(|client| ask(client, "")).collect();
    for _ in 0..3 {
        for (client, first) in clients.iter().zip(&firsts) {
            assert_eq!(ask(client, ""), *first);
        }
    }
    assert_eq!(a.askers() + b.askers(), 20, "one port for each session");
    assert!(a.askers() > 0 && b.askers() > 0);
    if stage.way == Way::Kernel {
        assert_eq!(stage.carried("UDP"), 20);
    }
}

fn weights_are_kept(stage: &Stage) {
    let (a, b, never) = (stage.echo("a"), stage.echo("b"), stage.echo("n"));
    stage.serve("UDP", &[(3, Some(&[a.address])), (1, Some(&[b.address])), (0, Some(&[never.address]))]);
    let seen = tally(&clients(stage, 300));
    // Five standard deviations of a fair choice.
    assert!((188..=262).contains(&seen["a"]) && seen.len() == 2, "{seen:?}");
}

fn datagrams_of_every_length_come_and_go_whole(stage: &Stage) {
    let echo = stage.echo("");
    stage.serve("UDP", &[(1, Some(&[echo.address]))]);
    let bytes: Vec<u8> = (0..65_507u32).map(|index| (index % 251) as u8).collect();
    for length in [0, 1, 1452, 1453, 1472, 1473, 9000, 65_506, 65_507] {
        in_one_go(stage, |client| {
            client.send(&bytes[..length])?;
            let mut buffer = vec![0; 1 << 16];
            let received = client.recv(&mut buffer)?;
            assert!(buffer[..received] == bytes[..length], "{length} bytes, {received} came back");
            Ok(())
        });
    }
}

fn bursts_keep_their_order_and_their_bounds(stage: &Stage) {
    let echo = stage.echo("");
    stage.serve("UDP", &[(1, Some(&[echo.address]))]);
    // Lengths that the kernel may put together, and those that it may not.
    let burst: Vec<Vec<u8>> = (0..40u8).map(|index| vec![index; if index % 7 == 0 { 300 } else { 1200 }]).collect();
    for _ in 0..10 {
        in_one_go(stage, |client| {
            burst.iter().for_each(|datagram| _ = client.send(datagram).expect("sent"));
            let mut buffer = vec![0; 1 << 16];
            let mut last = None;
            for _ in &burst {
                let length = client.recv(&mut buffer)?;
                let index = usize::from(buffer[0]);
                assert!(buffer[..length] == burst[index], "{index} is another");
                assert!(last < Some(index), "{index} comes after {last:?}");
                last = Some(index);
            }
            Ok(())
        });
    }
}

fn many_clients_at_once(stage: &Stage) {
    let echo = stage.echo("");
    stage.serve("UDP", &[(1, Some(&[echo.address]))]);
    let sockets = clients(stage, 100);
    thread::scope(|scope| {
        for (thread, clients) in sockets.chunks(25).enumerate() {
            scope.spawn(move || {
                for round in 0..4 {
                    for (index, client) in clients.iter().enumerate() {
                        client.send(format!("{thread}-{index}-{round}").as_bytes()).expect("sent");
                    }
                    for (index, client) in clients.iter().enumerate() {
                        // What was lost is asked for again; an answer of the round before may come late.
                        let own = format!("{thread}-{index}-{round}");
                        let said = hear_soon(client).filter(|said| *said == own);
                        let said = said.or_else(|| (0..10).map(|_| ask(client, &own)).find(|said| *said == own));
                        assert_eq!(said, Some(own));
                    }
                }
            });
        }
    });
    assert_eq!(echo.askers(), 100);
}

fn a_backend_of_the_other_family_has_its_share(stage: &Stage) {
    let own = stage.echo("o");
    let other = stage.family.pick("[fd02::2]:0", "10.2.0.2:0").parse().expect("an address");
    let other = stage.echo_at("x", other);
    stage.serve("UDP", &[(1, Some(&[own.address])), (1, Some(&[other.address]))]);
    let seen = tally(&clients(stage, 200));
    assert!((65..=135).contains(&seen["o"]), "{seen:?}");
}

fn nobody_answers_for_the_backend(stage: &Stage) {
    let backend = stage.backend_datagrams();
    stage.serve("UDP", &[(1, Some(&[backend.local_addr().expect("bound")]))]);
    let client = stage.datagrams();
    client.send(b"?").expect("sent");
    let (_, asker) = backend.recv_from(&mut [0; 8]).expect("in time");
    assert_eq!(asker.ip(), stage.source());
    let stranger = stage.backend_datagrams();
    stranger.send_to(b"lie", asker).expect("sent");
    backend.send_to(b"truth", asker).expect("sent");
    assert_eq!(hear(&client), "truth");
    assert_eq!(soon(&client), None);
}

fn an_endpoint_that_is_not_there_is_passed_over(stage: &Stage) {
    let (echo, gone) = (stage.echo("there"), stage.nobody());
    stage.serve("UDP", &[(1, Some(&[gone, echo.address]))]);
    for client in clients(stage, 6) {
        assert_eq!(ask_until_answered(&client), "there");
    }
}

fn a_backend_that_comes_back_is_found_by_its_session(stage: &Stage) {
    let echo = stage.echo("first");
    let address = echo.address;
    stage.serve("UDP", &[(1, Some(&[address]))]);
    let client = stage.datagrams();
    assert_eq!(ask(&client, ""), "first");
    drop(echo);
    // For a moment a process that another test starts may have the socket too.
    let mut refusals = (0..20).map(|_| {
        _ = client.send(b"lost");
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        client.recv(&mut [0; 16]).expect_err("nobody is there").kind() == ErrorKind::ConnectionRefused
    });
    // The kernel path passes on that the port is unreachable.
    assert_eq!(refusals.any(|is_refused| is_refused), stage.way == Way::Kernel);
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    let again = stage.echo_at("again", address);
    assert_eq!(ask_until_answered(&client), "again");
    assert_eq!(again.askers(), 1);
}

fn an_invalid_share_is_dropped_and_a_reload_mends_it(stage: &Stage) {
    let echo = stage.echo("a");
    stage.serve("UDP", &[(1, Some(&[echo.address])), (1, None)]);
    let clients = clients(stage, 100);
    clients.iter().for_each(|client| _ = client.send(b"").expect("sent"));
    wait("those of the valid half are there", PATIENCE, || echo.askers() >= 25);
    thread::sleep(Duration::from_millis(300));
    assert!((25..=75).contains(&echo.askers()), "{}", echo.askers());
    stage.serve("UDP", &[(1, Some(&[echo.address])), (0, None)]);
    // Answers of before are still in the queue of some.
    clients.iter().for_each(|client| assert_eq!(ask(client, ""), "a"));
}

fn without_a_route_or_an_endpoint_nothing_comes(stage: &Stage) {
    let echo = stage.echo("a");
    stage.serve("UDP", &[(1, Some(&[]))]);
    let (client, other) = (stage.datagrams(), stage.datagrams());
    client.send(b"").expect("sent");
    stage.serve_without_route("UDP");
    other.send(b"").expect("sent");
    assert_eq!((soon(&client), soon(&other)), (None, None));
    stage.serve("UDP", &[(1, Some(&[echo.address]))]);
    assert_eq!((ask(&client, "1"), ask(&other, "2")), ("a1".to_owned(), "a2".to_owned()));
}

fn a_reload_keeps_sessions_with_their_backend(stage: &Stage) {
    let (a, b) = (stage.echo("a"), stage.echo("b"));
    stage.serve("UDP", &[(1, Some(&[a.address])), (0, Some(&[b.address]))]);
    let old = clients(stage, 10);
    old.iter().for_each(|client| assert_eq!(ask(client, ""), "a"));
    for _ in 0..3 {
        stage.serve("UDP", &[(0, Some(&[a.address])), (1, Some(&[b.address]))]);
        old.iter().for_each(|client| assert_eq!(ask(client, ""), "a"));
        assert_eq!(ask(&stage.datagrams(), ""), "b");
    }
    assert_eq!(a.askers(), 10);
}

#[test]
fn an_endpoint_that_left_keeps_its_sessions_for_a_while() {
    on_both(&[("--listener-drain-timeout", "800ms")], |stage| {
        let (a, b) = (stage.echo("a"), stage.echo("b"));
        stage.serve("UDP", &[(1, Some(&[a.address]))]);
        let client = stage.datagrams();
        assert_eq!(ask(&client, ""), "a");
        stage.serve("UDP", &[(1, Some(&[b.address]))]);
        assert_eq!(ask(&client, ""), "a");
        // What is under way when the session ends may be lost.
        wait("it goes to the other", PATIENCE, || {
            _ = client.send(b"");
            soon(&client).is_some_and(|answer| answer == "b")
        });
    });
}

#[test]
fn a_listener_that_left_keeps_its_sessions_for_a_while_and_takes_no_new_ones() {
    on_both(&[("--listener-drain-timeout", "20s")], |stage| {
        let echo = stage.echo("a");
        let serve = || stage.serve("UDP", &[(1, Some(&[echo.address]))]);
        serve();
        let old = stage.datagrams();
        assert_eq!(ask(&old, ""), "a");
        stage.withdraw("UDP");
        assert_eq!(ask(&old, "still"), "astill");
        let new = stage.datagrams();
        _ = new.send(b"");
        assert_eq!(soon(&new), None);
        // It comes back while the old session lives.
        serve();
        assert_eq!(ask(&old, ""), "a");
        assert_eq!(ask_until_answered(&new), "a");
        assert_eq!(echo.askers(), 2, "the old session is the same");
    });
}

#[test]
fn silence_ends_a_session() {
    on_both(&[("--udp-idle-timeout", "300ms"), ("--udp-stream-timeout", "2500ms")], |stage| {
        let echo = stage.echo("a");
        stage.serve("UDP", &[(1, Some(&[echo.address]))]);
        let client = stage.datagrams();
        assert_eq!(ask(&client, ""), "a");
        thread::sleep(Duration::from_millis(4000));
        assert_eq!(ask(&client, ""), "a");
        assert_eq!(echo.askers(), 2, "a new session");

        // One that was not answered.
        let deaf = stage.backend_datagrams();
        stage.serve("UDP", &[(1, Some(&[deaf.local_addr().expect("bound")]))]);
        let client = stage.datagrams();
        let heard_of = || {
            client.send(b"").expect("sent");
            deaf.recv_from(&mut [0; 8]).expect("in time").1
        };
        let first = heard_of();
        thread::sleep(Duration::from_millis(1000));
        assert_ne!(first, heard_of(), "a new session");
    });
}

#[test]
fn speech_of_either_side_keeps_a_session() {
    on_both(&[("--udp-idle-timeout", "1500ms"), ("--udp-stream-timeout", "1500ms")], |stage| {
        let backend = stage.backend_datagrams();
        stage.serve("UDP", &[(1, Some(&[backend.local_addr().expect("bound")]))]);
        let client = stage.datagrams();
        client.send(b"").expect("sent");
        let (_, asker) = backend.recv_from(&mut [0; 8]).expect("in time");
        let (began, mut heard) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(3) {
            backend.send_to(b"on", asker).expect("sent");
            heard += usize::from(soon(&client).is_some_and(|said| said == "on"));
            thread::sleep(Duration::from_millis(50));
        }
        assert!(heard > 5, "{heard}");
        client.send(b"").expect("sent");
        assert_eq!(backend.recv_from(&mut [0; 8]).expect("in time").1, asker, "the same session");
    });
}

fn tcp_and_udp_share_an_address(stage: &Stage) {
    let (echo, own) = (stage.echo("u"), stage.backend_ip());
    let backend = stage.backend.run(move || TcpListener::bind((own, 0))).expect("bound");
    stage.serve("UDP", &[(1, Some(&[echo.address]))]);
    stage.serve("TCP", &[(1, Some(&[backend.local_addr().expect("bound")]))]);
    assert_eq!(ask(&stage.datagrams(), ""), "u");
    let _client = stage.connect();
    backend.accept().expect("passed on");
}

fn answers_come_from_the_address_that_was_spoken_to(stage: &Stage) {
    let echo = stage.echo("");
    stage.serve("UDP", &[(1, Some(&[echo.address]))]);
    let own = stage.client_ip();
    let client = stage.client.run(move || UdpSocket::bind((own, 0))).expect("the address is the machine's");
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    for to in [stage.gateway(), stage.other_gateway(), stage.gateway()] {
        client.send_to(b"to", to).expect("sent");
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).expect("in time");
        assert_eq!((from, &buffer[..length]), (to, &b"to"[..]));
    }
    assert_eq!(echo.askers(), 2, "a session for each address that was spoken to");
}

/// What needs no flags, one after the other on the same machines.
const ALL: &[(&str, Body)] = &[
    ("a_client_keeps_its_backend", a_client_keeps_its_backend),
    ("weights_are_kept", weights_are_kept),
    ("datagrams_of_every_length_come_and_go_whole", datagrams_of_every_length_come_and_go_whole),
    ("bursts_keep_their_order_and_their_bounds", bursts_keep_their_order_and_their_bounds),
    ("many_clients_at_once", many_clients_at_once),
    ("a_backend_of_the_other_family_has_its_share", a_backend_of_the_other_family_has_its_share),
    ("nobody_answers_for_the_backend", nobody_answers_for_the_backend),
    ("an_endpoint_that_is_not_there_is_passed_over", an_endpoint_that_is_not_there_is_passed_over),
    ("a_backend_that_comes_back_is_found_by_its_session", a_backend_that_comes_back_is_found_by_its_session),
    ("an_invalid_share_is_dropped_and_a_reload_mends_it", an_invalid_share_is_dropped_and_a_reload_mends_it),
    ("without_a_route_or_an_endpoint_nothing_comes", without_a_route_or_an_endpoint_nothing_comes),
    ("a_reload_keeps_sessions_with_their_backend", a_reload_keeps_sessions_with_their_backend),
    ("tcp_and_udp_share_an_address", tcp_and_udp_share_an_address),
    ("answers_come_from_the_address_that_was_spoken_to", answers_come_from_the_address_that_was_spoken_to),
];

#[test]
fn all_without_flags() {
    all_on_both(ALL);
}
