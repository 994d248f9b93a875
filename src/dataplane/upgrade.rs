//! Upgrades: those that the client asked for and the backend agreed to, WebSocket above all (RFC 9110, 7.8; RFC 8441).

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    body::Incoming,
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    body::Body,
    clock::Side,
    exchange::Exchange,
    field::{self, Present},
    outcome::Reason,
};

/// What a client asked to change to.
pub struct Wanted {
    /// The value of `Upgrade`, without protocols that never reach a backend.
    pub protocols: HeaderValue,
    client: OnUpgrade,
}

/// Takes the wish to upgrade out of a request; none where there is none that may be passed on. A WebSocket over HTTP/2
/// is turned into the GET that it is over HTTP/1.1.
pub fn wanted(request: &mut Request<Incoming>, has_body: bool, present: Present) -> Option<Wanted> {
    let protocols = match request.version() {
        Version::HTTP_2 => from_extended_connect(request),
        Version::HTTP_11 if present.has(Present::UPGRADE) && !has_body => protocols(request),
        _ => None,
    }?;
    Some(Wanted { protocols, client: hyper::upgrade::on(request) })
}

fn from_extended_connect(request: &mut Request<Incoming>) -> Option<HeaderValue> {
    let websocket = request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
    if !websocket || *request.method() != Method::CONNECT {
        return None;
    }
    *request.method_mut() = Method::GET;
    let key = BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    let key = HeaderValue::try_from(key).expect("base64 is visible ASCII");
    request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
    Some(HeaderValue::from_static("websocket"))
}

fn protocols(request: &Request<Incoming>) -> Option<HeaderValue> {
    let headers = request.headers();
    if !field::has_token(headers, header::CONNECTION, "upgrade") {
        return None;
    }
    // An upgrade to another version of HTTP would take what follows out of the gateway's sight.
    let is_http = |token: &&str| token.eq_ignore_ascii_case("h2c") || token.to_ascii_lowercase().starts_with("http/");
    let protocols: Vec<&str> = field::tokens(headers, header::UPGRADE).filter(|token| !is_http(token)).collect();
    if protocols.is_empty() { None } else { HeaderValue::try_from(protocols.join(", ")).ok() }
}

/// Joins client and backend after the backend's 101, and gives the client's answer.
///
/// # Errors
/// [`Reason::UpgradeNotAgreed`] for a 101 that was not asked for, or for another protocol.
pub fn join(
    mut answer: Response<Incoming>,
    wanted: Option<Wanted>,
    exchange: &Rc<Exchange>,
) -> Result<Response<Body>, Reason> {
    let wanted = wanted.ok_or(Reason::UpgradeNotAgreed)?;
    let agreed = agreed(&answer, &wanted.protocols).ok_or(Reason::UpgradeNotAgreed)?;
    let backend = hyper::upgrade::on(&mut answer);
    let (mut parts, _) = answer.into_parts();
    let present = Present::of(&parts.headers);
    field::strip_hop_by_hop(&mut parts.headers, present);
    parts.version = Version::HTTP_11;
    if exchange.version == Version::HTTP_2 {
        parts.status = StatusCode::OK;
        parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, agreed);
    }
    exchange.decide(Reason::ClientGone, parts.status.as_u16());
    tokio::task::spawn_local(tunnel(exchange.clone(), wanted.client, backend));
    Ok(Response::from_parts(parts, Body::empty()))
}

/// The protocol of a 101, where it is one of those asked for.
fn agreed(answer: &Response<Incoming>, asked: &HeaderValue) -> Option<HeaderValue> {
    let headers = answer.headers();
    let asked = asked.to_str().ok()?;
    let mut chosen = field::tokens(headers, header::UPGRADE);
    let protocol = chosen.next().filter(|_| chosen.next().is_none())?;
    let known = asked.split(", ").any(|token| token.eq_ignore_ascii_case(protocol));
    let agreed = known && field::has_token(headers, header::CONNECTION, "upgrade");
    agreed.then(|| headers.get(header::UPGRADE).cloned()).flatten()
}

/// Carries bytes both ways until both sides are done, or nothing has moved for the upgrade idle timeout.
async fn tunnel(exchange: Rc<Exchange>, client: OnUpgrade, backend: OnUpgrade) {
    let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
    exchange.watch.limit(exchange.worker.settings.upgrade_idle_timeout);
    let watched = |io, side, sends| Watched { io: TokioIo::new(io), exchange: exchange.clone(), side, sends };
    let mut client = watched(client, Side::Upload, false);
    let mut backend = watched(backend, Side::Answer, true);
    if tokio::io::copy_bidirectional(&mut client, &mut backend).await.is_ok() {
        exchange.answered();
    }
}

/// One side of a tunnel: what is read from it counts as movement.
struct Watched {
    io: TokioIo<Upgraded>,
    exchange: Rc<Exchange>,
    side: Side,
    /// It is the backend's: what is read goes to the client.
    sends: bool,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            let count = if self.sends { &self.exchange.sent } else { &self.exchange.received };
            count.set(count.get() + (buf.filled().len() - before) as u64);
            self.exchange.watch.touch();
            return Poll::Ready(read);
        }
        if self.exchange.watch.is_expired() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.exchange.watch.wait(self.side, cx.waker());
        Poll::Pending
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
