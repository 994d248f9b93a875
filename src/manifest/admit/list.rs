//! Lists, sets, lists with keys, and maps with keys of the user's choice.

use std::{collections::HashMap, ops::RangeInclusive};

use serde_json::Value;

use super::{Judge, Reason};
use crate::manifest::span::{Content, Entry, Node};

impl Judge {
    /// A list of `min..=max` items, each judged by `item`.
    pub fn list(
        &mut self,
        node: &Node,
        count: RangeInclusive<usize>,
        mut item: impl FnMut(&mut Judge, &Node) -> Option<Value>,
    ) -> Option<Value> {
        let Content::List(items) = &node.content else {
            self.wrong_type(node, "a list");
            return None;
        };
        self.count(node, items.len(), count, "item");
        let judged = items
            .iter()
            .enumerate()
            .map(|(index, node)| self.at(format_args!("[{index}]"), |judge| item(judge, node)).unwrap_or(Value::Null));
        Some(judged.collect())
    }

    /// A map with keys of the user's choice, each value judged by `item`; null values are dropped.
    pub fn map_of(
        &mut self,
        node: &Node,
        max: usize,
        mut item: impl FnMut(&mut Judge, &Entry) -> Option<Value>,
    ) -> Option<Value> {
        let entries = self.entries(node)?;
        let written = entries.entries.iter().filter(|entry| !entry.node.is_null());
        self.count(node, written.clone().count(), 0..=max, "entry");
        let mut value = serde_json::Map::new();
        for entry in written {
            let judged = self.field(&entry.key, |judge| item(judge, entry));
            value.insert(entry.key.clone(), judged.unwrap_or(Value::Null));
        }
        Some(Value::Object(value))
    }

    fn count(&mut self, node: &Node, length: usize, allowed: RangeInclusive<usize>, noun: &str) {
        let (min, max) = (*allowed.start(), *allowed.end());
        let plural = |count: usize| match (noun, count) {
            (_, 1) => noun.to_owned(),
            ("entry", _) => "entries".to_owned(),
            _ => format!("{noun}s"),
        };
        if length < min {
            let message = format!("has {length} {}, at least {min} needed", plural(length));
            self.fault(Reason::TooFew, node.place, message, "");
        } else if length > max {
            let message = format!("has {length} {}, at most {max} allowed", plural(length));
            self.fault(Reason::TooMany, node.place, message, "");
        }
    }

    /// A list of at most `max` items, no two of them equal.
    pub fn set(
        &mut self,
        node: &Node,
        max: usize,
        item: impl FnMut(&mut Judge, &Node) -> Option<Value>,
    ) -> Option<Value> {
        let value = self.list(node, 0..=max, item)?;
        self.distinct(node, value.as_array()?.iter().map(Some).collect());
        Some(value)
    }

    /// No two items of a list have the same `key`; compared exactly.
    pub fn unique(&mut self, node: &Node, value: &Value, key: &str) {
        self.distinct(node, value.as_array().map_or(&[][..], Vec::as_slice).iter().map(|item| item.get(key)).collect());
    }

    fn distinct(&mut self, node: &Node, keys: Vec<Option<&Value>>) {
        let Content::List(nodes) = &node.content else { return };
        let mut seen = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            let Some(key) = key.filter(|key| key.is_string() || key.is_number()) else { continue };
            if let Some(first) = seen.insert(key.to_string(), index) {
                self.at(format_args!("[{index}]"), |judge| {
                    let message = format!("{key} stands twice in the list, first as item {first}");
                    judge.fault(Reason::DuplicateItem, nodes[index].place, message, "keep one of them");
                });
            }
        }
    }
}
