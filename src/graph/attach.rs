//! Which listeners take a route, and what is odd about those that do.

use std::collections::BTreeSet;

use crate::{api::condition::*, api::http_route::ParentReference, finding::Finding, manifest::Object};

use super::{
    gateway::Gateway,
    hostname,
    index::Index,
    listener::{Listener, kinds_of},
    problem::{Problem, warning},
    route::{Attachment, Route},
};

/// A listener's position, and the route's hostnames that intersect with its own, as [`Attachment`] has them.
pub(super) type Shared = (usize, Vec<Option<String>>);

/// The listeners that a parentRef attaches the route to.
///
/// # Errors
/// Why there is none.
pub(super) fn listeners(
    index: &Index,
    gateway: &Gateway,
    object: &Object,
    reference: &ParentReference,
    hostnames: &[String],
    i: usize,
) -> Result<Vec<Shared>, Problem> {
    let field = format!("spec.parentRefs[{i}]");
    let selected = selected(gateway, reference);
    if selected.is_empty() {
        let has: Vec<String> =
            gateway.listeners.iter().map(|one| format!("{} on port {}", one.spec.name, one.spec.port)).collect();
        let message = format!("{} has no such listener; it has {}", gateway.key, has.join(", "));
        let field =
            if reference.section_name.is_some() { format!("{field}.sectionName") } else { format!("{field}.port") };
        return Err(Problem::new(ROUTE_NO_MATCHING_PARENT, field, message, ""));
    }
    let namespace = &*object.key.namespace;
    let allows = |l: &usize| gateway.listeners[*l].allows(&object.key.kind, namespace, &gateway.key.namespace, index);
    let allowed: Vec<usize> = selected.iter().copied().filter(|l| allows(l).is_ok()).collect();
    if allowed.is_empty() {
        let fits = |l: &&usize| kinds_of(&gateway.listeners[**l].spec.protocol).contains(&object.kind);
        let (fitting, others): (Vec<&usize>, Vec<&usize>) = selected.iter().partition(fits);
        // Those of other protocols are not worth a word beside one that would do.
        let (told, remedy) = match fitting.is_empty() {
            true => (others, "name a listener of a protocol for it"),
            false => (fitting, "change allowedRoutes of the listener"),
        };
        let facts: Vec<String> = told.into_iter().filter_map(|l| allows(l).err()).collect();
        let message = format!("{} does not allow it: {}", gateway.key, facts.join(", "));
        return Err(Problem::new(ROUTE_NOT_ALLOWED_BY_LISTENERS, field, message, remedy));
    }
    let attached = allowed.iter().map(|l| (*l, shared(&gateway.listeners[*l], hostnames)));
    let attached: Vec<Shared> = attached.filter(|(_, shared)| !shared.is_empty()).collect();
    if attached.is_empty() {
        let names: BTreeSet<&str> = allowed.iter().filter_map(|l| gateway.listeners[*l].hostname()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let message = format!("no listener of {} takes any of them; they take {}", gateway.key, names.join(", "));
        let remedy = "change the hostnames of the route or of a listener";
        return Err(Problem::new(ROUTE_NO_MATCHING_LISTENER_HOSTNAME, "spec.hostnames", message, remedy));
    }
    Ok(attached)
}

fn selected(gateway: &Gateway, reference: &ParentReference) -> Vec<usize> {
    let section = reference.section_name.as_deref().filter(|name| !name.is_empty());
    let fits = |listener: &Listener| {
        section.is_none_or(|name| listener.spec.name == name)
            && reference.port.is_none_or(|port| listener.spec.port == port)
    };
    (0..gateway.listeners.len()).filter(|l| fits(&gateway.listeners[*l])).collect()
}

/// Each once; `None` alone for a route without hostnames.
fn shared(listener: &Listener, hostnames: &[String]) -> Vec<Option<String>> {
    if hostnames.is_empty() {
        return vec![None];
    }
    let mut shared: Vec<Option<String>> = Vec::new();
    for name in hostnames {
        let is_new = shared.iter().all(|other| other.as_ref() != Some(name));
        if is_new && hostname::intersect(listener.hostname(), Some(name)) {
            shared.push(Some(name.clone()));
        }
    }
    shared
}

/// An accepted route that nevertheless gets no traffic, since none of its listeners is served.
pub(super) fn unserved(object: &Object, route: &Route, gateways: &[Gateway]) -> Option<Finding> {
    let served = |one: &Attachment| {
        gateways[one.gateway].is_served() && gateways[one.gateway].listeners[one.listener].is_served()
    };
    if route.attachments.is_empty() || route.attachments.iter().any(served) {
        return None;
    }
    let names: Vec<&str> =
        route.attachments.iter().map(|one| gateways[one.gateway].listeners[one.listener].key.as_str()).collect();
    let message = format!("no listener that takes the route is served: {}", names.join(", "));
    Some(warning(object, "spec.parentRefs", "NotServed", message, "see the conditions of the Gateway"))
}

/// Hostnames of an attached route that none of its listeners takes.
pub(super) fn untaken(object: &Object, route: &Route) -> Vec<Finding> {
    if route.attachments.is_empty() {
        return Vec::new();
    }
    let taken: BTreeSet<&str> =
        route.attachments.iter().flat_map(|one| &one.hostnames).filter_map(|hostname| hostname.as_deref()).collect();
    let untaken = route.hostnames.iter().enumerate().filter(|(_, hostname)| !taken.contains(hostname.as_str()));
    let finding = |(i, hostname): (usize, &String)| {
        let message = format!("no listener that the route is attached to takes {hostname}");
        let remedy = "change it, or the hostname of a listener";
        warning(object, &format!("spec.hostnames[{i}]"), "NoMatchingListenerHostname", message, remedy)
    };
    untaken.map(finding).collect()
}

/// A redirect to https that an HTTPS listener takes too sends its clients in a circle.
pub(super) fn redirect_loops(object: &Object, route: &Route, gateways: &[Gateway]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in &route.rules {
        let redirects = rule.filters.iter().filter_map(|filter| filter.spec.request_redirect.as_ref());
        let to_itself = |port: u16| {
            redirects.clone().any(|redirect| {
                redirect.scheme.as_deref() == Some("https")
                    && redirect.hostname.is_none()
                    && redirect.path.is_none()
                    && redirect.port.is_none_or(|other| other == port)
            })
        };
        for attachment in &route.attachments {
            let listener = &gateways[attachment.gateway].listeners[attachment.listener];
            if listener.is_tls() && to_itself(listener.spec.port) {
                let message = format!(
                    "rule {} redirects to https, and HTTPS listener {} takes the route too: its clients go in a circle",
                    rule.index, listener.key
                );
                let field = format!("spec.parentRefs[{}]", attachment.parent);
                let remedy = "set sectionName to the HTTP listener";
                findings.push(warning(object, &field, "RedirectLoop", message, remedy));
            }
        }
    }
    findings
}
