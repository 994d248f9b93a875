//! What is to be sent? A request for each match of the plan at each of its listeners, that the wanted rule takes: the
//! data plane's own choice is asked, over the daemon's plan and settings.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::Request;
use ipnet::IpNet;
use rustls::pki_types::ServerName;

use super::{
    layer4,
    request::{SAFE, example_host, host, is_made_up, requests},
    row::{Row, Task, row_kind},
    send::Sending,
};
use crate::{
    api::Kind,
    compile::compile,
    dataplane::{
        Settings,
        explain::{Arrival, explain},
        outcome::Reason,
    },
    plan::{HostPlan, ListenerPlan, MatchPlan, Plan, RulePlan, SocketPlan},
    snapshot::Snapshot,
    view::View,
};

/// What helps a route whose host another listener has.
const ATTACH: &str = "attach the route to that listener, whose hostname is more specific";

/// The daemon's configuration, as far as it decides who takes a request.
pub struct Oracle {
    pub plan: Arc<Plan>,
    snapshot: Snapshot,
    settings: Settings,
    /// The names of each certificate, by `namespace/secret`.
    certificates: HashMap<String, Vec<String>>,
    /// Why a socket is not bound.
    unbound: BTreeMap<SocketAddr, String>,
    /// Methods that may change something are sent too.
    unsafe_methods: bool,
}

/// One listener of one socket.
struct Place<'a> {
    socket: SocketAddr,
    tls: bool,
    listener: &'a ListenerPlan,
}

/// A listener and a rule.
struct Taker {
    listener: String,
    kind: &'static str,
    route: String,
    rule: usize,
}

impl Taker {
    fn has(&self, rule: &RulePlan) -> bool {
        (self.kind, self.route.as_str(), self.rule) == (rule.kind.names().name, rule.route.as_str(), rule.index)
    }
}

impl Oracle {
    pub fn new(plan: Arc<Plan>, view: &View, unsafe_methods: bool) -> Oracle {
        let certificates = view.certificates.iter().map(|one| (one.name.clone(), one.hostnames.clone()));
        let streams = view.sockets.iter().filter(|socket| !socket.is_udp());
        let unbound = streams.filter_map(|socket| Some((socket.address, socket.problem.clone()?)));
        Oracle {
            // Keys are not in the plan that the daemon gives; no choice depends on them.
            snapshot: compile(&plan, None, &BTreeMap::new()).0,
            settings: settings(view),
            certificates: certificates.collect(),
            unbound: unbound.collect(),
            plan,
            unsafe_methods,
        }
    }

    /// A task for each match of the routes and listeners that are `wanted` (by `namespace/route` and
    /// `namespace/gateway/listener`), with the place in the order of precedence.
    pub fn tasks(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (address, socket) in &self.plan.sockets {
            let of_http = socket.listeners.iter().filter(|listener| !layer4::is_layer4(listener.protocol));
            for listener in of_http.filter(|listener| !self.has_twin(*address, listener)) {
                let place = Place { socket: *address, tls: socket.tls, listener };
                for host in &listener.hosts {
                    let matches = host.matches.iter().filter(|one| wanted(&host.rules[one.rule].route, &listener.key));
                    tasks.extend(matches.filter_map(|one| self.task(&place, host, one)));
                }
            }
        }
        tasks
    }

    /// Is the listener of this socket for every IPv6 address also at every IPv4 address? One of them is enough.
    fn has_twin(&self, address: SocketAddr, listener: &ListenerPlan) -> bool {
        let twin = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        let has = |socket: &SocketPlan| socket.listeners.iter().any(|one| one.key == listener.key);
        address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && self.plan.sockets.get(&twin).is_some_and(has)
    }

    /// None where another listener takes what the match is for, and gives it to the same rule.
    fn task(&self, place: &Place, host: &HostPlan, plan: &MatchPlan) -> Option<Task> {
        let rule = &host.rules[plan.rule];
        let row = Row {
            kind: row_kind(rule.kind),
            route: rule.route.clone(),
            rule: Some(rule.index),
            rule_name: rule.name.clone(),
            listener: place.listener.key.clone(),
            address: Some(reachable(place.socket)),
            ..Row::default()
        };
        let (mut taker, mut refused) = (None, None);
        for host in self.hosts(place, host.hostname.as_deref()) {
            let authority = authority(&host, place.socket.port(), place.tls);
            let candidates = match requests(plan, &authority, rule.kind == Kind::GrpcRoute) {
                Ok(candidates) => candidates,
                Err(why) => return Some(row.skipped("NoExample", why).into()),
            };
            for request in candidates {
                match self.ask(place, &host, &request) {
                    Ok(taker) if taker.has(rule) => {
                        let is_here = taker.listener == place.listener.key;
                        return is_here.then(|| self.send(place, row, &host, request));
                    }
                    Ok(other) => _ = taker.get_or_insert((request, other)),
                    Err(reason) => _ = refused.get_or_insert((request, reason, self.other_listener(place, &host))),
                }
            }
        }
        let scheme = scheme(place.tls);
        let row = match (taker, refused) {
            (Some((request, taker)), _) => shadowed(row.requesting(&request, scheme), place, taker),
            (None, Some((request, _, Some(other)))) => {
                let message = format!("listener {other} has this host, and no rule there takes the request");
                row.requesting(&request, scheme).failed("Shadowed", message, ATTACH)
            }
            (None, Some((request, reason, None))) => unreachable(row.requesting(&request, scheme), rule, reason),
            (None, None) => row.skipped("NoExample", "no host name is known for it"),
        };
        Some(row.into())
    }

    /// Who takes a request.
    fn ask(&self, place: &Place, host: &str, request: &Request<()>) -> Result<Taker, Reason> {
        let arrival = Arrival {
            client: reachable(place.socket).ip(),
            socket: place.socket,
            server_name: Some(host).filter(|host| is_name(host)),
        };
        let (listener, rule) = explain(&self.snapshot, &self.settings, arrival, request.clone().into_parts().0)?;
        let (listener, route) = (listener.key.to_string(), rule.route.to_string());
        Ok(Taker { listener, kind: rule.kind, route, rule: rule.index })
    }

    /// The listener of the socket that has `host`, where it is another.
    fn other_listener(&self, place: &Place, host: &str) -> Option<String> {
        let listener = self.snapshot.sockets.get(&place.socket)?.listeners.find(host).next()?;
        Some(listener.key.to_string()).filter(|key| *key != place.listener.key)
    }

    /// Names to ask for, the likeliest first.
    fn hosts(&self, place: &Place, hostname: Option<&str>) -> Vec<String> {
        if let Some(host) = host(place.listener.hostname.as_deref(), hostname) {
            return vec![host];
        }
        let certificates = place.listener.certificates.iter();
        let names = certificates.filter_map(|one| self.certificates.get(&one.key)).flatten();
        let mut hosts: Vec<String> = names.map(|name| example_host(&name.to_ascii_lowercase())).collect();
        hosts.push(match reachable(place.socket).ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        hosts
    }

    fn send(&self, place: &Place, row: Row, host: &str, request: Request<()>) -> Task {
        let row = row.requesting(&request, scheme(place.tls));
        if let Some(problem) = self.unbound.get(&place.socket) {
            return row.failed("SocketNotBound", problem.clone(), "free the address, or change the port").into();
        }
        let is_call = row.kind == Some(Kind::GrpcRoute);
        let is_safe = if is_call { is_made_up(request.uri().path()) } else { SAFE.contains(request.method()) };
        if !self.unsafe_methods && !is_safe {
            let message = match is_call {
                true => "the call may change something; --unsafe makes it, without a message".to_owned(),
                false => format!("{} may change something; --unsafe sends it", request.method()),
            };
            return row.skipped("UnsafeMethod", message).into();
        }
        let connect = reachable(place.socket);
        let name = match is_name(host) {
            true => ServerName::try_from(host.to_owned()).ok(),
            false => Some(ServerName::from(connect.ip())),
        };
        match (place.tls, name) {
            (true, None) => row.skipped("NoExample", format!("{host:?} cannot be a TLS server name")).into(),
            (tls, name) => {
                Task { row, sending: Some(Sending { connect, tls: name.filter(|_| tls), request, is_call }) }
            }
        }
    }
}

fn shadowed(row: Row, place: &Place, taker: Taker) -> Row {
    let Taker { listener, kind, route, rule } = taker;
    if listener == place.listener.key {
        let message = format!("rule {rule} of {kind} {route} takes the request: it comes first");
        return row.failed("Shadowed", message, "remove one of the two, or make this match more specific");
    }
    let message = format!("listener {listener} takes the request, for rule {rule} of {kind} {route}");
    row.failed("Shadowed", message, ATTACH)
}

fn unreachable(row: Row, rule: &RulePlan, reason: Reason) -> Row {
    if let Some(broken) = &rule.broken {
        return row.failed("RuleBroken", broken.clone(), "correct the rule: its requests are answered 500");
    }
    let why = match reason {
        Reason::NoRoute => "gapi sets or removes a field that it asks for, or no path is as it wants".to_owned(),
        other => other.text().trim_end().to_owned(),
    };
    row.skipped("NoExample", format!("no request from this machine was found that it takes: {why}"))
}

/// What of the daemon's settings decides who takes a request.
fn settings(view: &View) -> Settings {
    let value = |name: &str| {
        let setting = view.settings.iter().find(|setting| setting.name == name);
        setting.map_or("", |setting| setting.value.as_str())
    };
    let network = |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    Settings {
        trusted_proxies: value("trusted-proxy").split(',').filter_map(network).collect(),
        keep_repeated_slashes: !matches!(value("keep-repeated-slashes"), "" | "false" | "no" | "n" | "off" | "f" | "0"),
        ..Settings::default()
    }
}

/// Where this machine reaches a bound address.
pub fn reachable(socket: SocketAddr) -> SocketAddr {
    match socket.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (Ipv4Addr::LOCALHOST, socket.port()).into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (Ipv6Addr::LOCALHOST, socket.port()).into(),
        _ => socket,
    }
}

/// Is it a name, not an address as it stands in a URL?
fn is_name(host: &str) -> bool {
    !host.starts_with('[') && host.parse::<IpAddr>().is_err()
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

/// Host, with the port where the scheme has another.
fn authority(host: &str, port: u16, tls: bool) -> String {
    let own = if tls { 443 } else { 80 };
    if port == own { host.to_owned() } else { format!("{host}:{port}") }
}
