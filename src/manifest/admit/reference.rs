//! References to objects, as they recur in several kinds.

use serde_json::Value;

use super::{
    Judge,
    text::{GROUP, HOSTNAME, KIND, NAMESPACE, SECTION_NAME},
};
use crate::{api::GATEWAY_GROUP, manifest::span::Node};

pub fn group(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.form(node, &GROUP)
}

pub fn kind(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.form(node, &KIND)
}

/// `ObjectName`: bounded, without a form of its own, since kinds differ in what names they allow.
pub fn object_name(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.sized(node, 1..=253)
}

pub fn namespace(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.form(node, &NAMESPACE)
}

pub fn section_name(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.form(node, &SECTION_NAME)
}

pub fn hostname(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.form(node, &HOSTNAME)
}

/// `PortNumber`.
pub fn port(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.integer(node, 1..=65535)
}

/// `LocalObjectReference` and `LocalParametersReference`: in the namespace of the one who refers.
pub fn local(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("group", group);
        fields.required("kind", kind);
        fields.required("name", object_name);
    })
}

/// `ObjectReference` and the `ParametersReference` of a class: group and kind written out, perhaps in a namespace.
pub fn object(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("group", group);
        fields.required("kind", kind);
        fields.required("name", object_name);
        fields.optional("namespace", namespace);
    })
}

/// `SecretObjectReference`.
pub fn secret(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("group", "", group);
        fields.defaulted("kind", "Secret", kind);
        fields.required("name", object_name);
        fields.optional("namespace", namespace);
    })
}

/// `ParentReference`.
pub fn parent(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("group", GATEWAY_GROUP, group);
        fields.defaulted("kind", "Gateway", kind);
        fields.optional("namespace", namespace);
        fields.required("name", object_name);
        fields.optional("sectionName", section_name);
        fields.optional("port", port);
    })
}

/// `metav1.LabelSelector`; what its operators and values mean is judged where it is used.
pub fn label_selector(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("matchLabels", |judge, node| {
            judge.map_of(node, usize::MAX, |judge, entry| judge.string(&entry.node))
        });
        fields.optional("matchExpressions", |judge, node| judge.list(node, 0..=usize::MAX, requirement));
    })
}

fn requirement(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("key", Judge::string);
        fields.required("operator", Judge::string);
        fields.optional("values", |judge, node| judge.list(node, 0..=usize::MAX, Judge::string));
    })
}
