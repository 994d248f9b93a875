//! What passes unchanged: fields, trailers, statuses; over TLS, through filters and to mirrors.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
};

use bytes::Bytes;
use gapi::plan::{CertificatePlan, FilterPlan, HeadersPlan};
use http::HeaderMap;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::{
    call::*,
    stage::{HOST, Routes, method, service},
};

/// A call that a backend has seen: its head, its message and its trailers.
type Seen = (http::request::Parts, Vec<u8>, Option<HeaderMap>);

/// A backend that keeps each call.
fn keeping() -> (SocketAddr, Receiver<Seen>) {
    let (seen, calls) = channel();
    let address = backend(move |request, mut respond, _| {
        let seen = seen.clone();
        async move {
            let (parts, mut body) = request.into_parts();
            let mut bytes = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).expect("open");
                bytes.extend(&data);
            }
            let trailers = body.trailers().await.unwrap_or_default();
            let _ = seen.send((parts, bytes, trailers));
            let mut down = respond.send_response(ok(), false).expect("open");
            let _ = down.send_data("answer".into(), false);
            let _ = down.send_trailers(fields(&[("grpc-status", "0")]));
        }
    });
    (address, calls)
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn the_calls_own_fields() {
    let (endpoint, calls) = keeping();
    let served = Routes::to(endpoint).start();
    for timeout in ["10S", "00000001H", "99999999H", "soon", "123456789S", "0S", "-1S"] {
        let binary = "AAEC/w==";
        let sent = [
            ("grpc-timeout", timeout),
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", "gzip, identity"),
            ("x-data-bin", binary),
            ("user-agent", "grpc-test/1"),
        ];
        let answer = run(async { unary(&mut connect(served.address).await, "/pkg.Svc/Get", &sent).await });
        assert_eq!(answer.expect("an answer").code(), "0", "{timeout}");
        let (head, bytes, _) = calls.recv_timeout(PATIENCE).expect("a call");
        for (name, value) in sent {
            assert_eq!(head.headers[name], value);
        }
        assert_eq!(
            (&head.headers["te"], &head.headers["content-type"]),
            (&"trailers".parse().unwrap(), &"application/grpc".parse().unwrap())
        );
        assert_eq!((head.method.as_str(), head.uri.to_string()), ("POST", format!("http://{HOST}/pkg.Svc/Get")));
        assert_eq!(bytes, b"message");
    }
}

#[test]
fn a_backends_own_ends() {
    let endpoint = backend(|request, mut respond, _| async move {
        let path = request.uri().path().to_owned();
        drop(request);
        match path.as_str() {
            "/pkg.Svc/TrailersOnly" => {
                let mut only = ok();
                let end =
                    [("grpc-status", "7"), ("grpc-message", "no%20way%C3%A9"), ("grpc-status-details-bin", "CAc=")];
                only.headers_mut().extend(fields(&end));
                respond.send_response(only, true).expect("open");
            }
            "/pkg.Svc/NotGrpc" => {
                let refusal = http::Response::builder().status(503).header("content-type", "text/html");
                let mut down = respond.send_response(refusal.body(()).expect("valid"), false).expect("open");
                down.send_data("<p>".into(), true).expect("open");
            }
            _ => {
                let mut down = respond.send_response(ok(), false).expect("open");
                down.send_data("one".into(), false).expect("open");
                let end = [("grpc-status", "9"), ("grpc-message", "%25"), ("x-a", "1"), ("x-b-bin", "AA==")];
                down.send_trailers(fields(&end)).expect("open");
            }
        }
    });
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        let only = unary(&mut sender, "/pkg.Svc/TrailersOnly", &[]).await.expect("an answer");
        assert!(only.ended_with_head && only.trailers.is_none(), "{only:?}");
        assert_eq!(
            (only.code(), &only.headers["grpc-message"]),
            (&"7".parse().unwrap(), &"no%20way%C3%A9".parse().unwrap())
        );
        assert_eq!(only.headers["grpc-status-details-bin"], "CAc=");
        let plain = unary(&mut sender, "/pkg.Svc/NotGrpc", &[]).await.expect("an answer");
        assert_eq!((plain.status, plain.body.as_str()), (503, "<p>"));
        assert!(!plain.headers.contains_key("grpc-status"));
        let failed = unary(&mut sender, "/pkg.Svc/Other", &[]).await.expect("an answer");
        let trailers = failed.trailers.as_ref().expect("trailers");
        assert_eq!(
            (failed.body.as_str(), failed.code(), &trailers["grpc-message"]),
            ("one", &"9".parse().unwrap(), &"%25".parse().unwrap())
        );
        assert_eq!((&trailers["x-a"], &trailers["x-b-bin"]), (&"1".parse().unwrap(), &"AA==".parse().unwrap()));
    });
}

fn certificate() -> CertificatePlan {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new([HOST.to_owned()]).and_then(|one| one.self_signed(&key));
    let certificate = certificate.expect("valid");
    CertificatePlan {
        key: "test/certificate".into(),
        digest: format!("{:?}", certificate.der()),
        chain_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    }
}

async fn connect_tls(address: SocketAddr, certificate: &CertificatePlan) -> h2::client::SendRequest<Bytes> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate.chain_pem).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from(HOST).expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    over(stream).await
}

#[test]
fn over_tls() {
    let certificate = certificate();
    let served = Routes::default().backend("b", &[echo()]).rule(service("/pkg.Svc"), &["b"]).start_tls(&certificate);
    run(async {
        let mut sender = connect_tls(served.address, &certificate).await;
        let mut call = open(&mut sender, "/pkg.Svc/Talk", &[]).await;
        let mut down = call.answer().await.expect("a head").into_body();
        for word in ["one", "two"] {
            call.say(word);
            assert_eq!(next(&mut down).await, word);
        }
        call.finish();
        assert!(down.data().await.is_none());
        let trailers = down.trailers().await.expect("no reset").expect("trailers");
        assert_eq!((&trailers["grpc-status"], &trailers["x-own"]), (&"0".parse().unwrap(), &"kept".parse().unwrap()));
        let refused = unary(&mut sender, "/other/M", &[]).await.expect("an answer");
        assert!(refused.ended_with_head);
        assert_eq!(refused.code(), "12");
    });
}

#[test]
fn filters() {
    let (endpoint, calls) = keeping();
    let request = HeadersPlan {
        set: vec![("x-set".into(), "by rule".into())],
        add: vec![("x-add".into(), "2".into())],
        remove: vec!["x-gone".into()],
    };
    let answer = HeadersPlan { set: vec![("x-answer".into(), "set".into())], ..HeadersPlan::default() };
    let of_backend = HeadersPlan { set: vec![("x-backend".into(), "b".into())], ..HeadersPlan::default() };
    let served = Routes::to(endpoint)
        .filter(FilterPlan::RequestHeaders(request))
        .filter(FilterPlan::ResponseHeaders(answer))
        .edit(|rule| rule.backends[0].filters.push(FilterPlan::RequestHeaders(of_backend)))
        .start();
    let sent = [("x-set", "1"), ("x-add", "1"), ("x-gone", "1")];
    let answer = run(async { unary(&mut connect(served.address).await, "/pkg.Svc/Get", &sent).await });
    let answer = answer.expect("an answer");
    assert_eq!((&answer.headers["x-answer"], answer.code()), (&"set".parse().unwrap(), &"0".parse().unwrap()));
    let (head, ..) = calls.recv_timeout(PATIENCE).expect("a call");
    let field = |name: &str| head.headers.get(name).map(|value| value.to_str().expect("ASCII"));
    assert_eq!(["x-set", "x-add", "x-gone", "x-backend"].map(field), [Some("by rule"), Some("1,2"), None, Some("b")]);
}

#[test]
fn a_mirror_has_the_whole_call() {
    let (main, calls) = keeping();
    let (copy, copies) = keeping();
    let mirror = FilterPlan::Mirror { backend: Some("copy".into()), numerator: 1, denominator: 1 };
    let served = Routes::default()
        .backend("main", &[main])
        .backend("copy", &[copy])
        .rule(method("/pkg.Svc/Get"), &["main"])
        .filter(mirror)
        .start();
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/Get", &[("grpc-timeout", "9S")]).await;
        call.say("one");
        tokio::time::sleep(QUIET).await;
        call.say("two");
        call.up.send_trailers(fields(&[("x-last", "1")])).expect("open");
        let answer = call.whole().await.expect("an answer");
        assert_eq!((answer.code(), answer.body.as_str()), (&"0".parse().unwrap(), "answer"));
    });
    for calls in [calls, copies] {
        let (head, bytes, trailers) = calls.recv_timeout(PATIENCE).expect("a call");
        assert_eq!((head.uri.path(), &bytes[..]), ("/pkg.Svc/Get", &b"onetwo"[..]));
        assert_eq!(
            (&head.headers["te"], &head.headers["grpc-timeout"]),
            (&"trailers".parse().unwrap(), &"9S".parse().unwrap())
        );
        assert_eq!(trailers.expect("trailers")["x-last"], "1");
    }
}
