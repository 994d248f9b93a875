//! One listener of a Gateway: what it serves, which routes it takes, what is wrong with it.

use serde_json::Value;

use crate::{
    api::{
        Condition, GATEWAY_GROUP, Kind, LabelSelector,
        condition::*,
        gateway::{self, GatewaySpec, RouteGroupKind},
    },
    finding::Finding,
    manifest::Object,
};

use super::{
    Input,
    certificate::{Certificate, Referrer},
    index::Index,
    namespace::selects,
    problem::{self, Problem, warning},
};

/// A listener, valid or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// `namespace/gateway/listener`.
    pub key: String,
    pub spec: gateway::Listener,
    /// Position in `spec.listeners`.
    pub index: usize,
    /// `status.listeners[].supportedKinds`.
    pub supported_kinds: Vec<RouteGroupKind>,
    /// Routes that are Accepted and attached here, each counted once.
    pub attached_routes: usize,
    /// Usable ones, in the order of `certificateRefs`; the last good one in place of one that cannot be used.
    pub certificates: Vec<Certificate>,
    /// Why it is not Accepted.
    pub refused: Vec<Problem>,
    /// Why its references are not resolved.
    pub unresolved: Vec<Problem>,
    /// Why it is Conflicted.
    pub conflict: Option<Problem>,
    /// Which other listeners of the port its TLS settings overlap with.
    pub overlap: Option<String>,
    pub(super) warnings: Vec<Finding>,
}

impl Listener {
    /// Field path in its Gateway.
    pub fn field(&self) -> String {
        format!("spec.listeners[{}]", self.index)
    }

    /// Its connections begin with a TLS handshake, which ends here or at a backend.
    pub fn is_tls(&self) -> bool {
        matches!(self.spec.protocol.as_str(), "HTTPS" | "TLS")
    }

    /// TLS ends at a backend.
    pub fn passes_through(&self) -> bool {
        self.spec.protocol == "TLS" && self.spec.tls.as_ref().is_some_and(|tls| tls.mode == "Passthrough")
    }

    /// TLS ends here.
    pub fn terminates_tls(&self) -> bool {
        self.is_tls() && !self.passes_through()
    }

    /// It takes datagrams; all others take connections.
    pub fn is_udp(&self) -> bool {
        self.spec.protocol == "UDP"
    }

    /// The hostname, if it has one.
    pub fn hostname(&self) -> Option<&str> {
        self.spec.hostname.as_deref().filter(|hostname| !hostname.is_empty())
    }

    /// Nothing keeps it from being Accepted.
    pub fn is_accepted(&self) -> bool {
        self.refused.is_empty() && self.conflict.is_none()
    }

    /// The data plane gets to know it. An HTTPS listener without a certificate is served too: its handshakes are
    /// refused, and its names do not fall to another listener.
    pub fn is_served(&self) -> bool {
        self.is_accepted() && !self.supported_kinds.is_empty()
    }

    /// Condition `Accepted`, as far as the manifests decide it.
    pub fn accepted(&self) -> Condition {
        let problems = self.conflict.iter().chain(&self.refused);
        problem::condition(problems, LISTENER_ACCEPTED.with("The listener is valid"))
    }

    /// Condition `ResolvedRefs`.
    pub fn resolved_refs(&self) -> Condition {
        problem::condition(&self.unresolved, LISTENER_RESOLVED_REFS.with("All references are resolved"))
    }

    /// Condition `Conflicted`.
    pub fn conflicted(&self) -> Condition {
        match &self.conflict {
            None => {
                LISTENER_NO_CONFLICTS.with("No other listener has this port with this hostname or another protocol")
            }
            Some(problem) if problem.reason == LISTENER_HOSTNAME_CONFLICT => {
                LISTENER_CONFLICTED_HOSTNAME.with(problem::bounded(&problem.text()))
            }
            Some(problem) => LISTENER_CONFLICTED_PROTOCOL.with(problem::bounded(&problem.text())),
        }
    }

    /// Condition `OverlappingTLSConfig`; absent where nothing overlaps.
    pub fn overlapping(&self) -> Option<Condition> {
        self.overlap.as_deref().map(|text| LISTENER_OVERLAPPING_HOSTNAMES.with(problem::bounded(text)))
    }

    /// Why it is not Programmed, as far as the manifests decide it.
    pub fn unprogrammed(&self) -> Option<Condition> {
        if let Some(conflict) = &self.conflict {
            let reason = match conflict.reason == LISTENER_HOSTNAME_CONFLICT {
                true => LISTENER_NOT_PROGRAMMED_HOSTNAME_CONFLICT,
                false => LISTENER_NOT_PROGRAMMED_PROTOCOL_CONFLICT,
            };
            return Some(reason.with(problem::bounded(&conflict.text())));
        }
        if !self.refused.is_empty() {
            return Some(LISTENER_INVALID.with(self.accepted().message));
        }
        if self.supported_kinds.is_empty() || self.terminates_tls() && self.certificates.is_empty() {
            return Some(LISTENER_INVALID.with(self.resolved_refs().message));
        }
        None
    }

    /// May a route of this kind and namespace attach?
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, kind: &str, namespace: &str, gateway_namespace: &str, index: &Index) -> Result<(), String> {
        let name = &self.spec.name;
        if !self.supported_kinds.iter().any(|supported| supported.group == GATEWAY_GROUP && supported.kind == kind) {
            return Err(format!("listener {name} ({}) takes no {kind}", self.spec.protocol));
        }
        let namespaces = self.spec.allowed_routes.as_ref().map(|allowed| &allowed.namespaces);
        let from = namespaces.map_or("", |namespaces| namespaces.from.as_str());
        match from {
            "All" => Ok(()),
            "Selector" => {
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                match (selector, index.namespaces.labels(namespace)) {
                    (Some(selector), Some(labels)) if selects(selector, labels) == Ok(true) => Ok(()),
                    _ => Err(format!(
                        "listener {name} takes routes of namespaces that its selector names, and {namespace} is not among them"
                    )),
                }
            }
            _ if namespace == gateway_namespace => Ok(()),
            _ => Err(format!("listener {name} takes routes of its own namespace {gateway_namespace} only")),
        }
    }
}

/// Resolves listener `i` of the Gateway.
pub(super) fn resolve(index: &Index, object: &Object, spec: &GatewaySpec, i: usize, input: &Input) -> Listener {
    let own = &spec.listeners[i];
    let mut listener = Listener {
        key: format!("{}/{}/{}", object.key.namespace, object.key.name, own.name),
        spec: own.clone(),
        index: i,
        supported_kinds: Vec::new(),
        attached_routes: 0,
        certificates: Vec::new(),
        refused: Vec::new(),
        unresolved: Vec::new(),
        conflict: None,
        overlap: None,
        warnings: Vec::new(),
    };
    if listener.terminates_tls() {
        certificates(index, object, &mut listener, input);
        frontend_validation(spec, &mut listener);
        options(object, &mut listener);
    }
    protocol(&mut listener);
    kinds(&mut listener);
    filters(&mut listener);
    selector(&mut listener);
    listener
}

fn certificates(index: &Index, object: &Object, listener: &mut Listener, input: &Input) {
    let (key, field) = (listener.key.clone(), listener.field());
    let hostname = listener.spec.hostname.clone();
    let (last_good, now) = (&input.last_good.certificates, input.now);
    let hostname = hostname.as_deref();
    let referrer = Referrer { index, gateway: object, listener: &key, field: &field, hostname, last_good, now };
    let references = listener.spec.tls.as_ref().map_or(&[][..], |tls| &tls.certificate_refs);
    let resolved = referrer.resolve(references);
    listener.certificates = resolved.certificates;
    listener.unresolved.extend(resolved.problems);
    listener.warnings.extend(resolved.warnings);
}

/// `spec.tls.frontend` asks for client certificates: not served yet, and never skipped.
fn frontend_validation(spec: &GatewaySpec, listener: &mut Listener) {
    let Some(frontend) = spec.tls.as_ref().and_then(|tls| tls.get("frontend")) else { return };
    let ports = frontend.get("perPort").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let port = ports.iter().position(|one| one.get("port").and_then(Value::as_u64) == Some(listener.spec.port.into()));
    let (config, field) = match port {
        Some(i) => (ports[i].get("tls"), format!("spec.tls.frontend.perPort[{i}].tls.validation")),
        None => (frontend.get("default"), "spec.tls.frontend.default.validation".to_string()),
    };
    if config.and_then(|config| config.get("validation")).is_some() {
        let message =
            format!("client certificates are not checked yet, so listener {} is not served", listener.spec.name);
        listener.refused.push(Problem::new(LISTENER_UNSUPPORTED_VALUE, field, message, "remove the validation"));
    }
}

fn options(object: &Object, listener: &mut Listener) {
    let options = listener.spec.tls.iter().flat_map(|tls| tls.options.keys());
    let names: Vec<&str> = options.map(String::as_str).collect();
    if !names.is_empty() {
        let field = format!("{}.tls.options", listener.field());
        let message = format!("gapi has no TLS options; {} has no effect", names.join(", "));
        listener.warnings.push(warning(object, &field, "UnsupportedValue", message, "remove it"));
    }
}

fn protocol(listener: &mut Listener) {
    let protocol = &listener.spec.protocol;
    if kinds_of(protocol).is_empty() {
        let message = format!("protocol {protocol} is not served");
        let field = format!("{}.protocol", listener.field());
        let remedy = "use HTTP, HTTPS, TLS, TCP or UDP";
        listener.refused.push(Problem::new(LISTENER_UNSUPPORTED_PROTOCOL, field, message, remedy));
    }
}

/// The kinds of routes that a listener of this protocol takes; none where gapi does not serve it.
pub(super) fn kinds_of(protocol: &str) -> &'static [Kind] {
    match protocol {
        "HTTP" | "HTTPS" => &[Kind::HttpRoute, Kind::GrpcRoute],
        "TLS" => &[Kind::TlsRoute],
        "TCP" => &[Kind::TcpRoute],
        "UDP" => &[Kind::UdpRoute],
        _ => &[],
    }
}

fn kinds(listener: &mut Listener) {
    let names: Vec<&str> = kinds_of(&listener.spec.protocol).iter().map(|kind| kind.names().name).collect();
    let field = format!("{}.allowedRoutes.kinds", listener.field());
    let kinds = listener.spec.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.clone()).unwrap_or_default();
    if kinds.is_empty() {
        let kinds = names.iter().map(|name| RouteGroupKind { group: GATEWAY_GROUP.into(), kind: (*name).into() });
        listener.supported_kinds = kinds.collect();
        return;
    }
    for (i, kind) in kinds.into_iter().enumerate() {
        let group = if kind.group.is_empty() { "core" } else { &kind.group };
        if kind.group == GATEWAY_GROUP && names.contains(&kind.kind.as_str()) {
            if !listener.supported_kinds.contains(&kind) {
                listener.supported_kinds.push(kind);
            }
        } else {
            let message =
                format!("{} of group {group} cannot attach to a {} listener", kind.kind, listener.spec.protocol);
            let remedy = if names.is_empty() { String::new() } else { format!("use {}", names.join(" or ")) };
            let field = format!("{field}[{i}]");
            listener.unresolved.push(Problem::new(LISTENER_INVALID_ROUTE_KINDS, field, message, remedy));
        }
    }
}

fn filters(listener: &mut Listener) {
    if listener.spec.filters.is_some() {
        let message = "filters of listeners are not served yet, so the listener is not served";
        let field = format!("{}.filters", listener.field());
        listener.refused.push(Problem::new(LISTENER_UNSUPPORTED_VALUE, field, message, "remove the filters"));
    }
}

fn selector(listener: &mut Listener) {
    let field = format!("{}.allowedRoutes.namespaces.selector", listener.field());
    let Some(namespaces) = listener.spec.allowed_routes.as_ref().map(|allowed| &allowed.namespaces) else { return };
    if namespaces.from != "Selector" {
        return;
    }
    let fact = match &namespaces.selector {
        None => Err("from is Selector, and there is none: no route can attach".to_string()),
        Some(selector) => check(selector),
    };
    if let Err(message) = fact {
        listener.refused.push(Problem::new(LISTENER_UNSUPPORTED_VALUE, field, message, ""));
    }
}

fn check(selector: &LabelSelector) -> Result<(), String> {
    selects(selector, &Default::default()).map(|_| ())
}
