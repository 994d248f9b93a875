//! Secret.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    document::{document, generation},
    entry,
};
use crate::{
    api::core::decode,
    manifest::{
        admit::{Fields, Judge, Reason, metadata::NameRule},
        span::{Content, Node},
    },
};

const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Judges a Secret. `stringData` is kept beside `data`, over which it lies; both count as one for the rules.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::Subdomain, |fields| {
        fields.optional("immutable", Judge::boolean);
        fields.optional("data", |judge, node| unseen(judge, node, entry::bytes));
        fields.optional("stringData", |judge, node| unseen(judge, node, entry::texts));
        fields.defaulted("type", "Opaque", |judge, node| {
            let text = judge.text(node)?;
            Some(Value::from(if text.is_empty() { "Opaque" } else { text }))
        });
        let entries = merged(fields);
        entry::size(fields, "data", entries.values().map(Entry::length));
        let missing = missing(fields, &entries);
        for (field, message) in missing {
            let place = fields.place();
            fields.judge().fault_at(Reason::MissingField, field, place, message, "add it, or change the Secret's type");
        }
    })
}

/// What is no map may be a secret all the same, so the message does not show it.
fn unseen(judge: &mut Judge, node: &Node, rule: fn(&mut Judge, &Node) -> Option<Value>) -> Option<Value> {
    if matches!(node.content, Content::Map(_)) {
        return rule(judge, node);
    }
    judge.fault(Reason::WrongType, node.place, format!("must be a map, not {}", node.type_name()), "");
    None
}

/// An entry as the rules see it.
enum Entry {
    Bytes(Value),
    Text(String),
}

impl Entry {
    fn length(&self) -> usize {
        match self {
            Entry::Bytes(encoded) => entry::decoded_length(encoded),
            Entry::Text(text) => text.len(),
        }
    }

    /// Whether the entry is a JSON object (or null).
    fn is_json_object(&self) -> bool {
        let bytes = match self {
            Entry::Bytes(encoded) => decode(encoded.as_str().unwrap_or_default()).unwrap_or_default(),
            Entry::Text(text) => text.clone().into_bytes(),
        };
        let text = bytes.trim_ascii();
        (text == b"null" || text.starts_with(b"{"))
            && serde_json::from_slice::<IgnoredAny>(text).is_ok()
            && !has_boundless_number(text)
    }
}

/// Whether a number of well-formed JSON is beyond what a double holds (`1e999`), which Go refuses.
fn has_boundless_number(json: &[u8]) -> bool {
    let mut outside_strings = Vec::with_capacity(json.len());
    let mut bytes = json.iter();
    let mut quoted = false;
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(bytes.next()),
            byte if !quoted => outside_strings.push(byte),
            _ => {}
        }
    }
    let text = String::from_utf8_lossy(&outside_strings);
    let mut words = text.split(|c: char| matches!(c, ',' | ':' | '[' | ']' | '{' | '}') || c.is_ascii_whitespace());
    words.any(|word| word.parse::<f64>().is_ok_and(f64::is_infinite))
}

/// `data` with `stringData` over it.
fn merged(fields: &Fields) -> BTreeMap<String, Entry> {
    let entries = |name| fields.get(name).and_then(Value::as_object).into_iter().flatten();
    let bytes = entries("data").map(|(key, value)| (key.clone(), Entry::Bytes(value.clone())));
    let texts = entries("stringData")
        .map(|(key, value)| (key.clone(), Entry::Text(value.as_str().unwrap_or_default().to_owned())));
    bytes.chain(texts).collect()
}

/// The entries that the Secret's type asks for and that are not there: field path and message.
fn missing(fields: &Fields, entries: &BTreeMap<String, Entry>) -> Vec<(String, String)> {
    let type_ = fields.text("type").unwrap_or_default();
    let needs = |key: &str, holds: &dyn Fn(&Entry) -> bool, what: &str| {
        let absent = !entries.get(key).is_some_and(holds);
        absent.then(|| (format!("data[{key}]"), format!("a Secret of type {type_} needs {what} under {key}")))
    };
    let any = |_: &Entry| true;
    match type_ {
        "kubernetes.io/tls" => {
            [needs("tls.crt", &any, "the certificate chain in PEM"), needs("tls.key", &any, "the private key in PEM")]
                .into_iter()
                .flatten()
                .collect()
        }
        "kubernetes.io/dockercfg" => needs(".dockercfg", &Entry::is_json_object, "JSON").into_iter().collect(),
        "kubernetes.io/dockerconfigjson" => {
            needs(".dockerconfigjson", &Entry::is_json_object, "JSON").into_iter().collect()
        }
        "kubernetes.io/basic-auth" if !entries.contains_key("password") => {
            needs("username", &any, "a user name (or a password under password)").into_iter().collect()
        }
        "kubernetes.io/ssh-auth" => {
            needs("ssh-privatekey", &|entry| entry.length() > 0, "a private key").into_iter().collect()
        }
        "kubernetes.io/service-account-token" if !names_account(fields) => {
            let message = format!("a Secret of type {type_} needs the annotation {SERVICE_ACCOUNT}");
            vec![(format!("metadata.annotations[{SERVICE_ACCOUNT}]"), message)]
        }
        _ => Vec::new(),
    }
}

fn names_account(fields: &Fields) -> bool {
    let account = fields.get("metadata").and_then(|metadata| metadata["annotations"][SERVICE_ACCOUNT].as_str());
    account.is_some_and(|name| !name.is_empty())
}
