//! What does a manifest's text say, and where does each word of it stand?
//!
//! YAML 1.1 (as go-yaml v2, and so the API server, reads it) or JSON becomes [`Document`]s of [`Node`]s: typed JSON
//! values, each with the place of its key and of its value. Aliases are expanded and merge keys applied. The bounds of
//! [`Bounds`] hold; a syntax error or a bound passed is a [`Refusal`] of the whole text, what is wrong inside one
//! document only (a duplicate or null key, a tag that does not fit) is left with that document.

mod decode;
mod documents;
mod mapping;
mod read;
mod scalar;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use decode::decode;
pub use read::read;

/// How much a file may hold; each bound that is passed is a finding of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Bytes of a file.
    pub bytes: usize,
    /// Nodes of a file, aliases counted as what they expand to.
    pub nodes: usize,
    /// Documents of a file.
    pub documents: usize,
    /// Collections inside collections.
    pub depth: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { bytes: 32 << 20, nodes: 2_000_000, documents: 100_000, depth: 100 }
    }
}

/// Where something stands in the decoded text.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte span in the decoded text.
    pub start: usize,
    pub end: usize,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub content: Content,
    pub place: Place,
}

/// A JSON value; numbers as the API server sees them after YAML became JSON: `80.0` is the integer 80.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Null,
    Bool(bool),
    Int(i64),
    /// Never NaN or infinite; never an integer that an `i64` holds.
    Float(f64),
    String(String),
    List(Vec<Node>),
    Map(Entries),
}

/// The entries of a map in the order of the text; keys are unique in `entries`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    pub entries: Vec<Entry>,
    /// Keys that came again, with the place of the repetition.
    pub duplicates: Vec<(String, Place)>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub node: Node,
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub root: Node,
    /// What makes this document unreadable, though the text around it is well-formed.
    pub problems: Vec<Problem>,
}

/// A fault of one document that is not about a field of its kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    pub place: Place,
    pub message: String,
    pub remedy: String,
}

/// Why the whole text is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    pub place: Place,
    /// `SyntaxError`, or the name of a bound: `FileTooLarge`, `TooManyNodes`, `TooManyDocuments`, `TooDeep`.
    pub reason: &'static str,
    pub message: String,
    pub remedy: String,
}

impl Entries {
    /// The entry of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Node {
    /// The value of `key`, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(fields) => fields.entry(key).map(|entry| &entry.node),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.content == Content::Null
    }

    /// The value as written, nulls included.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(flag) => Value::Bool(*flag),
            Content::Int(number) => Value::from(*number),
            Content::Float(number) => Value::from(*number),
            Content::String(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Node::value).collect(),
            Content::Map(fields) => {
                let entries = fields.entries.iter().map(|entry| (entry.key.clone(), entry.node.value()));
                Value::Object(entries.collect::<Map<String, Value>>())
            }
        }
    }

    /// What a person would call the value's type.
    pub fn type_name(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::Bool(_) => "a boolean",
            Content::Int(_) => "an integer",
            Content::Float(_) => "a number",
            Content::String(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}
