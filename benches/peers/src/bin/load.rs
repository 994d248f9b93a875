//! Load that wrk does not make: `load OPERATION ADDRESS SECONDS CLIENTS` prints how many operations there were in that
//! time, where OPERATION is
//!
//! - `grpc`: a unary call, 8 at a time on each connection,
//! - `full`, `resumed`: a TLS connection with one GET, by a full handshake or by a ticket,
//! - `tcp`, `udp`: 128 bytes there and back,
//! - `bulk`: a MiB from the backend,
//! - `sink`: a MiB to the backend,
//! - `flood`: a datagram of 64 bytes that was sent; it waits for nothing.

use std::{
    array,
    cell::{Cell, RefCell},
    env,
    error::Error,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HOST: &str = "bench.example.com";
const QUESTION: [u8; 128] = [b'x'; 128];
/// A datagram that has no answer by then is lost.
const LOST: Duration = Duration::from_millis(500);
const MIB: usize = 1 << 20;
const CALLS: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [operation, address, seconds, clients] = &arguments[..] else {
        return Err("usage: load grpc|full|resumed|tcp|bulk|sink|udp|flood ADDRESS SECONDS CLIENTS".into());
    };
    let (address, seconds, clients) = (address.parse()?, seconds.parse()?, clients.parse()?);
    if operation == "flood" {
        println!("{}", flood(address, Duration::from_secs_f64(seconds), clients)?);
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let load = Rc::new(Load {
        address,
        end: Instant::now() + Duration::from_secs_f64(seconds),
        resumes: operation == "resumed",
        done: Cell::new(0),
        failed: RefCell::new(None),
    });
    LocalSet::new().block_on(&runtime, load.clone().run(operation.clone(), clients));
    match load.failed.take() {
        Some(error) => Err(error),
        None => {
            println!("{}", load.done.get());
            Ok(())
        }
    }
}

struct Load {
    address: SocketAddr,
    end: Instant,
    resumes: bool,
    done: Cell<u64>,
    /// The first failure.
    failed: RefCell<Option<Box<dyn Error>>>,
}

impl Load {
    async fn run(self: Rc<Load>, operation: String, clients: usize) {
        let operation = Rc::new(operation);
        let client = |_| {
            let (load, operation) = (self.clone(), operation.clone());
            spawn_local(async move {
                let client = async {
                    match operation.as_str() {
                        "grpc" => load.calls().await,
                        "full" | "resumed" => load.handshakes().await,
                        "tcp" => load.streams().await,
                        "bulk" => load.bulk().await,
                        "sink" => load.sink().await,
                        "udp" => load.datagrams().await,
                        other => Err(format!("{other} is no operation").into()),
                    }
                };
                if let Ok(Err(error)) = timeout_at(load.end, client).await {
                    load.failed.borrow_mut().get_or_insert(error);
                }
            })
        };
        for client in (0..clients).map(client).collect::<Vec<_>>() {
            _ = client.await;
        }
    }

    fn done(&self) {
        self.done.set(self.done.get() + 1);
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn streams(&self) -> Result<()> {
        let mut stream = self.connect().await?;
        let mut answer = [0; QUESTION.len()];
        loop {
            stream.write_all(&QUESTION).await?;
            stream.read_exact(&mut answer).await?;
            self.done();
        }
    }

    async fn bulk(&self) -> Result<()> {
        let mut stream = self.connect().await?;
        let mut buffer = vec![0; 256 << 10];
        let mut came = 0;
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Err("the stream ended".into());
            }
            came += length;
            (0..came / MIB).for_each(|_| self.done());
            came %= MIB;
        }
    }

    async fn sink(&self) -> Result<()> {
        let mut stream = self.connect().await?;
        let block = vec![b'x'; MIB / 4];
        loop {
            for _ in 0..4 {
                stream.write_all(&block).await?;
            }
            self.done();
        }
    }

    async fn datagrams(&self) -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(self.address).await?;
        let mut answer = [0; QUESTION.len()];
        loop {
            socket.send(&QUESTION).await?;
            if let Ok(length) = timeout(LOST, socket.recv(&mut answer)).await {
                length?;
                self.done();
            }
        }
    }

    async fn handshakes(&self) -> Result<()> {
        // Tickets are for one client each.
        let tls = tls(self.resumes)?;
        let name = ServerName::try_from(HOST)?;
        let request = format!("GET /bench/hello HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        // The first one brings the tickets.
        let mut first = true;
        loop {
            let mut stream = tls.connect(name.clone(), self.connect().await?).await?;
            stream.write_all(request.as_bytes()).await?;
            answer.clear();
            match stream.read_to_end(&mut answer).await {
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
                _ if !answer.starts_with(b"HTTP/1.1 200") => {
                    return Err(format!("answered {:?}", String::from_utf8_lossy(&answer)).into());
                }
                _ => {}
            }
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            if !first && resumed != self.resumes {
                return Err("not the handshake that was wanted".into());
            }
            first = false;
            self.done();
        }
    }

    async fn calls(self: &Rc<Load>) -> Result<()> {
        let (calls, connection) = h2::client::handshake(self.connect().await?).await?;
        spawn_local(async move { _ = connection.await });
        let caller = |_| {
            let (load, calls) = (self.clone(), calls.clone());
            spawn_local(async move {
                let calling = async {
                    loop {
                        call(calls.clone()).await?;
                        load.done();
                    }
                };
                let called: Result<()> = timeout_at(load.end, calling).await.unwrap_or(Ok(()));
                if let Err(error) = called {
                    load.failed.borrow_mut().get_or_insert(error);
                }
            })
        };
        for caller in (0..CALLS).map(caller).collect::<Vec<_>>() {
            caller.await?;
        }
        Ok(())
    }
}

/// As many datagrams as this core sends, of the clients in turn.
fn flood(address: SocketAddr, time: Duration, clients: usize) -> Result<u64> {
    const BATCH: usize = 64;
    let datagram = [b'x'; 64];
    let sockets = (0..clients).map(|_| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(address)?;
        Ok(socket)
    });
    let sockets: Vec<std::net::UdpSocket> = sockets.collect::<io::Result<_>>()?;
    let payload = [io::IoSlice::new(&datagram)];
    let (end, mut sent) = (Instant::now() + time, 0);
    for socket in sockets.iter().cycle().take_while(|_| Instant::now() < end) {
        let mut control: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = array::from_fn(|_| SendAncillaryBuffer::default());
        let mut batch: Vec<MMsgHdr<'_>> = control.iter_mut().map(|none| MMsgHdr::new(&payload, none)).collect();
        sent += sendmmsg(socket, &mut batch, SendFlags::empty())? as u64;
    }
    Ok(sent)
}

async fn call(calls: SendRequest<Bytes>) -> Result<()> {
    const MESSAGE: [u8; 69] = {
        let mut message = [b'x'; 69];
        (message[0], message[1], message[2], message[3], message[4]) = (0, 0, 0, 0, 64);
        message
    };
    let request = Request::post(format!("http://{HOST}/bench.Echo/Say"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let mut calls = calls.ready().await?;
    let (answer, mut stream) = calls.send_request(request, false)?;
    stream.send_data(Bytes::copy_from_slice(&MESSAGE), true)?;
    let answer = answer.await?;
    let head = format!("{answer:?}");
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    match trailers.get("grpc-status").is_some_and(|status| status == "0") {
        true => Ok(()),
        false => Err(format!("not OK: {head} {trailers:?}").into()),
    }
}

/// A client that takes every certificate.
fn tls(resumes: bool) -> Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = if resumes { Resumption::in_memory_sessions(256) } else { Resumption::disabled() };
    Ok(Arc::new(config).into())
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
