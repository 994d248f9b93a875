//! Every bound and deadline of the data plane has a flag, and every flag does what it says: each is set to something
//! small on the real binary and crossed.

mod support;

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{
    Authority, Backend, Client, Gapi, Reply,
    client::NoAnswer,
    datagram::{DatagramBackend, datagrams, exchange, free_udp_port},
    free_port,
    gapi::Start,
    http2::{self, Outcome},
    loopback,
    manifest::{file, gateway, http, https, layer4_route, listener, prefix, route, secret, service, udp_service},
    wait,
};

/// What "300ms" may take on a busy machine.
const SOON: Duration = Duration::from_secs(4);
/// Before this, a deadline of 300 ms cannot have passed.
const NOT_YET: Duration = Duration::from_millis(250);

struct Stage {
    gapi: Gapi,
    backend: Backend,
    address: SocketAddr,
    secure: SocketAddr,
    authority: Authority,
}

impl Stage {
    /// One route for everything, over HTTP and HTTPS, with these flags.
    fn new(backend: Backend, flags: &[(&str, &str)]) -> Stage {
        let (port, tls_port) = (free_port(), free_port());
        let authority = Authority::new();
        let listeners = [http("http", port), https("https", tls_port, None, "tls")];
        let mut documents = vec![
            gateway("gate", &listeners),
            secret("tls", &authority.sign(&["a.test"])),
            route("all", "gate", &[], &[prefix("/", "backend")]),
        ];
        documents.extend(service("backend", &[backend.address]));
        let start = Start::new().file("all.yaml", file(&documents));
        let gapi = flags.iter().fold(start, |start, (flag, value)| start.flag(flag, value)).serve();
        Stage { gapi, backend, address: loopback(port), secure: loopback(tls_port), authority }
    }

    fn client(&self) -> Client {
        let mut client = Client::connect(self.address).expect("the gateway listens");
        client.patience = SOON;
        client
    }

    /// The status of one request of these bytes.
    fn status(&self, request: &str) -> u16 {
        let mut client = self.client();
        client.send(request);
        client.answer("GET").unwrap_or_else(|error| panic!("{error}: {request:.200}")).status()
    }
}

fn echo() -> Backend {
    Backend::start(|request, _| Reply::ok(&format!("{} {}", request.method(), request.target())))
}

/// How long until `done`; not before a deadline of 300 ms.
fn takes(what: &str, done: impl FnOnce()) {
    let start = Instant::now();
    done();
    let took = start.elapsed();
    assert!(took > NOT_YET && took < SOON, "{what}: after {took:?}");
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

// --- Heads.

#[test]
fn heads() {
    let stage = Stage::new(echo(), &[("--max-request-line", "1KiB"), ("--max-head", "8KiB"), ("--max-fields", "20")]);
    assert_eq!(stage.status(&get(&format!("/{}", "a".repeat(900)), "")), 200);
    assert_eq!(stage.status(&get(&format!("/{}", "a".repeat(1100)), "")), 414);
    assert_eq!(stage.status(&get("/", &format!("X-Long: {}\r\n", "a".repeat(7000)))), 200);
    assert_eq!(stage.status(&get("/", &format!("X-Long: {}\r\n", "a".repeat(9000)))), 431);
    assert_eq!(stage.status(&get("/", &"X-Many: a\r\n".repeat(19))), 200);
    assert_eq!(stage.status(&get("/", &"X-Many: a\r\n".repeat(21))), 431);
}

#[test]
fn heads_by_environment() {
    let start = Start::new().under(&["env", "GAPI_MAX_REQUEST_LINE=1KiB"]);
    let port = free_port();
    let gapi = start.file("all.yaml", file(&[gateway("gate", &[http("http", port)])])).serve();
    let mut client = Client::connect(loopback(port)).expect("the gateway listens");
    client.send(get(&format!("/{}", "a".repeat(1100)), ""));
    assert_eq!(client.answer("GET").expect("there is an answer").status(), 414);
    drop(gapi);
}

#[test]
fn a_slow_head() {
    let stage = Stage::new(echo(), &[("--head-timeout", "300ms")]);
    // 408 and close once a byte came.
    let mut client = stage.client();
    client.send("GET / HTT");
    takes("a head that stops", || assert_eq!(client.answer("GET").expect("there is an answer").status(), 408));
    assert!(client.ends(SOON));

    // A byte now and then does not help.
    let mut client = stage.client();
    takes("a head in drops", || {
        for byte in get("/", "X-Slow: yes\r\n").bytes() {
            client.send([byte]);
            sleep(Duration::from_millis(20));
        }
        assert!(!matches!(client.answer("GET"), Ok(answer) if answer.status() == 200));
    });

    // HTTP/2: a field block that is not finished.
    let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
    let block = http2::block(&[(b":method", b"GET")]);
    connection.send(http2::frame(http2::HEADERS, http2::END_STREAM, 1, &block));
    takes("a field block that stops", || assert!(connection.outcome(1, SOON).refused()));
}

#[test]
fn an_idle_client() {
    // The other one is for a client that is told GOAWAY and stays.
    let stage = Stage::new(echo(), &[("--client-idle-timeout", "300ms"), ("--head-timeout", "1s")]);
    // Closed without a word when no byte came, and between requests.
    let mut client = stage.client();
    takes("no byte", || assert!(client.ends(SOON)));
    let mut client = stage.client();
    assert_eq!(client.get("a.test", "/").expect("there is an answer").status(), 200);
    takes("nothing after a request", || assert!(client.ends(SOON)));
    let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
    takes("an HTTP/2 connection without a stream", || assert!(connection.ends(SOON)));
}

#[test]
fn a_slow_handshake() {
    let stage = Stage::new(echo(), &[("--tls-handshake-timeout", "300ms")]);
    let mut silent = Client::connect(stage.secure).expect("the gateway listens");
    takes("no ClientHello", || assert!(silent.receive(SOON) == Some(0)));
    let mut half = Client::connect(stage.secure).expect("the gateway listens");
    half.send(b"\x16\x03\x01\x02\x00\x01\x00");
    takes("half a ClientHello", || while half.receive(SOON).expect("it ends") > 0 {});
    // One that is quick is let in.
    let config = stage.authority.client(&["http/1.1"]);
    let mut client = Client::tls(stage.secure, "a.test", &config).expect("the handshake succeeds");
    assert_eq!(client.get("a.test", "/").expect("there is an answer").status(), 200);
}

// --- Bodies and backends.

#[test]
fn stalls() {
    // Answers `/half` with the first half, `/silent` not at all.
    let backend = Backend::raw(|mut stream, number, backend| {
        while let Some(bytes) = backend.read(&mut stream, number) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let answer: &[u8] = match text.split(' ').nth(1) {
                Some("/half") => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
                _ => b"",
            };
            let _ = stream.write_all(answer);
        }
    });
    let stage = Stage::new(backend, &[("--stall-timeout", "300ms")]);
    let mut client = stage.client();
    client.send("POST /half-body HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhello");
    takes("a body that stops", || assert_eq!(client.answer("POST").expect("there is an answer").status(), 408));
    assert!(client.ends(SOON));

    let mut client = stage.client();
    takes("a backend that says nothing", || {
        assert_eq!(client.get("a.test", "/silent").expect("there is an answer").status(), 504);
    });
    let mut client = stage.client();
    takes("a backend that stops", || assert!(matches!(client.get("a.test", "/half"), Err(NoAnswer::Ended(_)))));
}

#[test]
fn a_backend_that_does_not_accept() {
    // A listening socket whose queue is full leaves the next handshakes without an answer.
    let full = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
        .expect("a socket can be made");
    rustix::net::bind(&full, &loopback(0)).expect("a port is free");
    rustix::net::listen(&full, 0).expect("the socket is bound");
    let full = TcpListener::from(full);
    let address = full.local_addr().expect("the socket is bound");
    let fill: Vec<_> = (0..4).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    assert!(fill.iter().any(Result::is_err), "the queue is full");

    let port = free_port();
    let mut documents = vec![gateway("gate", &[http("http", port)]), route("all", "gate", &[], &[prefix("/", "full")])];
    documents.extend(service("full", &[address]));
    let gapi = Start::new().file("all.yaml", file(&documents)).flag("--connect-timeout", "300ms").serve();
    let mut client = Client::connect(loopback(port)).expect("the gateway listens");
    takes("a connect", || {
        let status = client.get("a.test", "/").expect("there is an answer").status();
        assert!([502, 503, 504].contains(&status), "{status}");
    });
    drop(gapi);
}

#[test]
fn an_idle_backend_connection() {
    let stage = Stage::new(echo(), &[("--backend-idle-timeout", "300ms"), ("--client-idle-timeout", "10s")]);
    let mut client = stage.client();
    assert_eq!(client.get("a.test", "/").expect("there is an answer").status(), 200);
    let closed = || stage.backend.connections().iter().all(|connection| connection.closed);
    assert!(!closed(), "it is kept for the next request");
    takes("its end", || wait("it is closed", SOON, closed));
    assert_eq!(client.get("a.test", "/").expect("there is an answer").status(), 200);
}

#[test]
fn idle_connections_to_an_endpoint() {
    let slow = Backend::start(|_, _| {
        sleep(Duration::from_millis(300));
        Reply::ok("slow")
    });
    let stage = Stage::new(slow, &[("--max-idle-per-endpoint", "1")]);
    let mut clients: Vec<Client> = (0..12).map(|_| stage.client()).collect();
    for client in &mut clients {
        client.send(get("/", ""));
    }
    for client in &mut clients {
        assert_eq!(client.answer("GET").expect("there is an answer").status(), 200);
    }
    // One for each of the two workers.
    let open = || stage.backend.connections().iter().filter(|connection| !connection.closed).count();
    wait("the others are closed", SOON, || open() <= 2);
}

#[test]
fn trailers() {
    let stage = Stage::new(echo(), &[("--max-trailers", "1KiB"), ("--max-trailer-fields", "10")]);
    let status = |trailers: &str| {
        stage.status(&format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        ))
    };
    assert_eq!(status(&"X-Many: a\r\n".repeat(9)), 200);
    assert!([400, 431].contains(&status(&"X-Many: a\r\n".repeat(11))));
    assert_eq!(status(&format!("X-Long: {}\r\n", "a".repeat(900))), 200);
    assert!([400, 431].contains(&status(&format!("X-Long: {}\r\n", "a".repeat(1100)))));
}

/// Up to the bound a body is kept and sent again; beyond it, the first answer stands.
#[test]
fn bodies_that_are_sent_again() {
    let backend = Backend::start(|_, _| Reply::Bytes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let port = free_port();
    let mut rule = prefix("/", "backend");
    rule["retry"] = json!({"attempts": 2, "codes": [503], "backoff": "1ms"});
    let mut documents = vec![gateway("gate", &[http("http", port)]), route("all", "gate", &[], &[rule])];
    documents.extend(service("backend", &[backend.address]));
    let gapi = Start::new().file("all.yaml", file(&documents)).flag("--max-retry-body", "1KiB").serve();
    let attempts = |length: usize| {
        backend.forget();
        let mut client = Client::connect(loopback(port)).expect("the gateway listens");
        let body = "a".repeat(length);
        client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert_eq!(client.answer("PUT").expect("there is an answer").status(), 503);
        backend.messages().len()
    };
    assert_eq!(attempts(1000), 3);
    assert_eq!(attempts(1100), 1);
    drop(gapi);
}

// --- HTTP/2.

#[test]
fn http2_streams() {
    let slow = Backend::start(|_, _| {
        sleep(Duration::from_millis(300));
        Reply::ok("slow")
    });
    let stage = Stage::new(slow, &[("--h2-max-streams", "2"), ("--h2-max-header-list", "4KiB")]);
    let request = |stream: u32, fields: &[(&[u8], &[u8])]| {
        let pseudo: [(&[u8], &[u8]); 4] =
            [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")];
        let flags = http2::END_HEADERS | http2::END_STREAM;
        http2::frame(http2::HEADERS, flags, stream, &http2::block(&[&pseudo, fields].concat()))
    };
    let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
    connection.send([request(1, &[]), request(3, &[]), request(5, &[])].concat());
    // RFC 9113 section 5.1.2.
    assert!(matches!(connection.outcome(5, SOON), Outcome::Reset { .. } | Outcome::GoAway(_)));

    let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
    connection.send(request(1, &[(b"x-long", &[b'a'; 3000])]));
    assert!(matches!(connection.outcome(1, SOON), Outcome::Answered { status: 200, .. }));
    let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
    connection.send(request(1, &[(b"x-long", &[b'a'; 5000])]));
    assert!(connection.outcome(1, SOON).refused());
}

/// The windows that a client sees: SETTINGS_INITIAL_WINDOW_SIZE, and WINDOW_UPDATE of the connection.
#[test]
fn http2_windows() {
    let stage = Stage::new(echo(), &[("--h2-stream-window", "128KiB"), ("--h2-connection-window", "512KiB")]);
    let mut client = stage.client();
    client.send([http2::PREFACE, &http2::frame(http2::SETTINGS, 0, 0, &[])].concat());
    let start = Instant::now();
    while client.received().len() < 60 && start.elapsed() < Duration::from_millis(500) {
        client.receive(Duration::from_millis(100));
    }
    let bytes = client.received();
    let setting = [&[0, 4][..], &(128_u32 << 10).to_be_bytes()].concat();
    assert!(bytes.windows(6).any(|window| window == setting), "no such window in {bytes:?}");
    // Beside the 65,535 bytes that every connection starts with.
    let update = [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &((512_u32 << 10) - 65_535).to_be_bytes()].concat();
    assert!(bytes.windows(13).any(|window| window == update), "no such update in {bytes:?}");
}

/// A client that reads nothing: its backend is not read beyond what may wait.
#[test]
fn http2_clients_that_do_not_read() {
    const BODY: usize = 32 << 20;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let backend = Backend::raw(move |mut stream, number, backend| {
        let _ = backend.read(&mut stream, number);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
        while stream.write_all(&[b'a'; 16 << 10]).is_ok() {
            count.fetch_add(16 << 10, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let stage = Stage::new(backend, &[("--h2-max-send-buffer", "64KiB")]);
    let mut connection = http2::Connection::open(stage.address).expect("the gateway speaks HTTP/2");
    // A window as large as the body, and nothing is read.
    connection.send(http2::frame(http2::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    connection.send(http2::frame(http2::WINDOW_UPDATE, 0, 0, &0x4000_0000_u32.to_be_bytes()));
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")];
    connection.send(http2::frame(http2::HEADERS, http2::END_HEADERS | http2::END_STREAM, 1, &http2::block(&fields)));
    sleep(Duration::from_millis(1500));
    let sent = sent.load(std::sync::atomic::Ordering::SeqCst);
    // What the kernel keeps in its socket buffers, on both sides, comes on top: a few MiB on loopback.
    assert!(sent > 0 && sent < BODY / 2, "{sent} bytes left the backend");
}

// --- Connections.

#[test]
fn connections_of_all_clients() {
    // A request that waits for its answer keeps its connection busy: only idle ones make room for others.
    let backend = Backend::raw(|mut stream, number, backend| {
        let _ = backend.read(&mut stream, number);
        sleep(SOON / 2);
    });
    let stage = Stage::new(backend, &[("--max-connections", "4")]);
    let mut clients: Vec<Client> = (0..4).map(|_| stage.client()).collect();
    for client in &mut clients {
        assert!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    }
    sleep(Duration::from_millis(300));
    let answers = |patience| {
        let mut client = stage.client();
        client.patience = patience;
        client.send("GET / HTTP/1.1\r\n\r\n");
        client.answer("GET").is_ok_and(|answer| answer.status() == 400)
    };
    assert!(!answers(Duration::from_millis(500)), "a fifth is not served");
    drop(clients);
    wait("there is room again", SOON, || answers(SOON));
    // Status and control are not among them.
    assert_eq!(stage.gapi.ask(&["status"]).code, 0);
}

#[test]
fn connections_of_one_client() {
    let stage = Stage::new(echo(), &[("--max-connections-per-client", "2")]);
    let mut clients: Vec<Client> = (0..2).map(|_| stage.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("a.test", "/").expect("there is an answer").status(), 200);
    }
    let mut more = stage.client();
    more.patience = Duration::from_millis(500);
    assert!(more.get("a.test", "/").is_err(), "a third is not served");
    drop(clients);
    drop(more);
    wait("there is room again", SOON, || stage.client().get("a.test", "/").is_ok());
}

#[test]
fn an_idle_websocket() {
    let backend = Backend::raw(|mut stream, number, backend| {
        if backend.read(&mut stream, number).is_some() {
            let _ = stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
            );
            while backend.read(&mut stream, number).is_some() {}
        }
    });
    let stage = Stage::new(backend, &[("--upgrade-idle-timeout", "300ms")]);
    let mut client = stage.client();
    client.send(get(
        "/",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ));
    assert_eq!(client.answer("GET").expect("there is an answer").status(), 101);
    takes("silence", || while client.receive(SOON).expect("it ends") > 0 {});
}

// --- TCP and UDP.

/// A listener of one protocol that leads to one backend, with these flags.
fn layer4(protocol: &str, port: u16, backend: SocketAddr, flags: &[(&str, &str)]) -> Gapi {
    let services = if protocol == "UDP" { udp_service("backend", &[backend]) } else { service("backend", &[backend]) };
    let route = layer4_route(&format!("{protocol}Route"), "all", "gate", "all", "backend");
    let mut documents = vec![gateway("gate", &[listener("all", protocol, port)]), route];
    documents.extend(services);
    let start = Start::new().file("all.yaml", file(&documents));
    flags.iter().fold(start, |start, (flag, value)| start.flag(flag, value)).serve()
}

#[test]
fn a_silent_connection_of_layer_4() {
    let backend = Backend::raw(|mut stream, number, backend| while backend.read(&mut stream, number).is_some() {});
    let port = free_port();
    let _gapi = layer4("TCP", port, backend.address, &[("--tcp-idle-timeout", "300ms")]);
    let mut client = Client::connect(loopback(port)).expect("the gateway listens");
    client.send("hello");
    takes("silence", || while client.receive(SOON).is_some_and(|length| length > 0) {});
}

/// How many sessions there are comes out of how often the backend meets a client anew.
#[test]
fn a_silent_session_of_udp() {
    let port = free_udp_port();
    let backend = DatagramBackend::start("a", Duration::ZERO);
    let flags = [("--udp-idle-timeout", "1h"), ("--udp-stream-timeout", "300ms")];
    let gapi = layer4("UDP", port, backend.address, &flags);
    let client = datagrams(port);
    assert_eq!(exchange(&client, "?").as_deref(), Some("a?"));
    let sessions = || {
        let status = gapi.ask(&["status", "-o", "wide"]).text;
        status.lines().find_map(|line| line.strip_prefix("UDP sessions:")?.trim().split(' ').next().map(str::to_owned))
    };
    wait("it ends after an answer", SOON, || sessions().as_deref() == Some("0"));
    assert_eq!(exchange(&client, "?").as_deref(), Some("a?"));
    assert_eq!(backend.askers(), 2);
    drop(gapi);

    let deaf = DatagramBackend::start("", Duration::from_secs(1));
    let flags = [("--udp-idle-timeout", "300ms"), ("--udp-stream-timeout", "1h")];
    let gapi = layer4("UDP", port, deaf.address, &flags);
    let start = Instant::now();
    client.send(b"?").expect("sent");
    wait("it has come", SOON, || deaf.asked() == 1);
    let sessions = || gapi.ask(&["status", "-o", "json"]).text.contains(&format!("\"127.0.0.1:{port}\": 1"));
    wait("it ends without an answer", SOON, || !sessions());
    assert!(start.elapsed() > NOT_YET, "{:?}", start.elapsed());
}

#[test]
fn sessions_of_udp() {
    let port = free_udp_port();
    let backend = DatagramBackend::start("a", Duration::ZERO);
    let _gapi = layer4("UDP", port, backend.address, &[("--max-udp-sessions", "2")]);
    let clients: Vec<_> = (0..3).map(|_| datagrams(port)).collect();
    for client in &clients {
        assert_eq!(exchange(client, "?").as_deref(), Some("a?"));
    }
    assert_eq!(exchange(&clients[2], "?").as_deref(), Some("a?"));
    assert_eq!(backend.askers(), 3, "the newest stays");
    // The first, or the second where the first has spoken again before its worker made room.
    wait("one of the others has gone", SOON, || {
        clients[..2].iter().for_each(|client| assert_eq!(exchange(client, "?").as_deref(), Some("a?")));
        backend.askers() > 3
    });
}

#[test]
fn a_drain_that_takes_too_long() {
    let silent = Backend::raw(|mut stream, number, backend| while backend.read(&mut stream, number).is_some() {});
    let stage = Stage::new(silent, &[("--drain-timeout", "300ms")]);
    let mut client = stage.client();
    client.send(get("/", ""));
    wait("the request is on its way", SOON, || !stage.backend.connections().is_empty());
    takes("the end", || {
        let (status, _) = stage.gapi.end(Signal::TERM, SOON);
        assert!(status.success(), "{status}");
    });
}

#[test]
fn a_connection_whose_listener_is_gone() {
    let silent = Backend::raw(|mut stream, number, backend| while backend.read(&mut stream, number).is_some() {});
    let stage = Stage::new(silent, &[("--listener-drain-timeout", "300ms")]);
    let mut client = stage.client();
    client.send(get("/", ""));
    wait("the request is on its way", SOON, || !stage.backend.connections().is_empty());
    stage.gapi.take("all.yaml");
    takes("its end", || {
        assert_eq!(stage.gapi.reload().code, 0);
        while client.receive(SOON).expect("it ends") > 0 {}
    });
}

// --- Fields, paths, the log.

#[test]
fn trusted_proxies() {
    let backend = || {
        Backend::start(|request, _| {
            let fields = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];
            let values: Vec<String> = fields.iter().map(|name| request.all(name).join(", ")).collect();
            Reply::ok(&values.join("|"))
        })
    };
    let fields =
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test\r\nX-Request-Id: seven\r\n";
    let text = |stage: &Stage| {
        let mut client = stage.client();
        client.send(get("/", fields));
        client.answer("GET").expect("there is an answer").text()
    };
    let trusting = Stage::new(backend(), &[("--trusted-proxy", "127.0.0.0/8"), ("--trusted-proxy", "::1/128")]);
    assert_eq!(text(&trusting), "192.0.2.7, 127.0.0.1|https|b.test|seven");
    let wary = Stage::new(backend(), &[("--trusted-proxy", "192.0.2.0/24")]);
    let text = text(&wary);
    assert!(text.starts_with("127.0.0.1|http|a.test|") && !text.contains("seven"), "{text}");
}

#[test]
fn repeated_slashes() {
    let target = |flags: &[(&str, &str)]| {
        let stage = Stage::new(echo(), flags);
        stage.client().get("a.test", "//a///b").expect("there is an answer").text()
    };
    assert_eq!(target(&[]), "GET /a/b");
    assert_eq!(target(&[("--keep-repeated-slashes", "")]), "GET //a///b");
}

#[test]
fn the_access_log() {
    let directory = support::Directory::new();
    let path = directory.path().join("access.json");
    let log = path.to_str().expect("the path is ASCII");
    let stage = Stage::new(echo(), &[("--access-log", log)]);
    assert_eq!(stage.status(&get("/fine?x=1", "")), 200);
    assert_eq!(stage.status("GET /bad HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n"), 400);
    let lines = || fs::read_to_string(&path).unwrap_or_default();
    wait("both are logged", SOON, || lines().lines().count() >= 2);
    let lines: Vec<Value> = lines()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let with = |status: u16| {
        let found = lines.iter().find(|line| line["status"] == status);
        found.unwrap_or_else(|| panic!("no line with {status} in {lines:#?}"))
    };
    assert!(with(200).to_string().contains("/fine"), "{}", with(200));
    let reason = with(400)["reason"].as_str().unwrap_or_default();
    assert!(!reason.is_empty() && reason != with(200)["reason"], "{}", with(400));
}

// --- Manifests.

#[test]
fn manifests() {
    let rejects = |flag: &str, value: &str, text: &str, word: &str| {
        let gapi = Start::new()
            .flag(flag, value)
            .file("small.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
            .serve();
        assert_eq!(gapi.reload().code, 0, "{flag}");
        gapi.put("large.yaml", text);
        let ran = gapi.reload();
        assert_eq!(ran.code, 1, "{flag}: {}", ran.text);
        assert!(ran.text.contains("large.yaml") && ran.text.contains(word), "{flag}: {}", ran.text);
    };
    let namespace = |name: usize| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n{name}}}\n");
    rejects("--max-file-size", "1KiB", &format!("# {}\n", "x".repeat(2000)), "1");
    rejects("--max-documents", "5", &(0..10).map(namespace).collect::<String>(), "5");
    rejects("--max-nodes", "100", &(0..50).map(namespace).collect::<String>(), "100");
    rejects("--max-depth", "10", &format!("{}x{}", "[".repeat(20), "]".repeat(20)), "10");
}
