//! What the gateway itself says to a client that speaks gRPC, and to one that does not.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use gapi::{
    dataplane::outcome::Reason,
    plan::{FilterPlan, HeadersPlan, PathPlan},
};
use http::Request;

use crate::{
    call::{backend, begin, connect, head, ok, open, run, unary},
    harness::{exchange, free_address, wait_until},
    stage::{HOST, Routes, Served, method, service},
};

/// The code of the answer to a call, which must be all in its head.
fn said(served: &Served, request: Request<()>) -> (String, String) {
    run(async {
        let mut call = begin(&mut connect(served.address).await, request).await;
        let _ = call.up.send_data("message".into(), true);
        let answer = call.whole().await.expect("an answer");
        assert_eq!((answer.status, answer.ended_with_head), (200, true), "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/grpc", "{answer:?}");
        assert!(!answer.headers.contains_key("content-length") && answer.trailers.is_none(), "{answer:?}");
        let text = |name: &str| answer.headers[name].to_str().expect("ASCII").to_owned();
        (text("grpc-status"), text("grpc-message"))
    })
}

fn code(served: &Served, path: &str) -> String {
    said(served, head(path, &[])).0
}

/// A backend that does `talk` with the bytes of each connection.
fn raw(talk: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || listener.incoming().for_each(|stream| talk(stream.expect("accepts"))));
    address
}

#[test]
fn without_a_match() {
    let served = Routes::default()
        .backend("b", &[free_address()])
        .rule(method("/pkg.Svc/Get"), &["b"])
        .rule(PathPlan::Regex("/pkg\\.(A|B)/.*".into()), &["b"])
        .start();
    for path in ["/pkg.Svc/Other", "/pkg.Svc", "/pkg.C/Get", "/"] {
        let (code, message) = said(&served, head(path, &[]));
        assert_eq!((code.as_str(), message.as_str()), ("12", "no route matches this request"), "{path}");
    }
    let mut elsewhere = head("/pkg.Svc/Get", &[]);
    *elsewhere.uri_mut() = "http://b.example/pkg.Svc/Get".parse().expect("valid");
    assert_eq!(said(&served, elsewhere).0, "12");
    wait_until("all are counted", || served.ended(Reason::NoRoute) == 5);
}

#[test]
fn without_a_backend_that_answers() {
    let dead = raw(|mut stream| {
        // It has seen the call.
        let _ = stream.read(&mut [0; 4096]);
    });
    let closed = raw(|mut stream| {
        let mut seen: Vec<u8> = Vec::new();
        let mut bytes = [0; 4096];
        while !seen.windows(7).any(|window| window == b"message") {
            match stream.read(&mut bytes) {
                Ok(length @ 1..) => seen.extend(&bytes[..length]),
                _ => return,
            }
        }
    });
    let resetting = backend(|_, mut respond, _| async move { respond.send_reset(h2::Reason::INTERNAL_ERROR) });
    let refusing = backend(|_, mut respond, _| async move { respond.send_reset(h2::Reason::REFUSED_STREAM) });
    let served = Routes::default()
        .backend("empty", &[])
        .rule(service("/none"), &["empty"])
        .rule(service("/invalid"), &[""])
        .rule(service("/zero"), &[])
        .backend("nowhere", &[free_address()])
        .rule(service("/nowhere"), &["nowhere"])
        .backend("dead", &[dead])
        .rule(service("/dead"), &["dead"])
        .backend("closed", &[closed])
        .rule(service("/closed"), &["closed"])
        .backend("resetting", &[resetting])
        .rule(service("/resetting"), &["resetting"])
        .backend("refusing", &[refusing])
        .rule(service("/refusing"), &["refusing"])
        .rule(service("/broken"), &["nowhere"])
        .edit(|rule| rule.broken = Some("a filter that nobody has".into()))
        .start();
    for (path, wanted, reason) in [
        ("/none/M", "14", Reason::NoEndpoint),
        ("/invalid/M", "14", Reason::InvalidBackend),
        ("/zero/M", "14", Reason::NoBackend),
        ("/nowhere/M", "14", Reason::ConnectFailed),
        ("/dead/M", "14", Reason::BackendClosed),
        ("/closed/M", "14", Reason::BackendClosed),
        ("/resetting/M", "14", Reason::BackendClosed),
        ("/refusing/M", "14", Reason::Unprocessed),
        ("/broken/M", "13", Reason::RuleBroken),
    ] {
        let before = served.ended(reason);
        assert_eq!(code(&served, path), wanted, "{path}");
        wait_until(path, || served.ended(reason) == before + 1);
    }
}

#[test]
fn a_backend_that_speaks_http1_only() {
    for answer in
        ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP/1.0 505 x\r\n\r\n"]
    {
        let endpoint = raw(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let served = Routes::to(endpoint).start();
        let (code, message) = said(&served, head("/pkg.Svc/Get", &[]));
        assert_eq!((code.as_str(), message.as_str()), ("14", "the backend's answer is malformed"), "{answer}");
    }
}

#[test]
fn when_time_is_over() {
    let hanging = backend(|_, respond, _| async move {
        std::future::pending::<()>().await;
        drop(respond);
    });
    let served = Routes::default()
        .backend("b", &[hanging])
        .rule(service("/rule"), &["b"])
        .edit(|rule| rule.request_timeout = Some(Duration::from_millis(100)))
        .rule(service("/backend"), &["b"])
        .edit(|rule| rule.backend_timeout = Some(Duration::from_millis(100)))
        .rule(service("/call"), &["b"])
        .edit(|rule| rule.request_timeout = Some(Duration::from_secs(600)))
        .start();
    assert_eq!(code(&served, "/rule/M"), "4");
    assert_eq!(code(&served, "/backend/M"), "4");
    let (code, message) = said(&served, head("/call/M", &[("grpc-timeout", "100m")]));
    assert_eq!((code.as_str(), message.as_str()), ("4", "the call was not answered before its deadline"));
    for reason in [Reason::RequestTimeout, Reason::BackendTimeout, Reason::DeadlinePassed] {
        wait_until(reason.word(), || served.ended(reason) == 1);
    }
    let idle = Duration::from_millis(400);
    let silent = Routes::to(hanging).settings(|settings| settings.grpc_idle_timeout = idle).start();
    assert_eq!(self::code(&silent, "/pkg.Svc/Get"), "4");
}

#[test]
fn a_request_that_is_not_let_in() {
    let served = Routes::to(free_address()).settings(|settings| settings.max_fields = 8).start();
    let many: Vec<(&str, &str)> =
        ["x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8"].map(|name| (name, "1")).to_vec();
    assert_eq!(said(&served, head("/pkg.Svc/Get", &many)).0, "8");
    assert_eq!(said(&served, head("/pkg.Svc/%ff%", &[])).0, "13");
}

#[test]
fn the_rules_filters_are_for_own_answers_too() {
    let headers = HeadersPlan { set: vec![("x-by".into(), "filter".into())], ..HeadersPlan::default() };
    let served = Routes::default().rule(service(""), &[""]).filter(FilterPlan::ResponseHeaders(headers)).start();
    let answer = run(async { unary(&mut connect(served.address).await, "/pkg.Svc/Get", &[]).await });
    let answer = answer.expect("an answer");
    assert_eq!((&answer.headers["x-by"], answer.code()), (&"filter".parse().unwrap(), &"14".parse().unwrap()));
}

#[test]
fn whoever_does_not_speak_it_gets_plain_answers() {
    let served = Routes::default().rule(method("/pkg.Svc/Get"), &[""]).start();
    for kind in ["text/plain", "application/json", "application/grpc-web+proto"] {
        for (path, status) in [("/other", 404), ("/pkg.Svc/Get", 500)] {
            let request = Request::post(format!("http://{HOST}{path}")).header("content-type", kind);
            let answer = run(async {
                let mut call = begin(&mut connect(served.address).await, request.body(()).expect("valid")).await;
                let _ = call.up.send_data("message".into(), true);
                call.whole().await.expect("an answer")
            });
            assert_eq!((answer.status, answer.body.is_empty()), (status, false), "{kind} {path}");
            assert!(!answer.headers.contains_key("grpc-status"), "{answer:?}");
        }
    }
    let request = format!(
        "POST /other HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/grpc\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let answer = exchange(served.address, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("grpc"), "{answer}");
}

#[test]
fn the_access_log_has_the_status() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().to_str().expect("ASCII").to_owned();
    let endpoint = backend(|request, mut respond, _| async move {
        let end = crate::call::fields(&[("grpc-status", "5"), ("grpc-message", "x")]);
        if request.uri().path().ends_with("Head") {
            let mut only = ok();
            only.headers_mut().extend(end);
            respond.send_response(only, true).expect("open");
        } else {
            let mut down = respond.send_response(ok(), false).expect("open");
            down.send_trailers(end).expect("open");
        }
    });
    let served = Routes::default()
        .backend("b", &[endpoint])
        .rule(service("/pkg.Svc"), &["b"])
        .settings(|settings| settings.access_log = Some(path.clone()))
        .start();
    run(async {
        let mut sender = connect(served.address).await;
        for path in ["/pkg.Svc/Head", "/pkg.Svc/Trailers", "/other"] {
            unary(&mut sender, path, &[]).await.expect("an answer");
        }
        let request = Request::post(format!("http://{HOST}/plain")).body(()).expect("valid");
        assert_eq!(begin(&mut sender, request).await.whole().await.expect("an answer").status, 404);
        drop(open(&mut sender, "/pkg.Svc/Trailers", &[]).await);
    });
    let read = || std::fs::read_to_string(&path).expect("readable");
    wait_until("lines", || read().lines().count() >= 4);
    let lines: Vec<serde_json::Value> =
        read().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let of = |target: &str| {
        let line = lines.iter().find(|line| line["target"] == target).expect("a line");
        (line["status"].as_u64(), line["grpc_status"].as_u64(), line["reason"].as_str().expect("text"))
    };
    assert_eq!(of("/pkg.Svc/Head"), (Some(200), Some(5), "answered"));
    assert_eq!(of("/pkg.Svc/Trailers"), (Some(200), Some(5), "answered"));
    assert_eq!(of("/other"), (Some(200), Some(12), "no-route"));
    assert_eq!(of("/plain"), (Some(404), None, "no-route"));
}
