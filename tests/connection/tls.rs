//! TLS: who is shown which certificate, what is agreed on, what ends a handshake.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use gapi::{
    dataplane::{Settings, outcome::Reason},
    plan::{CertificatePlan, ListenerPlan, Plan, SocketPlan},
};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, StreamOwned,
    client::Resumption, pki_types::ServerName,
};

use crate::harness::*;

type Client = StreamOwned<ClientConnection, TcpStream>;

fn certificate(names: &[&str], algorithm: &'static rcgen::SignatureAlgorithm) -> CertificatePlan {
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate =
        rcgen::CertificateParams::new(names.clone()).and_then(|one| one.self_signed(&key)).expect("valid");
    CertificatePlan {
        key: format!("test/{}", names.join("-")),
        digest: format!("{:?}", certificate.der()),
        chain_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    }
}

fn ecdsa(names: &[&str]) -> CertificatePlan {
    certificate(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

fn secure(address: SocketAddr, listeners: Vec<ListenerPlan>) -> Plan {
    Plan { sockets: [(address, SocketPlan { tls: true, listeners })].into(), ..Plan::default() }
}

/// Trusts `certificates` alone.
fn client(certificates: &[&CertificatePlan], alpn: &[&str]) -> ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = RootCertStore::empty();
    for plan in certificates {
        roots.add(CertificateDer::from_pem_slice(&plan.chain_pem).expect("PEM")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn shake(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Result<Client, Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(config.clone(), name).expect("valid");
    let mut stream = connect(address);
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
            return Err(inner.map_or(Error::General("ended".to_owned()), |error| *error));
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

fn answer(client: &mut Client, host: &str) -> u16 {
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).expect("sent");
    status(&read_answer(client))
}

#[test]
fn the_most_specific_listener_shows_its_certificate() {
    let (exact, wild, any) = (ecdsa(&["a.x.test"]), ecdsa(&["*.x.test"]), ecdsa(&["any.test", "127.0.0.1"]));
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    let listeners = vec![
        listener("exact", Some("a.x.test"), &[&exact]),
        listener("none", Some("none.x.test"), &[]),
        listener("wild", Some("*.x.test"), &[&wild]),
        listener("any", None, &[&any]),
    ];
    all_bound(&gateway.publish(secure(address, listeners)));
    for (name, shown) in
        [("a.x.test", &exact), ("A.X.test", &exact), ("b.x.test", &wild), ("any.test", &any), ("127.0.0.1", &any)]
    {
        let client = Arc::new(client(&[shown], &[]));
        let mut stream = shake(address, name, &client).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer(&mut stream, name), 404);
    }
    let refused = shake(address, "none.x.test", &Arc::new(client(&[&wild], &[]))).expect_err("no certificate");
    assert_eq!(refused, Error::AlertReceived(AlertDescription::UnrecognisedName));
}

#[test]
fn nobody_has_the_name() {
    let one = ecdsa(&["a.test"]);
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    all_bound(&gateway.publish(secure(address, vec![listener("a", Some("a.test"), &[&one])])));
    let client = Arc::new(client(&[&one], &[]));
    for (name, alert) in
        [("b.test", AlertDescription::UnrecognisedName), ("127.0.0.1", AlertDescription::MissingExtension)]
    {
        let refused = shake(address, name, &client).expect_err("nobody has it");
        assert_eq!(refused, Error::AlertReceived(alert), "{name}");
    }
    wait_until("closed", || gateway.open() == 0);
}

#[test]
fn of_several_certificates_the_one_with_the_name() {
    let (first, second) = (ecdsa(&["a.test"]), ecdsa(&["b.test"]));
    let rsa_like = certificate(&["a.test"], &rcgen::PKCS_ED25519);
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    all_bound(&gateway.publish(secure(address, vec![listener("any", None, &[&first, &second, &rsa_like])])));
    for (name, shown) in [("a.test", &first), ("b.test", &second)] {
        shake(address, name, &Arc::new(client(&[shown], &[]))).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn alpn_says_what_is_spoken() {
    let one = ecdsa(&["a.test"]);
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    all_bound(&gateway.publish(secure(address, vec![listener("a", None, &[&one])])));
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let stream = shake(address, "a.test", &Arc::new(client(&[&one], offered))).expect("shaken");
        assert_eq!(stream.conn.alpn_protocol(), agreed.map(str::as_bytes));
    }
    let refused = shake(address, "a.test", &Arc::new(client(&[&one], &["spdy/3"]))).expect_err("none in common");
    assert_eq!(refused, Error::AlertReceived(AlertDescription::NoApplicationProtocol));

    // The protocol is what ALPN said, not what the bytes look like.
    let mut http2 = shake(address, "a.test", &Arc::new(client(&[&one], &["h2"]))).expect("shaken");
    http2.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    _ = http2.read_to_end(&mut answer);
    assert!(!answer.windows(4).any(|part| part == b"HTTP"), "{answer:?}");
    let mut http1 = shake(address, "a.test", &Arc::new(client(&[&one], &["http/1.1"]))).expect("shaken");
    http1.write_all(crate::http2::PREFACE).expect("sent");
    assert_eq!(status(&read_answer(&mut http1)), 400);
}

#[test]
fn sessions_are_resumed_on_every_worker_and_after_a_reload() {
    let one = ecdsa(&["a.test"]);
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    let plan = secure(address, vec![listener("a", None, &[&one])]);
    all_bound(&gateway.publish(plan.clone()));
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let base = client(&[&one], &[]);
        let provider = base.crypto_provider().clone();
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
        let mut roots = RootCertStore::empty();
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        roots.add(CertificateDer::from_pem_slice(&one.chain_pem).expect("PEM")).expect("a certificate");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        let kinds: Vec<_> = (0..6)
            .map(|round| {
                if round == 3 {
                    let other = listener("b", Some("b.test"), &[&one]);
                    all_bound(&gateway.publish(secure(address, vec![other, listener("a", None, &[&one])])));
                }
                let mut stream = shake(address, "a.test", &config).expect("shaken");
                assert_eq!(answer(&mut stream, "a.test"), 404);
                stream.conn.handshake_kind()
            })
            .collect();
        assert_eq!(kinds[0], Some(HandshakeKind::Full));
        assert!(kinds[1..].iter().all(|kind| *kind == Some(HandshakeKind::Resumed)), "{kinds:?}");
    }
}

#[test]
fn a_slow_handshake_ends_and_plain_text_gets_an_alert() {
    let one = ecdsa(&["a.test"]);
    let address = free_address();
    let mut gateway =
        Gateway::start(Settings { tls_handshake_timeout: Duration::from_millis(200), ..Settings::default() });
    all_bound(&gateway.publish(secure(address, vec![listener("a", None, &[&one])])));
    let mut silent = connect(address);
    silent.write_all(&[22, 3, 1]).expect("sent");
    // Dropped with an unread byte or not: what counts is that it ends.
    _ = silent.read_to_end(&mut Vec::new());
    wait_until("closed", || gateway.open() == 0);
    let mut plain = connect(address);
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut alert = Vec::new();
    _ = plain.read_to_end(&mut alert);
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
}

#[test]
fn a_listener_whose_certificate_changes_tells_its_connections() {
    let (old, new) = (ecdsa(&["a.test"]), ecdsa(&["a.test"]));
    let kept = ecdsa(&["b.test"]);
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    let with = |one| vec![listener("a", Some("a.test"), &[one]), listener("b", Some("b.test"), &[&kept])];
    all_bound(&gateway.publish(secure(address, with(&old))));
    let mut of_a = shake(address, "a.test", &Arc::new(client(&[&old], &[]))).expect("shaken");
    let mut of_b = shake(address, "b.test", &Arc::new(client(&[&kept], &[]))).expect("shaken");
    assert_eq!((answer(&mut of_a, "a.test"), answer(&mut of_b, "b.test")), (404, 404));
    all_bound(&gateway.publish(secure(address, with(&new))));
    // A worker looks at its connections before it serves whoever comes after the publish.
    shake(address, "a.test", &Arc::new(client(&[&new], &[]))).expect("shaken");
    std::thread::sleep(Duration::from_millis(50));
    of_a.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    assert!(read_to_end(&mut of_a).contains("connection: close"));
    assert_eq!((answer(&mut of_b, "b.test"), answer(&mut of_b, "b.test")), (404, 404));
}

#[test]
fn handshakes_that_fail_are_counted() {
    let one = ecdsa(&["a.test"]);
    let address = free_address();
    let mut gateway = Gateway::start(Settings::default());
    all_bound(&gateway.publish(secure(address, vec![listener("a", Some("a.test"), &[&one])])));
    let trusting = Arc::new(client(&[&one], &[]));
    let failed = || -> u64 { gateway.plane.counters().map(|counters| counters.reason(Reason::HandshakeFailed)).sum() };
    shake(address, "a.test", &trusting).expect("it is served");
    // A health check that only connects.
    drop(connect(address));
    shake(address, "b.test", &trusting).expect_err("nobody has it");
    wait_until("one is counted", || failed() == 1);
    exchange(address, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    wait_until("what is not TLS too", || failed() == 2);
}
