//! TLS: whose a connection is by its ClientHello, however that comes, and what is said to one that is nobody's.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use gapi::{
    dataplane::{Settings, outcome::Reason},
    plan::{CertificatePlan, ListenerProtocol},
};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::{harness::*, stage::*};

type Client = StreamOwned<ClientConnection, TcpStream>;

const MISSING_EXTENSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 109];
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

fn certificate(name: &str) -> CertificatePlan {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new([name.to_owned()]).and_then(|one| one.self_signed(&key));
    let certificate = certificate.expect("valid");
    CertificatePlan {
        key: format!("test/{name}"),
        digest: format!("{:?}", certificate.der()),
        chain_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    }
}

/// Trusts `certificate` alone.
fn config(certificate: &CertificatePlan) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate.chain_pem).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn shake(stream: TcpStream, name: &str, certificate: &CertificatePlan) -> Result<Client, Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(config(certificate), name).expect("valid");
    let mut stream = stream;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
            return Err(inner.map_or(Error::General("ended".to_owned()), |error| *error));
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

/// A ClientHello as rustls writes it: with a share of a post-quantum key, longer than a segment.
fn hello(name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(config(&certificate("any.test")), name).expect("valid");
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).expect("into memory");
    }
    bytes
}

/// The same with its handshake message cut into records of `size` bytes.
fn recut(hello: &[u8], size: usize) -> Vec<u8> {
    let message = &hello[5..];
    assert_eq!(hello.len(), 5 + usize::from(u16::from_be_bytes([hello[3], hello[4]])), "one record");
    let record = |part: &[u8]| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
    message.chunks(size).flat_map(record).collect()
}

/// A TLS server that says its name, then sends back what it gets.
fn secure_echo(name: &'static str, certificate: &CertificatePlan) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(&certificate.chain_pem).collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(&certificate.key_pem).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("a pair"));
    serve(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).map_err(io::Error::other)?, stream);
        stream.write_all(name.as_bytes())?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => stream.write_all(&buffer[..count])?,
            }
        }
    })
}

fn plain_echo(name: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        stream.write_all(name.as_bytes())?;
        io::copy(&mut stream.try_clone()?, &mut stream)?;
        stream.shutdown(Shutdown::Write)
    })
}

/// Ends with its process.
fn serve(each: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

fn hear(stream: &mut impl Read, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("in time");
    String::from_utf8(bytes).expect("text")
}

fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end in time");
    bytes
}

fn start(settings: Settings, stage: Stage) -> Gateway {
    let mut gateway = Gateway::start(settings);
    all_bound(&gateway.publish(stage.plan));
    gateway
}

fn reason(gateway: &Gateway, reason: Reason) -> u64 {
    gateway.plane.counters().map(|counters| counters.reason(reason)).sum()
}

/// A gateway that passes `x.test` through to a listener that is handed out.
fn passing(settings: Settings) -> (Gateway, SocketAddr, TcpListener) {
    let (address, backend) = (free_address(), TcpListener::bind("127.0.0.1:0").expect("loopback"));
    let mut stage = Stage::default();
    let endpoint = backend.local_addr().expect("bound");
    let host = stage.host(Some("x.test"), "x", &[(1, Some(&[endpoint]))]);
    let listeners = vec![listener_of("x", ListenerProtocol::TlsPassthrough, Some("x.test"), &[], vec![host])];
    stage.listen_tls(address, listeners);
    (start(settings, stage), address, backend)
}

#[test]
fn each_name_has_its_own_on_one_socket() {
    let [exact, wild, https, inner] = ["a.x.test", "*.x.test", "www.test", "db.test"].map(certificate);
    let (exact_echo, wild_echo, inner_echo) =
        (secure_echo("exact", &exact), secure_echo("wild.", &wild), plain_echo("inner"));
    let (address, mut stage) = (free_address(), Stage::default());
    let passed = vec![
        stage.host(Some("a.x.test"), "exact", &[(1, Some(&[exact_echo]))]),
        stage.host(Some("*.x.test"), "wild", &[(1, Some(&[wild_echo]))]),
    ];
    let ended = vec![stage.host(Some("db.test"), "inner", &[(1, Some(&[inner_echo]))])];
    let listeners = vec![
        listener_of("inner", ListenerProtocol::TlsTerminate, Some("db.test"), &[&inner], ended),
        listener_of("www", ListenerProtocol::Https, Some("www.test"), &[&https], Vec::new()),
        listener_of("passed", ListenerProtocol::TlsPassthrough, Some("*.x.test"), &[], passed),
    ];
    stage.listen_tls(address, listeners);
    let gateway = start(Settings::default(), stage);
    for (name, shown, says) in [
        ("a.x.test", &exact, "exact"),
        ("A.X.Test", &exact, "exact"),
        ("b.x.test", &wild, "wild."),
        ("db.test", &inner, "inner"),
    ] {
        let mut stream = shake(connect(address), name, shown).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(hear(&mut stream, 5), says, "{name}");
        let long = "0123456789abcdef".repeat(8 << 10);
        let mut writer = stream.sock.try_clone().expect("a descriptor");
        stream.conn.set_buffer_limit(None);
        stream.conn.writer().write_all(long.as_bytes()).expect("into memory");
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut writer).expect("sent");
        }
        assert_eq!(hear(&mut stream, long.len()), long, "{name}");
    }
    let mut page = shake(connect(address), "www.test", &https).expect("shaken");
    page.write_all(b"GET / HTTP/1.1\r\nHost: www.test\r\n\r\n").expect("sent");
    assert_eq!(status(&read_answer(&mut page)), 404);
    let refused = shake(connect(address), "c.test", &https).map(drop).expect_err("nobody has it");
    assert_eq!(refused, Error::AlertReceived(AlertDescription::UnrecognisedName));
    for (name, alert) in [("sub.c.test", UNRECOGNIZED_NAME), ("127.0.0.1", MISSING_EXTENSION)] {
        let mut client = connect(address);
        client.write_all(&hello(name)).expect("sent");
        assert_eq!(rest(&mut client), alert, "{name}");
    }
    wait_until("told", || reason(&gateway, Reason::HandshakeFailed) == 3);
}

#[test]
fn a_hello_is_read_however_it_is_cut() {
    let (_gateway, address, backend) = passing(Settings::default());
    let hello = hello("x.test");
    assert!(hello.len() > 1216, "post-quantum: {} bytes", hello.len());
    let records = [recut(&hello, 1), recut(&hello, 3), recut(&hello, 300), recut(&hello, hello.len()), hello];
    for (index, bytes) in records.iter().enumerate() {
        for piece in [1, 7, 1460, bytes.len()] {
            let mut client = connect(address);
            for part in bytes.chunks(piece) {
                client.write_all(part).expect("sent");
            }
            client.write_all(b"and what comes behind it").expect("sent");
            client.shutdown(Shutdown::Write).expect("ended");
            let (mut behind, _) = backend.accept().expect("passed on");
            assert!(rest(&mut behind) == [&bytes[..], b"and what comes behind it"].concat(), "cut {index} by {piece}");
        }
    }
}

#[test]
fn what_comes_with_the_hello_is_passed_on_too() {
    let (_gateway, address, backend) = passing(Settings::default());
    for behind in [1, 100, 5000, 100_000] {
        let bytes = [hello("x.test"), vec![23; behind]].concat();
        let mut client = connect(address);
        client.write_all(&bytes).expect("sent");
        client.shutdown(Shutdown::Write).expect("ended");
        let (mut stream, _) = backend.accept().expect("passed on");
        assert!(rest(&mut stream) == bytes, "{behind} bytes behind it");
    }
}

#[test]
fn a_hello_of_nobody_is_reset_where_tls_only_passes_through() {
    let (gateway, address, backend) = passing(Settings::default());
    backend.set_nonblocking(true).expect("set");
    for name in ["y.test", "sub.x.test", "127.0.0.1"] {
        let mut client = connect(address);
        client.write_all(&hello(name)).expect("sent");
        let ended = client.read(&mut [0; 16]).expect_err("reset");
        assert_eq!(ended.kind(), ErrorKind::ConnectionReset, "{name}");
    }
    wait_until("told", || reason(&gateway, Reason::HandshakeFailed) == 3);
    assert!(backend.accept().is_err(), "none came to the backend");
}

#[test]
fn a_listener_of_every_name_takes_those_without_one() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let (address, mut stage) = (free_address(), Stage::default());
    let host = stage.host(None, "any", &[(1, Some(&[backend.local_addr().expect("bound")]))]);
    stage.listen_tls(address, vec![listener_of("any", ListenerProtocol::TlsPassthrough, None, &[], vec![host])]);
    let _gateway = start(Settings::default(), stage);
    for name in ["x.test", "127.0.0.1"] {
        let bytes = hello(name);
        let mut client = connect(address);
        client.write_all(&bytes).expect("sent");
        client.shutdown(Shutdown::Write).expect("ended");
        let (mut stream, _) = backend.accept().expect("passed on");
        assert!(rest(&mut stream) == bytes, "{name}");
    }
}

#[test]
fn what_is_no_hello_is_refused() {
    let (gateway, address, backend) = passing(Settings::default());
    backend.set_nonblocking(true).expect("set");
    // A handshake message that says it is of 16 MiB, in records of the largest size.
    let endless = |length: u32| {
        let message: Vec<u8> = [&[1], &length.to_be_bytes()[1..], &vec![0; 100 << 10]].concat();
        message
            .chunks(16 << 10)
            .flat_map(|part| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat())
            .collect()
    };
    let cases: [(&str, Vec<u8>); 6] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n".to_vec()),
        ("a finished message", vec![22, 3, 1, 0, 4, 20, 0, 0, 0]),
        ("application data", [&[23, 3, 3, 0, 5][..], b"hello"].concat()),
        ("a record that is too long", [&[22, 3, 1, 0xff, 0xff][..], &[0; 1000]].concat()),
        ("70 KiB", endless(70 << 10)),
        ("16 MiB", endless(0xff_ffff)),
    ];
    for (what, bytes) in cases {
        let mut client = connect(address);
        // It may be refused before all is written.
        _ = client.write_all(&bytes);
        let mut answer = Vec::new();
        _ = client.read_to_end(&mut answer);
        assert!(answer.len() == 7 && answer[..6] == [21, 3, 3, 0, 2, 2], "{what}: {answer:?}");
    }
    wait_until("told", || reason(&gateway, Reason::HandshakeFailed) == 6);
    wait_until("closed", || gateway.open() == 0);
    assert!(backend.accept().is_err(), "none came to the backend");
}

#[test]
fn a_hello_that_does_not_end_is_not_waited_for() {
    let settings = Settings { tls_handshake_timeout: Duration::from_millis(1500), ..Settings::default() };
    let (gateway, address, _backend) = passing(settings);
    let bytes = hello("x.test");
    let began = Instant::now();
    let (mut still, mut slow) = (connect(address), connect(address));
    still.write_all(&bytes[..100]).expect("sent");
    // A byte now and then does not help.
    for byte in bytes[..bytes.len() - 1].chunks(1) {
        if slow.write_all(byte).is_err() || began.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!((1500..6000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    _ = still.read(&mut [0]).map(|count| assert_eq!(count, 0));
    wait_until("closed", || gateway.open() == 0);
}

#[test]
fn a_break_and_an_invalid_backend_reset_the_client() {
    let (address, mut stage) = (free_address(), Stage::default());
    let host = stage.host(Some("x.test"), "x", &[(1, None)]);
    stage.listen_tls(address, vec![listener_of("x", ListenerProtocol::TlsPassthrough, None, &[], vec![host])]);
    let gateway = start(Settings::default(), stage);
    let mut client = connect(address);
    client.write_all(&hello("x.test")).expect("sent");
    let error = client.read(&mut [0]).expect_err("reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    wait_until("told", || reason(&gateway, Reason::InvalidBackend) == 1);
}

#[test]
fn a_terminated_connection_ends_as_either_side_says() {
    let inner = certificate("db.test");
    let backend = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let (address, mut stage) = (free_address(), Stage::default());
    let host = stage.host(None, "inner", &[(1, Some(&[backend.local_addr().expect("bound")]))]);
    let listeners = vec![listener_of("inner", ListenerProtocol::TlsTerminate, Some("db.test"), &[&inner], vec![host])];
    stage.listen_tls(address, listeners);
    let gateway = start(Settings::default(), stage);
    // The backend ends: the client is told so within TLS, and may go on.
    let mut client = shake(connect(address), "db.test", &inner).expect("shaken");
    let (mut behind, _) = backend.accept().expect("passed on");
    behind.set_read_timeout(Some(PATIENCE)).expect("a time");
    behind.write_all(b"bye").expect("sent");
    behind.shutdown(Shutdown::Write).expect("ended");
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("an end that nobody forged");
    assert_eq!(heard, "bye");
    client.write_all(b"and one more").expect("half open");
    assert_eq!(hear(&mut behind, 12), "and one more");
    client.conn.send_close_notify();
    client.flush().expect("sent");
    assert_eq!(rest(&mut behind), b"");
    wait_until("told", || reason(&gateway, Reason::Relayed) == 1);
    // A client that leaves without a word of TLS.
    let client = shake(connect(address), "db.test", &inner).expect("shaken");
    let (mut behind, _) = backend.accept().expect("passed on");
    behind.set_read_timeout(Some(PATIENCE)).expect("a time");
    client.sock.shutdown(Shutdown::Write).expect("ended");
    assert_eq!(rest(&mut behind), b"");
}

#[test]
fn a_listener_that_changed_lets_its_connections_be() {
    let (mut gateway, address, backend) = passing(Settings::default());
    let bytes = hello("x.test");
    let mut client = connect(address);
    client.write_all(&bytes).expect("sent");
    let (mut behind, _) = backend.accept().expect("passed on");
    behind.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut read = vec![0; bytes.len()];
    behind.read_exact(&mut read).expect("in time");
    let other = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut stage = Stage::default();
    let host = stage.host(Some("x.test"), "x", &[(1, Some(&[other.local_addr().expect("bound")]))]);
    let listeners = vec![listener_of("x", ListenerProtocol::TlsPassthrough, Some("x.test"), &[], vec![host])];
    stage.listen_tls(address, listeners);
    all_bound(&gateway.publish(stage.plan));
    client.write_all(b"still").expect("sent");
    assert_eq!(hear(&mut behind, 5), "still");
    connect(address).write_all(&bytes).expect("sent");
    other.accept().expect("new ones go to the new backend");
}
