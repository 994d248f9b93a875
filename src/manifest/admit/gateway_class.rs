//! GatewayClass.

use serde_json::Value;

use super::{Judge, metadata::NameRule, reference, status, text::CONTROLLER_NAME};
use crate::manifest::span::Node;

/// Judges a GatewayClass.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::ClusterScoped, |fields| {
        fields.required("spec", spec);
        status::status(fields, &status::GATEWAY_CLASS);
    })
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("controllerName", |judge, node| judge.form(node, &CONTROLLER_NAME));
        fields.optional("parametersRef", reference::object);
        fields.optional("description", |judge, node| judge.sized(node, 0..=64));
    })
}
