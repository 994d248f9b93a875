//! The Service that a cluster would have made for a Gateway: it carries the Gateway's address and ports, and the labels
//! and annotations of `spec.infrastructure`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    api::{ObjectKey, ObjectMeta},
    graph::Gateway,
};

use super::report::{StatusDocument, metadata};

/// Says of which Gateway a generated object is (GEP-1762).
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// What a Service's name, and a label's value, may have.
const MAX_LABEL: usize = 63;
/// Hexadecimal characters of a digest behind a name that was cut.
const DIGEST: usize = 10;

/// The document of the Service of `gateway`, whose metadata is `meta`.
pub(super) fn service(gateway: &Gateway, meta: &ObjectMeta) -> StatusDocument {
    let name = label(&format!("gapi-{}", gateway.key.name), true);
    let infrastructure = gateway.spec.infrastructure.clone().unwrap_or_default();
    let mut labels = infrastructure.labels;
    labels.insert(GATEWAY_NAME.into(), label(&gateway.key.name, false));
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
    let ports: BTreeMap<u16, String> =
        accepted.map(|listener| (listener.spec.port, listener.spec.protocol.to_ascii_lowercase())).collect();
    let names: BTreeSet<(u16, String)> = ports.into_iter().collect();
    names
        .into_iter()
        .map(|(port, protocol)| {
            json!({ "name": format!("{protocol}-{port}"), "port": port, "protocol": "TCP", "targetPort": port })
        })
        .collect()
}

/// `name`, cut where it is too long, then ending in a digest of the whole. A Service's name has no dots.
fn label(name: &str, is_name: bool) -> String {
    let plain = if is_name { name.replace('.', "-") } else { name.to_string() };
    if plain.len() <= MAX_LABEL && plain == name {
        return plain;
    }
    let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).take(DIGEST / 2).collect();
    let cut = &plain[..plain.len().min(MAX_LABEL - DIGEST - 1)];
    format!("{}-{digest}", cut.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_apart() {
        assert_eq!(label("gapi-echo", true), "gapi-echo");
        let long = label(&"a".repeat(253), true);
        assert_eq!(long.len(), 63);
        assert_ne!(long, label(&"a".repeat(252), true));
        assert_ne!(label("gapi-a.b", true), label("gapi-a-b", true));
        assert!(!label("gapi-a.b", true).contains('.'));
        assert_eq!(label("a.b", false), "a.b");
    }
}
