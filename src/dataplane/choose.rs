//! Which listener and which rule a request is for.

use http::Uri;

use super::{Connection, forward::Head, outcome::Reason};
use crate::snapshot::{Listener, Matched, Snapshot, path};

/// The rule for a request to `host`: of the listener with the most specific hostname, and only of it, the hosts from
/// the most to the least specific, the first whose matches fit.
///
/// # Errors
/// [`Reason::Misdirected`] where the handshake chose another listener, [`Reason::NoRoute`], and [`Reason::BadTarget`]
/// where a backend could read the path as one of another rule.
pub fn choose<'s>(
    snapshot: &'s Snapshot,
    connection: &Connection,
    host: &str,
    head: &Head,
) -> Result<Matched<'s>, Reason> {
    let socket = snapshot.sockets.get(&connection.socket).ok_or(Reason::NoRoute)?;
    let listener = socket.listeners.find(host).next().ok_or(Reason::NoRoute)?;
    if connection.tls.as_ref().is_some_and(|tls| tls.listener != listener.key) {
        return Err(Reason::Misdirected);
    }
    let found = find(listener, host, head, head.uri.path());
    for reading in path::readings(head.uri.path()) {
        let path = reading.map_err(|_| Reason::BadTarget)?;
        if let Some(other) = find(listener, host, head, &path)
            && !found.as_ref().is_some_and(|found| std::ptr::eq(found.rule, other.rule))
        {
            return Err(Reason::BadTarget);
        }
    }
    found.ok_or(Reason::NoRoute)
}

/// The listener of a request that has been given its rule.
pub fn listener<'s>(snapshot: &'s Snapshot, connection: &Connection, host: &str) -> Option<&'s Listener> {
    snapshot.sockets.get(&connection.socket)?.listeners.find(host).next().map(|listener| &**listener)
}

fn find<'s>(listener: &'s Listener, host: &str, head: &Head, path: &str) -> Option<Matched<'s>> {
    let query = Uri::query(&head.uri);
    listener.hosts.find(host).find_map(|host| host.find(path, query, &head.method, &head.headers))
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use http::Method;

    use super::*;
    use crate::{
        dataplane::ConnectionTls,
        snapshot::{Conditions, Host, HostPattern, ListenerProtocol, Rule, Socket, host::PathMatch},
    };

    fn host(name: Option<&str>, route: &str, prefix: &str) -> Arc<Host> {
        let rule = Rule {
            kind: "HTTPRoute",
            route: route.into(),
            index: 0,
            name: None,
            broken: None,
            filters: Box::default(),
            backends: Box::default(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        };
        let any = Conditions { method: None, headers: Box::default(), query: Box::default() };
        let matches = vec![(PathMatch::Prefix(prefix.into()), any, 0)];
        Arc::new(Host::new(HostPattern::new(name), matches, vec![rule]))
    }

    fn listener(name: Option<&str>, hosts: Vec<Arc<Host>>) -> Arc<Listener> {
        Arc::new(Listener {
            key: name.unwrap_or("any").into(),
            hostname: HostPattern::new(name),
            certificates: Box::default(),
            protocol: ListenerProtocol::default(),
            tls_digest: 0,
            hosts: hosts.into(),
        })
    }

    fn chosen(listeners: Vec<Arc<Listener>>, sni: Option<&str>, host: &str, path: &str) -> Result<String, u16> {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        let tls = sni.map(|sni| {
            let name = listeners.iter().find(|listener| listener.hostname.matches(sni)).expect("one takes all");
            ConnectionTls { server_name: Some(sni.into()), listener: name.key.clone() }
        });
        let socket = Socket { address, tls: sni.is_some(), listeners: listeners.into() };
        let snapshot = Snapshot { sockets: [(address, Arc::new(socket))].into_iter().collect(), ..Snapshot::default() };
        let connection = Connection::new(address, address, address, tls);
        let matched = choose(&snapshot, &connection, host, &Head::new(&Method::GET, path, &[]));
        matched.map(|matched| matched.rule.route.to_string()).map_err(|reason| reason.status().as_u16())
    }

    #[test]
    fn misdirected_requests() {
        let (second, wild, fourth) = ("second-example.org", "*.wildcard.org", "fourth-example.wildcard.org");
        let listeners = || {
            vec![
                listener(Some(fourth), vec![host(None, "4", "")]),
                listener(Some(second), vec![host(None, "2", "")]),
                listener(Some(wild), vec![host(None, "3", "")]),
                listener(None, vec![host(Some("example.org"), "1", "")]),
            ]
        };
        for (sni, name, want) in [
            ("example.org", "example.org", Ok("1")),
            ("example.org", second, Err(421)),
            ("example.org", "unknown-example.org", Err(404)),
            (second, second, Ok("2")),
            (second, "example.org", Err(421)),
            (second, "unknown-example.org", Err(421)),
            ("third-example.wildcard.org", "third-example.wildcard.org", Ok("3")),
            ("third-example.wildcard.org", "fifth-example.wildcard.org", Ok("3")),
            ("third-example.wildcard.org", fourth, Err(421)),
            ("third-example.wildcard.org", second, Err(421)),
            (fourth, fourth, Ok("4")),
            (fourth, "fifth-example.wildcard.org", Err(421)),
            ("unknown-example.org", "example.org", Ok("1")),
            ("unknown-example.org", "unknown-example.org", Err(404)),
        ] {
            assert_eq!(chosen(listeners(), Some(sni), name, "/").as_deref(), want.as_ref().map(|x| *x), "{sni} {name}");
        }
    }

    #[test]
    fn listeners_are_isolated_and_hosts_fall_through() {
        let listeners = || {
            vec![
                listener(Some("a.example.com"), vec![host(None, "exact", "/exact")]),
                listener(
                    Some("*.example.com"),
                    vec![host(Some("b.example.com"), "b", "/b"), host(Some("*.example.com"), "wild", "/w")],
                ),
                listener(None, vec![host(None, "any", "")]),
            ]
        };
        let of = |host, path| chosen(listeners(), None, host, path);
        assert_eq!(of("a.example.com", "/exact").as_deref(), Ok("exact"));
        assert_eq!(of("a.example.com", "/w"), Err(404));
        assert_eq!(of("b.example.com", "/b").as_deref(), Ok("b"));
        assert_eq!(of("b.example.com", "/w").as_deref(), Ok("wild"));
        assert_eq!(of("c.example.com", "/b"), Err(404));
        assert_eq!(of("example.com", "/w").as_deref(), Ok("any"));
        assert_eq!(chosen(listeners()[..1].to_vec(), None, "b.example.com", "/"), Err(404));
    }
}
