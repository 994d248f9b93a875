//! WebSocket and other upgrades.

use gapi::dataplane::outcome::Reason;

use crate::harness::{Config, OK, answering, backend, has_more};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn agreed() {
    let endpoint = backend(|mut client, _| {
        let head = client.until("\r\n\r\n");
        assert!(head.contains("upgrade: WebSocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
        assert!(client.is_quiet(), "what the client sends early waits for the 101");
        client.send(AGREE.to_string() + "hello");
        client.until("early");
        client.send("late");
    });
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    client.send(ASK.to_string() + "early");
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert_eq!(client.rest(), "hellolate");
}

#[test]
fn not_agreed() {
    let (endpoint, _) = answering(OK);
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(ASK);
        assert!(client.message().starts_with("HTTP/1.1 200 "));
    }
    let other = AGREE.replace("websocket\r\n", "other\r\n");
    let (endpoint, _) = answering(other);
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    client.send(ASK);
    assert!(client.message().starts_with("HTTP/1.1 502 "));
}

#[test]
fn h2c_never_reaches_a_backend() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    for upgrade in ["h2c", "H2C", "HTTP/2.0", "h2c, http/1.1"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade, http2-settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        );
        assert!(gateway.exchange(&request).starts_with("HTTP/1.1 200 "));
    }
    let seen = seen.all().join("").to_ascii_lowercase();
    assert!(!seen.contains("upgrade") && !seen.contains("http2-settings"), "{seen}");
}

#[test]
fn a_websocket_to_a_backend_of_http2_is_refused() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to_h2c(endpoint).start();
    let mut client = gateway.connect();
    for count in 1..=2 {
        client.send(ASK);
        let answer = client.message();
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("WebSockets are not served"), "{answer}");
        assert_eq!(gateway.ended(Reason::UpgradeNotServed), count);
    }
    assert!(seen.all().is_empty(), "the backend is not asked");
}

#[test]
fn either_side_may_end_it() {
    let endpoint = backend(|mut client, _| {
        client.until("\r\n\r\n");
        client.send(AGREE);
        assert!(!has_more(&mut client), "the client's end is passed on");
        client.send("bye");
    });
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    client.send(ASK);
    client.until("\r\n\r\n");
    client.finish();
    assert_eq!(client.rest(), "bye");
}
