//! What does the daemon say about itself, and how is it asked? The data that the admin socket carries.
//!
//! The daemon fills a [`View`] after each pass; [`View::answer`] is the whole of what `get`, `describe` and `status` need,
//! so that the same answers come from a running daemon and from status files read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    api::{CONTROLLER_NAME, GATEWAY_GROUP, Kind, ObjectKey},
    finding::{Finding, Severity},
    manifest::Ignored,
    plan::Plan,
};

/// The daemon's state as people see it. Plain data: nothing in it is shared with the data plane.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct View {
    /// Version of the running program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When the daemon started, RFC 3339.
    pub started: String,
    pub config_dir: String,
    /// `user space`; later which kernel path, and why.
    pub traffic_path: String,
    pub state_dir: String,
    /// Why the state directory does not keep what is in force; none when it does.
    pub state_problem: Option<String>,
    /// Generation of the snapshot in force; 0 before the first publish.
    pub generation: u64,
    /// When the last pass ended, RFC 3339.
    pub last_pass: Option<String>,
    /// Why what runs is older than what is on disk; none when it is the same.
    pub stale: Option<String>,
    pub sockets: Vec<SocketView>,
    pub counts: Counts,
    pub findings: Vec<Finding>,
    pub ignored: Vec<Ignored>,
    pub certificates: Vec<CertificateView>,
    /// Every flag of `gapi run` with its value.
    pub settings: Vec<Setting>,
    pub traffic: Traffic,
    /// The plan in force, for [`Request::Plan`] alone.
    #[serde(skip)]
    pub plan: Arc<Plan>,
    /// Whole objects with our status merged in: the user's, GatewayClass `gapi`, the generated Services. Empty in
    /// [`Answer::Status`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Arc<Value>>,
}

/// A socket that the plan asks for.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketView {
    pub address: SocketAddr,
    /// `HTTP`, `HTTPS`, `TCP`, `TLS`, `HTTPS,TLS` or `UDP`.
    pub protocol: String,
    /// Why it is not bound, with the process that has it where that is known; none when it is bound. Also a finding.
    pub problem: Option<String>,
}

impl SocketView {
    /// An address may have a socket for UDP and another one.
    pub fn is_udp(&self) -> bool {
        self.protocol == "UDP"
    }
}

/// What the workers have open, at the moment of the question.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Traffic {
    /// Threads that serve.
    pub workers: usize,
    /// Open connections of clients, by bound address.
    pub connections: BTreeMap<SocketAddr, usize>,
    /// Those over sockets that are gone.
    pub leaving: usize,
    /// Sessions of UDP, by bound address.
    pub sessions: BTreeMap<SocketAddr, usize>,
    /// Those over sockets that close when they have ended.
    pub sessions_leaving: usize,
}

/// How much is served.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    pub gateways: Count,
    pub listeners: Count,
    pub routes: Count,
}

/// Of `total` (of our classes) so many are programmed; for routes: accepted by at least one parent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Count {
    pub total: usize,
    pub programmed: usize,
}

/// A certificate that a listener uses.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateView {
    /// `namespace/secret`.
    pub name: String,
    /// The names that it is for.
    pub hostnames: Vec<String>,
    /// RFC 3339.
    pub not_after: String,
    /// [`fingerprint`] of the certificate.
    pub fingerprint: String,
    /// What is wrong with it, where something is.
    pub problem: Option<String>,
}

/// A flag of `gapi run` in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Setting {
    /// The flag's name without dashes in front.
    pub name: String,
    /// As it would be written; empty for a list or an option without value.
    pub value: String,
    /// `default`, `environment` or `flag`.
    pub source: String,
}

/// A question to the daemon.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "request", rename_all = "camelCase")]
pub enum Request {
    /// Objects of a kind, in the order of namespace and name.
    Objects {
        kind: Kind,
        /// None: of all namespaces. Without meaning for cluster-scoped kinds.
        namespace: Option<String>,
        /// None: all.
        name: Option<String>,
    },
    /// The same, each with what it refers to and what is to be said about it.
    Describe { kind: Kind, namespace: Option<String>, name: Option<String> },
    /// All of the [`View`] but the objects.
    Status,
    /// What the data plane is to do.
    Plan,
    /// Read the directory now; answered when what it says is served.
    Reload,
}

/// What the daemon says to a [`Request`].
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "answer", rename_all = "camelCase")]
pub enum Answer {
    Objects { objects: Vec<Arc<Value>> },
    Describe { descriptions: Vec<Description> },
    Status(Box<View>),
    Plan { generation: u64, plan: Arc<Plan> },
    Reload { generation: u64, stale: Option<String>, findings: Vec<Finding> },
}

/// An object with its surroundings.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Description {
    pub object: Arc<Value>,
    /// A Gateway's routes and Service, a route's Services with their EndpointSlices and Endpoints, …
    pub related: Vec<Arc<Value>>,
    /// The findings that name the object.
    pub findings: Vec<Finding>,
    /// True when status files are all that is known: what has no status of ours is missing in `related`.
    #[serde(default)]
    pub partial: bool,
}

impl View {
    /// The answer to `request`. For [`Request::Reload`] the daemon does its pass first and then asks its new view.
    ///
    /// No value of a Secret is ever in an answer.
    pub fn answer(&self, request: &Request) -> Answer {
        match request {
            Request::Objects { kind, namespace, name } => {
                Answer::Objects { objects: self.objects(*kind, namespace.as_deref(), name.as_deref()) }
            }
            Request::Describe { kind, namespace, name } => {
                let objects = self.objects(*kind, namespace.as_deref(), name.as_deref());
                Answer::Describe { descriptions: objects.into_iter().map(|object| self.describe(object)).collect() }
            }
            Request::Status => Answer::Status(Box::new(View { objects: Vec::new(), ..self.clone() })),
            Request::Plan => Answer::Plan { generation: self.generation, plan: self.plan.clone() },
            Request::Reload => Answer::Reload {
                generation: self.generation,
                stale: self.stale.clone(),
                findings: self.findings.clone(),
            },
        }
    }

    /// True when a finding is an error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    fn objects(&self, kind: Kind, namespace: Option<&str>, name: Option<&str>) -> Vec<Arc<Value>> {
        let implied = if kind == Kind::Namespace { self.implied_namespaces() } else { Vec::new() };
        let mut found: Vec<Arc<Value>> = self
            .objects
            .iter()
            .filter(|object| kind_of(object) == Some(kind))
            .chain(&implied)
            .filter(|object| name.is_none_or(|name| text(object, "/metadata/name") == name))
            .filter(|object| {
                !kind.names().namespaced
                    || namespace.is_none_or(|namespace| text(object, "/metadata/namespace") == namespace)
            })
            .map(redacted)
            .collect();
        found.sort_by(|a, b| place(a).cmp(&place(b)));
        found
    }

    /// Namespaces that exist because an object is in them.
    fn implied_namespaces(&self) -> Vec<Arc<Value>> {
        let declared: BTreeSet<&str> = self
            .objects
            .iter()
            .filter(|object| kind_of(object) == Some(Kind::Namespace))
            .map(|object| text(object, "/metadata/name"))
            .collect();
        let mut used: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for object in &self.objects {
            let namespace = text(object, "/metadata/namespace");
            if namespace.is_empty() || declared.contains(namespace) {
                continue;
            }
            let created = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
            let oldest = used.entry(namespace).or_insert(created);
            *oldest = match (*oldest, created) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        used.into_iter().map(|(name, created)| Arc::new(implied_namespace(name, created))).collect()
    }

    fn describe(&self, object: Arc<Value>) -> Description {
        let related = self.objects.iter().filter(|other| related(&object, other)).map(redacted).collect();
        let key = kind_of(&object).map(|kind| {
            ObjectKey::new(kind.names().name, text(&object, "/metadata/namespace"), text(&object, "/metadata/name"))
        });
        let findings = self.findings.iter().filter(|finding| finding.object == key && key.is_some()).cloned().collect();
        Description { object, related, findings, partial: false }
    }
}

/// SHA-256 of a certificate's DER, in hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text at a JSON pointer; empty where there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The elements at a JSON pointer; empty where there is no list.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The served kind of an object, by its `apiVersion` and `kind`.
pub fn kind_of(object: &Value) -> Option<Kind> {
    let group = text(object, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    Kind::of(group, text(object, "/kind"))
}

/// The order in which objects are listed.
fn place(object: &Value) -> (&str, &str) {
    (text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

fn implied_namespace(name: &str, created: Option<&str>) -> Value {
    let mut metadata = json!({ "name": name, "labels": { "kubernetes.io/metadata.name": name } });
    if let Some(created) = created {
        metadata["creationTimestamp"] = created.into();
    }
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "status": { "phase": "Active" } })
}

/// A Secret with `<N bytes>` in place of each value, and without the annotation in which kubectl repeats the object;
/// anything else as it is.
fn redacted(object: &Arc<Value>) -> Arc<Value> {
    if kind_of(object) != Some(Kind::Secret) {
        return object.clone();
    }
    let mut secret = Value::clone(object);
    for (field, encoded) in [("data", true), ("stringData", false)] {
        for value in secret.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(|data| data.values_mut())
        {
            let written = value.as_str().unwrap_or("");
            let length = if encoded { decoded_length(written) } else { written.len() };
            *value = format!("<{length} bytes>").into();
        }
    }
    if let Some(annotations) = secret.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.shift_remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    Arc::new(secret)
}

fn decoded_length(encoded: &str) -> usize {
    let compact: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_or(0, |bytes| bytes.len())
}

/// Does a description of `object` need `other`?
fn related(object: &Value, other: &Value) -> bool {
    let (Some(kind), Some(other_kind)) = (kind_of(object), kind_of(other)) else { return false };
    let same_namespace = text(object, "/metadata/namespace") == text(other, "/metadata/namespace");
    let name = text(object, "/metadata/name");
    match (kind, other_kind) {
        (Kind::GatewayClass, Kind::Gateway) => text(other, "/spec/gatewayClassName") == name,
        (Kind::Gateway, kind) if kind.is_route() => {
            parent_refs(other).any(|(_, parent)| is_parent(parent, other, object))
        }
        (Kind::Gateway, Kind::Service) => {
            same_namespace && text(other, "/metadata/labels/gateway.networking.k8s.io~1gateway-name") == name
        }
        (kind, Kind::Service | Kind::EndpointSlice | Kind::Endpoints) if kind.is_route() => {
            backend_refs(object).any(|backend| {
                let namespace = match text(backend, "/namespace") {
                    "" => text(object, "/metadata/namespace"),
                    written => written,
                };
                namespace == text(other, "/metadata/namespace") && service_of(other) == text(backend, "/name")
            })
        }
        (Kind::Service, Kind::EndpointSlice | Kind::Endpoints) => same_namespace && service_of(other) == name,
        _ => false,
    }
}

/// A route's parentRefs, each with our entry of `status.parents`, where it has one.
pub fn parent_refs(route: &Value) -> impl Iterator<Item = (Option<&Value>, &Value)> {
    let entries = list(route, "/status/parents");
    list(route, "/spec/parentRefs").iter().map(move |parent| {
        let ours = |entry: &&Value| {
            text(entry, "/controllerName") == CONTROLLER_NAME
                && entry.get("parentRef").is_some_and(|other| same_parent(parent, other, route))
        };
        (entries.iter().find(ours), parent)
    })
}

/// Do two parentRefs of `route` mean the same, with the spec's defaults in place?
fn same_parent(a: &Value, b: &Value, route: &Value) -> bool {
    parent_target(a, route) == parent_target(b, route)
        && text(a, "/sectionName") == text(b, "/sectionName")
        && a.get("port") == b.get("port")
}

/// Group, kind, namespace and name of a parentRef of `route`, with the spec's defaults in place.
pub fn parent_target<'a>(parent: &'a Value, route: &'a Value) -> (&'a str, &'a str, &'a str, &'a str) {
    let or = |pointer: &str, default: &'a str| parent.pointer(pointer).and_then(Value::as_str).unwrap_or(default);
    (
        or("/group", GATEWAY_GROUP),
        or("/kind", "Gateway"),
        or("/namespace", text(route, "/metadata/namespace")),
        text(parent, "/name"),
    )
}

fn is_parent(parent: &Value, route: &Value, gateway: &Value) -> bool {
    let (namespace, name) = place(gateway);
    parent_target(parent, route) == (GATEWAY_GROUP, "Gateway", namespace, name)
}

/// Every backendRef of a route.
pub fn backend_refs(route: &Value) -> impl Iterator<Item = &Value> {
    list(route, "/spec/rules").iter().flat_map(|rule| list(rule, "/backendRefs"))
}

/// The name of the Service that a Service is, or that an EndpointSlice or Endpoints belongs to.
pub fn service_of(object: &Value) -> &str {
    match kind_of(object) {
        Some(Kind::EndpointSlice) => text(object, "/metadata/labels/kubernetes.io~1service-name"),
        _ => text(object, "/metadata/name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(objects: Vec<Value>) -> View {
        View { objects: objects.into_iter().map(Arc::new).collect(), ..View::default() }
    }

    fn ask(view: &View, kind: Kind) -> Vec<Arc<Value>> {
        match view.answer(&Request::Objects { kind, namespace: None, name: None }) {
            Answer::Objects { objects } => objects,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_value_of_a_secret_leaves_the_daemon() {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "s", "namespace": "a", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"tls.key\":\"aHVudGVyMg==\"}}", "x": "y" } },
            "data": { "tls.key": "aHVu\ndGVyMg==" }, "stringData": { "password": "hunter2" }
        });
        let view = view(vec![secret]);
        let objects = ask(&view, Kind::Secret);
        assert_eq!(objects[0]["data"]["tls.key"], "<7 bytes>");
        assert_eq!(objects[0]["stringData"]["password"], "<7 bytes>");
        assert_eq!(objects[0]["metadata"]["annotations"], json!({ "x": "y" }));
        for request in [
            Request::Objects { kind: Kind::Secret, namespace: None, name: Some("s".into()) },
            Request::Describe { kind: Kind::Secret, namespace: None, name: None },
            Request::Status,
        ] {
            let answer = serde_json::to_string(&view.answer(&request)).expect("serialises");
            assert!(!answer.contains("hunter2") && !answer.contains("aHVu"), "{answer}");
        }
    }

    #[test]
    fn a_namespace_exists_when_an_object_is_in_it() {
        let view = view(vec![
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "x", "namespace": "b" } }),
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "a" } }),
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "x", "namespace": "a" } }),
        ]);
        let names: Vec<_> = ask(&view, Kind::Namespace).iter().map(|o| text(o, "/metadata/name").to_owned()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_kind_is_told_by_its_group() {
        let foreign = json!({ "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": { "name": "x", "namespace": "a" } });
        assert!(ask(&view(vec![foreign]), Kind::Gateway).is_empty());
    }

    #[test]
    fn requests_and_answers_survive_the_wire() {
        let request = Request::Objects { kind: Kind::HttpRoute, namespace: Some("a".into()), name: None };
        let wire = serde_json::to_string(&request).expect("serialises");
        assert_eq!(wire, r#"{"request":"objects","kind":"HTTPRoute","namespace":"a","name":null}"#);
        let view = View { generation: 7, pid: 3, stale: Some("disk".into()), ..View::default() };
        let wire = serde_json::to_string(&view.answer(&Request::Status)).expect("serialises");
        match serde_json::from_str(&wire).expect("reads back") {
            Answer::Status(back) => assert_eq!((back.generation, back.pid, back.stale), (7, 3, Some("disk".into()))),
            other => panic!("{other:?}"),
        }
    }
}
