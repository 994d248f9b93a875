//! `gapi echo` over sockets: both versions of HTTP on one port, WebSockets, and what a request may ask for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

/// The program, for as long as the value lives.
struct Echo {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Echo {
    fn start(addresses: usize) -> Echo {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapi"));
        command.args(["echo", "--name", "pod-1"]).stdout(Stdio::piped());
        for _ in 0..addresses {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command.spawn().expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
        let address = |line: std::io::Result<String>| {
            line.expect("is text").strip_prefix("listening on ").expect("says so").parse().expect("an address")
        };
        let addresses = lines.take(addresses).map(address).collect();
        Echo { child, addresses }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[0]).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        stream
    }

    /// Sends a head and body as they stand, with `Connection: close`; the whole answer.
    fn raw(&self, head: &str, body: &str) -> String {
        let mut stream = self.connect();
        let message = format!("{head}\r\nHost: a.example\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(message.as_bytes()).expect("is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is answered");
        answer
    }

    fn report(&self, head: &str, body: &str) -> Value {
        let answer = self.raw(head, body);
        let (_, json) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(json).expect("JSON")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_answer_says_what_was_received() {
    let echo = Echo::start(2);
    assert_eq!(echo.addresses.len(), 2);
    let report =
        echo.report("POST /a/b?x=1&x=2 HTTP/1.1\r\nx-request-id: r\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5", "hello");
    assert_eq!(report["path"], "/a/b?x=1&x=2");
    assert_eq!(report["host"], "a.example");
    assert_eq!(report["method"], "POST");
    assert_eq!(report["proto"], "HTTP/1.1");
    assert_eq!(report["headers"]["X-Request-Id"], serde_json::json!(["r"]));
    assert_eq!(report["headers"]["X-A"], serde_json::json!(["1", "2"]));
    assert_eq!(report["headers"]["Host"], Value::Null);
    assert_eq!(report["request"]["query"]["x"], serde_json::json!(["1", "2"]));
    assert_eq!(report["request"]["body"], serde_json::json!({ "length": 5, "text": "hello" }));
    assert_eq!(report["environment"]["HOSTNAME"], "pod-1");
}

#[test]
fn a_request_may_say_how_it_is_answered() {
    let echo = Echo::start(1);
    assert!(echo.raw("GET /status/503 HTTP/1.1", "").starts_with("HTTP/1.1 503 "));
    assert!(echo.raw("GET /?header=x-b:%20c HTTP/1.1", "").contains("\r\nx-b: c\r\n"));
    let before = Instant::now();
    assert!(echo.raw("GET /?delay=150ms HTTP/1.1", "").starts_with("HTTP/1.1 200 "));
    assert!(before.elapsed() >= Duration::from_millis(150));
    let answer = echo.raw("GET /?size=100KiB HTTP/1.1", "");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("content-length: 102400"), "{head}");
    assert_eq!(body.len(), 100 << 10);
    let answer = echo.raw("GET /?trailer=x-t:1 HTTP/1.1\r\nTE: trailers", "");
    assert!(
        answer.contains("\r\ntransfer-encoding: chunked\r\n") && answer.ends_with("\r\n0\r\nx-t: 1\r\n\r\n"),
        "{answer}"
    );
    for wrong in ["/status/99", "/status/x", "/?delay=1", "/?delay=2h", "/?size=x", "/?header=x", "/?header=a%0Ab:c"] {
        let answer = echo.raw(&format!("GET {wrong} HTTP/1.1"), "");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{wrong}: {answer}");
    }
}

#[test]
fn a_body_comes_back_as_it_is_sent() {
    let echo = Echo::start(1);
    let mut stream = echo.connect();
    let head = "POST /?body=stream HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("is taken");
    let mut seen = String::new();
    for part in ["one", "two"] {
        stream.write_all(format!("3\r\n{part}\r\n").as_bytes()).expect("is taken");
        read_until(&mut stream, &mut seen, part);
    }
    stream.write_all(b"0\r\nx-sum: 6\r\n\r\n").expect("is taken");
    read_until(&mut stream, &mut seen, "0\r\nx-sum: 6\r\n\r\n");
}

/// Reads on until `end` has come; the read's deadline fails the test.
fn read_until(stream: &mut TcpStream, seen: &mut String, end: &str) {
    let mut buffer = [0; 1024];
    while !seen.contains(end) {
        let read = stream.read(&mut buffer).expect("comes in time");
        assert!(read > 0, "closed after {seen:?}");
        seen.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
    }
}

#[test]
fn http2_is_served_on_the_same_port() {
    let echo = Echo::start(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(echo.addresses[0]).await.expect("connects");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("6"))]);
        let body = Full::new(Bytes::from("sixsix")).with_trailers(async { Some(Ok(trailers)) }).boxed();
        let request = Request::post("http://h2.example/?trailer=x-t:1").body(body).expect("a request");
        let answer = sender.send_request(request).await.expect("is answered").collect().await.expect("is whole");
        assert_eq!(answer.trailers().expect("were asked for")["x-t"], "1");
        let report: Value = serde_json::from_slice(&answer.to_bytes()).expect("JSON");
        assert_eq!((&report["proto"], &report["host"]), (&"HTTP/2.0".into(), &"h2.example".into()));
        assert_eq!(report["request"]["trailers"]["X-Sum"], serde_json::json!(["6"]));
        for (method, path, status) in [("GET", "/status/204", 204), ("GET", "/status/304", 304), ("HEAD", "/", 200)] {
            let request = Request::builder().method(method).uri(format!("http://h2.example{path}"));
            let request = request.body(Empty::new().boxed()).expect("a request");
            let answer = sender.send_request(request).await.expect("is answered");
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(answer.collect().await.expect("is whole").to_bytes(), "", "{method} {path}");
        }
    });
}

/// A masked frame, as clients send them.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("short"), 1, 2, 3, 4];
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn web_socket(echo: &Echo) -> TcpStream {
    let mut stream = echo.connect();
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("is taken");
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "\r\n\r\n");
    assert!(seen.starts_with("HTTP/1.1 101 ") && seen.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{seen}");
    stream
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).expect("comes in time");
    assert_eq!(read, bytes);
}

#[test]
fn web_sockets_get_their_messages_back() {
    let echo = Echo::start(1);
    let mut stream = web_socket(&echo);
    stream.write_all(&frame(0x81, b"hi")).expect("is taken");
    expect(&mut stream, b"\x81\x02hi");
    // A message in two parts, with a ping between them.
    stream.write_all(&[frame(0x02, b"a"), frame(0x89, b"p"), frame(0x80, b"b")].concat()).expect("is taken");
    expect(&mut stream, b"\x02\x01a\x8a\x01p\x80\x01b");
    stream.write_all(&frame(0x88, &1000u16.to_be_bytes())).expect("is taken");
    expect(&mut stream, b"\x88\x02\x03\xe8");
    assert_eq!(stream.read(&mut [0]).expect("ends"), 0);
}

#[test]
fn web_sockets_refuse_what_the_rfc_forbids() {
    let echo = Echo::start(1);
    let too_long = [&[0x82, 0xff][..], &(2u64 << 20).to_be_bytes()].concat();
    for (bytes, code) in
        [(b"\x81\x02hi".to_vec(), 1002u16), (frame(0xf1, b"x"), 1002), (frame(0x09, b"x"), 1002), (too_long, 1009)]
    {
        let mut stream = web_socket(&echo);
        stream.write_all(&bytes).expect("is taken");
        expect(&mut stream, &[&[0x88, 2][..], &code.to_be_bytes()].concat());
    }
    let old = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 8";
    assert!(echo.raw(old, "").starts_with("HTTP/1.1 426 "));
}

/// A message of gRPC, not compressed.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

#[test]
fn grpc_is_answered_for_any_method() {
    let echo = Echo::start(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(echo.addresses[0]).await.expect("connects");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let (one, two) = (message(b"one"), message(b"two"));
        let both = [&one[..], &two].concat();
        let cut = &both[..both.len() - 1];
        for (method, said, heard, status) in [
            ("any.Service/Unary", &one[..], one.clone(), "0"),
            ("any.Service/Bidi", &both, both.clone(), "0"),
            ("any.Service/Nothing", b"", Vec::new(), "0"),
            ("any.Service/ClientStream", &both, message(b"onetwo"), "0"),
            ("any.Service/ServerStream", &one, one.repeat(3), "0"),
            ("any.Service/ServerStream", cut, Vec::new(), "13"),
            ("grpc.health.v1.Health/Check", &message(b""), message(&[8, 1]), "0"),
        ] {
            let request = Request::post(format!("http://h2.example/{method}"))
                .header("content-type", "application/grpc+proto")
                .header("te", "trailers")
                .body(Full::new(Bytes::copy_from_slice(said)))
                .expect("a request");
            let answer = sender.send_request(request).await.expect("is answered");
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["x-hostname"]),
                (200, &"pod-1".parse().expect("text"))
            );
            assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
            let answer = answer.collect().await.expect("is whole");
            assert_eq!(answer.trailers().expect("a status")["grpc-status"], status, "{method}");
            assert_eq!(answer.to_bytes(), heard, "{method}");
        }
    });
}

#[test]
fn tcp_and_udp_get_back_what_they_say() {
    for (flag, line, prefix) in [("--name=pod-1", "pod-1\n", "pod-1 "), ("--plain", "", "")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gapi"));
        command.args(["echo", flag, "--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
        let mut address = |kind: &str| -> SocketAddr {
            let line = lines.next().expect("a line").expect("is text");
            let address = line.strip_prefix("listening on ").and_then(|line| line.strip_suffix(kind));
            address.unwrap_or_else(|| panic!("{line}")).parse().expect("an address")
        };
        let echo = Echo { addresses: vec![address(" (TCP)"), address(" (UDP)")], child };
        let mut stream = echo.connect();
        expect(&mut stream, line.as_bytes());
        stream.write_all(b"hello").expect("is taken");
        expect(&mut stream, b"hello");
        stream.shutdown(std::net::Shutdown::Write).expect("ends");
        assert_eq!(stream.read(&mut [0]).expect("ends"), 0);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(echo.addresses[1]).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let longest = vec![b'x'; 65_507];
        let mut buffer = vec![0; 1 << 16];
        for (said, heard) in [(&b"hello"[..], [prefix.as_bytes(), b"hello"].concat()), (&longest, longest.clone())] {
            socket.send(said).expect("is taken");
            let length = socket.recv(&mut buffer).expect("comes in time");
            assert!(buffer[..length] == heard);
        }
    }
}

#[test]
fn an_address_in_use_is_told() {
    let echo = Echo::start(1);
    let address = echo.addresses[0].to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_gapi")).args(["echo", "--listen", &address]).output().expect("runs");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains(&format!("cannot listen on {address}: ")));
}
