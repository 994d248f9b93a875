//! Listeners that cannot be told apart, within a Gateway and among Gateways that share an address.
//!
//! All listeners at one address and port form one set, as if they were of one Gateway (GatewaySpec, "Distinct
//! Listeners"): they must have one protocol and different hostnames. HTTPS and TLS listeners share a port by hostname, and
//! UDP ports are others than those of TCP. Within a Gateway all that clash are Conflicted; among Gateways the older keeps
//! what it has and the newer is told.

use std::{collections::BTreeMap, net::IpAddr};

use crate::api::condition::{LISTENER_HOSTNAME_CONFLICT, LISTENER_PROTOCOL_CONFLICT};

use super::{gateway::Gateway, hostname, listener::Listener, problem::Problem};

/// Marks the Conflicted listeners and the overlapping ones. Gateways come the oldest first.
pub(super) fn resolve(gateways: &mut [Gateway]) {
    let mut ports: BTreeMap<u16, Vec<(usize, usize)>> = BTreeMap::new();
    for g in 0..gateways.len() {
        if gateways[g].refused.is_empty() {
            within(&mut gateways[g]);
        }
        if gateways[g].is_served() {
            among(gateways, g, &mut ports);
        }
    }
    for set in ports.values() {
        overlap(gateways, set);
    }
}

fn within(gateway: &mut Gateway) {
    let candidates: Vec<usize> =
        (0..gateway.listeners.len()).filter(|l| gateway.listeners[*l].refused.is_empty()).collect();
    for l in &candidates {
        let own = &gateway.listeners[*l];
        let others = candidates.iter().filter(|other| *other != l).map(|other| &gateway.listeners[*other]);
        let conflict = others.filter_map(|other| clash(own, other, &format!("listener {}", other.spec.name))).next();
        gateway.listeners[*l].conflict = conflict;
    }
}

/// Compares the listeners of Gateway `g` with the good ones of older Gateways, and adds its own good ones to `ports`.
fn among(gateways: &mut [Gateway], g: usize, ports: &mut BTreeMap<u16, Vec<(usize, usize)>>) {
    for l in 0..gateways[g].listeners.len() {
        let own = &gateways[g].listeners[l];
        if !own.is_served() {
            continue;
        }
        let set = ports.entry(own.spec.port).or_default();
        let older = set.iter().filter(|(other, _)| *other != g && share(&gateways[g].bind, &gateways[*other].bind));
        let conflict = older.filter_map(|(other, listener)| {
            let (gateway, listener) = (&gateways[*other], &gateways[*other].listeners[*listener]);
            clash(
                own,
                listener,
                &format!(
                    "listener {} of Gateway {}, {},",
                    listener.spec.name,
                    gateway.name(),
                    match gateway.age == gateways[g].age {
                        true => "whose name comes first",
                        false => "which is older",
                    }
                ),
            )
        });
        match conflict.into_iter().next() {
            None => set.push((g, l)),
            conflict => gateways[g].listeners[l].conflict = conflict,
        }
    }
}

/// Do two sets of addresses to bind meet?
pub fn share(a: &[IpAddr], b: &[IpAddr]) -> bool {
    let meet =
        |a: &IpAddr, b: &IpAddr| a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()));
    a.iter().any(|a| b.iter().any(|b| meet(a, b)))
}

fn clash(own: &Listener, other: &Listener, name: &str) -> Option<Problem> {
    if own.spec.port != other.spec.port {
        return None;
    }
    let (field, port) = (own.field(), own.spec.port);
    if own.is_udp() != other.is_udp() {
        return None;
    }
    let (own_protocol, other_protocol) = (own.spec.protocol.as_str(), other.spec.protocol.as_str());
    // The server name tells HTTPS and TLS listeners apart; nothing tells two TCP or two UDP listeners apart.
    let by_server_name = own.is_tls() && other.is_tls() && own.hostname() != other.hostname();
    if own_protocol != other_protocol && !by_server_name {
        let message = format!("{name} has port {port} for protocol {other_protocol}, this one for {own_protocol}");
        let remedy = if own.is_tls() && other.is_tls() { "use another hostname or port" } else { "use another port" };
        return Some(Problem::new(LISTENER_PROTOCOL_CONFLICT, format!("{field}.port"), message, remedy));
    }
    if matches!(own_protocol, "TCP" | "UDP") {
        let message = format!("{name} has {own_protocol} port {port} too");
        return Some(Problem::new(LISTENER_PROTOCOL_CONFLICT, format!("{field}.port"), message, "use another port"));
    }
    if own.hostname() == other.hostname() {
        let hostname = own.hostname().unwrap_or("every hostname");
        let message = format!("{name} has port {port} for {hostname} too");
        let remedy = "use another hostname or port";
        return Some(Problem::new(LISTENER_HOSTNAME_CONFLICT, format!("{field}.hostname"), message, remedy));
    }
    None
}

/// HTTPS listeners of one port whose hostnames intersect with those of another, HTTPS or TLS: a client that reuses a
/// connection may meet the TLS settings of the other one (RFC 9113, section 9.1.1).
fn overlap(gateways: &mut [Gateway], set: &[(usize, usize)]) {
    let mut texts = Vec::new();
    for (g, l) in set {
        let own = &gateways[*g].listeners[*l];
        if own.spec.protocol != "HTTPS" {
            continue;
        }
        let others = set.iter().filter(|other| **other != (*g, *l));
        let names: Vec<&str> = others
            .filter(|(other, _)| other == g || share(&gateways[*g].bind, &gateways[*other].bind))
            .map(|(other, listener)| &gateways[*other].listeners[*listener])
            .filter(|other| other.is_tls() && hostname::intersect(own.hostname(), other.hostname()))
            .map(|other| other.key.as_str())
            .collect();
        if !names.is_empty() {
            let text = format!("Hostnames of port {} overlap with those of {}", own.spec.port, names.join(", "));
            texts.push((*g, *l, format!("{text}; a misdirected request is answered 421")));
        }
    }
    for (g, l, text) in texts {
        gateways[g].listeners[l].overlap = Some(text);
    }
}
