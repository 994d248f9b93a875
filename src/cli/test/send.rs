//! One request over a connection of its own: what came back, or why nothing did.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{
    HeaderMap, Method, Request, StatusCode, Uri, header,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, Error,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::certificate::anyone::Anyone;

/// Bytes of an answer that are read: gapi's own answers are far shorter.
const MAX_BODY: usize = 64 << 10;
/// How long a body without a length is read: it may be a stream that never ends.
const ENDLESS: Duration = Duration::from_millis(500);

/// A request with its way.
#[derive(Clone, Debug)]
pub struct Sending {
    pub connect: SocketAddr,
    /// For HTTPS: the name of the handshake, or the address, which sends none.
    pub tls: Option<ServerName<'static>>,
    pub request: Request<()>,
    /// It is a call of gRPC, which is HTTP/2.
    pub is_call: bool,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The beginning of the body, as far as it came in time.
    pub body: Bytes,
    /// From the connect to the end of the answer's head.
    pub took: Duration,
    /// The certificate that was shown.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Why nothing came back.
#[derive(Debug)]
pub enum Fault {
    Connect(std::io::Error),
    Handshake(std::io::Error),
    /// The connection ended without an answer.
    Exchange(hyper::Error),
    /// During what.
    Timeout(&'static str),
}

/// Sends a request and takes the answer, all within `patience`.
///
/// # Errors
/// Where no head of an answer came.
pub async fn send(sending: &Sending, patience: Duration, tls: Arc<ClientConfig>) -> Result<Reply, Fault> {
    let start = Instant::now();
    let deadline = start + patience;
    let stream = timeout_at(deadline, TcpStream::connect(sending.connect)).await;
    let stream = stream.map_err(|_| Fault::Timeout("the connect"))?.map_err(Fault::Connect)?;
    let Some(name) = sending.tls.clone() else { return exchange(stream, sending, start, deadline).await };
    let tls = if sending.is_call { Arc::new(http2_only(&tls)) } else { tls };
    let handshake = timeout_at(deadline, TlsConnector::from(tls).connect(name, stream)).await;
    let stream = handshake.map_err(|_| Fault::Timeout("the TLS handshake"))?.map_err(Fault::Handshake)?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| Some(chain.first()?.clone().into_owned()));
    let reply = exchange(stream, sending, start, deadline).await?;
    Ok(Reply { certificate: shown, ..reply })
}

/// Why an endpoint takes no connection; none where it does.
pub async fn refusal(endpoint: SocketAddr, patience: Duration) -> Option<String> {
    match timeout_at(Instant::now() + patience, TcpStream::connect(endpoint)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer in time".to_owned()),
    }
}

async fn exchange<S>(stream: S, sending: &Sending, start: Instant, deadline: Instant) -> Result<Reply, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = sending.request.clone().map(|()| Empty::<Bytes>::new());
    let head_only = request.method() == Method::HEAD;
    let io = TokioIo::new(stream);
    let answer = async {
        // Connections end with their senders.
        if sending.is_call {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            sender.send_request(with_authority(request, sending.tls.is_some())).await
        } else {
            let (mut sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await
        }
    };
    let answer = timeout_at(deadline, answer).await;
    let answer = answer.map_err(|_| Fault::Timeout("the answer"))?.map_err(Fault::Exchange)?;
    let took = start.elapsed();
    let (head, body) = answer.into_parts();
    let body = if head_only { Bytes::new() } else { beginning(&head.headers, body, deadline).await };
    Ok(Reply { status: head.status, headers: head.headers, body, took, certificate: None })
}

/// The request as HTTP/2 has it: scheme and authority in its target instead of a Host field.
fn with_authority<B>(mut request: Request<B>, tls: bool) -> Request<B> {
    let host = request.headers_mut().remove(header::HOST);
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    target.authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    request
}

/// A body that is short and ends in time, else nothing.
async fn beginning(headers: &HeaderMap, body: Incoming, deadline: Instant) -> Bytes {
    let has_length = headers.contains_key(header::CONTENT_LENGTH);
    let deadline = if has_length { deadline } else { deadline.min(Instant::now() + ENDLESS) };
    match timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    }
}

fn http2_only(client: &ClientConfig) -> ClientConfig {
    let mut client = client.clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    client
}

/// A client that takes every certificate: it is looked at afterwards, when more can be said than yes or no. That the
/// server has the key is checked.
///
/// # Errors
/// The cryptographic library cannot be set up.
pub fn client() -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
