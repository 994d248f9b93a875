//! Gateways of our classes with all their listeners.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    api::{Condition, DEFAULT_CLASS, Kind, ObjectKey, ObjectReference, condition::*, gateway::GatewaySpec},
    finding::Finding,
    manifest::Object,
};

use super::{
    Age, Input,
    class::Class,
    grant::Crossing,
    index::Index,
    label,
    listener::{self, Listener},
    problem::{self, Problem, warning},
};

/// A Gateway of one of our classes, valid or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    pub key: ObjectKey,
    pub age: Age,
    pub spec: GatewaySpec,
    /// In the order written.
    pub listeners: Vec<Listener>,
    /// What its sockets bind to; unspecified addresses stand for all of a family.
    pub bind: Vec<IpAddr>,
    /// `status.addresses`.
    pub advertised: Vec<IpAddr>,
    /// Why it is not Accepted as a whole.
    pub refused: Vec<Problem>,
    /// What it asks for that gapi does not do, without making the rest useless.
    pub unsupported: Vec<Problem>,
    /// Why its own references are not resolved.
    pub unresolved: Vec<Problem>,
    /// Addresses that it asked for and did not get.
    pub unassigned: Vec<Problem>,
}

impl Gateway {
    /// `namespace/name`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.key.namespace, self.key.name)
    }

    /// The name of the Service that a cluster would make for it, in its namespace.
    pub fn service_name(&self) -> String {
        label::service_name(&format!("gapi-{}", self.key.name))
    }

    /// Is this Service, of the name above, the generated one, as when status was exported and came back as a manifest?
    pub fn is_generated(&self, service: &Object) -> bool {
        service.meta.labels.get(label::GATEWAY_NAME) == Some(&label::label(&self.key.name))
    }

    /// The data plane gets to know it.
    pub fn is_served(&self) -> bool {
        self.refused.is_empty() && !self.bind.is_empty()
    }

    /// Condition `ResolvedRefs`: its own references, and a summary of its listeners'.
    pub fn resolved_refs(&self) -> Condition {
        let listeners: Vec<&str> = self
            .listeners
            .iter()
            .filter(|listener| !listener.unresolved.is_empty())
            .map(|listener| listener.spec.name.as_str())
            .collect();
        let good = match listeners.as_slice() {
            [] => GATEWAY_RESOLVED_REFS.with("All references are resolved"),
            names => GATEWAY_LISTENERS_NOT_RESOLVED
                .with(format!("References of listeners are not resolved: {}", names.join(", "))),
        };
        problem::condition(&self.unresolved, good)
    }

    /// Condition `AddressesAssigned`.
    pub fn addresses_assigned(&self) -> Condition {
        let text = || self.unassigned.iter().map(Problem::text).collect::<Vec<_>>().join(". ");
        if !self.refused.is_empty() {
            return GATEWAY_NOT_ASSIGNED.with("The Gateway is not accepted");
        }
        match (self.unassigned.is_empty(), self.bind.is_empty()) {
            (true, _) => GATEWAY_ADDRESSES_ASSIGNED.with("All addresses are assigned"),
            (false, false) => GATEWAY_PARTIALLY_ASSIGNED.with(problem::bounded(&text())),
            (false, true) => GATEWAY_NOT_ASSIGNED.with(problem::bounded(&text())),
        }
    }

    /// The findings of everything that is wrong here.
    pub(super) fn report(&self, index: &Index, findings: &mut Vec<Finding>) {
        let Some(object) = index.get(Kind::Gateway, &self.key.namespace, &self.key.name) else { return };
        let own = self.refused.iter().chain(&self.unsupported).chain(&self.unresolved).chain(&self.unassigned);
        findings.extend(own.map(|problem| problem.finding(object)));
        findings.extend(self.name_taken(index));
        for listener in &self.listeners {
            let problems = listener.conflict.iter().chain(&listener.refused).chain(&listener.unresolved);
            findings.extend(problems.filter(|problem| !problem.quiet).map(|problem| problem.finding(object)));
            findings.extend(listener.warnings.iter().cloned());
        }
    }
}

impl Gateway {
    /// A Service of the user's with the name of the one that gapi would show for this Gateway. The user's is in force.
    fn name_taken(&self, index: &Index) -> Option<Finding> {
        let service = index.get(Kind::Service, &self.key.namespace, &self.service_name())?;
        if self.is_generated(service) {
            return None;
        }
        let message = format!("has the name of the Service that gapi shows for {}, which is left out", self.key);
        Some(warning(service, "metadata.name", "GeneratedNameTaken", message, "give it another name"))
    }
}

/// The Gateways of `classes`, the oldest first, then by namespace and name. Addresses, conflicts and attached routes
/// are not in them yet.
pub(super) fn resolve(index: &Index, classes: &[Class], input: &Input, findings: &mut Vec<Finding>) -> Vec<Gateway> {
    let mut gateways = Vec::new();
    for object in index.all(Kind::Gateway) {
        let Ok(spec) = object.typed::<GatewaySpec>(Some("spec")) else { continue };
        let Some(class) = classes.iter().find(|class| *class.key.name == *spec.gateway_class_name) else {
            findings.extend(unknown_class(index, object, spec));
            continue;
        };
        gateways.push(gateway(index, object, spec.clone(), class, input, findings));
    }
    gateways.sort_by_cached_key(|gateway| (gateway.age, gateway.name()));
    gateways
}

fn unknown_class(index: &Index, object: &Object, spec: &GatewaySpec) -> Option<Finding> {
    let name = &spec.gateway_class_name;
    index.get(Kind::GatewayClass, "", name).is_none().then(|| {
        let message = format!("GatewayClass {name} does not exist, so the Gateway is not served");
        let remedy = format!("use class {DEFAULT_CLASS}, or write a GatewayClass {name}");
        warning(object, "spec.gatewayClassName", "ClassNotFound", message, remedy)
    })
}

fn gateway(
    index: &Index,
    object: &Object,
    spec: GatewaySpec,
    class: &Class,
    input: &Input,
    findings: &mut Vec<Finding>,
) -> Gateway {
    let listeners = (0..spec.listeners.len()).map(|i| listener::resolve(index, object, &spec, i, input)).collect();
    let mut gateway = Gateway {
        key: object.key.clone(),
        age: Age::of(&object.meta),
        spec,
        listeners,
        bind: Vec::new(),
        advertised: Vec::new(),
        refused: Vec::new(),
        unsupported: Vec::new(),
        unresolved: Vec::new(),
        unassigned: Vec::new(),
    };
    parameters(&mut gateway, class);
    default_scope(&mut gateway);
    client_certificate(index, &mut gateway);
    findings.extend(allowed_listeners(object, &gateway.spec));
    gateway
}

fn parameters(gateway: &mut Gateway, class: &Class) {
    if !class.accepted {
        let message = format!("GatewayClass {} is not accepted", class.key.name);
        let remedy = "remove spec.parametersRef from the GatewayClass";
        gateway.refused.push(Problem::new(GATEWAY_INVALID_PARAMETERS, "spec.gatewayClassName", message, remedy));
    }
    let parameters =
        gateway.spec.infrastructure.as_ref().and_then(|infrastructure| infrastructure.parameters_ref.as_ref());
    if let Some(ObjectReference { kind, name, .. }) = parameters {
        let message = format!("{kind} {name} cannot be used: gapi has no parameters");
        let field = "spec.infrastructure.parametersRef";
        gateway.refused.push(Problem::new(GATEWAY_INVALID_PARAMETERS, field, message, "remove parametersRef"));
    }
}

fn default_scope(gateway: &mut Gateway) {
    if let Some(scope) = gateway.spec.default_scope.as_deref().filter(|scope| !matches!(*scope, "" | "None")) {
        let message = format!("default Gateways are not served yet: scope {scope} attaches no route");
        let remedy = "name this Gateway in the parentRefs of its routes";
        gateway.unsupported.push(Problem::new(GATEWAY_UNSUPPORTED_VALUE, "spec.defaultScope", message, remedy));
    }
}

/// `spec.tls.backend.clientCertificateRef` takes effect only with BackendTLSPolicy, which gapi does not serve yet: the
/// Gateway serves without it, and says so.
fn client_certificate(index: &Index, gateway: &mut Gateway) {
    let field = "spec.tls.backend.clientCertificateRef";
    let reference = gateway.spec.tls.as_ref().and_then(|tls| tls.get("backend")?.get("clientCertificateRef"));
    let Some(reference) =
        reference.and_then(|value| serde_json::from_value::<ObjectReference>(Value::clone(value)).ok())
    else {
        return;
    };
    let from = &*gateway.key.namespace;
    let crossing = Crossing {
        from_kind: "Gateway",
        from_namespace: from,
        to_group: "",
        to_kind: "Secret",
        to_namespace: reference.namespace.as_deref().unwrap_or(from),
        to_name: &reference.name,
    };
    let problem = if crossing.is_permitted(index) {
        let message = "client certificates towards backends are not served yet: it has no effect";
        Problem::new(GATEWAY_INVALID_CLIENT_CERTIFICATE_REF, field, message, "remove it")
    } else {
        let message =
            format!("no ReferenceGrant lets this Gateway use Secret {}/{}", crossing.to_namespace, reference.name);
        Problem::new(GATEWAY_REF_NOT_PERMITTED, field, message, crossing.remedy())
    };
    gateway.unresolved.push(problem);
}

fn allowed_listeners(object: &Object, spec: &GatewaySpec) -> Option<Finding> {
    let from = spec.allowed_listeners.as_ref()?.get("namespaces")?.get("from")?.as_str()?;
    (from != "None").then(|| {
        let message = "ListenerSets are not served yet: none can attach";
        warning(object, "spec.allowedListeners", "UnsupportedValue", message, "write the listeners in spec.listeners")
    })
}
