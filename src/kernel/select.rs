//! Which of a snapshot's services the kernel carries, and how their shares are divided: a pure function.
//!
//! A service's weight is divided as user space divides it: a backendRef has its weight, each endpoint of its backend an
//! equal part of that. What the kernel cannot carry (endpoints on this machine, backends that are invalid or have no
//! endpoint) keeps its part of the weight, as a share of user space.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{maps::Protocol, netlink::Route};
use crate::snapshot::{ListenerProtocol, Rule, Snapshot, Socket};

/// How a packet gets to an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Through an interface that the programs are attached to.
    Remote { interface: u32, source: IpAddr },
    /// Through user space, and why.
    User(&'static str),
}

impl Reach {
    /// `attached` tells whether an interface has the programs.
    pub fn new(route: Route, attached: impl Fn(u32) -> bool) -> Reach {
        match route {
            Route::Local => Reach::User("on this machine"),
            Route::Nowhere => Reach::User("without a route"),
            Route::Out { interface, .. } if !attached(interface) => {
                Reach::User("behind an interface that the programs are not attached to")
            }
            Route::Out { interface, source } => Reach::Remote { interface, source },
        }
    }
}

/// A layer-4 listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selected {
    pub socket: SocketAddr,
    pub protocol: Protocol,
    /// `namespace/gateway/listener`.
    pub listener: Arc<str>,
    /// `namespace/route`.
    pub route: Option<Arc<str>>,
    /// Empty when user space has it all.
    pub shares: Vec<Share>,
    /// Why user space has all or a part, each reason once.
    pub user: Vec<String>,
}

impl Selected {
    pub fn is_in_kernel(&self) -> bool {
        !self.shares.is_empty()
    }
}

/// A part of a service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    pub weight: u64,
    /// User space's, when none.
    pub to: Option<Target>,
}

/// An endpoint on another machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    pub address: SocketAddr,
    pub interface: u32,
    pub source: IpAddr,
}

/// All layer-4 listeners, ordered by protocol and address. `reach` is asked once for each address of an endpoint.
pub fn select(snapshot: &Snapshot, mut reach: impl FnMut(IpAddr) -> Reach) -> Vec<Selected> {
    let mut known = BTreeMap::new();
    let mut reach = |ip| *known.entry(ip).or_insert_with(|| reach(ip));
    let tcp = snapshot.sockets.values().map(|socket| (Protocol::Tcp, ListenerProtocol::Tcp, socket));
    let udp = snapshot.datagram_sockets.values().map(|socket| (Protocol::Udp, ListenerProtocol::Udp, socket));
    let mut sockets: Vec<_> = tcp.chain(udp).collect();
    sockets.sort_by_key(|(protocol, _, socket)| (*protocol, socket.address));
    let of_protocol = sockets.into_iter().filter_map(|(protocol, spoken, socket)| {
        let listener = socket.listeners.iter().next().filter(|listener| listener.protocol == spoken)?;
        Some((protocol, socket, listener))
    });
    of_protocol
        .map(|(protocol, socket, listener)| {
            let rule = listener.stream_rule("");
            let (shares, user) = match rule {
                Some(rule) => divide(snapshot, socket, rule, &mut reach),
                None => (Vec::new(), BTreeSet::from(["no route is attached".to_owned()])),
            };
            Selected {
                socket: socket.address,
                protocol,
                listener: listener.key.clone(),
                route: rule.map(|rule| rule.route.clone()),
                shares,
                user: user.into_iter().collect(),
            }
        })
        .collect()
}

/// The shares of a rule, none when all of them are user space's.
fn divide(
    snapshot: &Snapshot,
    socket: &Socket,
    rule: &Rule,
    reach: &mut impl FnMut(IpAddr) -> Reach,
) -> (Vec<Share>, BTreeSet<String>) {
    let weighted = || rule.backends.iter().filter(|backend| backend.weight > 0);
    let endpoints = |key: &Option<Arc<str>>| {
        let backend = key.as_ref().and_then(|key| snapshot.backends.get(key));
        backend.map(|backend| &backend.endpoints[..]).unwrap_or_default()
    };
    let whole = common_multiple(weighted().map(|backend| endpoints(&backend.backend).len() as u64));
    let (mut shares, mut user) = (Vec::new(), BTreeSet::new());
    for backend in weighted() {
        let endpoints = endpoints(&backend.backend);
        if endpoints.is_empty() {
            let why = match &backend.backend {
                Some(key) => format!("backend {key} has no endpoint"),
                None => "a backendRef is invalid".to_owned(),
            };
            user.insert(why);
            shares.push(Share { weight: u64::from(backend.weight) * whole, to: None });
        }
        for &address in endpoints {
            let weight = u64::from(backend.weight) * (whole / endpoints.len() as u64);
            let way = if address.is_ipv4() != socket.address.is_ipv4() {
                Reach::User("of another address family than the listener")
            } else {
                reach(address.ip())
            };
            let to = match way {
                Reach::Remote { interface, source } => Some(Target { address, interface, source }),
                Reach::User(why) => {
                    user.insert(format!("endpoint {address} is {why}"));
                    None
                }
            };
            shares.push(Share { weight, to });
        }
    }
    if weighted().next().is_none() {
        user.insert("the route has no backend with a weight".to_owned());
    }
    if shares.iter().all(|share| share.to.is_none()) {
        shares.clear();
    }
    (shares, user)
}

/// Beyond it weights are near enough.
const MOST: u64 = 1 << 24;

/// What all of `numbers` divide, or a number so large that it makes no difference.
fn common_multiple(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.filter(|&number| number > 0).fold(1, |multiple, number| {
        let next = multiple / greatest_divisor(multiple, number) * number;
        next.min(MOST)
    })
}

fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Backend, Host, HostPattern, Listener, Protocol as Spoken, WeightedBackend};

    fn socket(address: &str, spoken: ListenerProtocol, backends: &[(&str, u32)]) -> Arc<Socket> {
        let weighted = |&(key, weight): &(&str, u32)| WeightedBackend {
            backend: (!key.is_empty()).then(|| key.into()),
            weight,
            filters: Box::default(),
        };
        let rule = Rule {
            kind: "TCPRoute",
            route: "ns/route".into(),
            index: 0,
            name: None,
            broken: None,
            filters: Box::default(),
            backends: backends.iter().map(weighted).collect(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        };
        let host = Arc::new(Host::new(HostPattern::Any, Vec::new(), vec![rule]));
        let listener = Listener {
            key: "ns/gateway/listener".into(),
            protocol: spoken,
            hostname: HostPattern::Any,
            certificates: Box::default(),
            tls_digest: 0,
            hosts: [host].into_iter().collect(),
        };
        Arc::new(Socket {
            address: address.parse().expect("an address"),
            tls: false,
            listeners: [Arc::new(listener)].into_iter().collect(),
        })
    }

    fn selected(socket: Arc<Socket>, backends: &[(&str, &[&str])]) -> Selected {
        let mut snapshot = Snapshot::default();
        for (key, endpoints) in backends {
            let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().expect("an address")).collect();
            let backend = Backend { key: (*key).into(), protocol: Spoken::Http1, endpoints };
            snapshot.backends.insert((*key).into(), Arc::new(backend));
        }
        snapshot.sockets.insert(socket.address, socket);
        let reach = |ip: IpAddr| match ip {
            IpAddr::V4(ip) if ip.is_loopback() => Reach::User("on this machine"),
            _ => Reach::Remote { interface: 2, source: "10.0.0.1".parse().expect("an address") },
        };
        let mut all = select(&snapshot, reach);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    fn weights(selected: &Selected) -> Vec<(Option<String>, u64)> {
        let share = |share: &Share| (share.to.map(|target| target.address.to_string()), share.weight);
        selected.shares.iter().map(share).collect()
    }

    #[test]
    fn a_backend_divides_its_weight_among_its_endpoints() {
        let socket = socket("0.0.0.0:80", ListenerProtocol::Tcp, &[("ns/a:1", 3), ("ns/b:1", 1), ("ns/c:1", 0)]);
        let endpoints: [(&str, &[&str]); 3] =
            [("ns/a:1", &["10.0.0.2:1", "10.0.0.3:1"]), ("ns/b:1", &["10.0.0.4:1"]), ("ns/c:1", &["10.0.0.5:1"])];
        let selected = selected(socket, &endpoints);
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(weights(&selected), [(of("10.0.0.2:1"), 3), (of("10.0.0.3:1"), 3), (of("10.0.0.4:1"), 2)]);
        assert!(selected.user.is_empty() && selected.is_in_kernel());
    }

    #[test]
    fn what_the_kernel_cannot_carry_keeps_its_share() {
        let backends = [("ns/a:1", 1), ("ns/none:1", 2), ("", 4)];
        let socket = socket("0.0.0.0:80", ListenerProtocol::Tcp, &backends);
        let endpoints: [(&str, &[&str]); 2] =
            [("ns/a:1", &["127.0.0.1:1", "10.0.0.3:1", "[fd00::1]:1"]), ("ns/none:1", &[])];
        let selected = selected(socket, &endpoints);
        let weights: Vec<(bool, u64)> =
            selected.shares.iter().map(|share| (share.to.is_some(), share.weight)).collect();
        assert_eq!(weights, [(false, 1), (true, 1), (false, 1), (false, 6), (false, 12)]);
        let user = [
            "a backendRef is invalid",
            "backend ns/none:1 has no endpoint",
            "endpoint 127.0.0.1:1 is on this machine",
            "endpoint [fd00::1]:1 is of another address family than the listener",
        ];
        assert_eq!(selected.user, user);
    }

    #[test]
    fn a_service_without_remote_endpoints_is_left_whole() {
        let socket = socket("0.0.0.0:80", ListenerProtocol::Tcp, &[("ns/a:1", 1)]);
        let selected = selected(socket, &[("ns/a:1", &["127.0.0.1:1"])]);
        assert!(!selected.is_in_kernel() && selected.user == ["endpoint 127.0.0.1:1 is on this machine"]);
    }

    #[test]
    fn listeners_that_look_into_the_stream_are_left_out() {
        for spoken in [ListenerProtocol::Http, ListenerProtocol::TlsPassthrough, ListenerProtocol::TlsTerminate] {
            let socket = socket("0.0.0.0:80", spoken, &[("ns/a:1", 1)]);
            let snapshot =
                Snapshot { sockets: [(socket.address, socket)].into_iter().collect(), ..Snapshot::default() };
            assert!(select(&snapshot, |_| Reach::User("")).is_empty());
        }
    }

    #[test]
    fn many_sizes_of_backends_stay_within_bounds() {
        assert_eq!(common_multiple([2, 3, 0, 4].into_iter()), 12);
        assert_eq!(common_multiple(1..200), MOST);
    }
}
