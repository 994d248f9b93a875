//! Upgrades: those that the client asked for and the backend agreed to, WebSocket above all (RFC 9110, 7.8; RFC 8441).

use std::{rc::Rc, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};

use super::{
    Worker,
    body::Body,
    exchange::Exchange,
    field::{self, Present},
    outcome::Reason,
    tunnel::{self, Tunnel},
};

/// What a client asked to change to.
pub struct Wanted {
    /// The value of `Upgrade`, without protocols that never reach a backend.
    pub protocols: HeaderValue,
    /// Key of the listener that the request came over, once it is known.
    pub listener: Arc<str>,
    client: OnUpgrade,
}

impl Wanted {
    pub fn is_websocket(&self) -> bool {
        let protocols = self.protocols.to_str().unwrap_or_default();
        protocols.split(", ").any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
    }
}

/// Takes the wish to upgrade out of a request; none where there is none that may be passed on. A WebSocket over HTTP/2
/// is turned into the GET that it is over HTTP/1.1.
pub fn wanted(request: &mut Request<Incoming>, has_body: bool, present: Present) -> Option<Wanted> {
    let protocols = match request.version() {
        Version::HTTP_2 => from_extended_connect(request),
        Version::HTTP_11 if present.has(Present::UPGRADE) && !has_body => protocols(request),
        _ => None,
    }?;
    Some(Wanted { protocols, listener: Arc::default(), client: hyper::upgrade::on(request) })
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
    let tunnel = Tunnel::new(wanted.listener);
    exchange.connection.tunnels.enter(tunnel.clone());
    // Its listener may have gone while the backend was asked.
    let Worker { connections, settings, snapshots, .. } = &*exchange.worker;
    let (tunnels, socket) = (&exchange.connection.tunnels, exchange.connection.socket);
    connections.check_tunnels(tunnels, socket, &snapshots.pin(), settings.listener_drain_timeout);
    tokio::task::spawn_local(tunnel::run(exchange.clone(), wanted.client, backend, tunnel));
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
