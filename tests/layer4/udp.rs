//! UDP: sessions, who answers whom, from where, and when it ends.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gapi::dataplane::{Settings, outcome::Reason};

use crate::{harness::*, stage::*};

/// Answers each datagram with its name before it, for as long as the value lives; remembers who asked.
pub struct Echo {
    pub address: SocketAddr,
    askers: Arc<Mutex<Vec<SocketAddr>>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start(name: &'static str) -> Echo {
        Echo::at(name, "127.0.0.1:0")
    }

    fn at(name: &'static str, address: &str) -> Echo {
        let socket = UdpSocket::bind(address).expect("bound");
        let address = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
        let (askers, ending) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (seen, end) = (askers.clone(), ending.clone());
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while !end.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                seen.lock().expect("whole").push(from);
                let answer = [name.as_bytes(), &buffer[..length]].concat();
                // One that is too long with the name goes back without.
                if socket.send_to(&answer, from).is_err() {
                    socket.send_to(&buffer[..length], from).expect("sent");
                }
            }
        });
        Echo { address, askers, ending, thread: Some(thread) }
    }

    /// Everyone who asked, once each.
    pub fn askers(&self) -> Vec<SocketAddr> {
        let mut askers = self.askers.lock().expect("whole").clone();
        askers.sort();
        askers.dedup();
        askers
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
        self.thread.take().expect("dropped once").join().expect("ended");
    }
}

pub fn free_udp(ip: &str) -> SocketAddr {
    UdpSocket::bind((ip, 0)).and_then(|socket| socket.local_addr()).expect("loopback")
}

pub fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((if to.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).expect("bound");
    socket.connect(to).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket
}

pub fn ask(client: &UdpSocket, question: &str) -> String {
    client.send(question.as_bytes()).expect("sent");
    hear(client)
}

pub fn hear(client: &UdpSocket) -> String {
    let mut buffer = vec![0; 1 << 16];
    let length = client.recv(&mut buffer).expect("an answer in time");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Nothing comes within a moment, or the port is closed.
pub fn is_silent(client: &UdpSocket) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
    let silent = client.recv(&mut [0; 16]).is_err();
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    silent
}

fn start(settings: Settings, stage: Stage) -> Gateway {
    let mut gateway = Gateway::start(settings);
    gateway.publish(stage.plan);
    all_bound(&gateway.plane.published_datagrams());
    gateway
}

pub fn sessions(gateway: &Gateway) -> usize {
    gateway.plane.counts().datagram_sockets.values().flatten().sum()
}

pub fn reason(gateway: &Gateway, reason: Reason) -> u64 {
    gateway.plane.counters().map(|counters| counters.reason(reason)).sum()
}

fn dropped(gateway: &Gateway) -> u64 {
    gateway.plane.counters().map(|counters| counters.datagrams_dropped.load(Relaxed)).sum()
}

#[test]
fn a_client_keeps_its_backend() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let address = free_udp("127.0.0.1");
    let gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[a.address, b.address]))]));
    let clients: Vec<_> = (0..20).map(|_| client(address)).collect();
    let firsts: Vec<_> = clients.iter().map(|client| ask(client, "?")).collect();
    for _ in 0..3 {
        for (client, first) in clients.iter().zip(&firsts) {
            assert_eq!(ask(client, "?"), *first);
        }
    }
    assert_eq!(sessions(&gateway), 20);
    assert_eq!(a.askers().len() + b.askers().len(), 20, "one socket for each session");
    assert!(tally(firsts).len() == 2, "both have some");
}

#[test]
fn weights_are_kept() {
    let (a, b, never) = (Echo::start("a"), Echo::start("b"), Echo::start("never"));
    let address = free_udp("127.0.0.1");
    let shares = [(3, Some(&[a.address][..])), (1, Some(&[b.address])), (0, Some(&[never.address]))];
    let _gateway = start(Settings::default(), Stage::udp(address, &shares));
    let clients: Vec<_> = (0..200).map(|_| client(address)).collect();
    let seen = tally(clients.iter().map(|client| ask(client, "")));
    // Each worker's share is off by less than one.
    assert!((148..=152).contains(&seen["a"]) && !seen.contains_key("never"), "{seen:?}");
}

#[test]
fn datagrams_of_every_length_come_and_go_whole() {
    let echo = Echo::start("");
    let address = free_udp("127.0.0.1");
    let _gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[echo.address]))]));
    let client = client(address);
    let bytes: Vec<u8> = (0..65_507u32).map(|index| (index % 251) as u8).collect();
    let mut buffer = vec![0; 1 << 16];
    for length in [0, 1, 1472, 1473, 9000, 65_506, 65_507] {
        client.send(&bytes[..length]).expect("sent");
        let received = client.recv(&mut buffer).expect("in time");
        assert!(buffer[..received] == bytes[..length], "{length} bytes, {received} came back");
    }
}

#[test]
fn bursts_keep_their_order_and_their_bounds() {
    let echo = Echo::start("");
    let address = free_udp("127.0.0.1");
    let _gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[echo.address]))]));
    let client = client(address);
    for _ in 0..20 {
        // Lengths that the kernel may put together, and those that it may not.
        let burst: Vec<Vec<u8>> = (0..40u8).map(|index| vec![index; if index % 7 == 0 { 300 } else { 1200 }]).collect();
        burst.iter().for_each(|datagram| _ = client.send(datagram).expect("sent"));
        let mut buffer = vec![0; 1 << 16];
        for datagram in &burst {
            let length = client.recv(&mut buffer).expect("in time");
            assert_eq!(&buffer[..length], &**datagram);
        }
    }
}

#[test]
fn many_clients_at_once() {
    let echo = Echo::start("");
    let address = free_udp("127.0.0.1");
    let gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[echo.address]))]));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            std::thread::spawn(move || {
                let clients: Vec<_> = (0..25).map(|_| client(address)).collect();
                for round in 0..4 {
                    for (index, client) in clients.iter().enumerate() {
                        client.send(format!("{thread}-{index}-{round}").as_bytes()).expect("sent");
                    }
                    for (index, client) in clients.iter().enumerate() {
                        assert_eq!(hear(client), format!("{thread}-{index}-{round}"));
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("all was answered"));
    assert_eq!(sessions(&gateway), 200);
    assert_eq!(dropped(&gateway), 0);
}

#[test]
fn answers_come_from_the_address_that_was_spoken_to() {
    let echo = Echo::start("");
    let port = free_udp("0.0.0.0").port();
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    let gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[echo.address]))]));
    let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    for host in [1, 2, 3, 2, 1] {
        let to = SocketAddr::from(([127, 0, 0, host], port));
        client.send_to(format!("{host}").as_bytes(), to).expect("sent");
        let mut buffer = [0; 16];
        let (length, from) = client.recv_from(&mut buffer).expect("in time");
        assert_eq!((from, &buffer[..length]), (to, format!("{host}").as_bytes()));
    }
    assert_eq!(sessions(&gateway), 3, "one for each address that was spoken to");
}

#[test]
fn ipv6_too_and_a_backend_of_the_other_family() {
    let Ok(probe) = UdpSocket::bind("[::1]:0") else { return };
    let address = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, probe.local_addr().expect("bound").port()));
    drop(probe);
    let (v4, v6) = (Echo::start("4"), Echo::at("6", "[::1]:0"));
    let shares = [(1, Some(&[v4.address][..])), (1, Some(&[v6.address]))];
    let _gateway = start(Settings::default(), Stage::udp(address, &shares));
    let to = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()));
    let clients: Vec<_> = (0..10).map(|_| client(to)).collect();
    let seen = tally(clients.iter().map(|client| ask(client, "")));
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["4", "6"]);
}

#[test]
fn nobody_answers_for_the_backend() {
    let backend = UdpSocket::bind("127.0.0.1:0").expect("bound");
    backend.set_read_timeout(Some(PATIENCE)).expect("a time");
    let address = free_udp("127.0.0.1");
    let _gateway =
        start(Settings::default(), Stage::udp(address, &[(1, Some(&[backend.local_addr().expect("bound")]))]));
    let client = client(address);
    client.send(b"?").expect("sent");
    let (_, asker) = backend.recv_from(&mut [0; 8]).expect("in time");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("bound");
    stranger.send_to(b"lie", asker).expect("sent");
    backend.send_to(b"truth", asker).expect("sent");
    assert_eq!(hear(&client), "truth");
    assert!(is_silent(&client));
}

#[test]
fn an_endpoint_that_is_not_there_is_passed_over() {
    let echo = Echo::start("there");
    let address = free_udp("127.0.0.1");
    let gone = free_udp("127.0.0.1");
    let gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[gone, echo.address]))]));
    // Those that begin with it are answered at the second or third try.
    for _ in 0..6 {
        let client = client(address);
        client.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        let answered = (0..50).any(|_| {
            client.send(b"").expect("sent");
            client.recv(&mut [0; 8]).is_ok()
        });
        assert!(answered);
    }
    assert_eq!(sessions(&gateway), 6);
}

#[test]
fn a_backend_that_comes_back_is_found_by_its_session() {
    let echo = Echo::start("first");
    let (backend, address) = (echo.address, free_udp("127.0.0.1"));
    let gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[backend]))]));
    let client = client(address);
    assert_eq!(ask(&client, ""), "first");
    drop(echo);
    client.send(b"lost").expect("sent");
    assert!(is_silent(&client));
    let _again = Echo::at("again", &backend.to_string());
    wait_until("it answers", || {
        client.send(b"").expect("sent");
        !is_silent(&client)
    });
    assert_eq!(sessions(&gateway), 1);
}

#[test]
fn an_invalid_share_is_dropped_and_a_reload_mends_it() {
    let echo = Echo::start("a");
    let address = free_udp("127.0.0.1");
    let mut gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[echo.address])), (1, None)]));
    let clients: Vec<_> = (0..40).map(|_| client(address)).collect();
    clients.iter().for_each(|client| _ = client.send(b"").expect("sent"));
    wait_until("all have come", || sessions(&gateway) == 40);
    wait_until("half of them are dropped", || (18..=22).contains(&dropped(&gateway)));
    gateway.publish(Stage::udp(address, &[(1, Some(&[echo.address])), (0, None)]).plan);
    for client in &clients {
        // Answers of before are still in the queue of some.
        assert_eq!(ask(client, ""), "a");
    }
    wait_until("told", || (18..=22).contains(&reason(&gateway, Reason::InvalidBackend)));
}

#[test]
fn without_a_route_or_an_endpoint_nothing_comes() {
    let echo = Echo::start("a");
    let address = free_udp("127.0.0.1");
    let mut gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[]))]));
    let client = client(address);
    client.send(b"").expect("sent");
    wait_until("dropped", || dropped(&gateway) == 1);
    let mut routeless = Stage::udp(address, &[]);
    routeless.plan.datagram_sockets.values_mut().for_each(|socket| socket.listeners[0].hosts.clear());
    gateway.publish(routeless.plan);
    let other = self::client(address);
    other.send(b"").expect("sent");
    wait_until("dropped", || dropped(&gateway) == 2);
    assert!(is_silent(&client) && is_silent(&other));
    gateway.publish(Stage::udp(address, &[(1, Some(&[echo.address]))]).plan);
    assert_eq!((ask(&client, "1"), ask(&other, "2")), ("a1".to_owned(), "a2".to_owned()));
}

#[test]
fn a_reload_keeps_sessions_with_their_backend() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let (address, another) = (free_udp("127.0.0.1"), free_udp("127.0.0.1"));
    let mut gateway =
        start(Settings::default(), Stage::udp(address, &[(1, Some(&[a.address])), (0, Some(&[b.address]))]));
    let old: Vec<_> = (0..20).map(|_| client(address)).collect();
    old.iter().for_each(|client| assert_eq!(ask(client, ""), "a"));
    for round in 0..5 {
        let mut stage = Stage::udp(address, &[(0, Some(&[a.address])), (1, Some(&[b.address]))]);
        if round % 2 == 0 {
            stage.listen_udp(another, &[]);
        }
        gateway.publish(stage.plan);
        old.iter().for_each(|client| assert_eq!(ask(client, ""), "a"));
        assert_eq!(ask(&client(address), ""), "b");
    }
    assert_eq!(a.askers().len(), 20);
}

#[test]
fn an_endpoint_that_left_keeps_its_sessions_for_a_while() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let address = free_udp("127.0.0.1");
    let settings = Settings { listener_drain_timeout: Duration::from_millis(800), ..Settings::default() };
    let mut gateway = start(settings, Stage::udp(address, &[(1, Some(&[a.address]))]));
    let client = client(address);
    assert_eq!(ask(&client, ""), "a");
    gateway.publish(Stage::udp(address, &[(1, Some(&[b.address]))]).plan);
    assert_eq!(ask(&client, ""), "a");
    // An answer that is on its way when the session ends is lost, and asked for again.
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
    let mut answer = [0; 1];
    wait_until("it goes to the other", || {
        client.send(b"").expect("sent");
        client.recv(&mut answer).is_ok() && answer == *b"b"
    });
    assert_eq!(reason(&gateway, Reason::GatewayEnded), 1);
}

#[test]
fn a_listener_that_left_keeps_its_sessions_for_a_while_and_takes_no_new_ones() {
    let echo = Echo::start("a");
    let address = free_udp("127.0.0.1");
    let settings = Settings { listener_drain_timeout: Duration::from_secs(2), ..Settings::default() };
    let stage = || Stage::udp(address, &[(1, Some(&[echo.address]))]);
    let mut gateway = start(settings, stage());
    let old = client(address);
    assert_eq!(ask(&old, ""), "a");
    gateway.publish(Stage::default().plan);
    assert!(gateway.plane.published_datagrams().is_empty());
    assert_eq!(ask(&old, "still"), "astill");
    let new = client(address);
    new.send(b"").expect("sent");
    assert!(is_silent(&new));
    // It comes back before its socket has closed.
    gateway.publish(stage().plan);
    all_bound(&gateway.plane.published_datagrams());
    assert_eq!((ask(&old, ""), ask(&new, "")), ("a".to_owned(), "a".to_owned()));
    assert_eq!(echo.askers().len(), 2, "the old session is the same");
    gateway.publish(Stage::default().plan);
    wait_until("its grace ends", || reason(&gateway, Reason::GatewayEnded) == 2);
    wait_until("its socket is closed", || UdpSocket::bind(address).is_ok());
    gateway.publish(stage().plan);
    all_bound(&gateway.plane.published_datagrams());
    assert_eq!(ask(&old, ""), "a");
}

#[test]
fn a_listener_without_sessions_leaves_at_once_and_comes_back() {
    let echo = Echo::start("a");
    let address = free_udp("127.0.0.1");
    let mut gateway = Gateway::start(Settings::default());
    for _ in 0..20 {
        gateway.publish(Stage::udp(address, &[(1, Some(&[echo.address]))]).plan);
        all_bound(&gateway.plane.published_datagrams());
        gateway.publish(Stage::default().plan);
    }
    wait_until("its socket is closed", || UdpSocket::bind(address).is_ok());
}

#[test]
fn silence_ends_a_session() {
    let (echo, deaf) = (Echo::start("a"), UdpSocket::bind("127.0.0.1:0").expect("bound"));
    let (address, one_way) = (free_udp("127.0.0.1"), free_udp("127.0.0.1"));
    let settings = Settings {
        udp_idle_timeout: Duration::from_millis(300),
        udp_stream_timeout: Duration::from_millis(2500),
        ..Settings::default()
    };
    let mut stage = Stage::udp(address, &[(1, Some(&[echo.address]))]);
    stage.listen_udp(one_way, &[(1, Some(&[deaf.local_addr().expect("bound")]))]);
    let gateway = start(settings, stage);
    let (asks, tells) = (client(address), client(one_way));
    let began = Instant::now();
    assert_eq!(ask(&asks, ""), "a");
    tells.send(b"").expect("sent");
    wait_until("the one that was not answered ends", || reason(&gateway, Reason::SessionIdle) == 1);
    assert!(began.elapsed() >= Duration::from_millis(300));
    if began.elapsed() < Duration::from_millis(2400) {
        assert_eq!(sessions(&gateway), 1);
    }
    wait_until("the other ends too", || reason(&gateway, Reason::SessionIdle) == 2);
    assert!(began.elapsed() >= Duration::from_millis(2500));
    assert_eq!(ask(&asks, ""), "a");
    assert_eq!(echo.askers().len(), 2, "a new session");
}

#[test]
fn speech_of_either_side_keeps_a_session() {
    let backend = UdpSocket::bind("127.0.0.1:0").expect("bound");
    backend.set_read_timeout(Some(PATIENCE)).expect("a time");
    let address = free_udp("127.0.0.1");
    let settings = Settings {
        udp_idle_timeout: Duration::from_millis(1500),
        udp_stream_timeout: Duration::from_millis(1500),
        ..Settings::default()
    };
    let gateway = start(settings, Stage::udp(address, &[(1, Some(&[backend.local_addr().expect("bound")]))]));
    let client = client(address);
    client.send(b"").expect("sent");
    let (_, asker) = backend.recv_from(&mut [0; 8]).expect("in time");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        backend.send_to(b"on", asker).expect("sent");
        assert_eq!(hear(&client), "on");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(sessions(&gateway), 1);
}

#[test]
fn the_one_silent_for_longest_makes_room() {
    let echo = Echo::start("");
    let address = free_udp("127.0.0.1");
    let settings = Settings { max_udp_sessions: 8, ..Settings::default() };
    let gateway = start(settings, Stage::udp(address, &[(1, Some(&[echo.address]))]));
    let clients: Vec<_> = (0..8).map(|_| client(address)).collect();
    let speak = |client: &UdpSocket| {
        assert_eq!(ask(client, "?"), "?");
        echo.askers().len()
    };
    clients.iter().for_each(|client| _ = speak(client));
    // The order of silence is now 1, 3, 5, 7, 0, 2, 4, 6.
    clients.iter().step_by(2).for_each(|client| _ = speak(client));
    assert_eq!(echo.askers().len(), 8);
    let new: Vec<_> = (0..4).map(|_| client(address)).collect();
    for (index, client) in new.iter().enumerate() {
        assert_eq!(speak(client), 9 + index);
        wait_until("one has gone", || reason(&gateway, Reason::SessionEvicted) == index as u64 + 1);
    }
    for kept in [0, 2, 4, 6] {
        assert_eq!(speak(&clients[kept]), 12, "{kept} has its session");
    }
    assert_eq!(speak(&clients[1]), 13, "another session");
    wait_until("as many as there may be", || sessions(&gateway) == 8);
}

#[test]
fn a_flood_of_clients_is_bounded() {
    let echo = Echo::start("");
    let address = free_udp("127.0.0.1");
    let settings = Settings { max_udp_sessions: 50, ..Settings::default() };
    let gateway = start(settings, Stage::udp(address, &[(1, Some(&[echo.address]))]));
    for _ in 0..2000 {
        UdpSocket::bind("127.0.0.1:0").expect("bound").send_to(b"?", address).expect("sent");
    }
    let client = client(address);
    wait_until("still served", || {
        client.send(b"!").expect("sent");
        !is_silent(&client)
    });
    wait_until("as many as there may be", || sessions(&gateway) <= 50);
    let sockets = fs::read_dir("/proc/self/fd").expect("readable").count();
    assert!(sockets < 1000, "{sockets} descriptors");
}

#[test]
fn stopping_waits_for_answers_and_not_for_silence() {
    let backend = UdpSocket::bind("127.0.0.1:0").expect("bound");
    backend.set_read_timeout(Some(PATIENCE)).expect("a time");
    let address = free_udp("127.0.0.1");
    let gateway =
        start(Settings::default(), Stage::udp(address, &[(1, Some(&[backend.local_addr().expect("bound")]))]));
    let client = client(address);
    client.send(b"?").expect("sent");
    let (_, asker) = backend.recv_from(&mut [0; 8]).expect("in time");
    let began = Instant::now();
    let drained = std::thread::spawn(move || gateway.plane.drain(Duration::from_secs(30)));
    std::thread::sleep(Duration::from_millis(500));
    backend.send_to(b"late", asker).expect("sent");
    assert_eq!(hear(&client), "late");
    drained.join().expect("drained");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(UdpSocket::bind(address).is_ok(), "closed");
}

#[test]
fn stopping_ends_at_its_deadline() {
    let deaf = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = free_udp("127.0.0.1");
    let gateway = start(Settings::default(), Stage::udp(address, &[(1, Some(&[deaf.local_addr().expect("bound")]))]));
    client(address).send(b"?").expect("sent");
    wait_until("it has come", || sessions(&gateway) == 1);
    let began = Instant::now();
    gateway.plane.drain(Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_port_in_use_names_its_holder_and_is_tried_again() {
    let holder = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = holder.local_addr().expect("bound");
    let echo = Echo::start("a");
    let mut gateway = Gateway::start(Settings::default());
    gateway.publish(Stage::udp(address, &[(1, Some(&[echo.address]))]).plan);
    let message = gateway.plane.published_datagrams()[&address].clone().expect_err("in use");
    assert!(message.contains(&address.to_string()) && message.contains(&std::process::id().to_string()), "{message}");
    drop(holder);
    gateway.plane.retry_binds();
    all_bound(&gateway.plane.published_datagrams());
    assert_eq!(ask(&client(address), ""), "a");
}

#[test]
fn tcp_and_udp_share_an_address() {
    let echo = Echo::start("u");
    let backend = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = free_address();
    let mut stage = Stage::udp(address, &[(1, Some(&[echo.address]))]);
    stage.listen_tcp(address, &[(1, Some(&[backend.local_addr().expect("bound")]))]);
    let _gateway = start(Settings::default(), stage);
    assert_eq!(ask(&client(address), ""), "u");
    let _client = connect(address);
    backend.accept().expect("passed on");
}

#[test]
fn the_log_has_a_line_for_each_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("access.log");
    let echo = Echo::start("abc");
    let address = free_udp("127.0.0.1");
    let settings = Settings { access_log: Some(path.to_string_lossy().into_owned()), ..Settings::default() };
    let gateway = start(settings, Stage::udp(address, &[(1, Some(&[echo.address]))]));
    assert_eq!(ask(&client(address), "??"), "abc??");
    gateway.plane.drain(Duration::from_secs(5));
    let text = fs::read_to_string(path).expect("written");
    let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).expect("one line of JSON");
    assert_eq!((&line["protocol"], &line["reason"]), (&"UDP".into(), &"gateway-ended".into()));
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&2.into(), &5.into()));
    assert_eq!(line["endpoint"], echo.address.to_string());
    assert_eq!(line["route"], format!("test/udp-{address}"));
}
