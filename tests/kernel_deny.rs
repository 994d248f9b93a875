//! The deny list in the kernel: between two machines, that is network namespaces of the test's own.

#![cfg(feature = "kernel")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

mod support;

use support::{
    Gapi,
    gapi::{Start, replace},
    manifest,
    network::{Machine, in_own_network, ip},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// What is dropped is sent again after a second: this long nothing comes.
const SILENCE: Duration = Duration::from_millis(600);
const FRIEND: &str = "192.0.2.2";
const FOE: &str = "192.0.2.3";
const FRIEND_V6: &str = "2001:db8::2";
const FOE_V6: &str = "2001:db8::3";
const GATEWAY: &str = "192.0.2.1:8080";
const GATEWAY_V6: &str = "[2001:db8::1]:8080";
/// Another server on the gateway's machine.
const OTHER: &str = "192.0.2.1:2222";

/// A gateway at one end of a cable, clients at the other.
struct Stage {
    clients: Machine,
    gapi: Option<Gapi>,
    list: PathBuf,
}

impl Stage {
    fn start(list: &str) -> Stage {
        let clients = Machine::start();
        clients.plug("gateway0", "client0");
        // What is new in IPv6 waits a second to be its own.
        for address in ["192.0.2.1/24", "2001:db8::1/64 nodad"] {
            ip(&format!("address add dev gateway0 {address}"));
        }
        clients.run(|| {
            for address in ["192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64 nodad", "2001:db8::3/64 nodad"] {
                ip(&format!("address add dev client0 {address}"));
            }
        });
        let start = Start::new();
        let path = start.root().join("deny.txt");
        replace(&path, list.as_bytes());
        let gateway = manifest::file(&[manifest::gateway("gateway", &[manifest::http("http", 8080)])]);
        let start = start.file("gateway.yaml", gateway);
        let mut stage = Stage { clients, gapi: None, list: path };
        stage.run(start);
        stage
    }

    fn run(&mut self, start: Start) {
        let list = self.list.to_str().expect("the path is ASCII");
        let start = start.flag("--deny-list", list).flag("--address", "192.0.2.1").flag("--address", "2001:db8::1");
        self.gapi = Some(start.serve());
    }

    fn gapi(&self) -> &Gapi {
        self.gapi.as_ref().expect("it runs")
    }

    fn put(&self, list: &str) {
        replace(&self.list, list.as_bytes());
    }

    fn status(&self) -> String {
        self.gapi().ask(&["status"]).text
    }

    /// What becomes of a request.
    fn ask(&self, client: &str, to: &str) -> Outcome {
        let (client, to) = (SocketAddr::new(client.parse().expect("an address"), 0), to.parse().expect("an address"));
        self.clients.run(move || outcome(client, to))
    }

    fn wait_until(&self, client: &str, to: &str, wanted: Outcome) {
        wait(&format!("{client} is {wanted:?} at {to}"), PATIENCE, || self.ask(client, to) == wanted);
    }

    fn packets(&self) -> u64 {
        let status: serde_json::Value =
            serde_json::from_str(&self.gapi().ask(&["status", "-o", "json"]).text).expect("JSON");
        status["deny"]["packets"].as_u64().expect("a number")
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Served,
    /// Nothing came back: the kernel dropped it.
    Dropped,
    /// By user space.
    Reset,
}

fn outcome(client: SocketAddr, to: SocketAddr) -> Outcome {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&client.into()).expect("the address is the machine's");
    match socket.connect_timeout(&to.into(), SILENCE) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::TimedOut => return Outcome::Dropped,
        Err(_) => return Outcome::Reset,
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut answer = [0; 5];
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").and_then(|()| stream.read_exact(&mut answer));
    match asked {
        Ok(()) => Outcome::Served,
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("connected and never answered"),
        Err(_) => Outcome::Reset,
    }
}

use Outcome::{Dropped, Served};

#[test]
fn packets_of_denied_clients_are_dropped_at_the_interface() {
    in_own_network(&[], || {
        let stage = Stage::start("192.0.2.3\n2001:db8::3\n");
        stage.wait_until(FOE, GATEWAY, Dropped);
        stage.wait_until(FOE_V6, GATEWAY_V6, Dropped);
        assert_eq!(stage.ask(FRIEND, GATEWAY), Served);
        assert_eq!(stage.ask(FRIEND_V6, GATEWAY_V6), Served);
        let status = stage.status();
        assert!(status.contains("2 prefixes, kernel (tc at gateway0); denied "), "{status}");
        assert!(stage.packets() >= 2, "{status}");
        // Only what comes to the listeners.
        let other = std::net::TcpListener::bind(OTHER).expect("bound");
        let served = std::thread::spawn(move || other.accept().and_then(|(mut stream, _)| stream.write_all(b"hello")));
        assert_eq!(stage.ask(FOE, OTHER), Served);
        served.join().expect("ended").expect("sent");
        // And who is local is never kept out.
        stage.put("0.0.0.0/0\n::/0\n");
        stage.wait_until(FRIEND, GATEWAY, Dropped);
        assert_eq!(stage.gapi().ask(&["status"]).code, 0);
    });
}

#[test]
fn changes_of_list_listeners_and_interfaces_are_followed() {
    in_own_network(&[], || {
        let stage = Stage::start("");
        assert_eq!(stage.ask(FOE, GATEWAY), Served);
        stage.put("192.0.2.0/30\n!192.0.2.2\n");
        stage.wait_until(FOE, GATEWAY, Dropped);
        stage.put("192.0.2.2/31\n");
        stage.wait_until(FRIEND, GATEWAY, Dropped);
        stage.put("192.0.2.3\n");
        stage.wait_until(FRIEND, GATEWAY, Served);
        // A listener that comes.
        let both = manifest::file(&[manifest::gateway(
            "gateway",
            &[manifest::http("http", 8080), manifest::http("more", 8081)],
        )]);
        stage.gapi().put("gateway.yaml", both);
        stage.gapi().reload();
        stage.wait_until(FOE, "192.0.2.1:8081", Dropped);
        assert_eq!(stage.ask(FRIEND, "192.0.2.1:8081"), Served);
        // Another cable.
        stage.clients.plug("gateway1", "client1");
        ip("address add 198.51.100.1/24 dev gateway1");
        stage.clients.run(|| {
            ip("address add 198.51.100.2/24 dev client1");
            ip("address add 198.51.100.3/24 dev client1");
            ip("route add 192.0.2.1/32 via 198.51.100.1 dev client1");
        });
        stage.put("198.51.100.3");
        stage.wait_until("198.51.100.3", GATEWAY, Dropped);
        assert_eq!(stage.ask("198.51.100.2", GATEWAY), Served);
        ip("link del gateway1");
        wait("it is gone", PATIENCE, || !stage.status().contains("gateway1"));
        // Nobody is denied any more: nothing is attached either.
        stage.put("");
        stage.wait_until(FOE, GATEWAY, Served);
        wait("nothing is attached", PATIENCE, || !is_attached());
    });
}

/// Sooner than the daemon looks of its own accord, which is after 30 seconds.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn the_list_is_soon_at_an_interface_that_comes() {
    in_own_network(&[], || {
        let stage = Stage::start("192.0.2.3");
        stage.wait_until(FOE, GATEWAY, Dropped);
        for _ in 0..3 {
            stage.clients.plug("gateway1", "client1");
            let start = Instant::now();
            wait("it is at the new one", SOON, || stage.status().contains("gateway1"));
            eprintln!("attached after {:?}", start.elapsed());
            ip("link del gateway1");
            wait("it is gone", SOON, || !stage.status().contains("gateway1"));
        }
        let log = stage.gapi().log();
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    });
}

/// Killed, it leaves the programs where they are; the next run takes them over; when it ends in order they go.
#[test]
fn the_list_stands_when_the_daemon_is_killed() {
    in_own_network(&[], || {
        let mut stage = Stage::start("192.0.2.3");
        stage.wait_until(FOE, GATEWAY, Dropped);
        let (_, start) = stage.gapi.take().expect("it runs").end(Signal::KILL, PATIENCE);
        assert_eq!(stage.ask(FOE, GATEWAY), Dropped, "user space would refuse");
        assert_eq!(stage.ask(FRIEND, GATEWAY), Outcome::Reset);
        stage.put("192.0.2.2");
        stage.run(start);
        stage.wait_until(FRIEND, GATEWAY, Dropped);
        assert_eq!(stage.ask(FOE, GATEWAY), Served);
        let (_, _start) = stage.gapi.take().expect("it runs").end(Signal::TERM, PATIENCE);
        assert!(!is_attached(), "nothing stays behind");
        assert_eq!(stage.ask(FRIEND, GATEWAY), Outcome::Reset);
    });
}

/// A network card whose driver can runs the program itself. `make test-kernel` has one, and names it.
#[test]
fn a_network_card_runs_it_by_xdp() {
    let Ok(card) = std::env::var("GAPI_TEST_CARD") else {
        return eprintln!("skipped: GAPI_TEST_CARD names no network card to attach a program to");
    };
    let start = Start::new();
    let list = start.root().join("deny.txt");
    replace(&list, b"192.0.2.3");
    let gateway = manifest::file(&[manifest::gateway("gateway", &[manifest::http("http", 8080)])]);
    let start = start.file("gateway.yaml", gateway).flag("--deny-list", list.to_str().expect("the path is ASCII"));
    let gapi = start.serve();
    wait("it is attached", PATIENCE, || {
        gapi.ask(&["status"]).text.contains(&format!("1 prefix, kernel (XDP at {card}"))
    });
}

/// From the rename to the first packet that is dropped, with 100,000 prefixes; `--nocapture` shows it.
#[test]
fn a_long_list_in_the_kernel() {
    in_own_network(&[], || {
        let many: String =
            (0..100_000_u32).map(|i| format!("10.{}.{}.{}/32\n", i >> 15, i >> 7 & 255, i << 1 & 254)).collect();
        let stage = Stage::start(&many);
        wait("it is in the kernel", PATIENCE, || stage.status().contains("kernel (tc"));
        let start = Instant::now();
        stage.put(&format!("{many}192.0.2.3\n"));
        stage.wait_until(FOE, GATEWAY, Dropped);
        // Without optimization, and on a machine that does other things: some 15 ms when built for release.
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        eprintln!("denied after {:?}, {SILENCE:?} of which are the patience of who was", start.elapsed());
        let start = Instant::now();
        stage.put(&many);
        stage.wait_until(FOE, GATEWAY, Served);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        eprintln!("served again after {:?}", start.elapsed());
    });
}

/// Is a program of the deny list attached in this network?
fn is_attached() -> bool {
    let output = std::process::Command::new("tc").args(["filter", "show", "dev", "gateway0", "ingress"]).output();
    let filters = String::from_utf8(output.expect("tc is there").stdout).expect("text");
    let output = std::process::Command::new("bpftool").args(["net", "show"]).output();
    let links = output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    (filters + &links).contains("gapi_deny")
}
