//! GRPCRoute.

use serde_json::Value;

use super::{
    Fields, Judge,
    backend_ref::grpc_backend_ref,
    http_filter::grpc_filters,
    http_match::{value_type, values},
    http_route::{MAX_RULES, named_rules, parent_refs, session_persistence},
    metadata::NameRule,
    reference::{hostname, section_name},
    status,
    text::HEADER_NAME,
};
use crate::manifest::span::Node;

/// Judges a GRPCRoute.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::Subdomain, |fields| {
        fields.required("spec", spec);
        status::status(fields, &status::ROUTE);
    })
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("parentRefs", parent_refs);
        fields.optional("useDefaultGateways", |judge, node| judge.choice(node, &["All", "None"]));
        fields.optional("hostnames", |judge, node| judge.list(node, 0..=16, hostname));
        fields.optional("rules", |judge, node| {
            let value = judge.list(node, 0..=MAX_RULES, rule)?;
            named_rules(judge, node, value.as_array()?);
            Some(value)
        });
    })
}

fn rule(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("name", section_name);
        fields.optional("matches", |judge, node| judge.list(node, 0..=64, grpc_match));
        fields.optional("filters", grpc_filters);
        fields.optional("backendRefs", |judge, node| judge.list(node, 0..=16, grpc_backend_ref));
        fields.optional("sessionPersistence", session_persistence);
    })
}

fn grpc_match(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("method", method);
        fields.optional("headers", |judge, node| values(judge, node, header_match));
    })
}

/// `GRPCHeaderMatch`: any text is a value, other than in an HTTPRoute.
fn header_match(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "Exact", value_type);
        fields.required("name", |judge, node| judge.form(node, &HEADER_NAME));
        fields.required("value", |judge, node| judge.sized(node, 1..=4096));
    })
}

fn method(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "Exact", value_type);
        fields.optional("service", |judge, node| judge.sized(node, 0..=1024));
        fields.optional("method", |judge, node| judge.sized(node, 0..=1024));
        if !fields.has("service") && !fields.has("method") {
            fields.conflict("", "a method match names a service, a method, or both", "add service or method");
        }
        if fields.text("type") == Some("Exact") {
            exact(fields, "service", service_name, "a service with its package, such as grpc.health.v1.Health");
            exact(fields, "method", method_name, "a method, such as Check");
        }
    })
}

fn exact(fields: &mut Fields, field: &'static str, holds: fn(&str) -> bool, form: &str) {
    if let Some(text) = fields.text(field).filter(|text| !holds(text)).map(str::to_owned) {
        let remedy = format!("write {form}, or type: RegularExpression");
        fields.conflict(field, format!("{text:?} cannot be the {field} of a call"), remedy);
    }
}

/// Identifiers between dots, perhaps after one. The CRD's expression ignores case by Unicode's folding, so that the long
/// s and the Kelvin sign count as letters.
fn service_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '\u{17f}' | '\u{212a}');
    let identifier = |part: &str| part.starts_with(letter) && part.chars().all(|c| letter(c) || c.is_ascii_digit());
    text.strip_prefix('.').unwrap_or(text).split('.').all(identifier)
}

fn method_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}
