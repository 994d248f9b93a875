//! A client, a gateway and backends on three machines, that is network namespaces of the test's own, with the daemon on
//! the gateway: once with the kernel path, once without.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        atomic::{AtomicU16, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Gapi,
    datagram::DatagramBackend,
    gapi::Start,
    manifest,
    network::{Machine, in_own_network, ip},
    wait,
};

/// For what takes milliseconds on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Of the listeners.
pub const PORT: u16 = 5000;

/// Which way packets take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    User,
    Kernel,
}

/// Of the addresses that the daemon serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        if self == Family::V4 { v4 } else { v6 }
    }

    fn at(self, v4: &str, v6: &str) -> IpAddr {
        self.pick(v4, v6).parse().expect("an address")
    }
}

/// A backendRef: its weight and its endpoints; none for an invalid reference.
pub type Share<'a> = (u32, Option<&'a [SocketAddr]>);

/// What is to be seen on a stage.
pub type Body = fn(&Stage);

/// The machines and what the daemon serves.
pub struct Stage {
    pub way: Way,
    pub family: Family,
    pub client: Machine,
    pub backend: Machine,
    gapi: Option<Gapi>,
    start: Option<Start>,
    flags: Vec<(String, String)>,
    /// The next of the client for UDP.
    port: AtomicU16,
}

/// Runs `test` with both families on both ways, all at once.
pub fn on_both(flags: &[(&str, &str)], test: impl Fn(&mut Stage) + Sync) {
    on(&[Way::User, Way::Kernel], flags, test);
}

/// Runs `test` with both families through the kernel.
pub fn in_kernel(flags: &[(&str, &str)], test: impl Fn(&mut Stage) + Sync) {
    on(&[Way::Kernel], flags, test);
}

fn on(ways: &[Way], flags: &[(&str, &str)], test: impl Fn(&mut Stage) + Sync) {
    let run = &|way, family| {
        in_own_network(&[], || {
            let mut stage = Stage::new(way, family, flags);
            if stage.serves_at_all() {
                test(&mut stage);
            }
        });
    };
    let all = ways.iter().flat_map(|&way| [Family::V4, Family::V6].map(|family| (way, family)));
    // An emulated machine has enough to do with one.
    if std::env::var_os("GAPI_TEST_ONE_AT_A_TIME").is_some() {
        return all.for_each(|(way, family)| run(way, family));
    }
    thread::scope(|scope| all.for_each(|(way, family)| _ = scope.spawn(move || run(way, family))));
}

/// Runs bodies of tests that need no flags, one after the other on the same machines.
pub fn all_on_both(all: &[(&str, Body)]) {
    on_both(&[], |stage| {
        for (name, body) in all {
            eprintln!("{name}: {:?}, {:?}", stage.way, stage.family);
            body(stage);
        }
    });
}

impl Stage {
    fn new(way: Way, family: Family, flags: &[(&str, &str)]) -> Stage {
        let (client, backend) = (Machine::start(), Machine::start());
        client.plug("gateway0", "client0");
        backend.plug("gateway1", "backend0");
        for (link, network) in [("gateway0", 1), ("gateway1", 2)] {
            give(link, network, 1);
        }
        give("gateway0", 1, 9);
        client.run(|| give("client0", 1, 2));
        backend.run(|| give("backend0", 2, 2));
        let use_ = if way == Way::Kernel { "require" } else { "off" };
        let use_ = [("--kernel", use_)];
        let flags = flags.iter().chain(&use_);
        let mut stage = Stage {
            way,
            family,
            client,
            backend,
            gapi: None,
            port: AtomicU16::new(10_000),
            start: Some(Start::new()),
            flags: flags.map(|(flag, value)| ((*flag).to_owned(), (*value).to_owned())).collect(),
        };
        stage.start_again(None);
        stage
    }

    /// Starts the daemon, or the one in the file `program` in its place.
    pub fn start_again(&mut self, program: Option<&str>) {
        let start = self.start.take().expect("it ended before");
        let start = [self.gateway(), self.other_gateway()]
            .iter()
            .fold(start, |start, address| start.flag("--address", &address.ip().to_string()));
        let mut start = self.flags.iter().fold(start, |start, (flag, value)| start.flag(flag, value));
        if let Some(program) = program {
            start = start.under(&["sh", "-c", &format!("shift; exec {program} \"$@\""), "sh"]);
        }
        let mut gapi = start.spawn();
        wait("it serves or ends", PATIENCE, || {
            !gapi.is_running() || gapi.ask(&["status"]).text.contains("Traffic path")
        });
        self.gapi = Some(gapi);
    }

    /// Ends the daemon.
    pub fn end(&mut self, signal: Signal) {
        let (_, start) = self.gapi.take().expect("it runs").end(signal, PATIENCE);
        self.start = Some(start);
    }

    /// False where this machine cannot have the kernel path at all.
    fn serves_at_all(&mut self) -> bool {
        let gapi = self.gapi.as_mut().expect("started");
        let log = gapi.log();
        if !gapi.is_running() && log.contains("--kernel require") && log.contains("no privilege") {
            eprintln!("skipped: {log}");
            return false;
        }
        gapi.wait_until_served();
        true
    }

    pub fn gapi(&self) -> &Gapi {
        self.gapi.as_ref().expect("it runs")
    }

    fn gateway_ip(&self) -> IpAddr {
        self.family.at("10.1.0.1", "fd01::1")
    }

    pub fn gateway(&self) -> SocketAddr {
        (self.gateway_ip(), PORT).into()
    }

    /// The gateway has two addresses that it serves.
    pub fn other_gateway(&self) -> SocketAddr {
        (self.family.at("10.1.0.9", "fd01::9"), PORT).into()
    }

    /// What the backend sees of clients.
    pub fn source(&self) -> IpAddr {
        self.family.at("10.2.0.1", "fd02::1")
    }

    pub fn client_ip(&self) -> IpAddr {
        self.family.at("10.1.0.2", "fd01::2")
    }

    pub fn backend_ip(&self) -> IpAddr {
        self.family.at("10.2.0.2", "fd02::2")
    }

    /// An address of the backends' machine where nobody is.
    pub fn nobody(&self) -> SocketAddr {
        (self.backend_ip(), 1).into()
    }

    /// Serves these shares by a TCPRoute or a UDPRoute; returns when new connections go by them.
    pub fn serve(&self, protocol: &str, shares: &[Share<'_>]) {
        self.write(protocol, shares);
        self.follow();
        let own = self.family == Family::V4;
        let is_remote = |address: &SocketAddr| address.is_ipv4() == own && !address.ip().is_loopback();
        if self.way == Way::Kernel
            && shares
                .iter()
                .any(|(weight, endpoints)| *weight > 0 && endpoints.is_some_and(|all| all.iter().any(is_remote)))
        {
            wait("the kernel carries it", PATIENCE, || self.path(protocol).starts_with("kernel"));
        }
    }

    /// The files of [`Stage::serve`].
    pub fn write(&self, protocol: &str, shares: &[Share<'_>]) {
        let name = protocol.to_lowercase();
        let mut documents = vec![gateway(protocol)];
        let mut backends = Vec::new();
        for (index, (weight, endpoints)) in shares.iter().enumerate() {
            let service = format!("{name}-{index}");
            backends.push(json!({"name": service, "port": 80, "weight": weight}));
            let Some(endpoints) = endpoints else { continue };
            documents.extend(match protocol {
                "UDP" => manifest::udp_service(&service, endpoints),
                _ => manifest::service(&service, endpoints),
            });
        }
        let mut route = manifest::layer4_route(&format!("{protocol}Route"), &name, &name, "own", "");
        route["spec"]["rules"] = json!([{"backendRefs": backends}]);
        documents.push(route);
        self.gapi().put(&format!("{name}.yaml"), manifest::file(&documents));
    }

    /// The listener alone.
    pub fn serve_without_route(&self, protocol: &str) {
        self.gapi().put(&format!("{}.yaml", protocol.to_lowercase()), manifest::file(&[gateway(protocol)]));
        self.follow();
    }

    /// No listener either.
    pub fn withdraw(&self, protocol: &str) {
        self.gapi().take(&format!("{}.yaml", protocol.to_lowercase()));
        self.follow();
    }

    fn follow(&self) {
        let reloaded = self.gapi().reload();
        assert!(reloaded.code == 0 || reloaded.code == 1, "{reloaded:?}");
    }

    /// What is told of the kernel path, once it goes by all that was published; on a busy machine that takes its time.
    pub fn kernel(&self) -> Value {
        let mut view = Value::Null;
        wait("the kernel path answers", PATIENCE, || {
            view = serde_json::from_str(&self.gapi().ask(&["kernel", "-o", "json"]).text).unwrap_or_default();
            view.is_object()
        });
        view
    }

    /// What is told of the listener at the address that clients speak to.
    pub fn listener(&self, protocol: &str) -> Value {
        let (view, own) = (self.kernel(), self.gateway().to_string());
        let mut listeners = view["listeners"].as_array().into_iter().flatten();
        let found = listeners.find(|one| one["protocol"] == protocol && one["address"] == own);
        found.unwrap_or_else(|| panic!("{view:#}")).clone()
    }

    fn path(&self, protocol: &str) -> String {
        self.listener(protocol)["path"].as_str().unwrap_or_default().to_owned()
    }

    /// How many connections the kernel has made for a listener.
    pub fn carried(&self, protocol: &str) -> u64 {
        let listener = self.listener(protocol);
        let endpoints = listener["endpoints"].as_array().into_iter().flatten();
        endpoints.filter_map(|endpoint| endpoint["connections"].as_u64()).sum()
    }

    /// How many packets had this fate, of those that the kernel did not send on.
    pub fn packets(&self, fate: &str) -> u64 {
        let view = self.kernel();
        view["packets"][fate].as_u64().unwrap_or_else(|| panic!("{fate}: {view:#}"))
    }

    pub fn try_connect(&self) -> io::Result<TcpStream> {
        let to = self.gateway();
        let stream = self.client.run(move || TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub fn connect(&self) -> TcpStream {
        self.try_connect().expect("connected")
    }

    /// A UDP socket of the client that hears of the gateway alone. No port comes twice: sessions of before live on.
    pub fn datagrams(&self) -> UdpSocket {
        let (own, to) = (self.client_ip(), self.gateway());
        let port = self.port.fetch_add(1, Relaxed);
        let socket = self.client.run(move || UdpSocket::bind((own, port))).expect("the address is the machine's");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        socket
    }

    /// A UDP socket on the backends' machine.
    pub fn backend_datagrams(&self) -> UdpSocket {
        let own = self.backend_ip();
        let socket = self.backend.run(move || UdpSocket::bind((own, 0))).expect("the address is the machine's");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        socket
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- on the way of {:?}, {:?}", self.way, self.family);
            if let Some(gapi) = &self.gapi {
                eprintln!("{}", gapi.ask(&["kernel"]).text);
            }
        }
        // Before its network.
        self.gapi.take();
    }
}

fn gateway(protocol: &str) -> Value {
    manifest::gateway(&protocol.to_lowercase(), &[manifest::listener("own", protocol, PORT)])
}

/// Gives a link of this thread's network the addresses of a host.
pub fn give(link: &str, network: u8, host: u8) {
    ip(&format!("address add 10.{network}.0.{host}/24 dev {link}"));
    ip(&format!("address add fd0{network}::{host}/64 dev {link} nodad"));
}

/// Runs `ip` in the network of this thread; what it said when it failed.
pub fn attempt(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip is there");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

impl Stage {
    /// Answers each datagram with its name before it, for as long as the value lives; remembers who asked.
    pub fn echo(&self, name: &'static str) -> DatagramBackend {
        self.echo_at(name, (self.backend_ip(), 0).into())
    }

    pub fn echo_at(&self, name: &'static str, address: SocketAddr) -> DatagramBackend {
        let bind = move || UdpSocket::bind(address);
        let bound = if address.ip().is_loopback() { bind() } else { self.backend.run(bind) };
        DatagramBackend::on(bound.expect("the address is the machine's"), name, Duration::ZERO)
    }
}

/// Hands out the connections that it gets.
pub struct Backend {
    pub address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Backend {
    pub fn start(stage: &Stage) -> Backend {
        let own = stage.backend_ip();
        let listener = stage.backend.run(move || TcpListener::bind((own, 0))).expect("the address is the machine's");
        let address = listener.local_addr().expect("bound");
        let (sender, accepted) = channel();
        // Ends with its process.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(PATIENCE)).expect("a time");
                stream.set_write_timeout(Some(PATIENCE)).expect("a time");
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Backend { address, accepted }
    }

    pub fn next(&self) -> TcpStream {
        self.accepted.recv_timeout(PATIENCE).expect("a connection in time")
    }

    pub fn has_none(&self) -> bool {
        self.accepted.recv_timeout(Duration::from_millis(200)).is_err()
    }
}
