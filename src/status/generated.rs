//! The Service that a cluster would have made for a Gateway: it carries the Gateway's address and ports, and the labels
//! and annotations of `spec.infrastructure`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::{ObjectKey, ObjectMeta},
    graph::{
        Gateway,
        label::{GATEWAY_NAME, label},
    },
};

use super::report::{StatusDocument, metadata};

/// The document of the Service of `gateway`, whose metadata is `meta`.
pub(super) fn service(gateway: &Gateway, meta: &ObjectMeta) -> StatusDocument {
    let name = gateway.service_name();
    let infrastructure = gateway.spec.infrastructure.clone().unwrap_or_default();
    let mut labels = infrastructure.labels;
    labels.insert(GATEWAY_NAME.into(), label(&gateway.key.name));
    let meta = ObjectMeta {
        name: name.clone(),
        namespace: gateway.key.namespace.to_string(),
        labels,
        annotations: infrastructure.annotations,
        creation_timestamp: meta.creation_timestamp.clone(),
        ..ObjectMeta::default()
    };
    let ingress: Vec<Value> = gateway.advertised.iter().map(|ip| json!({ "ip": ip.to_string() })).collect();
    let value = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(&meta),
        "spec": { "type": "LoadBalancer", "ports": ports(gateway) },
        "status": { "loadBalancer": if ingress.is_empty() { json!({}) } else { json!({ "ingress": ingress }) } },
    });
    StatusDocument { key: ObjectKey::new("Service", &gateway.key.namespace, &name), value }
}

/// One for each port with a listener that is Accepted.
fn ports(gateway: &Gateway) -> Vec<Value> {
    let accepted = gateway.listeners.iter().filter(|listener| listener.is_accepted());
    // Of HTTPS and TLS listeners that share a port, the first in the alphabet names it.
    let ports: BTreeMap<(u16, bool), &str> = accepted
        .map(|listener| ((listener.spec.port, listener.is_udp()), listener.spec.protocol.as_str()))
        .fold(BTreeMap::new(), |mut ports, (port, protocol)| {
            ports.entry(port).and_modify(|other: &mut &str| *other = protocol.min(*other)).or_insert(protocol);
            ports
        });
    let port = |((port, is_udp), protocol): ((u16, bool), &str)| {
        let name = format!("{}-{port}", protocol.to_ascii_lowercase());
        let transport = if is_udp { "UDP" } else { "TCP" };
        json!({ "name": name, "port": port, "protocol": transport, "targetPort": port })
    };
    ports.into_iter().map(port).collect()
}
