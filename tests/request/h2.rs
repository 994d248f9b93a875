//! HTTP/2 on either side.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use gapi::{
    dataplane::outcome::Reason,
    snapshot::{Protocol, Retry},
};
use h2::{Reason as Code, RecvStream, client::SendRequest, ext::Protocol as Extended, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Config, OK, QUIET, Seen, answering, backend, rule};

/// Runs a client's side.
fn run<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(20), client).await.expect("it ends") };
    tokio::task::LocalSet::new().block_on(&runtime, limited)
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::task::spawn_local(async move { drop(connection.await) });
    sender.ready().await.expect("open")
}

fn get(fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri("http://a.example/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("valid")
}

/// Sends a request without a body and reads its answer to the end.
async fn exchange(sender: &mut SendRequest<Bytes>, request: Request<()>) -> Result<Whole, h2::Error> {
    let (response, _) = sender.send_request(request, true)?;
    whole(response.await?).await
}

struct Whole {
    status: u16,
    headers: HeaderMap,
    body: String,
    trailers: Option<HeaderMap>,
}

async fn whole(response: Response<RecvStream>) -> Result<Whole, h2::Error> {
    let (parts, body) = response.into_parts();
    let (body, trailers) = read(body).await?;
    Ok(Whole { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

async fn read(mut body: RecvStream) -> Result<(String, Option<HeaderMap>), h2::Error> {
    let mut text = String::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text += &String::from_utf8_lossy(&data);
    }
    Ok((text, body.trailers().await?))
}

/// An HTTP/2 backend; `answer` has each request, with the number of its connection.
fn h2_backend<F>(
    streams: u32,
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> F + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let answer = Rc::new(answer);
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("accepts");
                let answer = answer.clone();
                tokio::task::spawn_local(async move {
                    let mut builder = h2::server::Builder::new();
                    let handshake = builder.max_concurrent_streams(streams).handshake(stream);
                    let mut connection = handshake.await.expect("HTTP/2");
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::task::spawn_local(answer(request, respond, number));
                    }
                });
            }
        });
    });
    address
}

fn ok() -> Response<()> {
    Response::new(())
}

#[test]
fn malformed_heads() {
    let (endpoint, seen) = answering(OK);
    let gateway = Config::to(endpoint).start();
    run(async {
        for (authority, fields) in [
            ("u@a", &[][..]),
            ("a", &[("host", "b")]),
            ("a", &[("host", "a"), ("host", "a")]),
            ("a:99999", &[]),
            ("a", &[("x", " y")]),
        ] {
            let mut request = get(fields);
            *request.uri_mut() = format!("http://{authority}/").parse().expect("valid");
            let answer = exchange(&mut connect(gateway.address).await, request).await;
            assert!(answer.is_ok_and(|answer| answer.status == 400), "{authority} {fields:?}");
        }
        let mut sender = connect(gateway.address).await;
        let lengths = Request::post("http://a/").header("content-length", "3").header("content-length", "3");
        let (response, mut body) = sender.send_request(lengths.body(()).expect("valid"), false).expect("sent");
        let _ = body.send_data("abc".into(), true);
        assert!(!matches!(response.await, Ok(response) if response.status() != 400));
        let connect = Request::connect("a:80").body(()).expect("valid");
        assert!(matches!(exchange(&mut sender, connect).await, Ok(Whole { status: 501, .. })));
    });
    assert!(seen.all().is_empty(), "{:?}", seen.all());
}

#[test]
fn to_http1() {
    let (endpoint, seen) =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x\r\nX: 1\r\nKeep-Alive: a\r\n\r\nok");
    let gateway = Config::to(endpoint).start();
    run(async {
        let mut sender = connect(gateway.address).await;
        let answer = exchange(&mut sender, get(&[("cookie", "a=1"), ("cookie", "b=2")])).await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert!(!answer.headers.contains_key("x") && !answer.headers.contains_key("keep-alive"));
        let head = seen.only();
        assert!(head.starts_with("GET / HTTP/1.1\r\n") && head.contains("\r\nhost: a.example\r\n"), "{head}");
        assert!(head.contains("\r\ncookie: a=1; b=2\r\n") && !head.contains("transfer-encoding"), "{head}");

        let (response, mut body) = sender.send_request(get(&[]), false).expect("sent");
        body.send_data("abc".into(), true).expect("sent");
        assert_eq!(response.await.expect("an answer").status(), 200);
        let got = seen.all().pop().expect("a request");
        assert!(got.starts_with("GET / ") && got.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{got}");

        let head = Request::head("http://a.example/").body(()).expect("valid");
        let answer = exchange(&mut sender, head).await.expect("an answer");
        assert_eq!((answer.headers["content-length"].as_bytes(), answer.body.as_str()), (&b"2"[..], ""));
    });
}

#[test]
fn a_reset_body_reaches_no_end() {
    for code in [Code::CANCEL, Code::NO_ERROR] {
        let seen = Seen::default();
        let record = seen.clone();
        let endpoint = backend(move |mut client, _| {
            client.until("3\r\nabc\r\n");
            let rest = client.rest();
            record.all().push(rest);
        });
        let gateway = Config::to(endpoint).start();
        run(async {
            let request = Request::post("http://a/").body(()).expect("valid");
            let mut sender = connect(gateway.address).await;
            let (response, mut body) = sender.send_request(request, false).expect("sent");
            body.send_data("abc".into(), false).expect("sent");
            tokio::time::sleep(QUIET).await;
            body.send_reset(code);
            drop(response);
            while seen.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert_eq!(seen.only(), "", "{code}");
    }
}

#[test]
fn an_answer_cut_short_is_reset() {
    let endpoint = backend(|mut client, _| {
        client.message();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    });
    let gateway = Config::to(endpoint).start();
    run(async {
        let answer = exchange(&mut connect(gateway.address).await, get(&[])).await;
        assert!(answer.is_err_and(|error| error.is_reset()));
    });
    for code in [Code::INTERNAL_ERROR, Code::NO_ERROR] {
        let endpoint = h2_backend(100, move |_, mut respond, _| async move {
            let mut body = respond.send_response(ok(), false).expect("sent");
            body.send_data("abc".into(), false).expect("sent");
            tokio::time::sleep(QUIET).await;
            body.send_reset(code);
        });
        let gateway = Config::to_h2c(endpoint).start();
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.rest();
        assert!(answer.ends_with("3\r\nabc\r\n"), "{code}: {answer}");
        assert_eq!(gateway.ended(Reason::AnswerCut), 1);
    }
}

#[test]
fn grpc_passes() {
    let endpoint = h2_backend(100, |request, mut respond, _| async move {
        assert_eq!(
            (request.version(), &request.headers()["te"]),
            (Version::HTTP_2, &HeaderValue::from_static("trailers"))
        );
        assert_eq!(request.uri().to_string(), "http://a.example/s/m");
        assert!(!request.headers().contains_key("host"));
        let (text, trailers) = read(request.into_body()).await.expect("a body");
        let response = Response::builder().header("content-type", "application/grpc").body(()).expect("valid");
        let mut body = respond.send_response(response, false).expect("sent");
        body.send_data(text.into(), false).expect("sent");
        let mut fields = trailers.unwrap_or_default();
        fields.insert("grpc-status", HeaderValue::from_static("0"));
        body.send_trailers(fields).expect("sent");
    });
    let gateway = Config::to_h2c(endpoint).start();
    run(async {
        let request = Request::post("http://a.example/s/m").header("te", "trailers").body(()).expect("valid");
        let mut sender = connect(gateway.address).await;
        let (response, mut body) = sender.send_request(request, false).expect("sent");
        body.send_data("ping".into(), false).expect("sent");
        body.send_trailers(HeaderMap::from_iter([("x-sum".parse().expect("valid"), HeaderValue::from_static("7"))]))
            .expect("sent");
        let answer = whole(response.await.expect("an answer")).await.expect("whole");
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(
            (answer.body.as_str(), &trailers["grpc-status"], &trailers["x-sum"]),
            ("ping", &HeaderValue::from_static("0"), &HeaderValue::from_static("7"))
        );
    });
    let mut client = gateway.connect();
    client.send("POST /s/m HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nContent-Length: 2\r\n\r\nhi");
    let answer = client.until("\r\n0\r\ngrpc-status: 0\r\n\r\n");
    assert!(answer.contains("\r\n2\r\nhi"), "{answer}");
}

#[test]
fn streams_share_a_connection_as_far_as_the_backend_allows() {
    let endpoint = h2_backend(3, |_, mut respond, number| async move {
        tokio::time::sleep(QUIET).await;
        let mut body = respond.send_response(ok(), false).expect("sent");
        body.send_data(number.to_string().into(), true).expect("sent");
    });
    let gateway = Config::to_h2c(endpoint).start();
    run(async {
        let mut sender = connect(gateway.address).await;
        assert_eq!(exchange(&mut sender, get(&[])).await.expect("an answer").body, "0");
        let mut sent: Vec<_> = (0..5).map(|_| sender.send_request(get(&[]), true).expect("sent").0).collect();
        let mut connections = Vec::new();
        for response in sent.drain(..) {
            connections.push(whole(response.await.expect("an answer")).await.expect("whole").body);
        }
        connections.sort_unstable();
        assert_eq!(connections, ["0", "0", "0", "1", "1"]);
    });
}

#[test]
fn a_refused_stream_is_sent_again() {
    let first = Cell::new(true);
    let endpoint = h2_backend(100, move |_, mut respond, _| {
        let refuse = first.replace(false);
        async move {
            if refuse {
                respond.send_reset(Code::REFUSED_STREAM);
            } else {
                respond.send_response(ok(), true).expect("sent");
            }
        }
    });
    let gateway = Config::to_h2c(endpoint).start();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(gateway.exchange(post).starts_with("HTTP/1.1 200 "));
    let always = h2_backend(100, |_, mut respond, _| async move { respond.send_reset(Code::REFUSED_STREAM) });
    let retry = Retry { codes: Box::default(), attempts: 1, backoff: Duration::from_millis(1) };
    let gateway = Config::default()
        .backend("b", Protocol::H2c, &[always])
        .rule("", rule(&[("b", 1)]))
        .edit(|rule| rule.retry = Some(retry))
        .start();
    assert!(gateway.exchange(post).starts_with("HTTP/1.1 502 "));
    assert_eq!(gateway.ended(Reason::Unprocessed), 1);
}

#[test]
fn a_websocket_over_http2() {
    let endpoint = backend(|mut client, _| {
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with("GET / HTTP/1.1\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: ") && head.contains("host: a.example\r\n"), "{head}");
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
        client.until("ping");
        client.send("pong");
    });
    let gateway = Config::to(endpoint).start();
    let (plain, _) = answering(OK);
    let refusing = Config::to(plain).start();
    let ask = || {
        let mut request = get(&[("sec-websocket-version", "13")]);
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Extended::from_static("websocket"));
        request
    };
    run(async {
        let mut sender = connect(gateway.address).await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (response, mut body) = sender.send_request(ask(), false).expect("sent");
        let response = response.await.expect("an answer");
        assert_eq!((response.status(), response.headers().contains_key("upgrade")), (StatusCode::OK, false));
        body.send_data("ping".into(), false).expect("sent");
        let mut answer = response.into_body();
        assert_eq!(answer.data().await.expect("data").expect("data"), "pong");

        let mut sender = connect(refusing.address).await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (response, _body) = sender.send_request(ask(), false).expect("sent");
        assert_eq!(response.await.expect("an answer").status(), StatusCode::BAD_GATEWAY);
    });
}

#[test]
fn a_backend_that_goes_away_loses_no_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                let Some(Ok((_, mut respond))) = connection.accept().await else { continue };
                respond.send_response(ok(), true).expect("sent");
                connection.graceful_shutdown();
                // No other connection is accepted before the gateway has closed this one.
                while connection.accept().await.is_some() {}
            }
        });
    });
    let tick = Duration::from_millis(800);
    let gateway = Config::to_h2c(endpoint).settings(|settings| settings.backend_idle_timeout = tick).start();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..5 {
        assert!(gateway.exchange(post).starts_with("HTTP/1.1 200 "));
    }
}
