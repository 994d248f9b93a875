//! What the core kinds ask of `metadata` beyond what all kinds do.

use serde_json::Value;

use crate::manifest::{
    admit::{
        Fields, Judge, Reason,
        metadata::{NameRule, qualified_name},
        written,
    },
    span::{Content, Node},
};

/// The finalizers that need no domain.
const FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// A whole document of a core kind, with the fields that `body` names.
pub fn document(judge: &mut Judge, node: &Node, rule: NameRule, body: impl FnOnce(&mut Fields)) -> Option<Value> {
    judge.document(node, rule, |fields| {
        body(fields);
        if let Some(metadata) = node.get("metadata") {
            fields.judge().field("metadata", |judge| finalizers(judge, metadata));
        }
    })
}

/// The server keeps the generation of these kinds as it is written, so it judges it.
pub fn generation(judge: &mut Judge, node: &Node) {
    let Some(node) = node.get("metadata").and_then(|metadata| metadata.get("generation")) else { return };
    if let Content::Int(..0) = node.content {
        let message = "must not be negative";
        judge.fault_at(Reason::InvalidValue, "metadata.generation".to_owned(), node.place, message, "remove it");
    }
}

/// A finalizer of a Namespace.
pub fn finalizer(judge: &mut Judge, node: &Node, text: &str) {
    if !qualified_name(text) || !(text.contains('/') || FINALIZERS.contains(&text)) {
        let message = format!("{} is not a finalizer name", written(node));
        let remedy = format!("write a domain, '/' and a name, or one of: {}", FINALIZERS.join(", "));
        judge.fault(Reason::InvalidValue, node.place, message, remedy);
    }
}

/// `metadata.finalizers`: names that all kinds take are judged here again, for a domain.
fn finalizers(judge: &mut Judge, metadata: &Node) {
    let Some(Content::List(items)) = metadata.get("finalizers").map(|node| &node.content) else { return };
    for (index, node) in items.iter().enumerate() {
        if let Some(text) = node.as_str().filter(|text| qualified_name(text)) {
            judge.at(format_args!(".finalizers[{index}]"), |judge| finalizer(judge, node, text));
        }
    }
}
