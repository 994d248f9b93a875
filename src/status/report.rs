//! What the manifests' objects would show in a cluster, as documents to be written. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    api::{CONTROLLER_NAME, Condition, GATEWAY_GROUP, ObjectKey, ObjectMeta, condition::Subject},
    graph::{Class, Gateway, Graph, Object, Parent, Route},
};

use super::{
    certificate, condition,
    feature::SUPPORTED_FEATURES,
    generated,
    merge::{self, Before, Stamp},
    path::{self, Paths},
};

/// What *publish* did.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Each socket of the plan: bound, or why not (with the process that has the port, where that is known).
    pub sockets: BTreeMap<SocketAddr, Result<(), String>>,
    /// UDP sockets, likewise.
    pub datagram_sockets: BTreeMap<SocketAddr, Result<(), String>>,
}

impl Published {
    /// What became of the socket of a listener of this protocol.
    pub fn socket(&self, protocol: &str, address: &SocketAddr) -> Option<&Result<(), String>> {
        let sockets = if protocol == "UDP" { &self.datagram_sockets } else { &self.sockets };
        sockets.get(address)
    }
}

/// What *report* may know besides the graph.
pub struct ReportInput<'a> {
    /// The objects that were resolved, sorted by key.
    pub objects: &'a [Arc<Object>],
    /// The documents of the report before: conditions that did not change keep their time.
    pub previous: &'a BTreeMap<ObjectKey, Arc<Value>>,
    pub now: Timestamp,
    /// Routes whose object and parents are those of the report before: their documents are left out.
    pub unchanged: &'a HashSet<ObjectKey>,
    /// Which way TCP and UDP traffic takes. While it is not known, what was said of it before stands.
    pub paths: Option<&'a Paths>,
}

/// An object with the status that gapi gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusDocument {
    pub key: ObjectKey,
    /// `apiVersion` as in the manifest, `kind`, `metadata`, `spec`, `status`.
    pub value: Value,
}

/// The documents of all GatewayClasses, Gateways and routes that are ours, and of the Services generated for
/// Gateways that are not refused as a whole, by key.
pub fn report(graph: &Graph, published: &Published, input: &ReportInput) -> Vec<StatusDocument> {
    let writer =
        Writer { published, input, now: input.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), objects: by_key(input) };
    let mut documents = Vec::new();
    documents.extend(graph.classes.iter().map(|class| writer.class(class)));
    for gateway in &graph.gateways {
        let Some(object) = writer.objects.get(&gateway.key) else { continue };
        documents.push(writer.gateway(gateway, object));
        let service = ObjectKey::new("Service", &gateway.key.namespace, &gateway.service_name());
        // One of the user's with this name is theirs alone.
        let is_taken = writer.objects.get(&service).is_some_and(|service| !gateway.is_generated(service));
        if gateway.refused.is_empty() && !is_taken {
            documents.push(generated::service(gateway, &object.meta));
        }
    }
    let changed = graph.routes.iter().filter(|route| !input.unchanged.contains(&route.key));
    documents.extend(changed.filter_map(|route| writer.route(graph, route)));
    documents.extend(writer.left(graph));
    let (object, before) = (|key: &ObjectKey| writer.objects.get(key).copied(), |key: &ObjectKey| writer.before(key));
    let known = certificate::Known { now: &writer.now, object: &object, before: &before };
    documents.extend(certificate::documents(graph, &known));
    documents.sort_by(|a, b| a.key.cmp(&b.key));
    documents
}

fn by_key<'a>(input: &ReportInput<'a>) -> HashMap<&'a ObjectKey, &'a Object> {
    input.objects.iter().map(|object| (&object.key, &**object)).collect()
}

struct Writer<'a> {
    published: &'a Published,
    input: &'a ReportInput<'a>,
    now: String,
    objects: HashMap<&'a ObjectKey, &'a Object>,
}

impl Writer<'_> {
    fn stamp(&self, subject: Subject, generation: i64) -> Stamp<'_> {
        Stamp { subject, generation, now: &self.now }
    }

    /// The status that stands in the manifest and in our last document.
    fn before(&self, key: &ObjectKey) -> Before<'_> {
        let written = self.objects.get(key).and_then(|object| object.value.get("status"));
        Before { written, previous: self.input.previous.get(key).and_then(|document| document.get("status")) }
    }

    fn class(&self, class: &Class) -> StatusDocument {
        let object = self.objects.get(&class.key);
        let generation = object.map_or(1, |object| object.meta.generation);
        let features: Vec<Value> = SUPPORTED_FEATURES.iter().map(|name| json!({ "name": name })).collect();
        let conditions = merge::conditions(
            class.conditions.clone(),
            self.before(&class.key).part(|status| status.get("conditions")),
            self.stamp(Subject::Class, generation),
        );
        let mut status = json!({ "conditions": conditions });
        if class.accepted {
            status["supportedFeatures"] = features.into();
        }
        match object {
            Some(object) => document(object, status),
            None => self.default_class(class, status),
        }
    }

    /// GatewayClass `gapi` has no manifest; it is as old as the first document about it.
    fn default_class(&self, class: &Class, status: Value) -> StatusDocument {
        let previous = self.input.previous.get(&class.key);
        let since =
            previous.and_then(|document| document["metadata"]["creationTimestamp"].as_str()).unwrap_or(&self.now);
        let meta = ObjectMeta {
            name: class.key.name.to_string(),
            generation: 1,
            creation_timestamp: Some(since.to_string()),
            ..ObjectMeta::default()
        };
        let value = json!({
            "apiVersion": format!("{GATEWAY_GROUP}/v1"),
            "kind": "GatewayClass",
            "metadata": metadata(&meta),
            "spec": { "controllerName": CONTROLLER_NAME, "description": "Served by gapi on this machine" },
            "status": status,
        });
        StatusDocument { key: class.key.clone(), value }
    }

    fn gateway(&self, gateway: &Gateway, object: &Object) -> StatusDocument {
        let states: Vec<_> =
            gateway.listeners.iter().map(|listener| condition::listener(gateway, listener, self.published)).collect();
        let accepted = condition::accepted(gateway);
        let programmed = condition::programmed(gateway, &accepted, &states);
        let before = self.before(&gateway.key);
        let generation = object.meta.generation;
        let listeners = gateway.listeners.iter().zip(states).map(|(listener, state)| {
            let name = listener.spec.name.as_str();
            let own = vec![state.accepted, state.programmed, listener.resolved_refs(), listener.conflicted()];
            let own = own.into_iter().chain(listener.overlapping()).collect();
            let before = before.part(|status| {
                let all = status.get("listeners")?.as_array()?;
                all.iter().find(|other| other["name"] == name)?.get("conditions")
            });
            json!({
                "name": name,
                "supportedKinds": listener.supported_kinds,
                "attachedRoutes": listener.attached_routes,
                "conditions": merge::conditions(own, before, self.stamp(Subject::Listener, generation)),
            })
        });
        let listeners: Vec<Value> = listeners.collect();
        let own = vec![accepted, programmed, gateway.resolved_refs(), gateway.addresses_assigned()];
        let conditions = merge::conditions(
            own,
            before.part(|status| status.get("conditions")),
            self.stamp(Subject::Gateway, generation),
        );
        let address = |ip: &std::net::IpAddr| json!({ "type": "IPAddress", "value": ip.to_string() });
        let addresses: Vec<Value> = gateway.advertised.iter().take(MAX_ADDRESSES).map(address).collect();
        document(object, json!({ "addresses": addresses, "conditions": conditions, "listeners": listeners }))
    }

    fn route(&self, graph: &Graph, route: &Route) -> Option<StatusDocument> {
        let parents = route.parents.iter().map(|parent| {
            let reference = reference(parent);
            let path = self.path(graph, route, parent, &reference);
            (reference, parent.conditions.iter().cloned().chain(path).collect())
        });
        self.parents(&route.key, parents.collect())
    }

    fn path(&self, graph: &Graph, route: &Route, parent: &Parent, reference: &Value) -> Option<Condition> {
        if !path::has_path(route.kind) || !parent.is_accepted() {
            return None;
        }
        match self.input.paths {
            Some(paths) => path::condition(graph, route, parent, paths),
            None => {
                let parents = self.input.previous.get(&route.key)?.pointer("/status/parents")?;
                path::before(merge::our_entry(parents, reference)?)
            }
        }
    }

    fn parents(&self, key: &ObjectKey, ours: Vec<(Value, Vec<Condition>)>) -> Option<StatusDocument> {
        let object = self.objects.get(key)?;
        let before = self.before(key).part(|status| status.get("parents"));
        let parents = merge::parents(ours, before, self.stamp(Subject::Route, object.meta.generation));
        Some(document(object, json!({ "parents": parents })))
    }

    /// Routes that left our Gateways while their manifests still say what we said: a document without it.
    fn left(&self, graph: &Graph) -> Vec<StatusDocument> {
        let ours: HashSet<&ObjectKey> = graph.routes.iter().map(|route| &route.key).collect();
        let says = |object: &&Arc<Object>| {
            let parents = object.value["status"]["parents"].as_array();
            parents.is_some_and(|parents| parents.iter().any(|parent| parent["controllerName"] == CONTROLLER_NAME))
        };
        let routes = self.input.objects.iter().filter(|object| object.kind.is_route());
        let left = routes.filter(|object| !ours.contains(&object.key)).filter(says);
        left.filter_map(|object| self.parents(&object.key, Vec::new())).collect()
    }
}

/// What `Gateway.status.addresses` may hold, by the CRD.
const MAX_ADDRESSES: usize = 16;

/// The parentRef as it stands in the spec, fields that are not written left out.
fn reference(parent: &Parent) -> Value {
    let reference = serde_json::to_value(&parent.reference).expect("a parentRef is plain data");
    let Value::Object(fields) = reference else { unreachable!("a struct serialises to a map") };
    // An empty group is a value (the core group), unlike the absence of the other fields.
    let is_written = |(name, value): &(String, Value)| !value.is_null() && (name == "group" || *value != "");
    fields.into_iter().filter(is_written).collect()
}

pub(super) fn document(object: &Object, status: Value) -> StatusDocument {
    let mut value = json!({
        "apiVersion": object.api_version,
        "kind": &*object.key.kind,
        "metadata": metadata(&object.meta),
    });
    if let Some(spec) = object.value.get("spec") {
        value["spec"] = spec.clone();
    }
    value["status"] = status;
    StatusDocument { key: object.key.clone(), value }
}

/// `metadata`, with what is empty left out.
pub(super) fn metadata(meta: &ObjectMeta) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
    put("name", meta.name.clone().into());
    if !meta.namespace.is_empty() {
        put("namespace", meta.namespace.clone().into());
    }
    if !meta.uid.is_empty() {
        put("uid", meta.uid.clone().into());
    }
    if let Some(version) = &meta.resource_version {
        put("resourceVersion", version.clone().into());
    }
    if meta.generation != 0 {
        put("generation", meta.generation.into());
    }
    if let Some(time) = &meta.creation_timestamp {
        put("creationTimestamp", time.clone().into());
    }
    if !meta.labels.is_empty() {
        put("labels", json!(meta.labels));
    }
    if !meta.annotations.is_empty() {
        put("annotations", json!(meta.annotations));
    }
    Value::Object(fields)
}
