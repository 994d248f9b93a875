//! How the server reads a document into a Go structure: what is not there, or null, is the type's empty value.

use std::{collections::HashSet, ops::RangeInclusive};

use serde_json::Value;

use crate::manifest::{
    admit::{Fields, Judge, Reason, time::timestamp},
    span::{Content, Entries, Node, Place},
};

/// The integers of Go's `int32`.
pub const INT32: RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;

/// What a field judges its value by.
pub type Rule = fn(&mut Judge, &Node) -> Option<Value>;

/// An object of the API without any field.
pub fn empty(place: Place) -> Node {
    Node { content: Content::Map(Entries::default()), place }
}

/// A field that is judged as an empty object where it is not there.
pub fn always(fields: &mut Fields, name: &'static str, rule: Rule) {
    fields.optional(name, rule);
    if fields.has(name) {
        return;
    }
    let empty = empty(fields.place());
    if let Some(value) = fields.judge().field(name, |judge| rule(judge, &empty)) {
        fields.store(name, value);
    }
}

/// Strings that may say anything.
pub fn strings(fields: &mut Fields, names: &[&'static str]) {
    for name in names {
        fields.optional(name, Judge::string);
    }
}

/// A list of objects; a null item is an empty object.
pub fn objects(judge: &mut Judge, node: &Node, max: usize, item: Rule) -> Option<Value> {
    judge.list(node, 0..=max, |judge, node| match node.is_null() {
        true => item(judge, &empty(node.place)),
        false => item(judge, node),
    })
}

/// The stored items of a list with their nodes.
pub fn items<'v, 'n>(node: &'n Node, value: &'v Value) -> Vec<(&'v Value, &'n Node)> {
    match (&node.content, value) {
        (Content::List(nodes), Value::Array(items)) => items.iter().zip(nodes).collect(),
        _ => Vec::new(),
    }
}

/// No two items of a list have the same stored name.
pub fn distinct_names(judge: &mut Judge, node: &Node, value: &Value) {
    let mut seen = HashSet::new();
    for (index, (item, node)) in items(node, value).into_iter().enumerate() {
        if item["name"].as_str().is_some_and(|name| !seen.insert(name)) {
            let place = node.get("name").map_or(node.place, |node| node.place);
            judge.at(format_args!("[{index}].name"), |judge| {
                let message = format!("another item has the name {} too", item["name"]);
                judge.fault(Reason::DuplicateItem, place, message, "give each its own name");
            });
        }
    }
}

/// A list of strings, each judged by `item`; a null item is the empty string.
pub fn texts(
    judge: &mut Judge,
    node: &Node,
    max: usize,
    mut item: impl FnMut(&mut Judge, &Node, &str),
) -> Option<Value> {
    judge.list(node, 0..=max, |judge, node| {
        let text = if node.is_null() { "" } else { judge.text(node)? };
        item(judge, node, text);
        Some(Value::from(text))
    })
}

/// One of a few words; the empty one means `default`.
pub fn choice_or(judge: &mut Judge, node: &Node, words: &[&str], default: &str) -> Option<Value> {
    match judge.text(node)? {
        "" => Some(Value::from(default)),
        _ => judge.choice(node, words),
    }
}

/// An integer that Go holds in 32 bits.
pub fn int32(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.integer(node, INT32)
}

/// A port number.
pub fn port(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.integer(node, 1..=65535)
}

/// `metav1.Condition` and `NamespaceCondition`; only the first has an `observedGeneration`.
pub fn condition(judge: &mut Judge, node: &Node, observed_generation: bool) -> Option<Value> {
    judge.object(node, |fields| {
        strings(fields, &["type", "status", "reason", "message"]);
        fields.optional("lastTransitionTime", timestamp);
        if observed_generation {
            fields.optional("observedGeneration", |judge, node| judge.integer(node, i64::MIN..=i64::MAX));
        }
    })
}

/// `ObjectReference`: what stands behind an address. The server judges its types only.
pub fn object_reference(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        strings(fields, &["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"]);
    })
}
