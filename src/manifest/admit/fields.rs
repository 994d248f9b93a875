//! The fields of one object of the API while it is judged.

use serde_json::{Map, Value};

use super::{Judge, Reason, written};
use crate::manifest::span::{Entries, Entry, Node, Place};

/// Unknown fields of one object for which a known name is looked up, which costs time.
const SUGGESTIONS: usize = 100;

/// Gives access to the fields of one object, remembers which are known, and gathers the stored form.
///
/// A null field counts as not written, as the API server drops it.
pub struct Fields<'j, 'n> {
    judge: &'j mut Judge,
    node: &'n Node,
    entries: &'n Entries,
    known: Vec<&'static str>,
    value: Map<String, Value>,
}

impl<'j, 'n> Fields<'j, 'n> {
    pub(super) fn new(judge: &'j mut Judge, node: &'n Node, entries: &'n Entries) -> Fields<'j, 'n> {
        Fields { judge, node, entries, known: Vec::new(), value: Map::new() }
    }

    /// The judge, standing at this object.
    pub fn judge(&mut self) -> &mut Judge {
        self.judge
    }

    /// The place of this object.
    pub fn place(&self) -> Place {
        self.node.place
    }

    /// The node of a known field as written, null included.
    pub fn raw(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        self.entries.entry(name).map(|entry| &entry.node)
    }

    /// The place of a written field, else of this object.
    pub fn place_of(&self, name: &str) -> Place {
        self.written(name).map_or(self.node.place, |entry| entry.node.place)
    }

    /// Whether the field is there (not null) or has a default.
    pub fn has(&self, name: &str) -> bool {
        self.value.contains_key(name)
    }

    /// The stored form of a field that was judged before.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.value.get(name)
    }

    /// The stored text of a field that was judged before.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value.get(name).and_then(Value::as_str)
    }

    /// The stored items of a list field that was judged before; none where it is not there.
    pub fn items(&self, name: &str) -> &[Value] {
        self.value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Puts a value into the stored form.
    pub fn store(&mut self, name: &'static str, value: Value) {
        self.value.insert(name.to_owned(), value);
    }

    /// A field that may be missing.
    pub fn optional(&mut self, name: &'static str, rule: impl FnOnce(&mut Judge, &'n Node) -> Option<Value>) {
        self.known.push(name);
        let Some(entry) = self.written(name) else { return };
        let judged = self.judge.field(name, |judge| rule(judge, &entry.node));
        self.value.insert(name.to_owned(), judged.unwrap_or(Value::Null));
    }

    /// A field that must be there.
    pub fn required(&mut self, name: &'static str, rule: impl FnOnce(&mut Judge, &'n Node) -> Option<Value>) {
        if self.written(name).is_none() {
            self.known.push(name);
            self.missing(name);
            return;
        }
        self.optional(name, rule);
    }

    /// A field with a default.
    pub fn defaulted(
        &mut self,
        name: &'static str,
        default: impl Into<Value>,
        rule: impl FnOnce(&mut Judge, &'n Node) -> Option<Value>,
    ) {
        match self.written(name) {
            Some(_) => self.optional(name, rule),
            None => {
                self.known.push(name);
                self.value.insert(name.to_owned(), default.into());
            }
        }
    }

    /// A fault: the required field `name` is not there.
    pub fn missing(&mut self, name: &'static str) {
        let place = self.node.place;
        self.judge.field(name, |judge| {
            judge.fault(Reason::MissingField, place, format!("{name} is required and not there"), "add it");
        });
    }

    /// A rule between fields does not hold; it is reported at `name` of this object (or the object itself for "").
    pub fn conflict(&mut self, name: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let place = self.place_of(name);
        match name {
            "" => self.judge.conflict(place, message, remedy),
            name => self.judge.field(name, |judge| judge.conflict(place, message, remedy)),
        }
    }

    fn written(&self, name: &str) -> Option<&'n Entry> {
        self.entries.entry(name).filter(|entry| !entry.node.is_null())
    }

    /// Reports what no call named, and gives the stored form.
    pub(super) fn finish(self) -> Map<String, Value> {
        let unknown_fields = self.entries.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str()));
        for (number, entry) in unknown_fields.enumerate() {
            let suggested = if number < SUGGESTIONS { &self.known[..] } else { &[] };
            unknown(self.judge, entry, suggested);
        }
        self.value
    }
}

fn unknown(judge: &mut Judge, entry: &Entry, known: &[&str]) {
    let remedy = match nearest(&entry.key, known) {
        Some(name) => format!("did you mean {name}?"),
        None if known.is_empty() => String::new(),
        None => format!("fields here: {}", known.join(", ")),
    };
    let key = shown(&entry.key);
    judge.field(&entry.key, |judge| {
        judge.fault(Reason::UnknownField, entry.key_place, format!("unknown field {key}"), remedy);
    });
}

fn shown(key: &str) -> String {
    let node = Node { content: crate::manifest::span::Content::String(key.to_owned()), place: Place::default() };
    written(&node)
}

/// The known name that a person most likely meant: the same in another case, or at most a third of it mistyped.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    known
        .iter()
        .map(|name| (distance(&lower, &name.to_ascii_lowercase()), *name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edit distance with insertions, deletions and substitutions.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(from != *to)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[b.len()]
}
