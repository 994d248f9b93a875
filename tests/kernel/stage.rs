//! A gateway between a client and a backend: three namespaces, two links, and a snapshot of what is served.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use gapi::{
    kernel::{self, Path, Settings, maps::Protocol},
    snapshot::{
        Backend, Host, HostPattern, Listener, ListenerProtocol, Protocol as Spoken, Rule, Snapshot, Socket,
        WeightedBackend,
    },
};
use tempfile::TempDir;

use crate::namespace::Namespace;

pub const CLIENT_LINK: [u8; 6] = [2, 0, 0, 0, 1, 2];
pub const GATEWAY_CLIENT_LINK: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const GATEWAY_BACKEND_LINK: [u8; 6] = [2, 0, 0, 0, 2, 1];
pub const BACKEND_LINK: [u8; 6] = [2, 0, 0, 0, 2, 2];

/// What the addresses of a stage are of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    V4,
    V6,
}

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    fn at(self, v4: &str, v6: &str, port: u16) -> SocketAddr {
        let ip = if self == Family::V4 { v4 } else { v6 };
        (ip.parse::<std::net::IpAddr>().expect("an address"), port).into()
    }

    pub fn client(self, port: u16) -> SocketAddr {
        self.at("10.1.0.2", "fd01::2", port)
    }

    /// The gateway's address on the side of the client.
    pub fn gateway(self, port: u16) -> SocketAddr {
        self.at("10.1.0.1", "fd01::1", port)
    }

    /// The gateway's address on the side of the backend.
    pub fn source(self, port: u16) -> SocketAddr {
        self.at("10.2.0.1", "fd02::1", port)
    }

    pub fn backend(self, port: u16) -> SocketAddr {
        self.at("10.2.0.2", "fd02::2", port)
    }

    pub fn other_backend(self, port: u16) -> SocketAddr {
        self.at("10.2.0.3", "fd02::3", port)
    }

    pub fn everywhere(self, port: u16) -> SocketAddr {
        self.at("0.0.0.0", "::", port)
    }
}

/// A layer-4 listener, its backends with weights: each has one endpoint.
#[derive(Clone, Debug)]
pub struct Service {
    pub protocol: Protocol,
    pub socket: SocketAddr,
    pub backends: Vec<(SocketAddr, u32)>,
}

impl Service {
    pub fn new(protocol: Protocol, socket: SocketAddr, backends: &[SocketAddr]) -> Service {
        Service { protocol, socket, backends: backends.iter().map(|backend| (*backend, 1)).collect() }
    }
}

pub fn snapshot(services: &[Service]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for service in services {
        let key = |endpoint: &SocketAddr| Arc::<str>::from(format!("ns/{endpoint}"));
        for (endpoint, _) in &service.backends {
            let backend = Backend { key: key(endpoint), protocol: Spoken::Http1, endpoints: [*endpoint].into() };
            snapshot.backends.insert(key(endpoint), Arc::new(backend));
        }
        let weighted = |(endpoint, weight): &(SocketAddr, u32)| WeightedBackend {
            backend: Some(key(endpoint)),
            weight: *weight,
            filters: Box::default(),
        };
        let rule = Rule {
            route: "ns/route".into(),
            index: 0,
            name: None,
            broken: None,
            filters: Box::default(),
            backends: service.backends.iter().map(weighted).collect(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        };
        let host = Arc::new(Host::new(HostPattern::Any, Vec::new(), vec![rule]));
        let (protocol, sockets) = match service.protocol {
            Protocol::Tcp => (ListenerProtocol::Tcp, &mut snapshot.sockets),
            Protocol::Udp => (ListenerProtocol::Udp, &mut snapshot.datagram_sockets),
        };
        let listener = Listener {
            key: "ns/gateway/listener".into(),
            protocol,
            hostname: HostPattern::Any,
            certificates: Box::default(),
            tls_digest: 0,
            hosts: [host].into_iter().collect(),
        };
        let listeners = [Arc::new(listener)].into_iter().collect();
        sockets.insert(service.socket, Arc::new(Socket { address: service.socket, tls: false, listeners }));
    }
    snapshot
}

/// The three namespaces. The gateway's links are `g0` (client) and `g1` (backend), the others' `c0` and `b0`.
pub struct Stage {
    pub client: Namespace,
    pub gateway: Namespace,
    pub backend: Namespace,
    path: Arc<Mutex<Option<Path>>>,
    directory: TempDir,
}

impl Stage {
    /// None, and a line that says so, without the privilege for it.
    pub fn new() -> Option<Stage> {
        let gateway = match Namespace::new() {
            Ok(namespace) => namespace,
            Err(error) => {
                eprintln!("skipped: no network namespace can be made here ({error}); run it as root");
                return None;
            }
        };
        let client = Namespace::new().expect("as the one before");
        let backend = Namespace::new().expect("as the one before");
        let directory = tempfile::tempdir().expect("a directory");
        gateway.mount_bpffs(directory.path());
        gateway.link("g0", &client, "c0");
        gateway.link("g1", &backend, "b0");
        let link = |octets: [u8; 6]| octets.map(|octet| format!("{octet:02x}")).join(":");
        let ends = [
            (&gateway, "g0", GATEWAY_CLIENT_LINK, "10.1.0.1/24", "fd01::1/64"),
            (&client, "c0", CLIENT_LINK, "10.1.0.2/24", "fd01::2/64"),
            (&gateway, "g1", GATEWAY_BACKEND_LINK, "10.2.0.1/24", "fd02::1/64"),
            (&backend, "b0", BACKEND_LINK, "10.2.0.2/24", "fd02::2/64"),
        ];
        for (namespace, name, own, v4, v6) in ends {
            namespace.ip(&format!("link set {name} address {}", link(own)));
            namespace.ip(&format!("addr add {v4} dev {name}"));
            namespace.ip(&format!("addr add {v6} dev {name} nodad"));
            namespace.ip(&format!("link set {name} up"));
        }
        backend.ip("addr add 10.2.0.3/24 dev b0");
        backend.ip("addr add fd02::3/64 dev b0 nodad");
        for (namespace, name, v4, v6) in
            [(&client, "c0", "10.1.0.1", "fd01::1"), (&backend, "b0", "10.2.0.1", "fd02::1")]
        {
            namespace.ip(&format!("route add default via {v4} dev {name}"));
            namespace.ip(&format!("-6 route add default via {v6} dev {name}"));
        }
        let stage = Stage { client, gateway, backend, path: Arc::default(), directory };
        stage.forward(false);
        Some(stage)
    }

    /// Whether the gateway is a router in general.
    pub fn forward(&self, is_router: bool) {
        let value = if is_router { "1" } else { "0" };
        self.gateway.sysctl("net.ipv4.ip_forward", value);
        self.gateway.sysctl("net.ipv6.conf.all.forwarding", value);
    }

    pub fn pins(&self) -> PathBuf {
        self.directory.path().join("gapi")
    }

    pub fn settings(&self) -> Settings {
        Settings { pins: self.pins(), connections: 4096, ..Settings::default() }
    }

    /// Starts the kernel path, in place of the one before.
    pub fn start(&self, settings: Settings) {
        self.path.lock().expect("no panic").take();
        let path = self.gateway.run(move || Path::start(settings)).unwrap_or_else(|error| panic!("{error}"));
        *self.path.lock().expect("no panic") = Some(path);
    }

    pub fn publish(&self, services: &[Service]) {
        self.publish_keeping(services, false);
    }

    pub fn publish_keeping(&self, services: &[Service], keep_client: bool) {
        let services = services.to_vec();
        self.with(move |path| path.publish(&snapshot(&services), |_| keep_client).map(drop)).expect("written");
    }

    /// Runs `look` in the gateway's namespace.
    pub fn with<T: Send + 'static>(&self, look: impl FnOnce(&mut Path) -> T + Send + 'static) -> T {
        let path = self.path.clone();
        self.gateway.run(move || {
            let mut path: MutexGuard<'_, Option<Path>> = path.lock().expect("no panic");
            look(path.as_mut().expect("started"))
        })
    }

    /// How many packets had this fate; see [`kernel::maps::REASONS`].
    pub fn reason(&self, word: &'static str) -> u64 {
        let statistics = self.with(|path| path.statistics()).expect("readable");
        statistics.reasons.iter().find(|(reason, _)| *reason == word).expect("there is such a reason").1
    }

    pub fn detach(&self) {
        let pins = self.pins();
        self.gateway.run(move || kernel::detach(&pins)).expect("removed");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.path.lock().expect("no panic").take();
    }
}
