//! Which sockets are kept, adopted, shared out and given up.

use std::{fs::File, net::TcpListener};

use rustix::process::Signal;

use crate::{
    manager::{SOON, Service},
    support::{
        Backend, Client, free_port, loopback,
        manifest::{file, gateway, http, prefix, route, service, simple},
        wait,
    },
};

fn status(port: u16) -> Option<u16> {
    Some(Client::connect(loopback(port)).ok()?.get("a.test", "/").ok()?.status())
}

/// A Gateway with these ports.
fn ports(backend: &Backend, ports: &[u16]) -> String {
    let listeners: Vec<_> = ports.iter().map(|port| http(&format!("p{port}"), *port)).collect();
    let mut documents = vec![gateway("gate", &listeners), route("all", "gate", &[], &[prefix("/", "backend")])];
    documents.extend(service("backend", &[backend.address]));
    file(&documents)
}

/// How many sockets of a port are kept.
fn kept(service: &Service, port: u16) -> usize {
    service.kept().iter().filter(|name| name.contains(&port.to_string())).count()
}

/// Connections that wait for the daemon, with a request each.
fn queue(port: u16, count: usize) -> Vec<Client> {
    let ask = |_| {
        let mut client = Client::connect(loopback(port)).expect("the socket is kept");
        assert!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        client
    };
    (0..count).map(ask).collect()
}

fn all_answered(clients: Vec<Client>) {
    for mut client in clients {
        assert_eq!(client.answer("GET").expect("it was queued").status(), 200);
    }
}

/// One socket for each worker is kept as long as its listener is there, and no longer.
#[test]
fn a_listener_that_leaves_takes_its_sockets_along() {
    let backend = Backend::named("hello");
    let (stays, leaves) = (free_port(), free_port());
    let mut service = Service::serve(&[("all.yaml", ports(&backend, &[stays, leaves]))]);
    wait("all are kept", SOON, || (kept(&service, stays), kept(&service, leaves)) == (2, 2));
    for _ in 0..2 {
        service.put("all.yaml", &ports(&backend, &[stays]));
        assert_eq!(service.reload().code, 0);
        wait("its sockets are taken out", SOON, || kept(&service, leaves) == 0);
        wait("nobody listens", SOON, || Client::connect(loopback(leaves)).is_err());
        service.restart();
        assert_eq!((kept(&service, stays), status(stays)), (2, Some(200)));
        service.put("all.yaml", &ports(&backend, &[stays, leaves]));
        assert_eq!(service.reload().code, 0);
        wait("they are kept again", SOON, || kept(&service, leaves) == 2);
        assert_eq!(status(leaves), Some(200));
    }
}

/// What left and what came while nobody was there.
#[test]
fn a_listener_that_left_meanwhile() {
    let backend = Backend::named("hello");
    let (stays, leaves, comes) = (free_port(), free_port(), free_port());
    let mut service = Service::serve(&[("all.yaml", ports(&backend, &[stays, leaves]))]);
    wait("all are kept", SOON, || (kept(&service, stays), kept(&service, leaves)) == (2, 2));
    service.stop();
    let queued = queue(stays, 20);
    service.put("all.yaml", &ports(&backend, &[stays, comes]));
    service.start();
    all_answered(queued);
    wait("what left is taken out", SOON, || {
        (kept(&service, stays), kept(&service, leaves), kept(&service, comes)) == (2, 0, 2)
    });
    assert!(Client::connect(loopback(leaves)).is_err());
    assert_eq!((status(stays), status(comes)), (Some(200), Some(200)));
}

/// More workers than sockets, then fewer: every queue has somebody who serves it.
#[test]
fn another_number_of_workers() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::serve(&[("all.yaml", simple(port, backend.address))]);
    for (workers, sockets) in [(5, 5), (1, 5), (3, 5), (6, 6)] {
        service.stop();
        let queued = queue(port, 60);
        service.set_workers(workers);
        service.start();
        all_answered(queued);
        all_answered(queue(port, 60));
        wait("as many are kept", SOON, || kept(&service, port) == sockets);
    }
}

/// A crash loses what was accepted, not the sockets.
#[test]
fn killed() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::serve(&[("all.yaml", simple(port, backend.address))]);
    for _ in 0..3 {
        wait("the sockets are kept", SOON, || kept(&service, port) == 2);
        service.signal(Signal::KILL);
        service.ended(SOON);
        let queued = queue(port, 20);
        service.start();
        all_answered(queued);
    }
}

/// Sockets of a socket unit, under any name, are found by their address; they are never closed nor kept a second time.
#[test]
fn sockets_of_a_socket_unit() {
    let backend = Backend::named("hello");
    for notify in [true, false] {
        let listener = || TcpListener::bind("127.0.0.1:0").expect("loopback");
        let (wanted, spare) = (listener(), listener());
        let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
        let (port, spare_port) = (port(&wanted), port(&spare));
        let mut service = Service::new(&[("all.yaml", ports(&backend, &[port]))]);
        service.passed = vec![("web".to_owned(), wanted.into()), ("gapi.socket".to_owned(), spare.into())];
        service.notify = notify;
        // Also what is queued before the daemon ever ran.
        let queued = queue(port, 20);
        service.start();
        all_answered(queued);
        let report = service.ask(&["status"]);
        assert!(report.text.contains(&format!("127.0.0.1:{spare_port}")), "a warning: {}", report.text);
        assert_eq!(kept(&service, port), 0);
        service.stop();
        let queued = queue(port, 20);
        service.start();
        all_answered(queued);
        // It leaves and comes back, and its queue waits.
        service.put("all.yaml", &ports(&backend, &[spare_port]));
        assert_eq!(service.reload().code, 0);
        assert_eq!(status(spare_port), Some(200));
        let queued = queue(port, 20);
        service.put("all.yaml", &ports(&backend, &[port, spare_port]));
        assert_eq!(service.reload().code, 0);
        all_answered(queued);
        assert!(!service.ask(&["status"]).text.contains("SocketNotWanted"));
    }
}

/// A socket unit's `ListenStream=8080` is one socket for both families.
#[test]
fn one_socket_for_both_families() {
    let Ok(both) = TcpListener::bind("[::]:0") else {
        eprintln!("SKIPPED: there is no IPv6 here");
        return;
    };
    let port = both.local_addr().expect("it is bound").port();
    let backend = Backend::named("hello");
    let mut service = Service::new(&[("all.yaml", simple(port, backend.address))]);
    service.flags.drain(..2);
    service.set_workers(2);
    service.passed = vec![("web".to_owned(), both.into())];
    service.start();
    for _ in 0..2 {
        let report = service.ask(&["status"]);
        assert_eq!(report.code, 0, "both addresses are served: {}", report.text);
        for (client, address) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
            backend.forget();
            let address = format!("{address}:{port}").parse().expect("an address");
            let mut connection = Client::connect(address).expect("the socket takes both");
            assert_eq!(connection.get("a.test", "/").expect("it serves").status(), 200);
            let seen = backend.messages();
            assert_eq!(seen[0].field("x-forwarded-for"), Some(client), "{seen:?}");
        }
        service.restart();
    }
}

/// Descriptors that are no listening sockets harm nobody.
#[test]
fn descriptors_of_no_use() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::new(&[("all.yaml", simple(port, backend.address))]);
    let null = || File::open("/dev/null").expect("it is there").into();
    service.replace_kept("gapi-tcp-127.0.0.1_1-0", null());
    service.replace_kept("gapi-tickets", null());
    let connected = std::net::TcpStream::connect(backend.address).expect("the backend listens");
    service.replace_kept("web", connected.into());
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
    service.replace_kept("gapi-tcp-x", datagrams.into());
    service.start();
    assert_eq!(status(port), Some(200));
    wait("what is ours is taken out", SOON, || {
        let kept = service.kept();
        kept.iter().filter(|name| name.starts_with("gapi-tcp-")).count() == 2 && kept.contains(&"web".to_owned())
    });
    assert!(service.kept().iter().any(|name| name == "gapi-tickets"));
    service.restart();
    assert_eq!(status(port), Some(200));
}
