//! ReferenceGrant.

use serde_json::Value;

use super::{
    Judge,
    metadata::NameRule,
    reference::{group, kind, namespace, object_name},
};
use crate::manifest::span::Node;

/// Judges a ReferenceGrant.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::Subdomain, |fields| fields.required("spec", spec))
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("from", |judge, node| judge.list(node, 1..=16, from));
        fields.required("to", |judge, node| judge.list(node, 1..=16, to));
    })
}

fn from(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("group", group);
        fields.required("kind", kind);
        fields.required("namespace", namespace);
    })
}

fn to(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("group", group);
        fields.required("kind", kind);
        fields.optional("name", object_name);
    })
}
