//! TLS sessions are resumed after a restart.

use std::{fs::File, net::SocketAddr, sync::Arc};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    process::Signal,
};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, client::Resumption};

use crate::{
    manager::{SOON, Service},
    support::{
        Authority, Backend, free_port, loopback,
        manifest::{file, gateway, https, prefix, route, secret, service},
        wait,
    },
};

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

struct Stage {
    service: Service,
    secure: SocketAddr,
    /// Of TLS 1.2, and of 1.3.
    clients: [Arc<ClientConfig>; 2],
    _backend: Backend,
}

impl Stage {
    fn new() -> Stage {
        let (authority, backend, port) = (Authority::new(), Backend::named("hello"), free_port());
        let mut documents = vec![
            gateway("gate", &[https("https", port, None, "tls")]),
            secret("tls", &authority.sign(&["a.test", "b.test"])),
            route("all", "gate", &[], &[prefix("/", "backend")]),
        ];
        documents.extend(service("backend", &[backend.address]));
        let service = Service::serve(&[("all.yaml", file(&documents))]);
        let clients = [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
            let base = authority.client(&["http/1.1"]);
            let mut config = ClientConfig::builder_with_provider(base.crypto_provider().clone())
                .with_protocol_versions(&[version])
                .expect("the provider has both")
                .with_root_certificates(authority.roots())
                .with_no_client_auth();
            config.resumption = Resumption::in_memory_sessions(8);
            Arc::new(config)
        });
        Stage { service, secure: loopback(port), clients, _backend: backend }
    }

    fn shake(&self, name: &'static str, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
        use std::io::{Read, Write};
        let stream = std::net::TcpStream::connect(self.secure).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a time");
        let connection = ClientConnection::new(config.clone(), name.try_into().expect("a name")).expect("it is right");
        let mut stream = StreamOwned::new(connection, stream);
        // Tickets of TLS 1.3 come behind the handshake.
        write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stream.conn.handshake_kind()
    }

    fn kinds(&self, name: &'static str) -> Vec<Option<HandshakeKind>> {
        self.clients.iter().map(|config| self.shake(name, config)).collect()
    }
}

const FULL: [Option<HandshakeKind>; 2] = [Some(HandshakeKind::Full); 2];
const RESUMED: [Option<HandshakeKind>; 2] = [Some(HandshakeKind::Resumed); 2];

#[test]
fn sessions_outlive_restarts_and_crashes() {
    let mut stage = Stage::new();
    assert_eq!(stage.kinds("a.test"), FULL);
    assert_eq!(stage.kinds("a.test"), RESUMED);
    for round in 0..3 {
        if round == 1 {
            stage.service.signal(Signal::KILL);
            stage.service.ended(SOON);
            stage.service.start();
        } else {
            stage.service.restart();
        }
        assert_eq!(stage.kinds("a.test"), RESUMED, "round {round}");
        assert_eq!(stage.service.kept().iter().filter(|name| *name == "gapi-tickets").count(), 1);
    }
    assert_eq!(stage.kinds("b.test"), FULL, "another name is another session");
}

/// Keys that are not there, or not of this form, are as if it were the first run.
#[test]
fn keys_that_are_of_no_use() {
    let mut stage = Stage::new();
    let memory = |bytes: &[u8], seals| {
        let memory = memfd_create("gapi-tickets", MemfdFlags::ALLOW_SEALING).expect("there is memory");
        rustix::io::pwrite(&memory, bytes, 0).expect("it is writable");
        fcntl_add_seals(&memory, seals).expect("it can be sealed");
        memory
    };
    let mut keys = b"gapi-tickets\0\0\0\x01".to_vec();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    keys.extend(now.to_be_bytes());
    keys.extend([7; 48]);
    let mut newer = keys.clone();
    newer[15] = 9;
    for (what, descriptor) in [
        ("garbage", memory(b"garbage", SEALS)),
        ("empty", memory(b"", SEALS)),
        ("another version", memory(&newer, SEALS)),
        ("not sealed: another could write it", memory(&keys, SealFlags::empty())),
        ("a file", File::open("/dev/null").expect("it is there").into()),
        ("too long", memory(&vec![0; 1 << 20], SEALS)),
    ] {
        assert!(stage.kinds("a.test").iter().all(Option::is_some));
        assert_eq!(stage.kinds("a.test"), RESUMED);
        stage.service.stop();
        stage.service.replace_kept("gapi-tickets", descriptor);
        stage.service.start();
        assert_eq!(stage.kinds("a.test"), FULL, "{what}");
        wait("there are new keys", SOON, || stage.service.kept().iter().any(|name| name == "gapi-tickets"));
    }
    assert!(stage.service.log().contains("ticket keys"));
    let state = stage.service.state();
    let text =
        std::process::Command::new("grep").args(["-rla", "gapi-tickets"]).arg(state).output().expect("there is grep");
    assert!(text.stdout.is_empty(), "keys are not on the disk");
}
