//! Which rule would a request take? The checks and the choice that a request meets on its way, without a socket.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;

use super::{
    Connection, ConnectionTls, Settings,
    choose::{self, choose},
    field::{self, Present},
    forward::Head,
    head,
    outcome::Reason,
    tls,
};
use crate::snapshot::{Listener, Rule, Snapshot};

/// How a request would come.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub client: IpAddr,
    /// The bound address: key into [`Snapshot::sockets`].
    pub socket: SocketAddr,
    /// Of the TLS handshake, in lower case; without meaning where the socket has no TLS.
    pub server_name: Option<&'a str>,
}

/// The listener and the rule that would have an HTTP/1.1 request with this head.
///
/// # Errors
/// Why no rule would have it: the reason of gapi's own answer.
pub fn explain<'s>(
    snapshot: &'s Snapshot,
    settings: &Settings,
    arrival: Arrival,
    mut parts: Parts,
) -> Result<(&'s Listener, &'s Rule), Reason> {
    let authority = head::check(&mut parts, settings)?;
    let present = Present::of(&parts.headers);
    field::strip_hop_by_hop(&mut parts.headers, present);
    let tls = handshake(snapshot, arrival)?;
    let client = field::Client::new(arrival.client, &settings.trusted_proxies);
    field::set_forwarding(&mut parts.headers, &client, tls.is_some());
    let connection = Connection::new((arrival.client, 0).into(), arrival.socket, arrival.socket, tls);
    let head = Head {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        has_body: false,
        takes_trailers: false,
        upgrade: None,
    };
    let rule = choose(snapshot, &connection, authority.name(), &head)?.rule;
    let listener = choose::listener(snapshot, &connection, authority.name()).ok_or(Reason::NoRoute)?;
    Ok((listener, rule))
}

fn handshake(snapshot: &Snapshot, arrival: Arrival) -> Result<Option<ConnectionTls>, Reason> {
    let socket = snapshot.sockets.get(&arrival.socket).ok_or(Reason::NoRoute)?;
    if !socket.tls {
        return Ok(None);
    }
    let listener = tls::find_listener(snapshot, arrival.socket, arrival.server_name);
    let listener = listener.ok_or(Reason::HandshakeFailed)?;
    Ok(Some(ConnectionTls { server_name: arrival.server_name.map(Into::into), listener: listener.key.clone() }))
}
