//! The kernel path as the daemon has it: a client, a gateway and a backend on three machines, that is network namespaces of
//! the test's own.

#![cfg(feature = "kernel")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
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
    network::{Machine, in_own_network, ip, ip_batch},
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

/// Sooner than the daemon looks of its own accord, which is after 30 seconds.
const SOON: Duration = Duration::from_secs(10);

/// Seconds of processor time that a process has taken.
fn processor(id: u32) -> f64 {
    let told = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let (_, numbers) = told.rsplit_once(')').expect("its name is in brackets");
    // utime and stime are the fields 14 and 15, the first after the name is 3; a hundred to the second on every Linux.
    let ticks: u64 = numbers.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Lines of a log that a person should be worried about.
fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN")).collect()
}

/// What is said of the listener of this protocol at the address that the client speaks to.
fn listener<'v>(view: &'v serde_json::Value, protocol: &str) -> &'v serde_json::Value {
    let listeners = view["listeners"].as_array().expect("a list");
    let own = |one: &&serde_json::Value| one["protocol"] == protocol && one["address"] == GATEWAY;
    listeners.iter().find(own).expect("it is told")
}

/// With the capabilities that docs/kernel-path.md names and no others.
const CAPABLE: [&str; 3] = ["setpriv", "--bounding-set", "-all,+bpf,+net_admin,+perfmon"];

#[test]
fn connections_outlive_the_daemon() {
    in_own_network(&[], || {
        let stage = Stage::new();
        let gapi = start().under(&CAPABLE).serve();
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

        let gapi = start.flag("--address", "192.0.2.1").under(&CAPABLE).serve();
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
fn a_daemon_whose_programs_are_taken_off_goes_on_in_user_space() {
    in_own_network(&[], || {
        let stage = Stage::new();
        let gapi = start().serve();
        if !is_carried(&gapi) {
            return;
        }
        let detached = Command::new(BINARY).args(["kernel", "detach"]).status().expect("it runs");
        assert!(detached.success());
        assert!(path(&gapi).contains("user space (`gapi kernel detach`"), "{}", path(&gapi));
        greeting(&mut stage.connect().expect("user space serves"));
        // Nothing that comes later brings them back, or is in trouble without them.
        let other = Machine::start();
        other.plug("gateway2", "other0");
        gapi.put("more.yaml", manifest::file(&[manifest::gateway("more", &[manifest::http("http", 8080)])]));
        gapi.reload();
        assert!(path(&gapi).contains("user space ("), "{}", path(&gapi));
        assert_eq!(complaints(&gapi.log()), [""; 0]);
        let (_, start) = gapi.end(Signal::TERM, PATIENCE);
        let gapi = start.flag("--address", "192.0.2.1").serve();
        wait("it attaches again", PATIENCE, || path(&gapi).contains("kernel for "));
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

/// Listeners and TCPRoutes `far`, `near` and `mixed`, by the endpoints that they have.
fn three_ways(mixed: &[&str]) -> String {
    let all: [(&str, u16, &[&str]); 3] =
        [("far", 5432, &[BACKEND]), ("near", 5433, &["127.0.0.1:7001"]), ("mixed", 5434, mixed)];
    let listeners = all.map(|(name, port, _)| manifest::listener(name, "TCP", port));
    let mut documents = vec![manifest::gateway("edge", &listeners)];
    for (name, _, endpoints) in all {
        let endpoints: Vec<SocketAddr> = endpoints.iter().map(|one| one.parse().expect("an address")).collect();
        documents.push(manifest::layer4_route("TCPRoute", name, "edge", name, name));
        documents.extend(manifest::service(name, &endpoints));
    }
    manifest::file(&documents)
}

/// Condition `gapi.dev/KernelPath` in the status file of a TCPRoute.
fn path_of(gapi: &Gapi, route: &str) -> Option<serde_json::Value> {
    let file = gapi.status_file(&format!("default/tcproutes/{route}.yaml"));
    let document: serde_json::Value = serde_yaml::from_str(&file).ok()?;
    let conditions = document["status"]["parents"][0]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "gapi.dev/KernelPath").cloned()
}

/// Waits until the condition of a route has this reason and its message ends so.
fn wait_for_path(gapi: &Gapi, route: &str, reason: &str, end: &str) -> serde_json::Value {
    wait(&format!("{route} is {reason}, {end}"), PATIENCE, || {
        path_of(gapi, route).is_some_and(|path| {
            path["reason"] == reason && path["message"].as_str().is_some_and(|message| message.ends_with(end))
        })
    });
    path_of(gapi, route).expect("it was there")
}

#[test]
fn the_status_of_a_route_says_which_way_its_traffic_takes() {
    in_own_network(&[], || {
        let _stage = Stage::new();
        let start = Start::new().flag("--address", "192.0.2.1");
        let gapi = start.file("all.yaml", three_ways(&[BACKEND, "127.0.0.1:7001"])).serve();
        wait("it is known which way traffic goes", PATIENCE, || path_of(&gapi, "far").is_some());
        if !path(&gapi).contains("kernel for") {
            eprintln!("skipped: {}", path(&gapi));
            return;
        }
        let local = "user space: endpoint 127.0.0.1:7001 is on this machine";
        let far = wait_for_path(&gapi, "far", "Kernel", "is carried by the kernel");
        assert_eq!((&far["status"], &far["observedGeneration"]), (&"True".into(), &1.into()));
        assert_eq!(wait_for_path(&gapi, "near", "UserSpace", local)["status"], "False");
        let mixed = wait_for_path(&gapi, "mixed", "KernelAndUserSpace", local);
        assert_eq!(mixed["status"], "True");
        let table = gapi.ask(&["get", "tcproutes", "-o", "wide"]).text;
        for (route, path) in [("far", "kernel"), ("near", "user"), ("mixed", "kernel+user")] {
            let line = table.lines().find(|line| line.starts_with(route)).unwrap_or_default();
            assert_eq!(line.split_whitespace().last(), Some(path), "{table}");
        }
        let page = gapi.ask(&["describe", "tcproute", "near"]).text;
        let line = "listener near: accepted; gapi.dev/KernelPath False (UserSpace): Traffic is carried by";
        assert!(page.contains(line), "{page}");

        // An endpoint less, then two more; nothing of it changes the other routes.
        gapi.put("all.yaml", three_ways(&[BACKEND]));
        wait_for_path(&gapi, "mixed", "Kernel", "is carried by the kernel");
        gapi.put("all.yaml", three_ways(&[BACKEND, "127.0.0.1:7001", "127.0.0.2:7001"]));
        let both = "127.0.0.1:7001 is on this machine, endpoint 127.0.0.2:7001 is on this machine";
        let again = wait_for_path(&gapi, "mixed", "KernelAndUserSpace", both);
        assert_eq!(again["lastTransitionTime"], mixed["lastTransitionTime"]);
        assert_eq!(path_of(&gapi, "far"), Some(far.clone()));

        // The backend's address comes to this machine: no file changes, and no pass is needed.
        ip("address add 198.51.100.2/32 dev lo");
        wait_for_path(&gapi, "far", "UserSpace", "user space: endpoint 198.51.100.2:7000 is on this machine");
        ip("address del 198.51.100.2/32 dev lo");
        let far = wait_for_path(&gapi, "far", "Kernel", "is carried by the kernel");

        let (_, start) = gapi.end(Signal::TERM, PATIENCE);
        // So that a new time would be another.
        thread::sleep(Duration::from_millis(1100));
        let gapi = start.flag("--address", "192.0.2.1").serve();
        wait("the programs are taken over", PATIENCE, || path(&gapi).contains("kernel for"));
        assert_eq!(wait_for_path(&gapi, "far", "Kernel", "is carried by the kernel"), far);

        let (_, start) = gapi.end(Signal::TERM, PATIENCE);
        let gapi = start.flag("--address", "192.0.2.1").flag("--kernel", "off").serve();
        for route in ["far", "near", "mixed"] {
            wait_for_path(&gapi, route, "UserSpace", "is carried by user space: --kernel is off");
        }
        let detached = Command::new(BINARY).args(["kernel", "detach"]).status().expect("it runs");
        assert!(detached.success());
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

#[test]
fn interfaces_that_come_and_go_are_followed() {
    in_own_network(&[], || {
        let stage = Stage::new();
        let gapi = start().serve();
        if !is_carried(&gapi) {
            return;
        }
        for _ in 0..3 {
            ip("link del gateway1");
            wait("it has no route", SOON, || path(&gapi).contains("kernel for 0 of 4"));
            stage._backend.plug("gateway1", "backend0");
            stage._backend.run(|| ip("address add dev backend0 198.51.100.2/24"));
            ip("address add dev gateway1 198.51.100.1/24");
            let start = Instant::now();
            wait("it is carried again", SOON, || path(&gapi).contains("kernel for all 4"));
            eprintln!("carried after {:?}", start.elapsed());
            let mut stream = stage.connect().expect("served");
            greeting(&mut stream);
            echo(&mut stream, b"through the new cable");
        }
        assert_eq!(complaints(&gapi.log()), [""; 0]);
    });
}

#[test]
fn a_storm_of_changes_does_not_take_the_processor() {
    in_own_network(&[], || {
        let _stage = Stage::new();
        let gapi = start().serve();
        if !is_carried(&gapi) {
            return;
        }
        let interfaces = || {
            let view: serde_json::Value =
                serde_json::from_str(&gapi.ask(&["kernel", "-o", "json"]).text).expect("JSON");
            view["interfaces"].as_object().map_or(0, |all| all.len())
        };
        let before = (processor(gapi.id()), Instant::now());
        let cost = |what: &str| {
            let now = processor(gapi.id());
            eprintln!("{what}: {:.2} s of the processor in {:?}", now - before.0, before.1.elapsed());
            now - before.0
        };
        for word in ["add", "del"] {
            let routes =
                (0..10_000).map(|i| format!("route {word} 10.0.{}.{}/32 via 198.51.100.2\n", i / 256, i % 256));
            ip_batch(&routes.collect::<String>());
        }
        assert!(cost("10,000 routes that came and went") < 2.0);
        let links = (0..500).map(|i| format!("link add storm{i} up group 5 type veth peer name peer{i}\n"));
        ip_batch(&links.collect::<String>());
        wait("all are attached to", PATIENCE, || interfaces() == 502);
        ip("link del group 5");
        wait("all are gone", PATIENCE, || interfaces() == 2);
        assert!(cost("and 500 interfaces") < 10.0);
        assert_eq!(complaints(&gapi.log()), [""; 0]);
    });
}
