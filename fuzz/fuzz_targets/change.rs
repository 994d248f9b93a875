//! Changes of a manifest that leave it one: a value replaced, taken away, copied, or exchanged for one from elsewhere.

use gapi::manifest::span::{Bounds, decode, read};
use serde_json::{Value, json};

/// Values at which code has its edges.
fn edges() -> Vec<Value> {
    let long = "a".repeat(300);
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(65_535),
        json!(65_536),
        json!(2_147_483_648_u64),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(""),
        json!("*"),
        json!("/"),
        json!("//a/../%2f?x#y"),
        json!("*.example.com"),
        json!("example.com"),
        json!("a.b.example.com"),
        json!("Ä"),
        json!("0s"),
        json!("1h"),
        json!("999999999h"),
        json!("(a|b)*c+"),
        json!("[a-"),
        json!(long),
        json!([]),
        json!({}),
        json!("default"),
        json!("HTTP"),
        json!("HTTPS"),
        json!("TLS"),
        json!("TCP"),
        json!("UDP"),
        json!("PathPrefix"),
        json!("Exact"),
        json!("RegularExpression"),
        json!("Same"),
        json!("All"),
        json!("Selector"),
        json!("Terminate"),
        json!("Passthrough"),
        json!("Service"),
        json!("Secret"),
        json!("Gateway"),
        json!("ReplaceFullPath"),
        json!("ReplacePrefixMatch"),
        json!("RequestMirror"),
        json!("2001:db8::1"),
        json!("127.0.0.1"),
    ]
}

/// A sequence of numbers that a seed gives (xorshift).
struct Dice(u32);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % bound.max(1)
    }
}

/// Changes the documents in the first `size` bytes; the new size, none where they are none or have no room.
pub fn documents(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let bounds = Bounds { bytes: 1 << 20, nodes: 20_000, documents: 200, depth: 60 };
    let text = decode(&data[..size]).ok()?;
    let documents = read(&text, &bounds).ok()?;
    let mut values: Vec<Value> = documents.iter().map(|document| document.root.value()).collect();
    let mut dice = Dice(seed | 1);
    for _ in 0..1 + dice.below(4) {
        let document = dice.below(values.len());
        let all = nodes(values.get(document)?);
        let target = dice.below(all.len());
        let other = values[dice.below(values.len())].clone();
        let others = nodes(&other);
        let new = match dice.below(3) {
            0 => edges().swap_remove(dice.below(edges().len())),
            _ => others[dice.below(others.len())].clone(),
        };
        let copy = dice.below(values.len());
        match dice.below(8) {
            0 => values.push(values[copy].clone()),
            1 if values.len() > 1 => _ = values.remove(document),
            2 => at(&mut values[document], target, |value| *value = Value::Null),
            3 => at(&mut values[document], target, |value| {
                if let Value::Array(items) = value {
                    items.push(items.first().cloned().unwrap_or(new));
                }
            }),
            _ => at(&mut values[document], target, |value| *value = new),
        }
    }
    let text: String = values.iter().map(|value| format!("{value}\n---\n")).collect();
    let length = text.len();
    if length > max_size.min(data.len()) {
        return None;
    }
    data[..length].copy_from_slice(text.as_bytes());
    Some(length)
}

/// Every value in one, itself first.
fn nodes(value: &Value) -> Vec<Value> {
    let mut all = vec![value.clone()];
    match value {
        Value::Array(items) => all.extend(items.iter().flat_map(nodes)),
        Value::Object(fields) => all.extend(fields.values().flat_map(nodes)),
        _ => {}
    }
    all
}

/// Does something to the value with that number, as [`nodes`] counts.
fn at(value: &mut Value, number: usize, change: impl FnOnce(&mut Value)) {
    fn find<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().find_map(|item| find(item, left)),
            Value::Object(fields) => fields.values_mut().find_map(|field| find(field, left)),
            _ => None,
        }
    }
    let mut left = number;
    if let Some(found) = find(value, &mut left) {
        change(found);
    }
}
