//! TCP and UDP listeners over restarts.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    manager::{SOON, Service},
    support::{
        datagram::{DatagramBackend, datagrams, exchange, free_udp_port, hear},
        free_port, loopback,
        manifest::{file, gateway, layer4_route, listener, service, udp_service},
        wait,
    },
};

const AT_ONCE: Duration = Duration::ZERO;

/// A Gateway with these UDP ports.
fn ports(backend: &DatagramBackend, ports: &[u16]) -> String {
    let name = |port: &u16| format!("p{port}");
    let listeners: Vec<_> = ports.iter().map(|port| listener(&name(port), "UDP", *port)).collect();
    let routes = ports.iter().map(|port| layer4_route("UDPRoute", &name(port), "gate", &name(port), "backend"));
    let mut documents = vec![gateway("gate", &listeners)];
    documents.extend(routes);
    documents.extend(udp_service("backend", &[backend.address]));
    file(&documents)
}

/// How many UDP sockets of a port are kept.
fn kept(service: &Service, port: u16) -> usize {
    let prefix = format!("gapi-udp-127.0.0.1_{port}-");
    service.kept().iter().filter(|name| name.starts_with(&prefix)).count()
}

fn ask_all(port: u16, count: usize) -> Vec<UdpSocket> {
    let clients: Vec<_> = (0..count).map(|_| datagrams(port)).collect();
    clients.iter().for_each(|client| _ = client.send(b"?").expect("the socket is kept"));
    clients
}

fn all_answered(clients: Vec<UdpSocket>) {
    for client in clients {
        assert_eq!(hear(&client).as_deref(), Some("a?"), "it was queued");
    }
}

/// What comes while nobody is there is answered by whoever comes, also after a crash and by another number of workers.
#[test]
fn datagrams_wait() {
    let backend = DatagramBackend::start("a", AT_ONCE);
    let port = free_udp_port();
    let mut service = Service::serve(&[("all.yaml", ports(&backend, &[port]))]);
    let talks = datagrams(port);
    for (workers, sockets) in [(2, 2), (5, 5), (1, 5), (2, 5)] {
        assert_eq!(exchange(&talks, "hello").as_deref(), Some("ahello"));
        if workers == 2 {
            service.signal(Signal::KILL);
            service.ended(SOON);
        } else {
            service.stop();
        }
        let queued = ask_all(port, 40);
        service.set_workers(workers);
        service.start();
        all_answered(queued);
        all_answered(ask_all(port, 40));
        wait("as many are kept", SOON, || kept(&service, port) == sockets);
    }
    assert_eq!(exchange(&talks, "hello").as_deref(), Some("ahello"), "a new session");
}

/// A restart hardly waits for silence, and not less than an answer takes.
#[test]
fn an_answer_that_is_under_way_arrives() {
    let backend = DatagramBackend::start("a", Duration::from_millis(300));
    let port = free_udp_port();
    let mut service = Service::serve(&[("all.yaml", ports(&backend, &[port]))]);
    let client = datagrams(port);
    client.send(b"?").expect("sent");
    wait("it is on its way", SOON, || backend.asked() == 1);
    let start = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(hear(&client).as_deref(), Some("a?"));
    service.ended(SOON);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    let deaf = DatagramBackend::start("", Duration::from_secs(8));
    service.put("all.yaml", &ports(&deaf, &[port]));
    service.start();
    datagrams(port).send(b"?").expect("sent");
    wait("it is on its way", SOON, || deaf.asked() == 1);
    let start = Instant::now();
    service.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Kept as long as its listener is there, and no longer, though sessions go on over it.
#[test]
fn a_listener_that_leaves_takes_its_sockets_along() {
    let backend = DatagramBackend::start("a", AT_ONCE);
    let (stays, leaves) = (free_udp_port(), free_udp_port());
    let mut service = Service::serve(&[("all.yaml", ports(&backend, &[stays, leaves]))]);
    wait("all are kept", SOON, || (kept(&service, stays), kept(&service, leaves)) == (2, 2));
    for round in 0..4 {
        let session = datagrams(leaves);
        if round < 2 {
            assert_eq!(exchange(&session, "?").as_deref(), Some("a?"));
        }
        service.put("all.yaml", &ports(&backend, &[stays]));
        assert_eq!(service.reload().code, 0);
        wait("its sockets are taken out", SOON, || kept(&service, leaves) == 0);
        if round < 2 {
            assert_eq!(exchange(&session, "!").as_deref(), Some("a!"));
        }
        if round % 2 == 0 {
            service.restart();
            wait("nobody has it", SOON, || UdpSocket::bind(loopback(leaves)).is_ok());
        }
        assert_eq!((kept(&service, stays), exchange(&datagrams(stays), "?").as_deref()), (2, Some("a?")));
        service.put("all.yaml", &ports(&backend, &[stays, leaves]));
        assert_eq!(service.reload().code, 0);
        wait("they are kept again", SOON, || kept(&service, leaves) == 2);
        assert_eq!(exchange(&datagrams(leaves), "?").as_deref(), Some("a?"));
    }
}

/// `ListenDatagram=`: found by its address, never kept a second time.
#[test]
fn sockets_of_a_socket_unit() {
    let backend = DatagramBackend::start("a", AT_ONCE);
    for notify in [true, false] {
        let socket = || UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let (wanted, spare) = (socket(), socket());
        let port = |socket: &UdpSocket| socket.local_addr().expect("it is bound").port();
        let (port, spare_port) = (port(&wanted), port(&spare));
        let mut service = Service::new(&[("all.yaml", ports(&backend, &[port]))]);
        service.passed = vec![("dns".to_owned(), wanted.into()), ("gapi.socket".to_owned(), spare.into())];
        service.notify = notify;
        let queued = ask_all(port, 20);
        service.start();
        all_answered(queued);
        let report = service.ask(&["status"]).text;
        assert!(report.contains(&format!("127.0.0.1:{spare_port} (UDP)")), "a warning: {report}");
        assert_eq!(kept(&service, port), 0);
        service.stop();
        let queued = ask_all(port, 20);
        service.start();
        all_answered(queued);
        service.put("all.yaml", &ports(&backend, &[port, spare_port]));
        assert_eq!(service.reload().code, 0);
        all_answered(ask_all(spare_port, 5));
        assert!(!service.ask(&["status"]).text.contains("SocketNotWanted"));
    }
}

/// A port for both: each has its own sockets in the store, and its own place in the status.
#[test]
fn a_port_of_tcp_and_udp() {
    let backend = DatagramBackend::start("a", AT_ONCE);
    let echo = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let behind = echo.local_addr().expect("it is bound");
    let serving = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = echo.accept().expect("somebody comes");
            stream.write_all(b"tcp").expect("it reads");
        }
    });
    let port = free_port();
    let mut documents = vec![
        gateway("gate", &[listener("u", "UDP", port), listener("t", "TCP", port)]),
        layer4_route("UDPRoute", "u", "gate", "u", "datagrams"),
        layer4_route("TCPRoute", "t", "gate", "t", "streams"),
    ];
    documents.extend(udp_service("datagrams", &[backend.address]));
    documents.extend(service("streams", &[behind]));
    let mut service = Service::serve(&[("all.yaml", file(&documents))]);
    for _ in 0..2 {
        let mut text = String::new();
        let mut stream = TcpStream::connect(loopback(port)).expect("it listens");
        stream.read_to_string(&mut text).expect("an end");
        assert_eq!(text, "tcp");
        let session = datagrams(port);
        assert_eq!(exchange(&session, "?").as_deref(), Some("a?"));
        wait("both are kept", SOON, || {
            service.kept().iter().filter(|name| name.contains(&port.to_string())).count() == 4
        });
        let status = service.ask(&["status", "-o", "wide"]);
        assert_eq!(status.code, 0, "{}", status.text);
        let line = |protocol: &str| {
            let mut lines = status.text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let line =
                lines.find(|line| line.len() == 4 && line[1] == protocol).unwrap_or_else(|| panic!("{}", status.text));
            (line[0].to_owned(), line[2].to_owned(), line[3].to_owned())
        };
        assert_eq!(line("UDP"), (format!("127.0.0.1:{port}"), "1".into(), "bound".into()));
        assert_eq!(line("TCP"), (format!("127.0.0.1:{port}"), "1".into(), "bound".into()), "it may still speak");
        assert!(status.text.contains("UDP sessions:  1 open"), "{}", status.text);
        drop(stream);
        service.restart();
    }
    serving.join().expect("it ends");
}

/// A connection of layer 4 has the time to drain, new ones are served meanwhile, and one that came last holds nobody up.
#[test]
fn connections_are_ended_at_the_deadline() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let behind = backend.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in backend.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length) = stream.read(&mut buffer)
                    && length > 0
                {
                    let _ = stream.write_all(&buffer[..length]);
                }
            });
        }
    });
    let port = free_port();
    let connect = |port: u16| {
        let stream = TcpStream::connect(loopback(port)).expect("the socket is kept");
        stream.set_read_timeout(Some(SOON)).expect("a time");
        stream
    };
    let speak = |stream: &mut TcpStream| {
        let mut answer = [0; 2];
        stream.write_all(b"hi").and_then(|()| stream.read_exact(&mut answer)).is_ok()
    };
    let mut documents =
        vec![gateway("gate", &[listener("t", "TCP", port)]), layer4_route("TCPRoute", "t", "gate", "t", "streams")];
    documents.extend(service("streams", &[behind]));
    let mut service = Service::new(&[("all.yaml", file(&documents))]);
    service.flags.extend(["--drain-timeout", "4s"].map(String::from));
    service.start();
    let mut old = connect(port);
    assert!(speak(&mut old));
    let start = Instant::now();
    service.signal(Signal::TERM);
    service.hears("STOPPING=1");
    thread::sleep(Duration::from_millis(1500));
    let mut new = connect(port);
    assert!(speak(&mut new), "served meanwhile");
    assert!(speak(&mut old), "it may go on");
    service.ended(SOON);
    let took = start.elapsed();
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(10), "{took:?}");
    assert!(!speak(&mut old) && !speak(&mut new), "both have ended");
    let mut queued = connect(port);
    service.start();
    assert!(speak(&mut queued));
}

/// Who has the port is said in the listener's conditions, of the UDP listener alone, and it is tried again.
#[test]
fn a_udp_port_in_use() {
    let backend = DatagramBackend::start("a", AT_ONCE);
    let holder = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let taken: SocketAddr = holder.local_addr().expect("it is bound");
    let free = free_udp_port();
    let service = Service::serve(&[("all.yaml", ports(&backend, &[taken.port(), free]))]);
    let reload = service.reload();
    assert_eq!(reload.code, 1);
    assert!(
        reload.text.contains("is not served") && reload.text.contains(&std::process::id().to_string()),
        "{}",
        reload.text
    );
    let gateway = || service.ask(&["describe", "gateway", "gate"]).text;
    let text = gateway();
    assert!(text.contains("PortUnavailable") && text.contains(&format!("{taken} is in use by")), "{text}");
    all_answered(ask_all(free, 3));
    drop(holder);
    wait("it is tried again", SOON, || service.ask(&["status"]).code == 0);
    all_answered(ask_all(taken.port(), 3));
    assert!(!gateway().contains("PortUnavailable"), "{}", gateway());
}
