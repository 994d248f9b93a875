//! *watch* and *parse*: files of a directory become admitted, defaulted, typed objects with their origin.
//!
//! [`tree`] lists and reads the files, [`span`] turns YAML 1.1 or JSON text into a tree that knows where everything
//! stands, [`admit`] judges it as the API server would with the official CRDs, [`parse`] puts the three together and
//! [`accepted`] keeps the last accepted version of each object. Nothing here knows what a Gateway does.

pub mod admit;
pub mod parse;
pub mod position;
pub mod readable;
pub mod role;
pub mod served;
pub mod span;

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod accepted;
pub mod tree;
pub mod watch;

use crate::{
    api::{Kind, ObjectKey, ObjectMeta},
    finding::Origin,
};

/// An admitted object: made by *parse*, completed (uid, generation, creationTimestamp) by the accepted-object store,
/// read by *resolve*.
///
/// `value` is the whole document as the API server would store it: nulls dropped, defaults in place, `status` as
/// written (foreign conditions are kept, see `status::merge`), namespace defaulted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Object {
    pub key: ObjectKey,
    pub kind: Kind,
    /// As written: `gateway.networking.k8s.io/v1beta1`.
    pub api_version: String,
    pub meta: ObjectMeta,
    pub value: Arc<Value>,
    pub origin: Origin,
    /// Where each field stands, by field path (`spec.rules[0].matches`); empty for objects read back from the store.
    #[serde(skip)]
    pub positions: Positions,
    /// What [`Object::typed`] gave before.
    #[serde(skip)]
    pub reading: Reading,
}

impl Object {
    /// The place of `field`, or of its nearest ancestor that has one.
    pub fn place(&self, field: &str) -> Origin {
        let mut path = field;
        loop {
            if let Some((line, column)) = self.positions.get(path) {
                return Origin { file: self.origin.file.clone(), line, column };
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return self.origin.clone(),
            }
        }
    }

    /// `spec` (or, for kinds without one, the whole document) as the kind's own type, read once: a pass asks for that of
    /// every object, and of each kind for one type.
    ///
    /// # Errors
    /// Never for admitted objects of the matching type; the text of serde's error else.
    pub fn typed<T>(&self, field: Option<&str>) -> Result<&T, String>
    where
        T: for<'de> Deserialize<'de> + Send + Sync + 'static,
    {
        let known = self.reading.0.get_or_init(|| {
            let value = match field {
                Some(field) => self.value.get(field).unwrap_or(&Value::Null),
                None => &*self.value,
            };
            let typed = T::deserialize(value).map_err(|error| error.to_string())?;
            Ok(Box::new(typed))
        });
        let typed = known.as_ref().map_err(String::clone)?;
        Ok(typed.downcast_ref().expect("a kind has one type"))
    }
}

/// A document's typed form once it was asked for; shared by clones, and no part of what makes objects equal.
#[derive(Clone, Default)]
pub struct Reading(Arc<OnceLock<Result<Box<dyn Any + Send + Sync>, String>>>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl PartialEq for Reading {
    fn eq(&self, _: &Reading) -> bool {
        true
    }
}

/// Field path → line and column, both from 1; shared by clones.
pub type Positions = Arc<position::PositionTable>;

/// A document that gapi does not serve, and why that is no error.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ignored {
    pub origin: Origin,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// `kind of another group`, `not served yet`, …
    pub reason: String,
}

/// The same without spare room in it: documents are kept for long, and most of their maps have one or two fields.
pub fn compact(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, compact(value))).collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(compact).collect();
            items.shrink_to_fit();
            items.into()
        }
        other => other,
    }
}

/// Where two maps differ: each key that has no value, or another one, in one of them, with both values.
pub fn differences<'a, K: Ord, V>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)> {
    let mut differences = Vec::new();
    let mut old = before.iter().peekable();
    for (key, value) in after {
        while let Some((gone, before)) = old.next_if(|(other, _)| *other < key) {
            differences.push((gone, Some(before), None));
        }
        match old.next_if(|(other, _)| *other == key) {
            Some((_, before)) if same(before, value) => {}
            before => differences.push((key, before.map(|(_, before)| before), Some(value))),
        }
    }
    differences.extend(old.map(|(gone, before)| (gone, Some(before), None)));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_once() {
        let before = BTreeMap::from([(1, 'a'), (2, 'b'), (4, 'd'), (9, 'z')]);
        let after = BTreeMap::from([(0, 'x'), (2, 'b'), (3, 'c'), (4, 'e')]);
        let want = [
            (&0, None, Some(&'x')),
            (&1, Some(&'a'), None),
            (&3, None, Some(&'c')),
            (&4, Some(&'d'), Some(&'e')),
            (&9, Some(&'z'), None),
        ];
        assert_eq!(differences(&before, &after, |one, other| one == other), want);
        assert!(differences(&before, &before, |one, other| one == other).is_empty());
    }
}
