//! HTTPRoutes: to which listeners they attach, and what each parent has to say.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Condition, GATEWAY_GROUP, Kind, ObjectKey,
        condition::*,
        http_route::{HttpRouteRule, HttpRouteSpec, ParentReference},
    },
    finding::Finding,
    manifest::Object,
};

use super::{
    Age,
    backend::{Backend, Backends},
    gateway::Gateway,
    hostname,
    index::Index,
    listener::Listener,
    problem::{self, Problem, warning},
    rule::{Resolver, Rule},
};

/// An HTTPRoute with at least one Gateway of ours among its parents.
#[derive(Clone, Debug)]
pub struct Route {
    pub key: ObjectKey,
    /// `namespace/name`: alphabetical order is that of this text, as the spec has it.
    pub name: String,
    pub age: Age,
    /// As written, each once; empty takes what the listeners take.
    pub hostnames: Vec<String>,
    pub rules: Vec<Rule>,
    /// One for each parentRef to a Gateway of ours, in the order written.
    pub parents: Vec<Parent>,
    /// By Gateway and listener, each once.
    pub attachments: Vec<Attachment>,
}

/// `status.parents[]`.
#[derive(Clone, Debug)]
pub struct Parent {
    pub reference: ParentReference,
    pub conditions: Vec<Condition>,
}

/// A route at a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Position in `Graph::gateways`.
    pub gateway: usize,
    /// Position in the Gateway's listeners.
    pub listener: usize,
    /// Position in `spec.parentRefs` of the first reference that attaches it.
    pub parent: usize,
    /// The route's hostnames, as written, that intersect with the listener's; `None` for a route without hostnames.
    pub hostnames: Vec<Option<String>>,
}

/// Resolves all routes, the oldest first, then by namespace and name, and counts them at their listeners.
pub(super) fn resolve(
    index: &Index,
    gateways: &mut [Gateway],
    findings: &mut Vec<Finding>,
) -> (Vec<Route>, BTreeMap<String, Backend>) {
    let mut backends = Backends::new(index);
    let mut routes = Vec::new();
    for object in index.all(Kind::HttpRoute) {
        let Ok(spec) = object.typed::<HttpRouteSpec>(Some("spec")) else { continue };
        routes.extend(route(index, gateways, &mut backends, object, spec, findings));
    }
    routes.sort_by(|a, b| (a.age, &a.name).cmp(&(b.age, &b.name)));
    for attachment in routes.iter().filter(|route| route.is_implemented()).flat_map(|route| &route.attachments) {
        gateways[attachment.gateway].listeners[attachment.listener].attached_routes += 1;
    }
    findings.append(&mut backends.findings);
    (routes, backends.into_usable())
}

impl Route {
    /// At least one of its rules is served. One whose rules are all broken is not Accepted; it answers 500.
    pub fn is_implemented(&self) -> bool {
        self.rules.iter().any(|rule| rule.broken.is_none())
    }
}

fn route(
    index: &Index,
    gateways: &[Gateway],
    backends: &mut Backends,
    object: &Object,
    spec: HttpRouteSpec,
    findings: &mut Vec<Finding>,
) -> Option<Route> {
    let mut outcomes = Vec::new();
    for (i, reference) in spec.parent_refs.into_iter().enumerate() {
        match find_parent(index, gateways, object, &reference, i) {
            Ok(Some(gateway)) => outcomes.push((i, reference, gateway)),
            Ok(None) => {}
            Err(finding) => findings.push(finding),
        }
    }
    if let Some(scope) = spec.use_default_gateways.as_deref().filter(|scope| !matches!(*scope, "" | "None")) {
        let message = format!("default Gateways are not served yet: scope {scope} attaches the route to none");
        let field = "spec.useDefaultGateways";
        findings.push(warning(object, field, "UnsupportedValue", message, "name its Gateway in spec.parentRefs"));
    }
    if outcomes.is_empty() {
        return None;
    }
    let mut hostnames: Vec<String> = Vec::new();
    for hostname in spec.hostnames {
        if !hostnames.contains(&hostname) {
            hostnames.push(hostname);
        }
    }
    let rules = if spec.rules.is_empty() { vec![HttpRouteRule::default()] } else { spec.rules };
    let mut resolver = Resolver { route: object, backends, unresolved: Vec::new() };
    let rules: Vec<Rule> = rules.into_iter().enumerate().map(|(i, rule)| resolver.rule(i, rule)).collect();
    let unresolved = resolver.unresolved;
    let broken: Vec<&Problem> = rules.iter().filter_map(|rule| rule.broken.as_ref()).collect();
    findings.extend(unresolved.iter().chain(broken.iter().copied()).map(|problem| problem.finding(object)));

    let mut attachments: BTreeMap<(usize, usize), Attachment> = BTreeMap::new();
    let mut parents = Vec::new();
    for (i, reference, gateway) in outcomes {
        let attached = attach(index, &gateways[gateway], object, &reference, &hostnames, i);
        let accepted = match attached {
            Ok(listeners) => {
                let names: Vec<&str> =
                    listeners.iter().map(|(l, _)| gateways[gateway].listeners[*l].spec.name.as_str()).collect();
                let message = format!("Attached to {}", names.join(", "));
                for (listener, hostnames) in listeners {
                    let attachment = Attachment { gateway, listener, parent: i, hostnames };
                    attachments.entry((gateway, listener)).or_insert(attachment);
                }
                ROUTE_ACCEPTED.with(problem::bounded(&message))
            }
            Err(problem) => {
                findings.push(problem.finding(object));
                problem.reason.with(problem::bounded(&problem.text()))
            }
        };
        parents.push(Parent { reference, conditions: conditions(accepted, &rules, &broken, &unresolved) });
    }
    let attachments: Vec<Attachment> = attachments.into_values().collect();
    let route = Route {
        key: object.key.clone(),
        name: format!("{}/{}", object.key.namespace, object.key.name),
        age: Age::of(&object.meta),
        hostnames,
        rules,
        parents,
        attachments,
    };
    findings.extend(unserved(object, &route, gateways));
    findings.extend(redirect_loops(object, &route, gateways));
    Some(route)
}

/// The Gateway of ours that a parentRef names; none where it is another controller's.
///
/// # Errors
/// A finding, where it leads nowhere.
fn find_parent(
    index: &Index,
    gateways: &[Gateway],
    object: &Object,
    reference: &ParentReference,
    i: usize,
) -> Result<Option<usize>, Finding> {
    let field = format!("spec.parentRefs[{i}]");
    let group = if reference.group.is_empty() && reference.kind.is_empty() { GATEWAY_GROUP } else { &reference.group };
    if group != GATEWAY_GROUP || !matches!(reference.kind.as_str(), "" | "Gateway") {
        let message = format!("{} {} cannot be the parent of a route here", reference.kind, reference.name);
        return Err(warning(object, &field, "UnsupportedParent", message, "name a Gateway"));
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&object.key.namespace);
    let own = gateways.iter().position(|one| *one.key.namespace == *namespace && *one.key.name == *reference.name);
    if own.is_some() || index.get(Kind::Gateway, namespace, &reference.name).is_some() {
        return Ok(own);
    }
    let message = format!("Gateway {namespace}/{} does not exist", reference.name);
    let elsewhere = gateways.iter().find(|gateway| *gateway.key.name == *reference.name);
    let remedy = match elsewhere {
        Some(gateway) => format!("there is one in namespace {}: write it in {field}.namespace", gateway.key.namespace),
        None => "write the Gateway, or correct the name".into(),
    };
    Err(warning(object, &format!("{field}.name"), "ParentNotFound", message, remedy))
}

/// The listeners that a parentRef attaches the route to, with the hostnames that they share.
///
/// # Errors
/// Why there is none.
fn attach(
    index: &Index,
    gateway: &Gateway,
    object: &Object,
    reference: &ParentReference,
    hostnames: &[String],
    i: usize,
) -> Result<Vec<(usize, Vec<Option<String>>)>, Problem> {
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
    let allows = |l: &usize| gateway.listeners[*l].allows("HTTPRoute", namespace, &gateway.key.namespace, index);
    let allowed: Vec<usize> = selected.iter().copied().filter(|l| allows(l).is_ok()).collect();
    if allowed.is_empty() {
        let facts: Vec<String> = selected.iter().filter_map(|l| allows(l).err()).collect();
        let message = format!("{} does not allow it: {}", gateway.key, facts.join(", "));
        let remedy = "change allowedRoutes of the listener";
        return Err(Problem::new(ROUTE_NOT_ALLOWED_BY_LISTENERS, field, message, remedy));
    }
    let attached: Vec<_> = allowed.iter().map(|l| (*l, shared(&gateway.listeners[*l], hostnames))).collect();
    let attached: Vec<_> = attached.into_iter().filter(|(_, shared)| !shared.is_empty()).collect();
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

fn shared(listener: &Listener, hostnames: &[String]) -> Vec<Option<String>> {
    if hostnames.is_empty() {
        return vec![None];
    }
    let shared = hostnames.iter().filter(|name| hostname::intersect(listener.hostname(), Some(name)));
    shared.cloned().map(Some).collect()
}

fn conditions(accepted: Condition, rules: &[Rule], broken: &[&Problem], unresolved: &[Problem]) -> Vec<Condition> {
    let resolved = problem::condition(unresolved, ROUTE_RESOLVED_REFS.with("All references are resolved"));
    let is_accepted = accepted.status == "True";
    match broken {
        [first, ..] if is_accepted && broken.len() == rules.len() => {
            let texts: Vec<String> = broken.iter().map(|problem| problem.text()).collect();
            vec![
                first.reason.with(problem::bounded(&format!("Requests are answered 500: {}", texts.join(". ")))),
                resolved,
            ]
        }
        [first, ..] if is_accepted => {
            let reason = match first.reason == ROUTE_INCOMPATIBLE_FILTERS {
                true => ROUTE_PARTIALLY_INCOMPATIBLE,
                false => ROUTE_PARTIALLY_INVALID,
            };
            // The prefix is the spec's (RouteConditionPartiallyInvalid).
            let texts: Vec<String> = broken
                .iter()
                .map(|problem| format!("Dropped Rule, its requests are answered 500: {}", problem.text()))
                .collect();
            vec![accepted, resolved, reason.with(problem::bounded(&texts.join(". ")))]
        }
        _ => vec![accepted, resolved],
    }
}

/// An accepted route that nevertheless gets no traffic, since none of its listeners is served.
fn unserved(object: &Object, route: &Route, gateways: &[Gateway]) -> Option<Finding> {
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

/// A redirect to https that an HTTPS listener takes too sends its clients in a circle.
fn redirect_loops(object: &Object, route: &Route, gateways: &[Gateway]) -> Vec<Finding> {
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
