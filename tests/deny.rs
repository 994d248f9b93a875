//! The deny list: the real binary in a network of the test's own, where clients have other addresses than loopback's.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use gapi::{dataplane::Settings, snapshot::deny::DenyList};
use socket2::{Domain, Socket, Type};

mod support;

#[allow(dead_code)]
#[path = "connection/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "layer4/stage.rs"]
mod stage;

use stage::Stage;
use support::{
    Gapi,
    gapi::{Start, replace},
    manifest,
    network::in_own_network,
    wait,
};

const GATEWAY: &str = "192.0.2.1";
const FRIEND: &str = "192.0.2.2";
const FOE: &str = "192.0.2.3";
const ADDRESSES: &[&str] = &["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "2001:db8::2/128", "2001:db8::3/128"];
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 8080;

/// A daemon with one HTTP listener and a deny list beside its directories.
struct Daemon {
    gapi: Gapi,
    list: PathBuf,
}

impl Daemon {
    fn start(list: &str) -> Daemon {
        Daemon::start_with(|path| replace(path, list.as_bytes()))
    }

    fn start_with(make: impl FnOnce(&Path)) -> Daemon {
        let start = Start::new();
        let list = start.root().join("deny.txt");
        make(&list);
        let gateway = manifest::file(&[manifest::gateway("gateway", &[manifest::http("http", PORT)])]);
        let start = start.file("gateway.yaml", gateway).flag("--deny-list", list.to_str().expect("the path is ASCII"));
        let start = ["192.0.2.1", "::1"].into_iter().fold(start, |start, address| start.flag("--address", address));
        Daemon { gapi: start.serve(), list }
    }

    fn put(&self, text: &str) {
        replace(&self.list, text.as_bytes());
    }

    fn status(&self) -> String {
        self.gapi.ask(&["status"]).text
    }

    fn wait_until_denied(&self, client: &str) {
        wait("the client is denied", PATIENCE, || !is_served(client));
    }

    fn wait_until_served(&self, client: &str) {
        wait("the client is served", PATIENCE, || is_served(client));
    }

    /// Appears in the status, also after a moment.
    fn wait_until_told(&self, words: &str) {
        wait(words, PATIENCE, || self.status().contains(words));
    }
}

fn connect(client: &str, to: &str) -> std::io::Result<TcpStream> {
    let (client, to): (IpAddr, IpAddr) = (client.parse().expect("an address"), to.parse().expect("an address"));
    let to = SocketAddr::new(to, PORT);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(client, 0).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Does the gateway answer a request? There is no route, so that any answer is one.
fn answers(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 12];
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").and_then(|()| stream.read_exact(&mut answer));
    match asked {
        Ok(()) => answer == *b"HTTP/1.1 404",
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither served nor denied"),
        Err(_) => false,
    }
}

fn is_served_at(client: &str, to: &str) -> bool {
    connect(client, to).is_ok_and(|mut stream| answers(&mut stream))
}

fn is_served(client: &str) -> bool {
    is_served_at(client, GATEWAY)
}

#[test]
fn a_denied_client_is_closed_at_accept_and_others_are_served() {
    in_own_network(ADDRESSES, || {
        let daemon = Daemon::start("# foes\n192.0.2.3\n");
        assert!(is_served(FRIEND) && !is_served(FOE));
        daemon.wait_until_told("; denied 1 connection, 0 datagrams, 0 packets");
        assert_eq!(daemon.gapi.ask(&["status"]).code, 0);
    });
}

#[test]
fn every_way_to_change_the_file_counts_without_a_pass() {
    in_own_network(ADDRESSES, || {
        let daemon = Daemon::start("");
        let generation = || {
            let status: serde_json::Value =
                serde_json::from_str(&daemon.gapi.ask(&["status", "-o", "json"]).text).expect("JSON");
            status["lastPass"].clone()
        };
        assert!(is_served(FOE));
        let before = generation();
        // Renamed over.
        daemon.put("192.0.2.0/31\n192.0.2.3\n");
        daemon.wait_until_denied(FOE);
        // In place, shorter.
        fs::write(&daemon.list, "192.0.2.2\n").expect("written");
        daemon.wait_until_served(FOE);
        daemon.wait_until_denied(FRIEND);
        // In place, with a moment between emptying and writing: in between the old list counts.
        let mut file = File::create(&daemon.list).expect("written");
        std::thread::sleep(Duration::from_millis(100));
        assert!(!is_served(FRIEND), "a file that is being written is not read");
        file.write_all(b"192.0.2.3\n").expect("written");
        drop(file);
        daemon.wait_until_denied(FOE);
        daemon.wait_until_served(FRIEND);
        // Appended to.
        let mut file = File::options().append(true).open(&daemon.list).expect("opened");
        file.write_all(b"192.0.2.2").expect("written");
        drop(file);
        daemon.wait_until_denied(FRIEND);
        assert_eq!(generation(), before, "no pass was run");
        // Removed and written anew.
        fs::remove_file(&daemon.list).expect("removed");
        fs::write(&daemon.list, "192.0.2.2").expect("written");
        daemon.wait_until_served(FOE);
    });
}

#[test]
fn links_are_followed_also_when_what_is_behind_them_changes() {
    in_own_network(ADDRESSES, || {
        // As a volume of a ConfigMap has it: deny.txt → ..data/deny.txt, ..data → a directory that is swapped.
        let daemon = Daemon::start_with(|path| {
            let directory = path.parent().expect("it has one");
            for (name, text) in [("..1", "192.0.2.3"), ("..2", "192.0.2.2")] {
                fs::create_dir(directory.join(name)).expect("made");
                fs::write(directory.join(name).join("deny.txt"), text).expect("written");
            }
            symlink("..1", directory.join("..data")).expect("linked");
            symlink("..data/deny.txt", path).expect("linked");
        });
        assert!(is_served(FRIEND) && !is_served(FOE));
        let directory = daemon.list.parent().expect("it has one");
        symlink("..2", directory.join("..new")).expect("linked");
        fs::rename(directory.join("..new"), directory.join("..data")).expect("renamed");
        daemon.wait_until_served(FOE);
        daemon.wait_until_denied(FRIEND);
        replace(&directory.join("..2/deny.txt"), b"192.0.2.3");
        daemon.wait_until_denied(FOE);
        daemon.wait_until_served(FRIEND);
    });
}

#[test]
fn what_is_wrong_is_said_and_what_is_right_counts() {
    in_own_network(ADDRESSES, || {
        let daemon = Daemon::start("192.0.2.3\n192.0.2.300\n");
        assert!(!is_served(FOE) && is_served(FRIEND));
        let status = daemon.status();
        assert!(status.contains("192.0.2.300") && status.contains("deny.txt:2:1"), "{status}");
        assert_eq!(daemon.gapi.reload().code, 1);
        fs::remove_file(&daemon.list).expect("removed");
        daemon.wait_until_told("the deny list is gone: its last 1 prefixes stay denied");
        assert!(!is_served(FOE), "the last list stays in force");
        daemon.put("");
        daemon.wait_until_served(FOE);
        wait("nothing is wrong any more", PATIENCE, || daemon.gapi.ask(&["status"]).code == 0);
        // A reload returns when the list is served, whatever was heard of its file.
        daemon.put("192.0.2.3");
        daemon.gapi.reload();
        assert!(!is_served(FOE));
    });
}

#[test]
fn without_a_file_the_daemon_serves_and_says_so() {
    in_own_network(ADDRESSES, || {
        let daemon = Daemon::start_with(|_| {});
        assert!(is_served(FOE));
        assert!(daemon.status().contains("the deny list is not there: nobody is denied"), "{}", daemon.status());
        daemon.put("192.0.2.3");
        daemon.wait_until_denied(FOE);
    });
}

#[test]
fn loopback_cannot_be_locked_out() {
    in_own_network(ADDRESSES, || {
        let daemon = Daemon::start("0.0.0.0/0\n::/0\n");
        assert!(!is_served(FRIEND) && !is_served(FOE));
        assert!(is_served_at("127.0.0.1", "127.0.0.1") && is_served_at("::1", "::1"));
        assert!(!is_served_at("2001:db8::2", "::1"), "others are denied wherever they come to");
        let ran = daemon.gapi.ask(&["status"]);
        assert!(
            ran.code == 0 && ran.text.contains("never denied") && ran.text.contains("deny.txt:2:1"),
            "{}",
            ran.text
        );
    });
}

#[test]
fn who_is_connected_leaves() {
    in_own_network(ADDRESSES, || {
        let daemon = Daemon::start("");
        let (mut foe, mut friend) =
            (connect(FOE, GATEWAY).expect("connected"), connect(FRIEND, GATEWAY).expect("connected"));
        assert!(answers(&mut foe) && answers(&mut friend));
        daemon.put("192.0.2.3");
        let mut rest = Vec::new();
        let ended = foe.read_to_end(&mut rest);
        assert!(!matches!(ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "the connection has ended");
        let mut rest = [0; 4096];
        let _ = friend.read(&mut rest).expect("the rest of the answer");
        assert!(answers(&mut friend));
    });
}

/// 100,000 prefixes, one of which changes: from the rename to the first refusal.
#[test]
fn a_long_list_is_in_force_soon() {
    in_own_network(ADDRESSES, || {
        let many: String =
            (0..100_000_u32).map(|i| format!("10.{}.{}.{}/32\n", i >> 15, i >> 7 & 255, i << 1 & 254)).collect();
        let daemon = Daemon::start(&many);
        assert!(daemon.status().contains("100000 prefixes"), "{}", daemon.status());
        assert!(is_served(FOE));
        let mut took = Vec::new();
        for round in 0..10 {
            let text = if round % 2 == 0 { format!("{many}192.0.2.3\n") } else { many.clone() };
            let aside = daemon.list.with_extension("new");
            fs::write(&aside, text).expect("written");
            let start = Instant::now();
            fs::rename(&aside, &daemon.list).expect("renamed");
            wait("the list is in force", PATIENCE, || is_served(FOE) == (round % 2 == 1));
            took.push(start.elapsed());
        }
        took.sort();
        // Without optimization; `--nocapture` shows it for a build of release.
        eprintln!("from rename to effect with 100,000 prefixes: {took:?}");
        assert!(took[0] < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn datagrams_of_denied_clients_are_dropped() {
    in_own_network(ADDRESSES, || {
        let backend = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let (backend_address, address) =
            (backend.local_addr().expect("bound"), "192.0.2.1:5353".parse().expect("an address"));
        let mut gateway = harness::Gateway::start(Settings::default());
        gateway.publish(Stage::udp(address, &[(1, Some(&[backend_address]))]).plan);
        harness::all_bound(&gateway.plane.published_datagrams());
        let client = |from: &str| {
            let socket = UdpSocket::bind((from, 0)).expect("bound");
            socket.connect(address).expect("connected");
            socket
        };
        let (friend, foe) = (client(FRIEND), client(FOE));
        let hear = |expected: &str| {
            backend.set_read_timeout(Some(PATIENCE)).expect("a time");
            let mut buffer = [0; 64];
            let length = backend.recv(&mut buffer).expect("a datagram in time");
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
        };
        foe.send(b"before").expect("sent");
        hear("before");
        let mut deny = gateway.plane.denier();
        deny(Arc::new(DenyList::new(["192.0.2.3/32".parse().expect("a prefix")])));
        let sessions =
            |gateway: &harness::Gateway| gateway.plane.counts().datagram_sockets.values().flatten().sum::<usize>();
        wait("its session has ended", PATIENCE, || sessions(&gateway) == 0);
        (0..3).for_each(|_| _ = foe.send(b"denied").expect("sent"));
        friend.send(b"served").expect("sent");
        hear("served");
        let denied = || gateway.plane.counters().map(|counters| counters.denied_datagrams.load(Relaxed)).sum::<u64>();
        wait("they are counted", PATIENCE, || denied() == 3);
        deny(Arc::default());
        foe.send(b"again").expect("sent");
        hear("again");
    });
}
