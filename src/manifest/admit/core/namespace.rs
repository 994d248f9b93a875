//! Namespace.

use serde_json::{Value, json};

use super::{
    document::{document, finalizer, generation},
    structure::{condition, objects, strings, texts},
};
use crate::manifest::{
    admit::{Judge, metadata::NameRule},
    span::Node,
};

/// The label that every namespace has, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Judges a Namespace; the stored form has its name as a label.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    let mut value = document(judge, node, NameRule::ClusterScopedLabel, |fields| {
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

fn status(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        strings(fields, &["phase"]);
        fields.optional("conditions", |judge, node| {
            objects(judge, node, usize::MAX, |judge, node| condition(judge, node, false))
        });
    })
}
