//! `finalizers`, `ownerReferences` and `managedFields` of the metadata: gapi uses none of them, exported objects have them.

use serde_json::Value;

use super::{Judge, Reason, metadata::qualified_name, time::timestamp, written};
use crate::manifest::span::Node;

pub fn finalizers(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=usize::MAX, |judge, node| {
        let text = if node.is_null() { "" } else { judge.text(node)? };
        if !qualified_name(text) {
            judge.fault(
                Reason::InvalidValue,
                node.place,
                format!("{} is not a finalizer name", written(node)),
                "write a domain, '/' and a name",
            );
        }
        Some(Value::from(text))
    })?;
    let has = |name: &str| value.as_array().is_some_and(|items| items.iter().any(|item| item == name));
    if has("orphan") && has("foregroundDeletion") {
        judge.fault(Reason::InvalidValue, node.place, "orphan and foregroundDeletion exclude each other", "keep one");
    }
    Some(value)
}

pub fn owner_references(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=usize::MAX, owner_reference)?;
    let controllers =
        value.as_array().map_or(0, |items| items.iter().filter(|item| item["controller"] == true).count());
    if controllers > 1 {
        judge.fault(Reason::InvalidValue, node.place, "more than one owner is the controller", "keep one");
    }
    Some(value)
}

fn owner_reference(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("apiVersion", owner_version);
        for field in ["kind", "name", "uid"] {
            fields.required(field, nonempty);
        }
        for field in ["controller", "blockOwnerDeletion"] {
            fields.optional(field, Judge::boolean);
        }
        if fields.text("apiVersion") == Some("v1") && fields.text("kind") == Some("Event") {
            let place = fields.place();
            fields.judge().fault(Reason::InvalidValue, place, "an Event cannot own objects", "");
        }
    })
}

fn owner_version(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = nonempty(judge, node)?;
    let text = node.as_str().unwrap_or_default();
    let version = match text.split_once('/') {
        Some((_, version)) => version,
        None => text,
    };
    if !text.is_empty() && (version.is_empty() || version.contains('/')) {
        judge.fault(
            Reason::InvalidValue,
            node.place,
            format!("{} is not an apiVersion", written(node)),
            "write group/version",
        );
    }
    Some(value)
}

fn nonempty(judge: &mut Judge, node: &Node) -> Option<Value> {
    let text = judge.text(node)?;
    if text.is_empty() {
        judge.fault(Reason::MissingField, node.place, "must not be empty", "");
    }
    Some(Value::from(text))
}

pub fn managed_fields(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("manager", manager);
        fields.required("operation", |judge, node| judge.choice(node, &["Apply", "Update"]));
        fields.optional("apiVersion", Judge::string);
        fields.optional("time", timestamp);
        fields.optional("fieldsType", |judge, node| {
            let text = judge.text(node)?;
            if !matches!(text, "" | "FieldsV1") {
                judge.fault(
                    Reason::InvalidValue,
                    node.place,
                    format!("{} is not supported", written(node)),
                    "write FieldsV1",
                );
            }
            Some(Value::from(text))
        });
        fields.optional("fieldsV1", |_, node| Some(node.value()));
        fields.optional("subresource", |judge, node| bounded(judge, node, 256));
    })
}

fn manager(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = bounded(judge, node, 128)?;
    if node.as_str().is_some_and(|text| text.chars().any(char::is_control)) {
        judge.fault(Reason::InvalidValue, node.place, "must hold printable characters only", "");
    }
    Some(value)
}

/// At most `max` bytes.
fn bounded(judge: &mut Judge, node: &Node, max: usize) -> Option<Value> {
    let text = judge.text(node)?;
    if text.len() > max {
        judge.fault(Reason::TooLong, node.place, format!("has {} bytes, at most {max} allowed", text.len()), "");
    }
    Some(Value::from(text))
}
