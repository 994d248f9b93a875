//! A gateway made by hand on a loopback port, backends that answer byte for byte, and clients that send as exactly.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gapi::{
    dataplane::{Settings, outcome::Reason},
    publish::DataPlane,
    snapshot::{
        Backend, Conditions, Filter, Host, HostPattern, Listener, Protocol, Rule, Snapshot, Socket, WeightedBackend,
        host::PathMatch,
    },
};

/// How long a client waits for bytes that should come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits to see that none come.
pub const QUIET: Duration = Duration::from_millis(200);

/// A running gateway; stops when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    plane: Option<DataPlane>,
}

/// What a gateway serves: rules at path prefixes for every host, and backends.
#[derive(Default)]
pub struct Config {
    rules: Vec<(String, Rule)>,
    backends: Vec<Backend>,
    pub settings: Settings,
}

pub fn rule(backends: &[(&str, u32)]) -> Rule {
    let weighted = |&(name, weight): &(&str, u32)| WeightedBackend {
        backend: (!name.is_empty()).then(|| name.into()),
        weight,
        filters: Box::default(),
    };
    Rule {
        kind: "HTTPRoute",
        route: "test/route".into(),
        index: 0,
        name: None,
        broken: None,
        filters: Box::default(),
        backends: backends.iter().map(weighted).collect(),
        request_timeout: None,
        backend_timeout: None,
        retry: None,
    }
}

impl Config {
    /// Everything goes to one HTTP/1.1 backend.
    pub fn to(endpoint: SocketAddr) -> Config {
        Config::default().backend("b", Protocol::Http1, &[endpoint]).rule("", rule(&[("b", 1)]))
    }

    /// Everything goes to one HTTP/2 backend.
    pub fn to_h2c(endpoint: SocketAddr) -> Config {
        Config::default().backend("b", Protocol::H2c, &[endpoint]).rule("", rule(&[("b", 1)]))
    }

    pub fn backend(mut self, key: &str, protocol: Protocol, endpoints: &[SocketAddr]) -> Config {
        self.backends.push(Backend { key: key.into(), protocol, endpoints: endpoints.into() });
        self
    }

    pub fn rule(mut self, prefix: &str, mut rule: Rule) -> Config {
        rule.index = self.rules.len();
        self.rules.push((prefix.to_string(), rule));
        self
    }

    pub fn filter(mut self, filter: Filter) -> Config {
        let rule = &mut self.rules.last_mut().expect("a rule comes first").1;
        rule.filters = std::mem::take(&mut rule.filters).into_iter().chain([filter]).collect();
        self
    }

    pub fn edit(mut self, edit: impl FnOnce(&mut Rule)) -> Config {
        edit(&mut self.rules.last_mut().expect("a rule comes first").1);
        self
    }

    pub fn settings(mut self, edit: impl FnOnce(&mut Settings)) -> Config {
        edit(&mut self.settings);
        self
    }

    fn snapshot(&mut self, address: SocketAddr) -> Snapshot {
        let mut rules = std::mem::take(&mut self.rules);
        rules.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let none = || Conditions { method: None, headers: Box::default(), query: Box::default() };
        let path = |prefix: &String| PathMatch::Prefix(prefix.as_str().into());
        let matches = (0..).zip(&rules).map(|(index, (prefix, _))| (path(prefix), none(), index)).collect();
        let host = Host::new(HostPattern::Any, matches, rules.into_iter().map(|(_, rule)| rule).collect());
        let listener = Listener {
            key: "test/gateway/http".into(),
            hostname: HostPattern::Any,
            certificates: Box::default(),
            protocol: Default::default(),
            tls_digest: 0,
            hosts: vec![Arc::new(host)].into(),
        };
        let socket = Socket { address, tls: false, listeners: vec![Arc::new(listener)].into() };
        let backends = std::mem::take(&mut self.backends).into_iter();
        Snapshot {
            datagram_sockets: Default::default(),
            generation: 1,
            challenges: Default::default(),
            sockets: [(address, Arc::new(socket))].into_iter().collect(),
            backends: backends.map(|backend| (backend.key.clone(), Arc::new(backend))).collect(),
        }
    }

    pub fn start(mut self) -> Gateway {
        let address = nowhere();
        let snapshot = Arc::new(self.snapshot(address));
        let mut plane = DataPlane::start(Arc::new(self.settings), 1).expect("a thread");
        let published = plane.publish(snapshot);
        assert!(published.values().all(Result::is_ok), "{published:?}");
        Gateway { address, plane: Some(plane) }
    }
}

impl Gateway {
    pub fn connect(&self) -> Client {
        Client::to(self.address)
    }

    /// Sends `request` on a connection of its own and gives all that comes until the gateway closes it.
    pub fn exchange(&self, request: &str) -> String {
        let mut client = self.connect();
        client.send(request);
        client.rest()
    }

    /// Exchanges that ended for `reason`.
    pub fn ended(&self, reason: Reason) -> u64 {
        self.plane.iter().flat_map(DataPlane::counters).map(|counters| counters.reason(reason)).sum()
    }

    /// A GET that closes the connection.
    pub fn get(&self, target: &str) -> String {
        self.exchange(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.plane.take().into_iter().for_each(|plane| plane.drain(Duration::ZERO));
    }
}

/// A raw connection.
pub struct Client(pub TcpStream);

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Client(stream)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that refused may have closed already.
        let _ = self.0.write_all(bytes.as_ref());
    }

    /// Reads to the end of the stream, or its reset.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut bytes) {
            assert!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error} after {}", text(&bytes));
        }
        text(&bytes)
    }

    /// Reads until `end` was read.
    pub fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(end.as_bytes()) {
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                other => panic!("{other:?} before {end:?}, after {}", text(&bytes)),
            }
        }
        text(&bytes)
    }

    /// A head, and the body that its Content-Length or chunked coding frames.
    pub fn message(&mut self) -> String {
        let head = self.until("\r\n\r\n");
        let lower = head.to_ascii_lowercase();
        if let Some((_, rest)) = lower.split_once("\r\ncontent-length: ") {
            let length = rest.split("\r\n").next().and_then(|length| length.parse().ok()).expect("a length");
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).expect("a body");
            return head + &text(&body);
        }
        if lower.contains("transfer-encoding: chunked") {
            return head + &self.until("0\r\n\r\n");
        }
        head
    }

    /// Does nothing come for a while?
    pub fn is_quiet(&mut self) -> bool {
        self.0.set_read_timeout(Some(QUIET)).expect("a socket");
        let read = self.0.read(&mut [0]);
        self.0.set_read_timeout(Some(PATIENCE)).expect("a socket");
        read.is_err_and(|error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
    }

    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }

    pub fn finish(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a raw backend saw: each connection's messages.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub fn all(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().expect("no panic in it")
    }

    pub fn only(&self) -> String {
        let all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    pub fn put(&self, message: String) {
        self.all().push(message);
    }
}

/// A backend on a free port; `talk` has each connection, with its number, on a thread of its own.
pub fn backend(talk: impl Fn(Client, usize) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let talk = Arc::new(talk);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let talk = talk.clone();
            let stream = stream.expect("accepts");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            std::thread::spawn(move || talk(Client(stream), number));
        }
    });
    address
}

/// A backend that answers every message on a connection with `answer`, and closes where that says so.
pub fn answering(answer: impl AsRef<[u8]>) -> (SocketAddr, Seen) {
    let (seen, answer) = (Seen::default(), answer.as_ref().to_vec());
    let record = seen.clone();
    let address = backend(move |mut client, _| {
        let closes = text(&answer).to_ascii_lowercase().contains("connection: close");
        while has_more(&mut client) {
            let message = client.message();
            record.put(message);
            client.send(&answer);
            if closes {
                break;
            }
        }
    });
    (address, seen)
}

/// Waits for the next message; false at the end of the stream.
pub fn has_more(client: &mut Client) -> bool {
    matches!(client.0.peek(&mut [0]), Ok(1))
}

pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An address where nothing listens.
pub fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}
