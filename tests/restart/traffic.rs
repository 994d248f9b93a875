//! What clients see of restarts: nothing.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    manager::{SOON, Service},
    support::{
        Authority, Backend, Client, Reply, free_port,
        http2::{self, Outcome},
        loopback,
        manifest::{file, gateway, http, https, prefix, route, secret, service, simple},
        wait,
    },
};

type Ask = Box<dyn FnMut() -> Result<(), String> + Send>;

/// Clients that ask until told to stop.
struct Traffic {
    stopped: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    /// The longest that a request took.
    longest: Arc<Mutex<Duration>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(clients: Vec<(&'static str, Ask)>) -> Traffic {
        let mut traffic = Traffic {
            stopped: Arc::default(),
            served: Arc::default(),
            failures: Arc::default(),
            longest: Arc::default(),
            threads: Vec::new(),
        };
        for (name, mut ask) in clients {
            let (stopped, served) = (traffic.stopped.clone(), traffic.served.clone());
            let (failures, longest) = (traffic.failures.clone(), traffic.longest.clone());
            traffic.threads.push(thread::spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    let start = Instant::now();
                    match ask() {
                        Ok(()) => _ = served.fetch_add(1, Ordering::SeqCst),
                        Err(error) => failures.lock().expect("no client panics").push(format!("{name}: {error}")),
                    }
                    let mut longest = longest.lock().expect("no client panics");
                    *longest = start.elapsed().max(*longest);
                    drop(longest);
                    thread::sleep(Duration::from_millis(2));
                }
            }));
        }
        traffic
    }

    /// Ends it. None of its requests may have failed.
    fn end(self) -> (usize, Duration) {
        self.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no client panics");
        }
        let (served, failures) = (self.served.load(Ordering::SeqCst), self.failures.lock().expect("no client panics"));
        let some: Vec<&String> = failures.iter().take(20).collect();
        assert!(failures.is_empty(), "{} of {}: {some:#?}", failures.len(), served + failures.len());
        let longest = *self.longest.lock().expect("no client panics");
        (served, longest)
    }
}

fn is_ok(answer: &crate::support::Answer) -> Result<(), String> {
    match answer.status() {
        200 => Ok(()),
        status => Err(format!("status {status}")),
    }
}

/// A connection for each request.
fn fresh(address: SocketAddr) -> Ask {
    Box::new(move || {
        let mut client = Client::connect(address).map_err(|error| error.to_string())?;
        is_ok(&client.get("a.test", "/").map_err(|error| error.to_string())?)
    })
}

/// A connection that is kept until an answer says that it ends. Nothing is ever sent twice.
fn kept(open: impl Fn() -> Result<Client, String> + Send + 'static) -> Ask {
    let mut kept: Option<Client> = None;
    Box::new(move || {
        let mut client = match kept.take() {
            Some(client) => client,
            None => open()?,
        };
        let answer = client.get("a.test", "/").map_err(|error| error.to_string())?;
        if answer.message.field("connection") != Some("close") {
            kept = Some(client);
        }
        is_ok(&answer)
    })
}

fn kept_plain(address: SocketAddr) -> Ask {
    kept(move || Client::connect(address).map_err(|error| error.to_string()))
}

/// One stream after another on a connection that is kept until GOAWAY; what GOAWAY says was not served is asked again.
fn streams(address: SocketAddr) -> Ask {
    let mut kept: Option<(http2::Connection, u32)> = None;
    Box::new(move || {
        loop {
            let (mut connection, stream) = match kept.take() {
                Some(kept) => kept,
                None => (http2::Connection::open(address).map_err(|error| error.to_string())?, 1),
            };
            let fields: [(&[u8], &[u8]); 4] =
                [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")];
            let flags = http2::END_HEADERS | http2::END_STREAM;
            connection.send(http2::frame(http2::HEADERS, flags, stream, &http2::block(&fields)));
            let outcome = connection.outcome(stream, Duration::from_secs(10));
            if connection.last_stream.is_some_and(|last| last < stream) {
                continue;
            }
            if connection.last_stream.is_none() {
                kept = Some((connection, stream + 2));
            }
            return match outcome {
                Outcome::Answered { status: 200, .. } => Ok(()),
                other => Err(format!("{other:?}")),
            };
        }
    })
}

#[test]
fn ten_restarts_under_load() {
    let backend = Backend::named("hello");
    let authority = Authority::new();
    let (plain, secure) = (free_port(), free_port());
    let listeners = [http("http", plain), https("https", secure, None, "tls")];
    let mut documents = vec![
        gateway("gate", &listeners),
        secret("tls", &authority.sign(&["a.test"])),
        route("all", "gate", &[], &[prefix("/", "backend")]),
    ];
    documents.extend(service("backend", &[backend.address]));
    let mut service = Service::serve(&[("all.yaml", file(&documents))]);
    let (plain, secure) = (loopback(plain), loopback(secure));
    let config = authority.client(&["http/1.1"]);
    let tls = move || Client::tls(secure, "a.test", &config).map_err(|error| error.to_string());
    let traffic = Traffic::start(vec![
        ("fresh", fresh(plain)),
        ("fresh too", fresh(plain)),
        ("kept", kept_plain(plain)),
        ("kept too", kept_plain(plain)),
        ("streams", streams(plain)),
        ("tls", kept(tls)),
    ]);
    // Connections on which nothing is under way hold nothing up.
    let idle: Vec<Client> = (0..20).map(|_| Client::connect(plain).expect("the gateway listens")).collect();
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(100));
        service.restart();
    }
    let (served, longest) = traffic.end();
    println!("{served} requests over 10 restarts, the longest took {longest:?}");
    assert!(served > 100, "{served} requests are no load");
    drop(idle);
}

/// What is queued while nobody is there is answered by whoever comes, also after a crash.
#[test]
fn the_backlog_waits() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::serve(&[("all.yaml", simple(port, backend.address))]);
    for round in 0..4 {
        if round % 2 == 0 {
            service.stop();
        } else {
            service.signal(Signal::KILL);
            service.ended(SOON);
        }
        let waiting: Vec<Client> = (0..50)
            .map(|_| {
                let mut client = Client::connect(loopback(port)).expect("the socket is kept");
                assert!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
                client
            })
            .collect();
        service.start();
        for mut client in waiting {
            assert_eq!(client.answer("GET").expect("it was queued").status(), 200);
        }
    }
}

/// Requests in flight end; meanwhile new connections are served, not only queued.
#[test]
fn a_slow_request_ends_and_holds_nobody_up() {
    let backend = Backend::start(|request, _| {
        if request.target() == "/slow" {
            thread::sleep(Duration::from_secs(3));
        }
        Reply::ok("done")
    });
    let port = free_port();
    let mut service = Service::serve(&[("all.yaml", simple(port, backend.address))]);
    let mut slow = Client::connect(loopback(port)).expect("the gateway listens");
    assert!(slow.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    wait("the request is on its way", SOON, || !backend.connections().is_empty());
    let start = Instant::now();
    service.signal(Signal::TERM);
    service.hears("STOPPING=1");
    let traffic = Traffic::start(vec![("fresh", fresh(loopback(port))), ("kept", kept_plain(loopback(port)))]);
    let answer = slow.answer("GET").expect("requests in flight end");
    assert_eq!((answer.text().as_str(), answer.message.field("connection")), ("done", Some("close")));
    service.ended(SOON);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    service.start();
    let (served, longest) = traffic.end();
    println!("{served} requests, the longest took {longest:?}");
    assert!(served > 20, "{served} requests");
}

/// Nor does one that began when the others were already leaving.
#[test]
fn a_late_slow_request_holds_nobody_up() {
    let backend = Backend::start(|request, _| {
        let pause = if request.target() == "/" { 0 } else { request.target()[1..].parse().expect("seconds") };
        thread::sleep(Duration::from_secs(pause));
        Reply::ok("done")
    });
    let port = free_port();
    let mut service = Service::serve(&[("all.yaml", simple(port, backend.address))]);
    let slow = |seconds: u64| {
        let before = backend.connections().len();
        let mut client = Client::connect(loopback(port)).expect("the gateway listens");
        client.patience = SOON;
        assert!(client.send(format!("GET /{seconds} HTTP/1.1\r\nHost: a.test\r\n\r\n")));
        wait("the request is on its way", SOON, || backend.connections().len() > before);
        client
    };
    let old = slow(2);
    service.signal(Signal::TERM);
    service.hears("STOPPING=1");
    let late = slow(9);
    let traffic = Traffic::start(vec![("fresh", fresh(loopback(port)))]);
    for mut client in [old, late] {
        assert_eq!(client.answer("GET").expect("requests in flight end").text(), "done");
    }
    service.ended(SOON);
    service.start();
    let (_, longest) = traffic.end();
    assert!(longest < Duration::from_secs(5), "{longest:?}");
}

/// Connections that are idle, or have not said anything yet, end soon, and who was in the middle of something may finish.
#[test]
fn idle_connections_do_not_delay_a_restart() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::serve(&[("all.yaml", simple(port, backend.address))]);
    let mut asked: Vec<Client> = (0..10).map(|_| Client::connect(loopback(port)).expect("it listens")).collect();
    asked.iter_mut().for_each(|client| assert_eq!(client.get("a.test", "/").expect("it serves").status(), 200));
    let silent: Vec<Client> = (0..10).map(|_| Client::connect(loopback(port)).expect("it listens")).collect();
    let mut half = Client::connect(loopback(port)).expect("it listens");
    assert!(half.send("GET / HTTP/1.1\r\nHost"));
    thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    service.signal(Signal::TERM);
    service.hears("STOPPING=1");
    assert!(half.send(": a.test\r\n\r\n"));
    let answer = half.answer("GET").expect("it had begun");
    assert_eq!((answer.status(), answer.message.field("connection")), (200, Some("close")));
    service.ended(SOON);
    let took = start.elapsed();
    println!("ended after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for mut client in asked.into_iter().chain(silent) {
        assert!(client.ends(SOON), "{:?}", client.received());
    }
}

/// A WebSocket gets its 1001 at the deadline; until then new connections are served.
#[test]
fn an_upgraded_connection_is_told_at_the_deadline() {
    let backend = Backend::raw(|mut stream, number, handle| {
        let mut bytes = Vec::new();
        while let Some(more) = handle.read(&mut stream, number) {
            bytes.extend(more);
            if bytes.ends_with(b"\r\n\r\n") && String::from_utf8_lossy(&bytes).contains("pgrade") {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
            } else if bytes.ends_with(b"\r\n\r\n") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
            if bytes.ends_with(b"\r\n\r\n") {
                bytes.clear();
            }
        }
    });
    let port = free_port();
    let mut service = Service::new(&[("all.yaml", simple(port, backend.address))]);
    service.flags.extend(["--drain-timeout", "3s"].map(String::from));
    service.start();
    let mut socket = Client::connect(loopback(port)).expect("it listens");
    assert!(socket.send(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ));
    assert_eq!(socket.answer("GET").expect("it is upgraded").status(), 101);
    let start = Instant::now();
    service.signal(Signal::TERM);
    service.hears("STOPPING=1");
    thread::sleep(Duration::from_millis(1000));
    let mut client = Client::connect(loopback(port)).expect("it listens");
    let answer = client.get("a.test", "/").expect("it is served");
    assert_eq!((answer.status(), answer.message.field("connection")), (200, Some("close")));
    while socket.receive(SOON).is_some_and(|length| length > 0) {}
    assert_eq!(socket.received(), [0x88, 2, 0x03, 0xe9], "close, 1001");
    assert!(start.elapsed() > Duration::from_millis(2500), "{:?}", start.elapsed());
    service.ended(SOON);
}

/// What the manager does not keep ends with the process, as it did before.
#[test]
fn without_a_service_manager_sockets_close() {
    let backend = Backend::named("hello");
    let port = free_port();
    let mut service = Service::new(&[("all.yaml", simple(port, backend.address))]);
    service.notify = false;
    service.start();
    service.stop();
    assert!(TcpStream::connect(loopback(port)).is_err());
    assert!(service.kept().is_empty());
}
