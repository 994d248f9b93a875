//! A label selector as the API server judges it in its own kinds.

use serde_json::Value;

use crate::manifest::{
    admit::{
        Judge, Reason,
        core::structure::{objects, texts},
        metadata::{labels, qualified_name},
        text::LABEL_VALUE,
        written,
    },
    span::Node,
};

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// `metav1.LabelSelector`.
pub fn label_selector(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("matchLabels", labels);
        fields.optional("matchExpressions", |judge, node| objects(judge, node, usize::MAX, requirement));
    })
}

fn requirement(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("key", key);
        fields.optional("operator", |judge, node| judge.choice(node, &OPERATORS));
        fields.optional("values", |judge, node| texts(judge, node, usize::MAX, value));
        for name in ["key", "operator"] {
            if !fields.has(name) {
                fields.missing(name);
            }
        }
        let empty = fields.items("values").is_empty();
        match fields.text("operator") {
            Some("In" | "NotIn") if empty => fields.missing("values"),
            Some("Exists" | "DoesNotExist") if !empty => {
                let place = fields.place_of("values");
                fields.judge().field("values", |judge| {
                    judge.fault(Reason::InvalidValue, place, "this operator takes no values", "remove them");
                });
            }
            _ => {}
        }
    })
}

fn key(judge: &mut Judge, node: &Node) -> Option<Value> {
    let text = judge.text(node)?;
    if !qualified_name(text) {
        let remedy = "write at most 63 letters, digits, '-', '_' and '.', perhaps after a lower-case domain and '/'";
        judge.fault(Reason::InvalidValue, node.place, format!("{} is not a key for labels", written(node)), remedy);
    }
    Some(Value::from(text))
}

fn value(judge: &mut Judge, node: &Node, text: &str) {
    if text.len() > 63 || !(LABEL_VALUE.holds)(text) {
        let message = format!("{} is not {}", written(node), LABEL_VALUE.name);
        judge.fault(Reason::InvalidValue, node.place, message, format!("write {}", LABEL_VALUE.remedy));
    }
}
