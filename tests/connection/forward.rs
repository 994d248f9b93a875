//! Connections with a request under way to a backend.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use gapi::{
    dataplane::Settings,
    plan::{BackendPlan, EndpointsPlan, HostPlan, MatchPlan, PathPlan, Plan, RulePlan, WeightedBackendPlan},
};

use crate::{
    harness::*,
    http2::{PREFACE, await_frame, frame, read_frame},
};

const CLOSE_1001: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// A backend that does what the path says.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| _ = thread::spawn(|| answer(stream))));
    address
}

/// Ends when its connection does.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    match head.split(' ').nth(1).unwrap_or_default() {
        "/slow" => {
            thread::sleep(Duration::from_millis(400));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        }
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 8192])?;
            }
        }
        "/websocket" => {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")?;
            io::copy(&mut stream.try_clone()?, &mut stream).map(|_| ())
        }
        _ => {
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                body.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
    }
}

fn plan(address: SocketAddr) -> Plan {
    let weighted = WeightedBackendPlan { backend: Some("b".to_owned()), weight: 1, filters: Vec::new() };
    let rule = RulePlan { route: "test/route".to_owned(), backends: vec![weighted], ..RulePlan::default() };
    let every =
        MatchPlan { path: PathPlan::Prefix(String::new()), method: None, headers: vec![], query: vec![], rule: 0 };
    let host = HostPlan { hostname: None, matches: vec![every], rules: vec![rule] };
    let mut plan = plain(&[address]);
    for socket in plan.sockets.values_mut() {
        socket.listeners[0].hosts = vec![Arc::new(host.clone())];
    }
    let endpoints = EndpointsPlan::Addresses([backend()].into());
    plan.backends.insert("b".into(), BackendPlan { endpoints, ..BackendPlan::default() });
    plan
}

/// The same, by another listener.
fn plan_of_another_listener(address: SocketAddr) -> Plan {
    let mut plan = plan(address);
    plan.sockets.values_mut().for_each(|socket| socket.listeners[0].key = "test/gateway/other".to_owned());
    plan
}

fn start(settings: Settings) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::start(settings);
    let address = free_address();
    all_bound(&gateway.publish(plan(address)));
    (gateway, address)
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

fn websocket(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let head = "GET /websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // What comes before the 101 waits for it.
    stream.write_all(&[head.as_bytes(), &[0x82, 1, 7]].concat()).expect("sent");
    assert_eq!(status(&read_answer(&mut stream)), 101);
    assert_eq!(read_message(&mut stream), [0x82, 1, 7]);
    stream
}

fn read_message(stream: &mut TcpStream) -> [u8; 3] {
    let mut frame = [0; 3];
    stream.read_exact(&mut frame).expect("in time");
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// `GET` and `http` from the static table, `:authority: a` literal.
const GET_OVER_HTTP2: &[u8] = &[0x82, 0x86, 0x01, 0x01, b'a'];

fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127);
    [&[0x00, name.len() as u8], name, &[value.len() as u8], value].concat()
}

/// Stream 1 of a connection (RFC 8441).
fn websocket_over_http2(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    let head = [
        &literal(b":method", b"CONNECT"),
        &literal(b":protocol", b"websocket"),
        &[0x86, 0x01, 0x01, b'a'][..],
        &literal(b":path", b"/websocket"),
        &literal(b"sec-websocket-version", b"13"),
    ];
    let parts =
        [PREFACE, &frame(4, 0, 0, &[]), &frame(HEADERS, 4, 1, &head.concat()), &frame(DATA, 0, 1, &[0x82, 1, 7])];
    stream.write_all(&parts.concat()).expect("sent");
    assert_eq!(await_frame(&mut stream, HEADERS).expect("an answer").payload[0], 0x88, ":status 200 is entry 8");
    assert_eq!(await_frame(&mut stream, DATA).expect("an echo").payload, [0x82, 1, 7]);
    stream
}

fn read_until_stream(stream: &mut TcpStream, wanted: u32) -> crate::http2::Frame {
    std::iter::from_fn(|| read_frame(stream)).find(|frame| frame.stream == wanted).expect("a frame")
}

#[test]
fn draining_lets_requests_end() {
    let (gateway, address) = start(Settings::default());
    let mut stream = connect(address);
    stream.write_all(&get("/slow")).expect("sent");
    thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    gateway.plane.drain(Duration::from_secs(30));
    assert!(began.elapsed() < Duration::from_secs(5));
    let answer = read_to_end(&mut stream);
    assert!(status(&answer) == 200 && answer.contains("connection: close") && answer.ends_with("slow"), "{answer}");
}

#[test]
fn websockets_end_with_1001_at_the_drain_deadline() {
    let (gateway, address) = start(Settings::default());
    let mut stream = websocket(address);
    let began = Instant::now();
    let drained = thread::spawn(move || gateway.plane.drain(Duration::from_millis(600)));
    thread::sleep(Duration::from_millis(200));
    stream.write_all(&[0x82, 1, 8]).expect("sent");
    assert_eq!(read_message(&mut stream), [0x82, 1, 8], "it goes on until then");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, CLOSE_1001);
    drop(stream);
    drained.join().expect("drained");
    assert!(began.elapsed() >= Duration::from_millis(600) && began.elapsed() < Duration::from_secs(3));
}

#[test]
fn websockets_outlive_a_reload_but_not_their_listener() {
    let (mut gateway, address) =
        start(Settings { listener_drain_timeout: Duration::from_millis(400), ..Settings::default() });
    let mut stream = websocket(address);
    all_bound(&gateway.publish(plan(address)));
    thread::sleep(Duration::from_millis(800));
    stream.write_all(&[0x82, 1, 9]).expect("sent");
    assert_eq!(read_message(&mut stream), [0x82, 1, 9]);
    gateway.publish(Plan::default());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, CLOSE_1001);
}

#[test]
fn a_websocket_does_not_outlive_its_listener_on_a_socket_that_stays() {
    let (mut gateway, address) =
        start(Settings { listener_drain_timeout: Duration::from_millis(400), ..Settings::default() });
    let (mut stream, mut shared) = (websocket(address), websocket_over_http2(address));
    let mut kept = connect(address);
    all_bound(&gateway.publish(plan_of_another_listener(address)));
    // It came after the change, and stays.
    let mut other = websocket(address);
    stream.write_all(&[0x82, 1, 9]).expect("sent");
    assert_eq!(read_message(&mut stream), [0x82, 1, 9], "not at once");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, CLOSE_1001);
    assert_eq!(await_frame(&mut shared, DATA).expect("a last word").payload, CLOSE_1001);
    // Its connection goes on: another request is answered.
    shared.write_all(&frame(HEADERS, 5, 3, &[GET_OVER_HTTP2, &literal(b":path", b"/slow")].concat())).expect("sent");
    assert_eq!(read_until_stream(&mut shared, 3).payload[0], 0x88, ":status 200 is entry 8");
    kept.write_all(&get("/slow")).expect("sent");
    assert_eq!(status(&read_answer(&mut kept)), 200);
    other.write_all(&[0x82, 1, 9]).expect("sent");
    assert_eq!(read_message(&mut other), [0x82, 1, 9]);
}

#[test]
fn websockets_over_http2_end_with_1001_too() {
    let (gateway, address) = start(Settings::default());
    let mut stream = websocket_over_http2(address);
    let drained = thread::spawn(move || gateway.plane.drain(Duration::from_millis(200)));
    assert_eq!(await_frame(&mut stream, DATA).expect("a last word").payload, CLOSE_1001);
    drop(stream);
    drained.join().expect("drained");

    let (_gateway, address) =
        start(Settings { upgrade_idle_timeout: Duration::from_millis(300), ..Settings::default() });
    let mut idle = websocket_over_http2(address);
    assert_eq!(await_frame(&mut idle, DATA).expect("a last word").payload, CLOSE_1001);
}

#[test]
fn an_idle_websocket_ends() {
    let (gateway, address) =
        start(Settings { upgrade_idle_timeout: Duration::from_millis(400), ..Settings::default() });
    let mut stream = websocket(address);
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(200));
        stream.write_all(&[0x82, 1, 9]).expect("sent");
        assert_eq!(read_message(&mut stream), [0x82, 1, 9], "not while bytes move");
    }
    stream.read_to_end(&mut Vec::new()).expect("an orderly end");
    wait_until("closed", || gateway.open() == 0);
}

#[test]
fn bounds_between_the_parts_of_a_body() {
    let (_gateway, address) = start(Settings::default());
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, expected) in [
        ("5\r\nhello\r\n0\r\na: b\r\n\r\n".to_owned(), 200),
        (format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(250)), 200),
        (format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(260)), 400),
        (format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(256)), 400),
        (format!("5{}\r\nhello\r\n0\r\n\r\n", " ".repeat(256)), 400),
        (format!("5\r\nhello\r\n0\r\na: {}\r\n\r\n", "x".repeat(16 << 10)), 400),
        (format!("5\r\nhello\r\n0\r\n{}\r\n", "a: b\r\n".repeat(65)), 400),
    ] {
        let mut stream = connect(address);
        stream.write_all(&[post.as_bytes(), body.as_bytes()].concat()).expect("sent");
        let answer = read_answer(&mut stream);
        assert_eq!(status(&answer), expected, "{}", &body[..body.len().min(20)]);
        assert_eq!(answer.contains("connection: close"), expected != 200, "{answer}");
    }
}

#[test]
fn slow_parts_of_a_body_end() {
    let settings = Settings {
        head_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(600),
        ..Settings::default()
    };
    let (gateway, address) = start(settings);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    // A digit of a chunk size, a field of the trailers, at a time: it moves, and is too slow all the same.
    for piece in ["0", "0\r\na: b\r\n"] {
        let mut stream = connect(address);
        stream.write_all(post.as_bytes()).expect("sent");
        let began = Instant::now();
        while began.elapsed() < PATIENCE && stream.write_all(piece.as_bytes()).is_ok() && is_open(&mut stream) {
            thread::sleep(Duration::from_millis(50));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{piece:?}: {:?}", began.elapsed());
    }
    // Nothing moves.
    for start in [post, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"] {
        let began = Instant::now();
        let answer = exchange(address, start.as_bytes());
        assert_eq!(status(&answer), 408, "{answer}");
        assert!(began.elapsed() >= Duration::from_millis(600));
    }
    wait_until("closed", || gateway.open() == 0);
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let (gateway, address) = start(Settings { stall_timeout: Duration::from_millis(400), ..Settings::default() });
    let mut stream = connect(address);
    stream.write_all(&get("/endless")).expect("sent");
    wait_until("accepted", || gateway.open() == 1);
    wait_until("dropped", || gateway.open() == 0);
}

#[test]
fn a_slow_backend_is_no_stall_of_the_client() {
    let (_gateway, address) =
        start(Settings { client_idle_timeout: Duration::from_millis(200), ..Settings::default() });
    assert_eq!(
        status(&{
            let mut stream = connect(address);
            stream.write_all(&get("/slow")).expect("sent");
            read_answer(&mut stream)
        }),
        200
    );
}

#[test]
fn an_http2_stream_without_a_window_is_reset() {
    const INITIAL_WINDOW_SIZE: [u8; 6] = [0, 4, 0, 0, 0, 0];
    let (gateway, address) = start(Settings { stall_timeout: Duration::from_millis(400), ..Settings::default() });
    let mut stream = connect(address);
    // GET, http, `:path: /endless`, `:authority: a`.
    let head = [&[0x82, 0x86, 0x04, 8][..], b"/endless", &[0x01, 1, b'a']].concat();
    let settings = frame(4, 0, 0, &INITIAL_WINDOW_SIZE);
    stream.write_all(&[PREFACE, &settings, &frame(1, 5, 1, &head)].concat()).expect("sent");
    assert_eq!(await_frame(&mut stream, 1).expect("an answer's head").stream, 1);
    let reset = loop {
        let got = read_frame(&mut stream).expect("a reset");
        match got.kind {
            3 => break got,
            6 => stream.write_all(&frame(6, 1, 0, &got.payload)).expect("sent, an answer to a ping"),
            _ => {}
        }
    };
    assert_eq!(reset.stream, 1);
    assert_eq!(gateway.open(), 1, "the connection goes on");
}
