//! HTTP/1: heads, bounds, deadlines, keep-alive.

use std::{
    io::Write,
    net::Shutdown,
    time::{Duration, Instant},
};

use gapi::dataplane::{Settings, outcome::Reason};

use crate::harness::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn short() -> Settings {
    Settings {
        head_timeout: Duration::from_millis(200),
        client_idle_timeout: Duration::from_millis(400),
        stall_timeout: Duration::from_millis(400),
        ..Settings::default()
    }
}

#[test]
fn keep_alive_and_pipelining() {
    let (_gateway, address) = Gateway::plain(Settings::default());
    let mut stream = connect(address);
    for _ in 0..3 {
        stream.write_all(GET).expect("sent");
        assert_eq!(status(&read_answer(&mut stream)), 404);
    }
    stream.write_all(&GET.repeat(40)).expect("sent");
    for _ in 0..40 {
        assert_eq!(status(&read_answer(&mut stream)), 404);
    }
    let body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunks = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nt: v\r\n\r\n";
    stream.write_all(&[&body[..], chunks, GET, body].concat()).expect("sent");
    for _ in 0..4 {
        assert_eq!(status(&read_answer(&mut stream)), 404);
    }
    assert!(is_open(&mut stream));
}

#[test]
fn half_close_and_old_versions_are_answered() {
    let (gateway, address) = Gateway::plain(Settings::default());
    let mut stream = connect(address);
    stream.write_all(GET).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(status(&read_to_end(&mut stream)), 404);
    let old = exchange(address, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 404"), "{old}");
    let mut kept = connect(address);
    kept.write_all(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").expect("sent");
    assert!(read_answer(&mut kept).to_lowercase().contains("connection: keep-alive"));
    drop((stream, kept));
    wait_until("all closed", || gateway.open() == 0);
}

#[test]
fn malformed_heads_get_400_and_the_end() {
    let (_gateway, address) = Gateway::plain(Settings::default());
    for head in [
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let answer = exchange(address, &[head.as_bytes(), GET].concat());
        assert_eq!(status(&answer), 400, "{head:?}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
    }
}

#[test]
fn bounds_of_a_head() {
    let (gateway, address) = Gateway::plain(Settings::default());
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count - 1));
    let size = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(bytes));
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(bytes));
    for (head, expected) in [
        (fields(128), 404),
        (fields(129), 431),
        (size(59 << 10), 404),
        (size(61 << 10), 431),
        (size(1 << 20), 431),
        (target(8 << 10), 414),
        (target(1 << 20), 414),
        (target(8000), 404),
    ] {
        let mut stream = connect(address);
        // The connection may end before all is sent.
        _ = stream.write_all(head.as_bytes());
        let answer = read_answer(&mut stream);
        assert_eq!(status(&answer), expected, "{}", &head[..head.len().min(40)]);
        assert_eq!(answer.to_lowercase().contains("connection: close"), expected != 404, "{answer}");
    }
    let counted = |reason| gateway.plane.counters().map(|counters| counters.reason(reason)).sum::<u64>();
    wait_until("counted", || (counted(Reason::HeadTooLarge), counted(Reason::TargetTooLong)) == (3, 2));
}

#[test]
fn many_fields_come_in_pieces_and_between_other_requests() {
    let (_gateway, address) = Gateway::plain(Settings::default());
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(120));
    let mut stream = connect(address);
    let requests = [GET, many.as_bytes(), many.as_bytes(), GET].concat();
    for size in [requests.len(), 1000, 7] {
        for piece in requests.chunks(size) {
            stream.write_all(piece).expect("taken");
        }
        for _ in 0..4 {
            assert_eq!(status(&read_answer(&mut stream)), 404, "{size}");
        }
    }
}

#[test]
fn a_slow_head_gets_408_and_silence_nothing() {
    let (_gateway, address) = Gateway::plain(short());
    for start in ["G", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTT"] {
        let began = Instant::now();
        assert_eq!(status(&exchange(address, start.as_bytes())), 408, "{start:?}");
        assert!(began.elapsed() >= Duration::from_millis(190));
    }
    let began = Instant::now();
    assert_eq!(exchange(address, b""), "");
    assert!(began.elapsed() >= Duration::from_millis(390));
    // Between requests too, and the bytes of a head do not lengthen its time.
    let mut stream = connect(address);
    stream.write_all(GET).expect("sent");
    read_answer(&mut stream);
    let began = Instant::now();
    for byte in &GET[..10] {
        _ = stream.write_all(&[*byte]);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(status(&read_to_end(&mut stream)), 408);
    assert!(began.elapsed() < Duration::from_secs(2));
    let mut idle = connect(address);
    idle.write_all(GET).expect("sent");
    read_answer(&mut idle);
    assert_eq!(read_to_end(&mut idle), "");
}

#[test]
fn connections_are_bounded_and_idle_ones_make_room() {
    let (gateway, address) = Gateway::plain(Settings { max_connections: 8, ..Settings::default() });
    let idle: Vec<_> = (0..8).map(|_| connect(address)).collect();
    wait_until("full", || gateway.open() == 8);
    assert_eq!(status(&exchange(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")), 404);
    assert!(gateway.open() <= 9);
    drop(idle);
    wait_until("all closed", || gateway.open() == 0);
}

#[test]
fn connections_of_one_client_are_bounded() {
    let (gateway, address) = Gateway::plain(Settings { max_connections_per_client: 2, ..Settings::default() });
    let mut streams: Vec<_> = (0..2).map(|_| connect(address)).collect();
    wait_until("both open", || gateway.open() == 2);
    assert_eq!(read_to_end(&mut connect(address)), "");
    streams.pop();
    wait_until("one open", || gateway.open() == 1);
    assert_eq!(status(&exchange(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")), 404);
}
