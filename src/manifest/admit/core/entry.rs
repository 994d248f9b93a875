//! Entries of Secrets and ConfigMaps: keys of the user's choice, with bytes or text.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::form::KEY;
use crate::{
    api::core::decode,
    manifest::{
        admit::{Fields, Judge, Reason},
        span::{Content, Node},
    },
};

/// The most that all entries of a Secret or ConfigMap may take together, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Characters of a key that messages show.
const SHOWN: usize = 40;

/// Entries of bytes: base64 with padding, line breaks allowed (or, as Go reads it too, a list of byte values). Stored as
/// base64 without line breaks.
pub fn bytes(judge: &mut Judge, node: &Node) -> Option<Value> {
    let mut value = Map::new();
    for entry in &judge.entries(node)?.entries {
        let bytes = judge.field(&shown(&entry.key), |judge| {
            key(judge, &entry.key, &entry.node);
            byte_string(judge, &entry.node)
        });
        if let Some(bytes) = bytes {
            value.insert(entry.key.clone(), Value::from(STANDARD.encode(bytes)));
        }
    }
    Some(Value::Object(value))
}

/// Entries of text; null is the empty text. What they hold may be secret, so no message shows it.
pub fn texts(judge: &mut Judge, node: &Node) -> Option<Value> {
    let mut value = Map::new();
    for entry in &judge.entries(node)?.entries {
        judge.field(&shown(&entry.key), |judge| {
            key(judge, &entry.key, &entry.node);
            match &entry.node.content {
                Content::Null => drop(value.insert(entry.key.clone(), Value::from(""))),
                Content::String(text) => drop(value.insert(entry.key.clone(), Value::from(text.as_str()))),
                _ => wrong_type(judge, &entry.node, "a string"),
            }
        });
    }
    Some(Value::Object(value))
}

/// All entries together, `lengths` of them, within the bound.
pub fn size(fields: &mut Fields, name: &str, lengths: impl Iterator<Item = usize>) {
    let total: usize = lengths.sum();
    if total > MAX_BYTES {
        let place = fields.place_of(name);
        let message = format!("the entries take {total} bytes, at most {MAX_BYTES} allowed");
        fields.judge().field(name, |judge| judge.fault(Reason::TooLong, place, message, "keep less in one object"));
    }
}

/// How many bytes `encoded`, an entry that [`bytes()`] stored, has.
pub fn decoded_length(encoded: &Value) -> usize {
    let text = encoded.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count()
}

fn key(judge: &mut Judge, key: &str, node: &Node) {
    if key.is_empty() || key.len() > *KEY.length.end() || !(KEY.holds)(key) {
        let message = format!("{:?} is not {}", shown(key), KEY.name);
        judge.fault(Reason::InvalidValue, node.place, message, format!("write {}", KEY.remedy));
    }
}

/// A key as messages show it: one that is longer may well be a value without its key.
fn shown(key: &str) -> Cow<'_, str> {
    match key.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &key[..end]).into(),
        None => key.into(),
    }
}

fn byte(node: &Node) -> Option<u8> {
    match node.content {
        Content::Null => Some(0),
        Content::Int(number) => u8::try_from(number).ok(),
        _ => None,
    }
}

fn wrong_type(judge: &mut Judge, node: &Node, wanted: &str) {
    let message = format!("must be {wanted}, not {}", node.type_name());
    judge.fault(Reason::WrongType, node.place, message, "put it in quotes");
}

fn byte_string(judge: &mut Judge, node: &Node) -> Option<Vec<u8>> {
    match &node.content {
        Content::Null => Some(Vec::new()),
        Content::String(text) => {
            let bytes = decode(text);
            if bytes.is_none() {
                judge.fault(
                    Reason::InvalidValue,
                    node.place,
                    "is not base64 with padding",
                    "encode it (base64 -w0), or write the text itself under stringData of a Secret, data of a ConfigMap",
                );
            }
            bytes
        }
        Content::List(items) => {
            let bytes: Option<Vec<u8>> = items.iter().map(byte).collect();
            if bytes.is_none() {
                judge.fault(Reason::WrongType, node.place, "is a list of other things than bytes", "write base64");
            }
            bytes
        }
        _ => {
            wrong_type(judge, node, "a string of base64");
            None
        }
    }
}
