//! How a request gets to a backend: streamed, tried again, given up.

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use gapi::{
    dataplane::outcome::Reason,
    snapshot::{Filter, Headers, Protocol, Retry, WeightedBackend},
};

use crate::harness::{Config, OK, Seen, answering, backend, has_more, nowhere, rule};

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn retry(codes: &[u16], attempts: u32) -> Option<Retry> {
    Some(Retry { codes: codes.into(), attempts, backoff: Duration::from_millis(5) })
}

/// Fails the first `failures` requests with `failure`, then answers 200.
fn flaky(failures: usize, failure: &'static str) -> (std::net::SocketAddr, Seen) {
    let (seen, served) = (Seen::default(), AtomicUsize::new(0));
    let record = seen.clone();
    let endpoint = backend(move |mut client, _| {
        while has_more(&mut client) {
            record.put(client.message());
            client.send(if served.fetch_add(1, SeqCst) < failures { failure } else { OK });
        }
    });
    (endpoint, seen)
}

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

#[test]
fn retries_by_status() {
    for (failures, codes, attempts, want, sent) in
        [(2, &[503][..], 2, "200", 3), (3, &[503], 2, "503", 3), (1, &[500], 2, "503", 1), (1, &[503], 0, "503", 1)]
    {
        let (endpoint, seen) = flaky(failures, UNAVAILABLE);
        let gateway = Config::to(endpoint).edit(|rule| rule.retry = retry(codes, attempts)).start();
        assert_eq!(status(&gateway.get("/")), want);
        assert_eq!(seen.all().len(), sent);
    }
}

#[test]
fn a_small_body_is_sent_again_whole_and_a_large_one_is_not() {
    let post = |size: usize| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size))
    };
    for (size, want, sent) in [(1000, "200", 2), (2000, "503", 1)] {
        let (endpoint, seen) = flaky(1, UNAVAILABLE);
        let gateway = Config::to(endpoint)
            .settings(|settings| settings.max_retry_body = 1500)
            .edit(|rule| rule.retry = retry(&[503], 1))
            .start();
        assert_eq!(status(&gateway.exchange(&post(size))), want);
        assert_eq!(seen.all().len(), sent);
        assert!(seen.all().iter().all(|seen| seen.ends_with(&"x".repeat(size))));
    }
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_passed_over() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::default()
        .backend("b", Protocol::Http1, &[nowhere(), endpoint, nowhere()])
        .rule("", rule(&[("b", 1)]))
        .start();
    for _ in 0..9 {
        assert_eq!(status(&gateway.get("/")), "200");
    }
    assert_eq!(seen.all().len(), 9);
}

#[test]
fn a_stale_connection_is_noticed_only_where_sending_again_is_safe() {
    // Closes each connection when the second request on it has come.
    let stale = || {
        let seen = Seen::default();
        let record = seen.clone();
        let endpoint = backend(move |mut client, _| {
            record.put(client.message());
            client.send(OK);
            if has_more(&mut client) {
                record.put(client.message());
            }
        });
        (endpoint, seen)
    };
    let (endpoint, seen) = stale();
    let gateway = Config::to(endpoint).start();
    assert_eq!((status(&gateway.get("/")), status(&gateway.get("/"))), ("200", "200"));
    assert_eq!(seen.all().len(), 3);
    let (endpoint, seen) = stale();
    let gateway = Config::to(endpoint).start();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!((status(&gateway.exchange(post)), status(&gateway.exchange(post))), ("200", "502"));
    assert_eq!(seen.all().len(), 2);
}

/// A timeout covers the answer to its end (HTTPRouteTimeouts), which may be long under way when it strikes.
#[test]
fn timeouts_of_answers_under_way() {
    let trickling = || {
        backend(|mut client, _| {
            client.until("\r\n\r\n");
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            for _ in 0..100 {
                client.send("x");
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let short = Some(Duration::from_millis(200));
    for (request, backend, reason) in [(short, None, Reason::RequestTimeout), (None, short, Reason::BackendTimeout)] {
        let gateway = Config::to(trickling())
            .edit(|rule| (rule.request_timeout, rule.backend_timeout) = (request, backend))
            .start();
        let start = Instant::now();
        let answer = gateway.get("/");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('x'), "{answer}");
        assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
        assert_eq!(gateway.ended(reason), 1);
    }
}

#[test]
fn timeouts() {
    let slow = || {
        backend(|mut client, _| {
            client.message();
            std::thread::sleep(Duration::from_millis(600));
            client.send(OK);
        })
    };
    let short = Some(Duration::from_millis(100));
    let gateway = Config::to(slow()).edit(|rule| rule.request_timeout = short).start();
    assert_eq!(status(&gateway.get("/")), "504");
    assert_eq!(gateway.ended(Reason::RequestTimeout), 1);
    let gateway = Config::to(slow()).edit(|rule| rule.backend_timeout = short).start();
    assert_eq!(status(&gateway.get("/")), "504");
    assert_eq!(gateway.ended(Reason::BackendTimeout), 1);
    let gateway = Config::to(slow()).edit(|rule| rule.request_timeout = Some(Duration::ZERO)).start();
    assert_eq!(status(&gateway.get("/")), "200");
    // The second attempt is in time.
    let first = AtomicUsize::new(0);
    let endpoint = backend(move |mut client, _| {
        client.message();
        if first.fetch_add(1, SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(600));
        }
        client.send(OK);
    });
    let retrying = Config::to(endpoint).edit(|rule| {
        rule.backend_timeout = short;
        rule.retry = retry(&[], 1);
    });
    assert_eq!(status(&retrying.start().get("/")), "200");
}

#[test]
fn what_stands_still_ends() {
    let limit = Duration::from_millis(300);
    let silent = backend(|mut client, _| {
        client.message();
        std::thread::sleep(Duration::from_secs(5));
    });
    let gateway = Config::to(silent).settings(|settings| settings.stall_timeout = limit).start();
    let started = Instant::now();
    assert_eq!(status(&gateway.get("/")), "504");
    assert!(started.elapsed() >= limit && started.elapsed() < Duration::from_secs(3));

    let halting = backend(|mut client, _| {
        client.message();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        std::thread::sleep(Duration::from_secs(5));
    });
    let gateway = Config::to(halting).settings(|settings| settings.stall_timeout = limit).start();
    assert!(gateway.get("/").ends_with("\r\n\r\nabc"));

    let gateway = Config::to(answering(OK).0).settings(|settings| settings.stall_timeout = limit).start();
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    assert_eq!(status(&client.rest()), "408");
}

#[test]
fn a_client_that_does_not_read_holds_its_backend_back() {
    let written = std::sync::Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let endpoint = backend(move |mut client, _| {
        client.message();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while client.0.write_all(chunk.as_bytes()).is_ok() {
            count.fetch_add(chunk.len(), SeqCst);
        }
    });
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(500));
    let early = written.load(SeqCst);
    assert!(early > 0 && early < 32 << 20, "{early} bytes taken for a client that reads none");
    drop(client);
    let deadline = Instant::now() + Duration::from_secs(8);
    while gateway.ended(Reason::ClientGone) == 0 {
        assert!(Instant::now() < deadline, "the exchange ends with its client");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bodies_stream_both_ways() {
    let endpoint = backend(|mut client, _| {
        client.until("\r\n\r\n");
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let chunk = client.until("ping\r\n");
            client.send(chunk.replace("ping", "pong"));
        }
        client.until("0\r\n\r\n");
        client.send("0\r\n\r\n");
    });
    let gateway = Config::to(endpoint).start();
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.until("\r\n\r\n");
    for _ in 0..3 {
        client.send("4\r\nping\r\n");
        assert_eq!(client.until("pong\r\n"), "4\r\npong\r\n");
    }
    client.send("0\r\n\r\n");
    client.until("0\r\n\r\n");
}

#[test]
fn expectations_are_the_backends_to_meet() {
    let willing = backend(|mut client, _| {
        assert!(client.until("\r\n\r\n").contains("expect: 100-continue\r\n"));
        assert!(client.is_quiet(), "the body waits");
        client.send("HTTP/1.1 100 Continue\r\n\r\n");
        client.until("abc");
        client.send(OK);
    });
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let gateway = Config::to(willing).start();
    let mut client = gateway.connect();
    client.send(head);
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    assert_eq!(status(&client.message()), "200");

    let refusing = backend(|mut client, _| {
        client.until("\r\n\r\n");
        client.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        assert!(client.is_closed(), "without a body the connection is spent");
    });
    let gateway = Config::to(refusing).start();
    let mut client = gateway.connect();
    client.send(head);
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 417 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
}

#[test]
fn mirrors_get_a_copy() {
    let (main, _) = answering(OK);
    let (copy, seen) = answering("HTTP/1.1 500 Whatever\r\nContent-Length: 0\r\n\r\n");
    let mirror = |backend: &str| Filter::Mirror { backend: Some(backend.into()), numerator: 1, denominator: 1 };
    let gateway = Config::to(main)
        .backend("copy", Protocol::Http1, &[copy])
        .backend("dead", Protocol::Http1, &[nowhere()])
        .filter(Filter::RequestHeaders(Headers {
            set: [("x-set".parse().expect("valid"), "1".parse().expect("valid"))].into(),
            ..Headers::default()
        }))
        .filter(mirror("copy"))
        .filter(mirror("dead"))
        .filter(mirror("copy"))
        .start();
    let answer = gateway.exchange(
        "POST /p?q HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(status(&answer), "200");
    let deadline = Instant::now() + Duration::from_secs(5);
    while seen.all().len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", seen.all());
        std::thread::sleep(Duration::from_millis(10));
    }
    for seen in seen.all().iter() {
        assert!(seen.starts_with("POST /p?q HTTP/1.1\r\n") && seen.contains("\r\nx-set: 1\r\n"), "{seen}");
        assert!(seen.ends_with("3\r\nabc\r\n0\r\n\r\n"), "{seen}");
    }
}

#[test]
fn weights_share_out() {
    let (one, seen_one) = answering(OK);
    let (two, seen_two) = answering(OK);
    let gateway = Config::default()
        .backend("one", Protocol::Http1, &[one])
        .backend("two", Protocol::Http1, &[two])
        .rule("", rule(&[("one", 7), ("two", 2), ("", 1), ("one", 0)]))
        .start();
    let failed = (0..20).filter(|_| status(&gateway.get("/")) == "500").count();
    assert_eq!((seen_one.all().len(), seen_two.all().len(), failed), (14, 4, 2));
}

#[test]
fn backend_filters_apply_to_their_backend() {
    let set = |name: &str| {
        let pair = (name.parse().expect("valid"), "1".parse().expect("valid"));
        Headers { set: [pair].into(), ..Headers::default() }
    };
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint)
        .filter(Filter::ResponseHeaders(set("x-rule")))
        .edit(|rule| {
            rule.backends = [WeightedBackend {
                backend: Some("b".into()),
                weight: 1,
                filters: [Filter::RequestHeaders(set("x-in")), Filter::ResponseHeaders(set("x-out"))].into(),
            }]
            .into();
        })
        .start();
    let answer = gateway.get("/");
    assert!(answer.contains("\r\nx-out: 1\r\n") && answer.contains("\r\nx-rule: 1\r\n"), "{answer}");
    assert!(seen.only().contains("\r\nx-in: 1\r\n"));
}

#[test]
fn the_access_log_says_what_became_of_each_request() {
    let path = std::env::temp_dir().join(format!("gapi-access-{}.log", std::process::id()));
    let log = path.to_str().expect("UTF-8").to_string();
    let (endpoint, _) = answering(OK);
    let gateway =
        Config::to(endpoint).rule("/none", rule(&[])).settings(|settings| settings.access_log = Some(log)).start();
    gateway.get("/a?b");
    gateway.get("/none");
    gateway.exchange("GET / HTTP/1.1\r\n\r\n");
    drop(gateway);
    let mut lines = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while lines.len() < 3 {
        assert!(Instant::now() < deadline, "{lines:?}");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")).collect();
    }
    std::fs::remove_file(&path).expect("written above");
    let of = |line: usize, field: &str| lines[line][field].clone();
    assert_eq!((of(0, "status"), of(0, "reason"), of(0, "target")), (200.into(), "answered".into(), "/a?b".into()));
    assert_eq!((of(0, "route"), of(0, "endpoint")), ("test/route".into(), endpoint.to_string().into()));
    assert_eq!((of(0, "bytes_sent"), of(0, "host")), (2.into(), "a.example".into()));
    assert_eq!((of(1, "status"), of(1, "reason"), of(1, "fault")), (500.into(), "no-backend".into(), "gateway".into()));
    assert_eq!((of(2, "status"), of(2, "reason"), of(2, "fault")), (400.into(), "bad-host".into(), "client".into()));
}

#[test]
fn an_early_answer_gets_through() {
    for close in [true, false] {
        let endpoint = backend(move |mut client, _| {
            client.until("\r\n\r\n");
            client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
            if !close {
                client.finish();
                while client.0.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            }
        });
        let gateway = Config::to(endpoint).start();
        let mut client = gateway.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n");
        let mut writer = client.0.try_clone().expect("a socket");
        let writing = std::thread::spawn(move || while writer.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(status(&client.message()), "413", "closed at once: {close}");
        drop(client.0.shutdown(std::net::Shutdown::Both));
        writing.join().expect("it ends");
    }
}

#[test]
fn no_client_gets_the_answer_of_another() {
    let endpoint = backend(|mut client, _| {
        while has_more(&mut client) {
            let message = client.message();
            let target = message.split(' ').nth(1).expect("a target").repeat(200);
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
        }
    });
    let gateway = Config::to(endpoint).start();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.connect();
                for number in 0..60 {
                    let target = format!("/{thread}-{number}.");
                    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    if number % 7 == thread % 7 {
                        // Gone before the answer, or in the middle of it.
                        if thread % 2 == 0 {
                            client.until("\r\n\r\n/");
                        }
                        client = gateway.connect();
                        continue;
                    }
                    let answer = client.message();
                    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
                    assert_eq!(body, target.repeat(200));
                }
            });
        }
    });
}
