//! Matches of an HTTPRoute rule.

use serde_json::{Value, json};

use super::{
    Fields, Judge,
    text::{HEADER_NAME, HEADER_VALUE, path_characters},
};
use crate::manifest::span::Node;

/// The methods that a match may name.
pub const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The path that a match without one has.
pub fn default_path() -> Value {
    json!({"type": "PathPrefix", "value": "/"})
}

/// `HTTPRouteMatch`.
pub fn http_match(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("path", default_path(), path);
        fields.optional("headers", |judge, node| values(judge, node, header_match));
        fields.optional("queryParams", |judge, node| values(judge, node, query_param_match));
        fields.optional("method", |judge, node| judge.choice(node, METHODS));
    })
}

fn path(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        let types = |judge: &mut Judge, node: &Node| judge.choice(node, &["Exact", "PathPrefix", "RegularExpression"]);
        fields.defaulted("type", "PathPrefix", types);
        fields.defaulted("value", "/", |judge, node| judge.sized(node, 0..=1024));
        if matches!(fields.text("type"), Some("Exact" | "PathPrefix")) {
            plain_path(fields);
        }
    })
}

/// What an `Exact` or `PathPrefix` path may not be; regular expressions are never judged here.
fn plain_path(fields: &mut Fields) {
    let Some(path) = fields.text("value").map(str::to_owned) else { return };
    if !path.starts_with('/') {
        fields.conflict("value", format!("the path {path:?} does not begin with '/'"), "begin it with '/'");
    }
    for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
        if path.contains(part) {
            fields.conflict("value", format!("a path may not contain {part}"), "write it without");
        }
    }
    for end in ["/..", "/."] {
        if path.ends_with(end) {
            fields.conflict("value", format!("a path may not end in {end}"), "write it without");
        }
    }
    if !path_characters(&path) {
        let remedy = "write unreserved characters, '/' and %XX escapes, or type: RegularExpression";
        fields.conflict("value", format!("{path:?} has characters that a path cannot have"), remedy);
    }
}

/// A list of header or query parameter matches, whose names are its keys.
pub fn values(judge: &mut Judge, node: &Node, item: fn(&mut Judge, &Node) -> Option<Value>) -> Option<Value> {
    let value = judge.list(node, 0..=16, item)?;
    judge.unique(node, &value, "name");
    Some(value)
}

fn header_match(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "Exact", value_type);
        fields.required("name", |judge, node| judge.form(node, &HEADER_NAME));
        fields.required("value", |judge, node| judge.form(node, &HEADER_VALUE));
    })
}

fn query_param_match(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "Exact", value_type);
        fields.required("name", |judge, node| judge.form(node, &HEADER_NAME));
        fields.required("value", |judge, node| judge.sized(node, 1..=1024));
    })
}

/// `type` of a match.
pub fn value_type(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.choice(node, &["Exact", "RegularExpression"])
}
