//! From the graph to the plan: sockets, listeners, hosts, and matches in their order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::{HashMap, HashSet};

use crate::{
    api::Kind,
    graph::{Backend, Certificate, Graph, Listener, Route, Rule, Target, hostname, rule::Match},
};

use super::{
    BackendPlan, BackendProtocol, CertificatePlan, EndpointsPlan, FilterPlan, HostPlan, ListenerPlan, ListenerProtocol,
    MatchPlan, PathPlan, Plan, RulePlan, SocketPlan,
    precedence::{PathRank, Precedence},
    rule::{match_plan, rule_plan},
};

/// The hosts of a plan, by what they were made of.
#[derive(Clone, Debug, Default)]
pub struct Hosts(HashMap<HostKey, Arc<HostPlan>>);

/// Equal where the hostname is, and the routes are the very same: a host made of them is then equal too.
#[derive(Clone, Debug)]
struct HostKey {
    hostname: Option<Box<str>>,
    routes: Vec<Arc<Route>>,
}

impl HostKey {
    fn addresses(&self) -> impl Iterator<Item = *const Route> {
        self.routes.iter().map(Arc::as_ptr)
    }
}

impl PartialEq for HostKey {
    fn eq(&self, other: &HostKey) -> bool {
        self.hostname == other.hostname && self.addresses().eq(other.addresses())
    }
}

impl Eq for HostKey {}

impl Hash for HostKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.hostname.hash(hasher);
        self.addresses().for_each(|address| address.hash(hasher));
    }
}

/// What the data plane is to do for this graph. The same graph gives the same plan.
///
/// `known` are the hosts of the plan before, which are taken over where their routes are the very same, and then those
/// of this one.
pub fn lower(graph: &Graph, known: &mut Hosts) -> Plan {
    let mut hosts = hosts(graph);
    let mut shared = Shared { before: std::mem::take(known), now: Hosts::default() };
    let mut listeners: BTreeMap<(usize, usize), ListenerPlan> = BTreeMap::new();
    let mut plan = Plan::default();
    for ((is_udp, address), members) in sockets(graph) {
        let mut socket = SocketPlan::default();
        for (g, l) in members {
            socket.tls = graph.gateways[g].listeners[l].is_tls();
            let listener = listeners.entry((g, l)).or_insert_with(|| {
                let hosts = hosts.remove(&(g, l)).unwrap_or_default();
                listener(&graph.gateways[g].listeners[l], &hosts, &mut shared)
            });
            socket.listeners.push(listener.clone());
        }
        let by_hostname = |a: &ListenerPlan, b: &ListenerPlan| {
            hostname::specificity(a.hostname.as_deref()).cmp(&hostname::specificity(b.hostname.as_deref()))
        };
        socket.listeners.sort_by(by_hostname);
        let sockets = if is_udp { &mut plan.datagram_sockets } else { &mut plan.sockets };
        sockets.insert(address, socket);
    }
    let used: HashSet<&str> = shared.now.0.values().flat_map(|host| host.rules.iter().flat_map(backends)).collect();
    let backends = graph.backends.iter().filter(|(key, _)| used.contains(&***key));
    plan.backends = backends.map(|(key, one)| (key.clone(), backend(one))).collect();
    *known = shared.now;
    plan
}

/// The keys of all backends that a rule names, mirrors included.
fn backends(rule: &RulePlan) -> impl Iterator<Item = &str> {
    let filters = rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
    let mirrors = filters.filter_map(|filter| match filter {
        FilterPlan::Mirror { backend, .. } => backend.as_deref(),
        _ => None,
    });
    rule.backends.iter().filter_map(|backend| backend.backend.as_deref()).chain(mirrors)
}

/// The addresses to bind, those of UDP apart, each with its listeners (Gateway and listener positions). A listener of a Gateway on all
/// addresses is also at every single address that another Gateway asks for: those sockets take its traffic.
pub(super) fn sockets(graph: &Graph) -> BTreeMap<(bool, SocketAddr), Vec<(usize, usize)>> {
    let served: Vec<(usize, usize)> = graph
        .gateways
        .iter()
        .enumerate()
        .filter(|(_, gateway)| gateway.is_served())
        .flat_map(|(g, gateway)| {
            let listeners = gateway.listeners.iter().enumerate().filter(|(_, listener)| listener.is_served());
            listeners.map(move |(l, _)| (g, l))
        })
        .collect();
    let port = |(g, l): (usize, usize)| {
        let listener = &graph.gateways[g].listeners[l];
        (listener.is_udp(), listener.spec.port)
    };
    let addresses: BTreeSet<(bool, SocketAddr)> = served
        .iter()
        .flat_map(|one| {
            let (is_udp, port) = port(*one);
            graph.gateways[one.0].bind.iter().map(move |ip| (is_udp, SocketAddr::new(*ip, port)))
        })
        .collect();
    let takes = |bind: &[IpAddr], ip: IpAddr| {
        bind.iter().any(|own| *own == ip || own.is_unspecified() && own.is_ipv4() == ip.is_ipv4())
    };
    let members = |(is_udp, address): (bool, SocketAddr)| {
        let here = |one: &&(usize, usize)| {
            port(**one) == (is_udp, address.port()) && takes(&graph.gateways[one.0].bind, address.ip())
        };
        served.iter().filter(here).copied().collect()
    };
    addresses.into_iter().map(|address| (address, members(address))).collect()
}

/// The routes of a hostname as written, in the order of the graph.
pub(super) type RoutesOfHost<'g> = (Option<&'g str>, Vec<&'g Arc<Route>>);

type RoutesByHost<'g> = HashMap<Option<&'g str>, Vec<&'g Arc<Route>>>;

/// The hosts of each listener (Gateway and listener positions) that has any, the most specific first.
pub(super) fn hosts(graph: &Graph) -> BTreeMap<(usize, usize), Vec<RoutesOfHost<'_>>> {
    let mut hosts: BTreeMap<(usize, usize), RoutesByHost> = BTreeMap::new();
    for route in &graph.routes {
        for attachment in &route.attachments {
            let own = hosts.entry((attachment.gateway, attachment.listener)).or_default();
            for hostname in &attachment.hostnames {
                own.entry(hostname.as_deref()).or_default().push(route);
            }
        }
    }
    hosts.into_iter().map(|(listener, hosts)| (listener, sorted(hosts))).collect()
}

fn sorted(hosts: RoutesByHost<'_>) -> Vec<RoutesOfHost<'_>> {
    let mut hosts: Vec<_> = hosts.into_iter().collect();
    hosts.sort_unstable_by(|a, b| hostname::specificity(a.0).cmp(&hostname::specificity(b.0)));
    hosts
}

/// Hosts that several listeners, or this plan and the one before, have in common.
struct Shared {
    before: Hosts,
    now: Hosts,
}

impl Shared {
    fn host(&mut self, hostname: Option<&str>, routes: &[&Arc<Route>]) -> Arc<HostPlan> {
        let key = HostKey {
            hostname: hostname.map(Into::into),
            routes: routes.iter().map(|route| Arc::clone(route)).collect(),
        };
        let before = self.before.0.get(&key);
        self.now
            .0
            .entry(key)
            .or_insert_with(|| before.cloned().unwrap_or_else(|| Arc::new(host(hostname, routes))))
            .clone()
    }
}

fn listener(own: &Listener, hosts: &[RoutesOfHost], shared: &mut Shared) -> ListenerPlan {
    let hosts = hosts.iter().map(|(hostname, routes)| shared.host(*hostname, routes));
    ListenerPlan {
        key: own.key.clone(),
        protocol: match own.spec.protocol.as_str() {
            "HTTPS" => ListenerProtocol::Https,
            "TLS" if own.passes_through() => ListenerProtocol::TlsPassthrough,
            "TLS" => ListenerProtocol::TlsTerminate,
            "TCP" => ListenerProtocol::Tcp,
            "UDP" => ListenerProtocol::Udp,
            _ => ListenerProtocol::Http,
        },
        hostname: own.hostname().map(str::to_ascii_lowercase),
        hosts: hosts.collect(),
        certificates: own.certificates.iter().map(certificate).collect(),
    }
}

fn certificate(one: &Certificate) -> CertificatePlan {
    CertificatePlan {
        key: one.key.clone(),
        digest: one.digest.clone(),
        chain_pem: one.chain_pem.to_vec(),
        key_pem: one.key_pem.to_vec(),
    }
}

fn backend(one: &Backend) -> BackendPlan {
    let endpoints = match &one.target {
        Target::Addresses(addresses) => EndpointsPlan::Addresses(addresses.clone()),
        Target::Name { host, port } => EndpointsPlan::Name { host: host.clone(), port: *port },
    };
    BackendPlan { protocol: if one.h2c { BackendProtocol::H2c } else { BackendProtocol::Http1 }, endpoints }
}

/// A match with its rank, its rule and its route.
pub(super) struct Entry<'g> {
    pub rank: Precedence<'g>,
    pub plan: MatchPlan,
    pub route: &'g Route,
    pub rule: &'g Rule,
    pub matched: &'g Match,
}

/// All matches of the routes in the order of precedence.
pub(super) fn entries<'g>(routes: &[&'g Arc<Route>]) -> Vec<Entry<'g>> {
    let mut entries = Vec::new();
    for route in routes {
        for rule in &route.rules {
            for matched in &rule.matches {
                let plan = match_plan(matched);
                let rank = rank(route, rule, matched, &plan);
                entries.push(Entry { rank, plan, route, rule, matched });
            }
        }
    }
    entries.sort_by(|a, b| a.rank.cmp(&b.rank));
    entries
}

fn rank<'g>(route: &'g Route, rule: &Rule, matched: &Match, plan: &MatchPlan) -> Precedence<'g> {
    Precedence {
        path: match (&plan.path, matched.call) {
            (_, Some(call)) => PathRank::Call(call),
            (PathPlan::Exact(_), None) => PathRank::Exact,
            (PathPlan::Regex(expression), None) => PathRank::Regex(Reverse(expression.chars().count())),
            (PathPlan::Prefix(prefix), None) => PathRank::Prefix(Reverse(length(prefix))),
        },
        method: Reverse(plan.method.is_some()),
        headers: Reverse(plan.headers.len()),
        query: Reverse(plan.query.len()),
        loosened: matched.loosened,
        age: route.age,
        route: &route.name,
        rule: rule.index,
        position: matched.index,
    }
}

/// Characters of a path. An escaped unreserved character is one, as in the canonical form that requests are matched in
/// (RFC 3986, section 6.2.2.2).
fn length(path: &str) -> usize {
    let unreserved = |escape: &[u8]| {
        let code = std::str::from_utf8(escape).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        code.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let escapes = path.as_bytes().windows(3).filter(|window| window[0] == b'%' && unreserved(&window[1..]));
    path.chars().count() - 2 * escapes.count()
}

fn host(hostname: Option<&str>, routes: &[&Arc<Route>]) -> HostPlan {
    if let [oldest, ..] = routes
        && !matches!(oldest.kind, Kind::HttpRoute | Kind::GrpcRoute)
    {
        return layer4_host(hostname, oldest);
    }
    let mut positions = HashMap::default();
    let mut rules = Vec::with_capacity(routes.iter().map(|route| route.rules.len()).sum());
    for route in routes {
        for rule in &route.rules {
            positions.insert(std::ptr::from_ref(rule), rules.len());
            rules.push(rule_plan(route, rule));
        }
    }
    let entries = entries(routes).into_iter();
    let matches = entries.map(|entry| MatchPlan { rule: positions[&std::ptr::from_ref(entry.rule)], ..entry.plan });
    // Kept from plan to plan: without the room that the entries took.
    let mut matches: Vec<MatchPlan> = matches.collect();
    matches.shrink_to_fit();
    HostPlan { hostname: hostname.map(str::to_ascii_lowercase), matches, rules }
}

/// Connections, and datagrams, have nothing to match: the first rule of the oldest route has them all.
fn layer4_host(hostname: Option<&str>, route: &Route) -> HostPlan {
    let rules: Vec<RulePlan> = route.rules.iter().take(1).map(|rule| rule_plan(route, rule)).collect();
    let path = PathPlan::Prefix(String::new());
    let all = MatchPlan { path, method: None, headers: Vec::new(), query: Vec::new(), rule: 0 };
    let matches = rules.iter().map(|_| all.clone()).collect();
    HostPlan { hostname: hostname.map(str::to_ascii_lowercase), matches, rules }
}

#[cfg(test)]
mod tests {
    #[test]
    fn escaped_unreserved_characters_count_once() {
        for (path, length) in [("/abc", 4), ("/%61bc", 4), ("/%7Eb", 3), ("/a%20b", 6), ("/%25", 4), ("", 0)] {
            assert_eq!(super::length(path), length, "{path}");
        }
    }
}
