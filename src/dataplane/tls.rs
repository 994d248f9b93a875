//! The TLS handshake: which listener's certificate a client is shown, by the snapshot in force at its ClientHello.
//!
//! rustls bounds a ClientHello at 64 KiB, refuses renegotiation, and takes no early data unless asked to.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::ServerName,
    server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{StartHandshake, server::TlsStream};

use super::{
    ConnectionTls,
    hello::{self, Hello},
    io::Protocol,
    layer4,
    ticket::Tickets,
    turn::Wire,
};
use crate::snapshot::{Listener, ListenerProtocol, Snapshot, Socket, cell::SnapshotReader};

/// RFC 8737, 6.2.
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Alerts of RFC 8446, section 6.2, and RFC 6066, section 3.
const MISSING_EXTENSION: u8 = 109;
const UNRECOGNIZED_NAME: u8 = 112;

/// What all handshakes of the process share: its ticket keys above all, so that a session can be resumed on every
/// worker and after every reload.
pub struct Tls(ServerConfig);

/// What a ClientHello, or the handshake that it began, led to.
pub struct Handshake {
    pub stream: Secured,
    pub tls: ConnectionTls,
    /// [`Listener::tls_digest`].
    pub digest: u64,
}

/// Who has the other end of the TLS, and what is in it.
pub enum Secured {
    Http(Box<TlsStream<Wire>>, Protocol),
    /// Bytes for a backend.
    Terminated(Box<TlsStream<Wire>>),
    /// A backend, with what has been read.
    Passed(TcpStream, Vec<u8>),
}

impl Tls {
    /// # Errors
    /// rustls has no protocol version: never with its own defaults.
    pub fn new(tickets: Arc<Tickets>) -> io::Result<Tls> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Chosen(None)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = tickets;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Tls(config))
    }

    /// Shakes hands. Pins a snapshot once, when the ClientHello has come.
    ///
    /// # Errors
    /// The client's fault, or no listener is there for it; an alert has been sent where one could be.
    pub async fn accept(
        &self,
        mut stream: TcpStream,
        socket: SocketAddr,
        snapshots: &SnapshotReader,
    ) -> io::Result<Handshake> {
        let Hello { accepted, bytes } = hello::read(&mut stream).await?;
        let hello = accepted.client_hello();
        let server_name = hello.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str());
        let snapshot = snapshots.pin();
        if let Some(key) = challenge(&snapshot, server_name.as_deref(), &hello) {
            let mut config = self.0.clone();
            config.alpn_protocols = vec![ACME_TLS.to_vec()];
            config.cert_resolver = Arc::new(Chosen(Some(key)));
            drop(snapshot);
            let start = StartHandshake::from_parts(accepted, stream);
            start.into_stream(Arc::new(config)).await?.shutdown().await?;
            // Nothing is said on such a connection, and nothing failed.
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let listener = find_listener(&snapshot, socket, server_name.as_deref());
        let chosen = listener.and_then(|listener| Some((listener, answer(listener, &hello)?)));
        let Some((listener, key)) = chosen else {
            // Where TLS never ends here, nobody is there to send an alert: it is as if the port were closed.
            if only_passes(&snapshot, socket) {
                layer4::reset(&stream);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, NOBODY));
            }
            let alert = if server_name.is_none() { MISSING_EXTENSION } else { UNRECOGNIZED_NAME };
            return Err(refuse(stream, alert).await);
        };
        let (protocol, digest) = (listener.protocol, listener.tls_digest);
        let tls = ConnectionTls { server_name, listener: listener.key.clone() };
        // A slow handshake keeps no old snapshot alive.
        drop(snapshot);
        let Answer::Certificate(key) = key else {
            return Ok(Handshake { stream: Secured::Passed(stream, bytes), tls, digest });
        };
        drop(bytes);
        let mut config = self.0.clone();
        config.cert_resolver = Arc::new(Chosen(Some(key)));
        if protocol == ListenerProtocol::TlsTerminate {
            config.alpn_protocols.clear();
        }
        let stream = StartHandshake::from_parts(accepted, Wire::new(stream)).into_stream(Arc::new(config)).await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            _ if protocol == ListenerProtocol::TlsTerminate => {
                return Ok(Handshake { stream: Secured::Terminated(Box::new(stream)), tls, digest });
            }
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok(Handshake { stream: Secured::Http(Box::new(stream), protocol), tls, digest })
    }
}

/// The certificate that proves the name to an ACME server, where nothing but that is asked for (RFC 8737, 3).
fn challenge(snapshot: &Snapshot, name: Option<&str>, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
    let key = snapshot.challenges.tls.get(name?)?;
    let mut protocols = hello.alpn()?;
    (protocols.next() == Some(ACME_TLS) && protocols.next().is_none()).then(|| key.clone())
}

/// The listener of `socket` that has the name; without a name, the one that takes every name.
pub(super) fn find_listener<'a>(
    snapshot: &'a Snapshot,
    socket: SocketAddr,
    name: Option<&str>,
) -> Option<&'a Listener> {
    let Socket { tls: true, listeners, .. } = &**snapshot.sockets.get(&socket)? else { return None };
    // The empty name is matched by no pattern but that of every name.
    listeners.find(name.unwrap_or("")).next().map(|listener| &**listener)
}

/// Do all listeners of `socket` pass TLS through to backends?
fn only_passes(snapshot: &Snapshot, socket: SocketAddr) -> bool {
    let passes = |listener: &Arc<Listener>| listener.protocol == ListenerProtocol::TlsPassthrough;
    snapshot.sockets.get(&socket).is_some_and(|socket| socket.listeners.iter().all(passes))
}

/// Who answers a ClientHello.
enum Answer {
    Certificate(Arc<CertifiedKey>),
    Backend,
}

/// None where the listener has neither a certificate nor a backend for the name.
fn answer(listener: &Listener, hello: &ClientHello<'_>) -> Option<Answer> {
    let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
    let has_host = || listener.hosts.find(&name).next().is_some();
    match listener.protocol {
        ListenerProtocol::TlsPassthrough => has_host().then_some(Answer::Backend),
        ListenerProtocol::TlsTerminate if !has_host() => None,
        _ => choose(listener, hello).map(Answer::Certificate),
    }
}

/// The first certificate that the client can verify and that has the name it asked for; else the first that it can
/// verify.
fn choose(listener: &Listener, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
    let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
    let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
    let named = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| has_name(key, name));
    if let [only] = &*listener.certificates {
        return Some(only.clone());
    }
    let mut keys = listener.certificates.iter().filter(usable);
    let first = keys.clone().next();
    keys.find(named).or(first).or(listener.certificates.first()).cloned()
}

fn has_name(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
}

const NOBODY: &str = "no listener with a certificate, and no backend, has the server name";

async fn refuse(mut stream: TcpStream, alert: u8) -> io::Error {
    match hello::alert(&mut stream, alert).await {
        Ok(()) => io::Error::new(io::ErrorKind::InvalidInput, NOBODY),
        Err(error) => error,
    }
}

/// The certificate chosen for one handshake.
#[derive(Debug)]
struct Chosen(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}
