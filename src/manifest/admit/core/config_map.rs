//! ConfigMap.

use serde_json::Value;

use super::{
    document::{document, generation},
    entry,
};
use crate::manifest::{
    admit::{Fields, Judge, Reason, metadata::NameRule},
    span::Node,
};

/// Judges a ConfigMap.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::Subdomain, |fields| {
        fields.optional("immutable", Judge::boolean);
        fields.optional("data", entry::texts);
        fields.optional("binaryData", entry::bytes);
        distinct(fields);
        let texts = lengths(fields, "data", |text| text.as_str().map_or(0, str::len));
        let bytes = lengths(fields, "binaryData", entry::decoded_length);
        entry::size(fields, "data", [texts, bytes].into_iter());
    })
}

fn lengths(fields: &Fields, name: &str, length: fn(&Value) -> usize) -> usize {
    let entries = fields.get(name).and_then(Value::as_object);
    entries.into_iter().flat_map(|entries| entries.values()).map(length).sum()
}

/// No key stands both in `data` and in `binaryData`.
fn distinct(fields: &mut Fields) {
    let object = |name| fields.get(name).and_then(Value::as_object);
    let (Some(texts), Some(bytes)) = (object("data"), object("binaryData")) else { return };
    let twice: Vec<String> = texts.keys().filter(|key| bytes.contains_key(*key)).cloned().collect();
    let place = fields.place_of("binaryData");
    for key in twice {
        let field = format!("binaryData[{key}]");
        let message = format!("{key:?} stands in data too");
        fields.judge().fault_at(Reason::DuplicateItem, field, place, message, "keep one of them");
    }
}
