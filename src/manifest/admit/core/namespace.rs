//! Namespace.

use serde_json::{Value, json};

use super::structure::{condition, objects, strings, texts};
use crate::manifest::{
    admit::{
        Judge, Reason,
        metadata::{NameRule, qualified_name},
        written,
    },
    span::Node,
};

/// The label that every namespace has, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The finalizers that need no domain.
const FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Judges a Namespace; the stored form has its name as a label.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    let mut value = judge.document(node, NameRule::ClusterScopedLabel, |fields| {
        fields.optional("spec", spec);
        fields.optional("status", status);
    })?;
    let metadata = &mut value["metadata"];
    if let Some(name) = metadata["name"].as_str().map(str::to_owned) {
        match &mut metadata["labels"] {
            Value::Object(labels) => drop(labels.insert(NAME_LABEL.to_owned(), Value::from(name))),
            labels => *labels = json!({ NAME_LABEL: name }),
        }
    }
    Some(value)
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("finalizers", |judge, node| texts(judge, node, usize::MAX, finalizer));
    })
}

fn finalizer(judge: &mut Judge, node: &Node, text: &str) {
    if !qualified_name(text) || !(text.contains('/') || FINALIZERS.contains(&text)) {
        let message = format!("{} is not a finalizer name", written(node));
        let remedy = format!("write a domain, '/' and a name, or one of: {}", FINALIZERS.join(", "));
        judge.fault(Reason::InvalidValue, node.place, message, remedy);
    }
}

fn status(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        strings(fields, &["phase"]);
        fields.optional("conditions", |judge, node| {
            objects(judge, node, usize::MAX, |judge, node| condition(judge, node, false))
        });
    })
}
