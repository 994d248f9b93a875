//! What a backend answers: refused with 502, or framed anew.

use std::time::Duration;

use crate::harness::{Config, OK, Seen, answering, backend, has_more};

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn bad_answers() {
    for answer in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX y: z\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: z\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nabcde\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    ] {
        let seen = Seen::default();
        let record = seen.clone();
        let endpoint = backend(move |mut client, _| {
            record.put(client.message());
            client.send(answer);
        });
        let gateway = Config::to(endpoint).start();
        let got = gateway.get("/");
        assert_eq!(status(&got), "502", "{answer:?}: {got}");
        assert!(got.contains("content-type: text/plain"), "{answer:?}: {got}");
        assert_eq!(seen.all().len(), 1, "{answer:?}: a fresh connection is not tried again");
    }
}

#[test]
fn a_broken_end_is_a_visible_cut() {
    for (answer, chunked) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz", true),
    ] {
        let endpoint = backend(move |mut client, _| {
            client.message();
            client.send(answer);
        });
        let gateway = Config::to(endpoint).start();
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = client.rest();
        assert_eq!(status(&got), "200", "{got}");
        assert!(got.contains("abc") && !got.contains("0\r\n\r\n") && got.contains("chunked") == chunked, "{got}");
    }
}

#[test]
fn answers_are_framed_anew_and_the_client_is_kept() {
    for (answer, body) in [
        ("HTTP/1.0 200 OK\r\n\r\nabc", "3\r\nabc\r\n0\r\n\r\n"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", "3\r\nabc\r\n0\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nConnection: close, x-secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=1\r\nProxy-Connection: x\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
        ),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"),
    ] {
        let endpoint = backend(move |mut client, _| {
            client.message();
            client.send(answer);
        });
        let gateway = Config::to(endpoint).start();
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let got = client.message();
            assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with(&format!("\r\n\r\n{body}")), "{got}");
            let lower = got.to_ascii_lowercase();
            for gone in ["connection", "keep-alive", "x-secret", "link"] {
                assert!(!lower.contains(gone), "{gone} in {got}");
            }
        }
    }
}

#[test]
fn lengths_of_what_is_not_sent() {
    let (endpoint, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = client.until("\r\n\r\n");
        assert!(got.contains("content-length: 7\r\n"), "{got}");
    }
    let (endpoint, seen) = answering("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n");
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = client.until("\r\n\r\n");
        assert!(got.starts_with("HTTP/1.1 304") && got.contains("content-length: 7\r\n"), "{got}");
    }
    assert_eq!(seen.all().len(), 2);
    let (endpoint, _) = answering("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    let got = Config::to(endpoint).start().get("/");
    assert!(got.starts_with("HTTP/1.1 204") && !got.contains("content-length"), "{got}");
}

#[test]
fn connections_are_used_again_until_something_is_odd() {
    let count = |answer: &'static str| {
        let seen = Seen::default();
        let record = seen.clone();
        let endpoint = backend(move |mut client, number| {
            while has_more(&mut client) {
                client.message();
                record.all().push(number.to_string());
                client.send(answer);
            }
        });
        let gateway = Config::to(endpoint).start();
        for _ in 0..3 {
            assert_eq!(status(&gateway.get("/")), "200");
            std::thread::sleep(Duration::from_millis(20));
        }
        seen.all().join("")
    };
    assert_eq!(count(OK), "000");
    assert_eq!(count("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "000");
    assert_eq!(
        count("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        "012"
    );
    assert_eq!(count("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), "012");
}

#[test]
fn trailers_pass() {
    let (endpoint, seen) = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\n\r\n");
    let got = client.until("x-sum: 7\r\n\r\n");
    assert!(got.contains("trailer: X-Sum\r\n") && got.contains("2\r\nok\r\n0\r\n"), "{got}");
    assert!(seen.only().contains("te: trailers\r\n"));
}

#[test]
fn request_trailers_pass() {
    let seen = Seen::default();
    let record = seen.clone();
    let endpoint = backend(move |mut client, _| {
        let message = client.until("\r\n0\r\nx-sum: 7\r\n\r\n");
        record.all().push(message);
        client.send(OK);
    });
    let gateway = Config::to(endpoint).start();
    let got = gateway.exchange(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    assert_eq!(status(&got), "200");
    assert!(seen.only().contains("2\r\nok\r\n"));
}
