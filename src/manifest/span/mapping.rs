//! A mapping while it is read: typed keys, repetitions, merge keys.

use std::collections::{HashMap, HashSet};

use super::{Content, Entries, Entry, Node, Place, scalar::Scalar};

/// A key as written: `1` and `"1"` are two keys, `1` and `01` are one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Key {
    Text(String),
    Number(String),
    Float(u64),
    Flag(bool),
}

/// The entries read so far.
#[derive(Debug, Default)]
pub struct Mapping {
    entries: Entries,
    seen: HashSet<Key>,
    /// Where in `entries` each key stands.
    index: HashMap<String, usize>,
    /// Values of merge keys, each a map.
    merged: Vec<Entries>,
}

impl Mapping {
    /// Adds an entry; one whose key was there before only counts as a repetition.
    ///
    /// # Errors
    /// The key is null or no key of JSON.
    pub fn add(&mut self, key: &Scalar, key_place: Place, node: Node) -> Result<(), String> {
        let text = key.key()?;
        if !self.seen.insert(identity(key)) {
            self.entries.duplicates.push((text, key_place));
            return Ok(());
        }
        match self.index.get(&text) {
            Some(index) => self.entries.entries[*index].node = node,
            None => {
                self.index.insert(text.clone(), self.entries.entries.len());
                self.entries.entries.push(Entry { key: text, key_place, node });
            }
        }
        Ok(())
    }

    /// Adds the value of a merge key: a map, or (`in_place`, not through an alias) a list of maps of which the earlier
    /// win.
    ///
    /// # Errors
    /// The value is something else.
    pub fn merge(&mut self, node: Node, in_place: bool) -> Result<(), String> {
        match node.content {
            Content::Map(entries) => self.merged.push(entries),
            Content::List(items) if in_place => {
                for item in items {
                    self.merge(item, false)?;
                }
            }
            _ => return Err("a merge key takes a map or a list of maps".to_owned()),
        }
        Ok(())
    }

    /// The whole map: what is written in it wins over what is merged into it.
    pub fn finish(self) -> Entries {
        let mut entries = self.entries;
        if self.merged.is_empty() {
            return entries;
        }
        let mut keys: HashSet<String> = entries.entries.iter().map(|entry| entry.key.clone()).collect();
        for merged in self.merged {
            for entry in merged.entries {
                if keys.insert(entry.key.clone()) {
                    entries.entries.push(entry);
                }
            }
        }
        entries
    }
}

fn identity(key: &Scalar) -> Key {
    match key {
        Scalar::Null => Key::Text(String::new()),
        Scalar::Bool(flag) => Key::Flag(*flag),
        Scalar::Int(number) => Key::Number(number.to_string()),
        Scalar::Unsigned(number) => Key::Number(number.to_string()),
        Scalar::Float(number) => Key::Float(number.to_bits()),
        Scalar::Text(text) => Key::Text(text.clone()),
    }
}
