//! Filters, from the client's request to its answer.

use gapi::snapshot::{Cors, Filter, Names, Origins, PathModifier, Redirect};
use http::{HeaderValue, StatusCode};

use crate::harness::{Config, OK, Seen, answering, backend, nowhere, rule};

fn cors() -> Filter {
    Filter::Cors(Cors {
        origins: Origins::Some { exact: ["https://a.example".into()].into(), patterns: Box::default() },
        allow_credentials: true,
        allow_methods: Names::Some(HeaderValue::from_static("GET, PUT")),
        allow_headers: Names::All,
        expose_headers: Names::None,
        max_age: HeaderValue::from_static("5"),
    })
}

#[test]
fn cors_policies() {
    let (endpoint, seen) =
        answering("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Config::to(endpoint)
        .filter(cors())
        .rule("/down", rule(&[("down", 1)]))
        .filter(cors())
        .backend("down", gapi::snapshot::Protocol::Http1, &[nowhere()])
        .start();
    let ask = |method: &str, target: &str, fields: &str| {
        gateway.exchange(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"))
    };
    let origin = "Origin: https://a.example\r\n";
    let preflight = format!("{origin}Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-1\r\n");
    let answer = ask("OPTIONS", "/", &preflight);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    for field in [
        "access-control-allow-origin: https://a.example\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-allow-methods: GET, PUT\r\n",
        "access-control-allow-headers: x-1\r\n",
        "access-control-max-age: 5\r\n",
        "vary: Origin\r\n",
    ] {
        assert!(answer.contains(field), "{field} in {answer}");
    }
    assert!(seen.all().is_empty());
    let answer = ask("GET", "/", origin);
    assert!(answer.contains("access-control-allow-origin: https://a.example\r\n"), "{answer}");
    assert_eq!(answer.matches("access-control-allow-origin").count(), 1, "{answer}");
    assert!(answer.contains("vary: Accept\r\n") && answer.contains("vary: Origin\r\n"), "{answer}");
    let answer = ask("GET", "/", "Origin: https://b.example\r\n");
    assert!(answer.contains(" 200 ") && !answer.contains("access-control"), "{answer}");
    // A script may see that its request failed.
    let answer = ask("GET", "/down", origin);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("access-control-allow-origin: "), "{answer}");
}

#[test]
fn redirects() {
    let gateway = Config::default()
        .rule("/old", rule(&[]))
        .filter(Filter::Redirect(Redirect {
            scheme: Some("https".into()),
            hostname: None,
            path: Some(PathModifier::Prefix("/new".into())),
            port: None,
            status: StatusCode::PERMANENT_REDIRECT,
        }))
        .start();
    let answer = gateway.get("/old/%61?b=c");
    assert!(answer.starts_with("HTTP/1.1 308 ") && answer.contains("content-length: 0\r\n"), "{answer}");
    assert!(answer.contains("location: https://a.example/new/a?b=c\r\n"), "{answer}");
    assert!(gateway.get("/older").starts_with("HTTP/1.1 404 "));
}

#[test]
fn rewrites() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::default()
        .backend("b", gapi::snapshot::Protocol::Http1, &[endpoint])
        .rule("/old", rule(&[("b", 1)]))
        .filter(Filter::Rewrite {
            hostname: Some(HeaderValue::from_static("inner")),
            path: Some(PathModifier::Prefix("".into())),
        })
        .start();
    gateway.get("/old?b=c");
    let seen = seen.only();
    assert!(seen.starts_with("GET /?b=c HTTP/1.1\r\n") && seen.contains("\r\nhost: inner\r\n"), "{seen}");
    assert!(seen.contains("\r\nx-forwarded-host: a.example\r\n"), "{seen}");
}

#[test]
fn a_mirror_that_takes_nothing_slows_nothing() {
    let (main, _) = answering(OK);
    let seen = Seen::default();
    let record = seen.clone();
    let stuck = backend(move |mut client, _| {
        client.until("\r\n\r\n");
        std::thread::sleep(std::time::Duration::from_secs(1));
        record.put(client.rest());
    });
    let gateway = Config::to(main)
        .backend("stuck", gapi::snapshot::Protocol::Http1, &[stuck])
        .filter(Filter::Mirror { backend: Some("stuck".into()), numerator: 1, denominator: 1 })
        .start();
    let size = 64 << 20;
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"));
    let started = std::time::Instant::now();
    client.send(vec![b'x'; size]);
    assert!(client.message().starts_with("HTTP/1.1 200 "));
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    let deadline = started + std::time::Duration::from_secs(10);
    while seen.all().is_empty() {
        assert!(std::time::Instant::now() < deadline, "the mirrored connection ends");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(seen.only().len() < size, "its body was given up");
}
