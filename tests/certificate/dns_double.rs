//! Doubles of the APIs of DNS providers, over HTTP, or over HTTPS behind a proxy so that they have the name of the real
//! ones.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::support::Authority;

/// What was asked.
pub struct Asked {
    pub method: String,
    /// With its query.
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

type Answer = Arc<dyn Fn(&Asked) -> (u16, String) + Send + Sync>;

/// Answers at an address of its own until the test program ends.
pub fn http(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> SocketAddr {
    let answer: Answer = Arc::new(answer);
    listen(move |stream| exchange(stream, &answer))
}

/// A proxy that answers for `name` itself, with a certificate of `authority`, and leads nowhere else.
pub fn proxy(
    authority: &Authority,
    name: &'static str,
    answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
) -> SocketAddr {
    let answer: Answer = Arc::new(answer);
    let pair = authority.sign(&[name]);
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).map(|one| one.expect("PEM")).collect();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let config = Arc::new(config);
    listen(move |mut stream| {
        let Some(asked) = read(&mut stream) else { return };
        if asked.method != "CONNECT" || asked.target != format!("{name}:443") {
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let session = ServerConnection::new(config.clone()).expect("the configuration is right");
        exchange(StreamOwned::new(session, stream), &answer);
    })
}

fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn exchange(mut stream: impl Read + Write, answer: &Answer) {
    let Some(asked) = read(&mut stream) else { return };
    let (status, body) = answer(&asked);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    let _ = stream.flush();
}

fn read(stream: &mut impl Read) -> Option<Asked> {
    // One byte at a time: what comes after the head may be TLS.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut fields = Vec::new();
    while let Some(line) = line().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut asked = Asked { method, target, fields, body: String::new() };
    let mut body = vec![0; asked.field("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}
