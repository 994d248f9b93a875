//! What a client sends: refused, or brought into one form.

use crate::harness::{Config, OK, answering, nowhere};

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn a_request_leaves_clean() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    let answer = gateway.exchange(
        "GET /a/./b?c=d HTTP/1.1\r\nHost: A.example\r\nX-Keep: 1\r\nConnection: close, x-secret, x-forwarded-for, host\r\n\
         X-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
         X-Forwarded-For: 10.0.0.1\r\nX_Forwarded_Proto: https\r\nForwarded: for=10.0.0.1\r\nX-Request-Id: mine\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let seen = seen.only();
    let (line, fields) = seen.split_once("\r\n").expect("a request line");
    assert_eq!(line, "GET /a/b?c=d HTTP/1.1");
    let mut fields: Vec<_> = fields.trim_end().split("\r\n").collect();
    fields.sort_unstable();
    let id = fields.pop().and_then(|field| field.strip_prefix("x-request-id: ")).expect("an identifier");
    assert_eq!(id.len(), 36);
    assert_eq!(
        fields,
        [
            "host: A.example",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: A.example",
            "x-forwarded-proto: http",
            "x-keep: 1"
        ]
    );
}

#[test]
fn refusals_close_and_reach_no_backend() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    let follow = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    for (want, request) in [
        ("400", "GET / HTTP/1.1\r\n\r\n"),
        ("400", "GET / HTTP/1.0\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
        ("400", "GET http://a/ HTTP/1.1\r\n\r\n"),
        ("400", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("400", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("400", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("400", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("400", "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("400", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("400", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("501", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
        ("501", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("400", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("400", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"),
        (
            "400",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "400",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        ),
        ("400", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("400", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx"),
    ] {
        let answer = gateway.exchange(&(request.to_string() + follow));
        assert_eq!(status(&answer), want, "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request:?}: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8 << 10));
    assert_eq!(status(&gateway.exchange(&long)), "414");
    assert!(seen.all().is_empty(), "{:?}", seen.all());
}

#[test]
fn own_answers_are_short_text() {
    let gateway = Config::default().start();
    let answer = gateway.get("/");
    assert_eq!(status(&answer), "404");
    assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nno route matches this request\n"), "{answer}");
    let head = gateway.exchange("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(head.contains("content-length: 30\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&client.message()), "404");
    }
}

#[test]
fn absolute_form_and_asterisk() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    gateway.exchange("GET http://B.example:81/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let request = seen.only();
    assert!(
        request.starts_with("GET /x?y HTTP/1.1\r\n") && request.contains("\r\nhost: B.example:81\r\n"),
        "{request}"
    );
    assert_eq!(request.matches("host: ").count(), 2, "with x-forwarded-host: {request}");
    let answer = gateway.exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 0\r\n"), "{answer}");
    assert_eq!(seen.all().len(), 1);
}

#[test]
fn a_path_that_reads_as_another_rule_is_refused() {
    let (public, seen_public) = answering(OK);
    let (admin, seen_admin) = answering(OK);
    let gateway = Config::default()
        .backend("public", gapi::snapshot::Protocol::Http1, &[public])
        .backend("admin", gapi::snapshot::Protocol::Http1, &[admin])
        .rule("", crate::harness::rule(&[("public", 1)]))
        .rule("/admin", crate::harness::rule(&[("admin", 1)]))
        .start();
    for target in
        ["/x/..%2fadmin", "/x/..%5Cadmin", "/x/..;/admin", "/x;/../admin;y", "/admin;x/y", "/x/..%2f..%2f..%2fy"]
    {
        assert_eq!(status(&gateway.get(target)), "400", "{target}");
    }
    assert!(seen_public.all().is_empty() && seen_admin.all().is_empty());
    assert_eq!(status(&gateway.get("/group%2fproject;v=1")), "200");
    assert!(seen_public.only().starts_with("GET /group%2Fproject;v=1 "));
    for target in ["/x/../admin/y", "//admin/y", "/%61dmin/y", "/x/%2e%2e/admin/y"] {
        gateway.get(target);
        assert!(seen_admin.all().pop().is_some_and(|seen| seen.starts_with("GET /admin/y ")), "{target}");
    }
}

#[test]
fn broken_chunks_are_the_clients_fault() {
    let (endpoint, _) = answering(OK);
    let gateway = Config::to(endpoint).start();
    for body in ["zz\r\n", "5\r\nabcdeXX0\r\n\r\n", "1\nx\n0\n\n", "fffffffffffffffff\r\nx"] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = gateway.exchange(&request);
        assert_eq!(status(&answer), "400", "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(gateway.ended(gapi::dataplane::outcome::Reason::BadBody), 4);
}

#[test]
fn a_body_cut_short_reaches_no_end() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = gateway.connect();
        client.send(request);
        client.finish();
        let answer = client.rest();
        assert!(answer.is_empty() || status(&answer) == "400", "{answer}");
    }
    assert!(seen.all().is_empty(), "{:?}", seen.all());
}

#[test]
fn length_beside_chunked_is_read_as_chunked_and_closes() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    let answer = gateway.exchange(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(["200", "400"].contains(&status(&answer)), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    for seen in seen.all().iter() {
        assert!(!seen.contains("content-length") && seen.ends_with("\r\n\r\n1\r\nx\r\n0\r\n\r\n"), "{seen}");
    }
}

#[test]
fn a_get_with_a_body_keeps_its_framing() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    gateway.exchange(
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    assert!(seen.all().pop().expect("a request").ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
    gateway.exchange("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    let seen = seen.only();
    assert!(seen.contains("\r\ncontent-length: 3\r\n") && seen.ends_with("\r\n\r\nabc"), "{seen}");
}

#[test]
fn nobody_home() {
    let gateway = Config::to(nowhere())
        .rule("/none", crate::harness::rule(&[]))
        .rule("/zero", crate::harness::rule(&[("b", 0)]))
        .rule("/invalid", crate::harness::rule(&[("", 1)]))
        .rule("/empty", crate::harness::rule(&[("empty", 1)]))
        .rule("/broken", crate::harness::rule(&[("b", 1)]))
        .edit(|rule| rule.broken = Some("an expression".into()))
        .backend("empty", gapi::snapshot::Protocol::Http1, &[])
        .start();
    for (target, want) in
        [("/", "502"), ("/none", "500"), ("/zero", "500"), ("/invalid", "500"), ("/empty", "503"), ("/broken", "500")]
    {
        assert_eq!(status(&gateway.get(target)), want, "{target}");
    }
}
