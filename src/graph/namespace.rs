//! Namespaces, their labels, and the selectors that name them.

use std::{collections::BTreeMap, sync::Arc};

pub use crate::api::selector::selects;
use crate::{api::Kind, manifest::Object};

/// The label that every namespace has, with its own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespaces that exist, because an object is in them or a Namespace manifest declares them, with their labels.
#[derive(Debug, Default, PartialEq)]
pub struct Namespaces(BTreeMap<String, BTreeMap<String, String>>);

impl Namespaces {
    /// `kinds` are the objects of each kind, sorted by namespace.
    pub(super) fn new(kinds: &BTreeMap<Kind, &[Arc<Object>]>) -> Namespaces {
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for mut objects in kinds.values().copied() {
            while let Some(first) = objects.first() {
                let namespace = &first.key.namespace;
                if first.kind == Kind::Namespace {
                    all.insert(first.key.name.to_string(), first.meta.labels.clone());
                } else if !namespace.is_empty() {
                    all.entry(namespace.to_string()).or_default();
                }
                let rest = &objects[1..];
                let is_last = namespace.is_empty() || rest.first().is_some_and(|next| next.key.namespace != *namespace);
                let same = if is_last { 0 } else { rest.partition_point(|next| next.key.namespace == *namespace) };
                objects = &rest[same..];
            }
        }
        for (name, labels) in &mut all {
            labels.insert(NAME_LABEL.into(), name.clone());
        }
        Namespaces(all)
    }

    /// The labels of a namespace; none where it does not exist.
    pub fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.0.get(namespace)
    }
}
