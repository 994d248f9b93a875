//! Namespaces, their labels, and the selectors that name them.

use std::{collections::BTreeMap, sync::Arc};

pub use crate::api::selector::selects;
use crate::{api::Kind, manifest::Object};

/// The label that every namespace has, with its own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespaces that exist, because an object is in them or a Namespace manifest declares them, with their labels.
pub struct Namespaces(BTreeMap<String, BTreeMap<String, String>>);

impl Namespaces {
    pub(super) fn new(objects: &[Arc<Object>]) -> Namespaces {
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for object in objects {
            if object.kind == Kind::Namespace {
                all.insert(object.key.name.to_string(), object.meta.labels.clone());
            } else if !object.key.namespace.is_empty() && !all.contains_key(&*object.key.namespace) {
                all.insert(object.key.namespace.to_string(), BTreeMap::new());
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
