//! The kernel path as the daemon has it: a client, a gateway and a backend on three machines, that is network namespaces of
//! the test's own.

#![cfg(feature = "kernel")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;

mod support;

#[path = "kernel_path/change.rs"]
mod change;
#[path = "kernel_path/stage.rs"]
mod stage;
#[path = "kernel_path/tcp.rs"]
mod tcp;
#[path = "kernel_path/udp.rs"]
mod udp;

use support::{
    Gapi,
    gapi::{BINARY, Start},
    manifest,
    network::{Machine, in_own_network, ip},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);
const GATEWAY: &str = "192.0.2.1:5432";
const BACKEND: &str = "198.51.100.2:7000";

struct Stage {
    client: Machine,
    /// Its server ends with it.
    _backend: Machine,
}

impl Stage {
    fn new() -> Stage {
        let (client, backend) = (Machine::start(), Machine::start());
        client.plug("gateway0", "client0");
        backend.plug("gateway1", "backend0");
        ip("address add dev gateway0 192.0.2.1/24");
        ip("address add dev gateway1 198.51.100.1/24");
        client.run(|| ip("address add dev client0 192.0.2.2/24"));
        backend.run(|| {
            ip("address add dev backend0 198.51.100.2/24");
            serve();
        });
        Stage { client, _backend: backend }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = self.client.run(|| {
            let to: SocketAddr = GATEWAY.parse().expect("an address");
            TcpStream::connect_timeout(&to, Duration::from_secs(20))
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// Echoes TCP and UDP in the network of this thread, and tells who asked over TCP.
fn serve() {
    let listener = TcpListener::bind(BACKEND).expect("the address is the machine's");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let peer = stream.peer_addr().expect("connected");
                let told = writeln!(stream, "{}", peer.ip());
                // A client that went away is no fault.
                let _ = told.and_then(|()| std::io::copy(&mut stream.try_clone()?, &mut stream));
            });
        }
    });
    let socket = UdpSocket::bind(BACKEND).expect("the address is the machine's");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Whoever asked and is gone misses nothing.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// What the backend saw of the client, in the first line.
fn greeting(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).expect("the backend greets");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text").trim().to_owned()
}

fn echo(stream: &mut TcpStream, text: &[u8]) {
    let mut answer = vec![0; text.len()];
    let mut writer = stream.try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(text).expect("sent"));
        stream.read_exact(&mut answer).expect("echoed");
    });
    assert!(answer == text, "{} bytes came back as others", text.len());
}

fn start() -> Start {
    let listeners = [manifest::listener("tcp", "TCP", 5432), manifest::listener("udp", "UDP", 5432)];
    let backend = BACKEND.parse().expect("an address");
    let mut documents = vec![
        manifest::gateway("edge", &listeners),
        manifest::layer4_route("TCPRoute", "database", "edge", "tcp", "tcp"),
        manifest::layer4_route("UDPRoute", "resolver", "edge", "udp", "udp"),
    ];
    documents.extend(manifest::service("tcp", &[backend]));
    documents.extend(manifest::udp_service("udp", &[backend]));
    Start::new().file("all.yaml", manifest::file(&documents)).flag("--address", "192.0.2.1")
}

fn path(gapi: &Gapi) -> String {
    let status = gapi.ask(&["status"]).text;
    status.lines().find(|line| line.starts_with("Traffic path:")).unwrap_or_default().to_owned()
}

/// Waits until both listeners, each at two addresses, are in the kernel; false where this machine cannot have it.
fn is_carried(gapi: &Gapi) -> bool {
    wait("it is known which way traffic goes", PATIENCE, || {
        path(gapi).contains("kernel for all 4") || path(gapi).contains("user space (") && !path(gapi).contains("no TCP")
    });
    let path = path(gapi);
    if !path.contains("kernel for all 4") {
        eprintln!("skipped: {path}");
    }
    path.contains("kernel for all 4")
}

/// What is said of the listener of this protocol at the address that the client speaks to.
fn listener<'v>(view: &'v serde_json::Value, protocol: &str) -> &'v serde_json::Value {
    let listeners = view["listeners"].as_array().expect("a list");
    let own = |one: &&serde_json::Value| one["protocol"] == protocol && one["address"] == GATEWAY;
    listeners.iter().find(own).expect("it is told")
}

#[test]
fn connections_outlive_the_daemon() {
    in_own_network(&[], || {
        let stage = Stage::new();
        let gapi = start().serve();
        if !is_carried(&gapi) {
            return;
        }
        let mut held = stage.connect().expect("served");
        assert_eq!(greeting(&mut held), "198.51.100.1", "this machine's address toward the backend");
        let long: Vec<u8> = (0..4 << 20).map(|i: u32| (i % 251) as u8).collect();
        echo(&mut held, &long);

        let (_, start) = gapi.end(Signal::KILL, PATIENCE);
        echo(&mut held, &long);
        let mut orphan = stage.connect().expect("the kernel needs no daemon");
        greeting(&mut orphan);
        echo(&mut orphan, b"orphan");

        let gapi = start.flag("--address", "192.0.2.1").serve();
        assert!(is_carried(&gapi), "{}", path(&gapi));
        echo(&mut held, &long);
        let page = gapi.ask(&["kernel"]).text;
        for says in ["gateway0 (", "gateway1 (", "default/edge/tcp", "default/database", BACKEND] {
            assert!(page.contains(says), "{says}: {page}");
        }
        let view: serde_json::Value = serde_json::from_str(&gapi.ask(&["kernel", "-o", "json"]).text).expect("JSON");
        let endpoint = &listener(&view, "TCP")["endpoints"][0];
        assert_eq!(endpoint["connections"], 2, "{view:#}");
        assert!(endpoint["bytesTo"].as_u64() > Some(12 << 20), "{view:#}");

        let (_, _start) = gapi.end(Signal::TERM, PATIENCE);
        echo(&mut held, &long);
        let detached = Command::new(BINARY).args(["kernel", "detach"]).status().expect("it runs");
        assert!(detached.success());
        wait("nobody listens any more", PATIENCE, || stage.connect().is_err());
    });
}

#[test]
fn datagrams_go_through_the_kernel() {
    in_own_network(&[], || {
        let stage = Stage::new();
        let gapi = start().serve();
        if !is_carried(&gapi) {
            return;
        }
        let answered = stage.client.run(|| {
            let socket = UdpSocket::bind("192.0.2.2:0").expect("the address is the machine's");
            socket.connect(GATEWAY).expect("an address");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time");
            let mut buffer = [0; 64];
            // Datagrams may be lost; twenty times none is.
            (0..20).any(|_| {
                socket.send(b"asked").is_ok()
                    && socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"asked")
            })
        });
        assert!(answered);
        let view: serde_json::Value = serde_json::from_str(&gapi.ask(&["kernel", "-o", "json"]).text).expect("JSON");
        assert!(listener(&view, "UDP")["endpoints"][0]["packetsFrom"].as_u64() > Some(0), "{view:#}");
    });
}

#[test]
fn clients_keep_their_address_where_it_is_asked_for() {
    in_own_network(&[], || {
        let stage = Stage::new();
        stage._backend.run(|| ip("route add 192.0.2.0/24 via 198.51.100.1"));
        let gapi = start().flag("--kernel-keep-client", "default/edge/tcp").serve();
        if !is_carried(&gapi) {
            return;
        }
        let mut stream = stage.connect().expect("served");
        assert_eq!(greeting(&mut stream), "192.0.2.2");
        echo(&mut stream, b"and back");
    });
}

#[test]
fn without_it_user_space_serves_the_same() {
    in_own_network(&[], || {
        let stage = Stage::new();
        let gapi = start().flag("--kernel", "off").serve();
        assert!(path(&gapi).contains("user space (--kernel is off)"), "{}", path(&gapi));
        let mut stream = stage.connect().expect("served");
        assert_eq!(greeting(&mut stream), "198.51.100.1");
        echo(&mut stream, b"the same");
        let (_, _start) = gapi.end(Signal::TERM, PATIENCE);
        assert!(stage.connect().is_err(), "nothing is left at work");
    });
}
