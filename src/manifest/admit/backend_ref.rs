//! References to backends.

use serde_json::Value;

use super::{
    Fields, Judge, http_filter,
    reference::{group, kind, namespace, object_name, port},
};
use crate::manifest::span::Node;

/// `BackendObjectReference`.
pub fn backend(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, object_fields)
}

/// `BackendRef`.
pub fn backend_ref(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, weighted_fields)
}

/// `GRPCBackendRef`.
pub fn grpc_backend_ref(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        weighted_fields(fields);
        fields.optional("filters", http_filter::grpc_filters);
    })
}

/// `HTTPBackendRef`.
pub fn http_backend_ref(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        weighted_fields(fields);
        fields.optional("filters", http_filter::filters);
    })
}

fn weighted_fields(fields: &mut Fields) {
    object_fields(fields);
    fields.defaulted("weight", 1, |judge, node| judge.integer(node, 0..=1_000_000));
}

fn object_fields(fields: &mut Fields) {
    fields.defaulted("group", "", group);
    fields.defaulted("kind", "Service", kind);
    fields.required("name", object_name);
    fields.optional("namespace", namespace);
    fields.optional("port", port);
    match (fields.text("group"), fields.text("kind")) {
        (Some(""), Some("Service")) if !fields.has("port") => {
            fields.conflict("", "a Service is referred to with its port", "add port");
        }
        (Some("gateway.networking.x-k8s.io"), Some("XBackend")) if fields.has("port") => {
            fields.conflict("port", "an XBackend is referred to without port", "remove port");
        }
        _ => {}
    }
}
