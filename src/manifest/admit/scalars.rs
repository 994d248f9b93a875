//! Single values: strings of a form, integers of a range, booleans, choices.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{Judge, Reason, text::Form, written};
use crate::manifest::span::{Content, Node};

/// The greatest value of the schema's `format: int32`.
pub const INT32_MAX: i64 = i32::MAX as i64;

impl Judge {
    /// Any string.
    pub fn string(&mut self, node: &Node) -> Option<Value> {
        self.text(node).map(Value::from)
    }

    /// Any string, as text.
    pub fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        let text = node.as_str();
        if text.is_none() {
            self.wrong_type(node, "a string");
        }
        text
    }

    /// A string whose length in characters is within `length`.
    pub fn sized(&mut self, node: &Node, length: RangeInclusive<usize>) -> Option<Value> {
        let text = self.text(node)?;
        self.length(node, text, length);
        Some(Value::from(text))
    }

    /// A string of a form of the spec.
    pub fn form(&mut self, node: &Node, form: &Form) -> Option<Value> {
        let text = self.text(node)?;
        self.length(node, text, form.length.clone());
        if !(form.holds)(text) {
            self.fault(
                Reason::InvalidValue,
                node.place,
                format!("{} is not {}", written(node), form.name),
                format!("write {}", form.remedy),
            );
        }
        Some(Value::from(text))
    }

    /// One of a few words.
    pub fn choice(&mut self, node: &Node, words: &[&str]) -> Option<Value> {
        let text = self.text(node)?;
        if !words.contains(&text) {
            let remedy = match super::fields::nearest(text, words) {
                Some(word) => format!("did you mean {word}?"),
                None => format!("choose one of: {}", words.join(", ")),
            };
            self.fault(Reason::UnsupportedValue, node.place, format!("{} is not supported", written(node)), remedy);
        }
        Some(Value::from(text))
    }

    pub fn boolean(&mut self, node: &Node) -> Option<Value> {
        match node.content {
            Content::Bool(flag) => Some(Value::Bool(flag)),
            _ => {
                self.wrong_type(node, "a boolean");
                None
            }
        }
    }

    /// An integer within `range`.
    pub fn integer(&mut self, node: &Node, range: RangeInclusive<i64>) -> Option<Value> {
        let Content::Int(number) = node.content else {
            self.wrong_type(node, "an integer");
            return None;
        };
        if !range.contains(&number) {
            let (min, max) = (*range.start(), *range.end());
            let remedy = match max {
                i64::MAX => format!("write {min} or more"),
                _ => format!("write {min} to {max}"),
            };
            self.fault(Reason::InvalidValue, node.place, format!("{number} is out of range"), remedy);
        }
        Some(Value::from(number))
    }

    fn length(&mut self, node: &Node, text: &str, length: RangeInclusive<usize>) {
        let count = text.chars().count();
        if count < *length.start() {
            let message = match count {
                0 => "must not be empty".to_owned(),
                _ => format!("has {count} characters, at least {} needed", length.start()),
            };
            self.fault(Reason::InvalidValue, node.place, message, "");
        } else if count > *length.end() {
            let message = format!("has {count} characters, at most {} allowed", length.end());
            self.fault(Reason::TooLong, node.place, message, "shorten it");
        }
    }
}
