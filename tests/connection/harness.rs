//! A data plane on loopback and raw clients.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use gapi::{
    compile::compile,
    dataplane::Settings,
    plan::{CertificatePlan, ListenerPlan, Plan, SocketPlan},
    publish::{DataPlane, Published, inherited::Inherited},
    snapshot::Snapshot,
};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A data plane and what it was last told.
pub struct Gateway {
    pub plane: DataPlane,
    previous: Option<(Plan, Arc<Snapshot>)>,
}

impl Gateway {
    pub fn start(settings: Settings) -> Gateway {
        Gateway::succeed(settings, 2, Inherited::default())
    }

    /// With the sockets of an earlier run, or of a socket unit.
    pub fn succeed(settings: Settings, workers: usize, inherited: Inherited) -> Gateway {
        let plane = DataPlane::succeed(Arc::new(settings), workers, inherited, None).expect("threads");
        Gateway { plane, previous: None }
    }

    /// With one plain HTTP socket.
    pub fn plain(settings: Settings) -> (Gateway, SocketAddr) {
        let mut gateway = Gateway::start(settings);
        let address = free_address();
        all_bound(&gateway.publish(plain(&[address])));
        (gateway, address)
    }

    pub fn publish(&mut self, plan: Plan) -> Published {
        let previous = self.previous.as_ref().map(|(plan, snapshot)| (plan, snapshot));
        let (snapshot, findings) = compile(&plan, previous, &BTreeMap::new());
        assert!(findings.is_empty(), "{findings:#?}");
        let snapshot = Arc::new(snapshot);
        let published = self.plane.publish(snapshot.clone());
        self.previous = Some((plan, snapshot));
        published
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.plane.counts().sockets.values().flatten().sum()
    }
}

/// An address of loopback that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback")
}

pub fn all_bound(published: &Published) {
    assert!(published.values().all(Result::is_ok), "{published:?}");
}

pub fn plain(addresses: &[SocketAddr]) -> Plan {
    let socket = SocketPlan { tls: false, listeners: vec![listener("http", None, &[])] };
    Plan { sockets: addresses.iter().map(|address| (*address, socket.clone())).collect(), ..Plan::default() }
}

pub fn listener(name: &str, hostname: Option<&str>, certificates: &[&CertificatePlan]) -> ListenerPlan {
    ListenerPlan {
        key: format!("test/gateway/{name}"),
        protocol: Default::default(),
        hostname: hostname.map(str::to_owned),
        certificates: certificates.iter().map(|plan| (*plan).clone()).collect(),
        hosts: Vec::new(),
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.set_nodelay(true).expect("set");
    stream
}

/// Sends `bytes` and returns everything until the end of the connection.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("sent");
    read_to_end(&mut stream)
}

/// Everything until the end of the connection, which must not be a reset.
pub fn read_to_end(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).expect("an orderly end in time");
    String::from_utf8_lossy(&text).into_owned()
}

/// One answer, as long as its Content-Length says.
pub fn read_answer(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).expect("in time") {
            0 => panic!("ended after {:?}", String::from_utf8_lossy(&answer)),
            _ => answer.push(byte[0]),
        }
    }
    let head = String::from_utf8(answer).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("whole and in time");
    head + &String::from_utf8(body).expect("text")
}

pub fn status(head: &str) -> u16 {
    head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {head:?}"))
}

/// Nothing has come and the connection is open.
pub fn is_open(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a time");
    let open = matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    open
}

pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
