//! Finding objects: by kind and name, grants and labels by namespace. Nothing is built that the order of the input has
//! already, since a pass that changes one object should not touch all others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;

use crate::{
    api::{KINDS, Kind, ObjectKey, reference_grant::ReferenceGrantSpec},
    manifest::Object,
};

use super::namespace::Namespaces;

/// Every object of the pass.
pub struct Index<'a> {
    /// By namespace and name.
    kinds: BTreeMap<Kind, &'a [Arc<Object>]>,
    pub(super) grants: HashMap<&'a str, Vec<&'a ReferenceGrantSpec>>,
    /// Secrets that are being issued, by namespace and name: what is said of them.
    pub(super) pending: BTreeMap<(Arc<str>, String), String>,
    /// Secrets that were issued here.
    pub(super) issued: BTreeSet<ObjectKey>,
    /// The namespaces that exist, with their labels.
    pub namespaces: Arc<Namespaces>,
}

impl<'a> Index<'a> {
    /// Indexes `objects`, which are sorted by key.
    pub fn new(objects: &'a [Arc<Object>]) -> Index<'a> {
        let of_kind = |kind: &'static str| {
            let start = objects.partition_point(|object| *object.key.kind < *kind);
            let length = objects[start..].partition_point(|object| *object.key.kind == *kind);
            &objects[start..start + length]
        };
        let kinds: BTreeMap<Kind, _> = KINDS.iter().map(|names| (names.kind, of_kind(names.name))).collect();
        let mut grants: HashMap<&str, Vec<_>> = HashMap::default();
        for object in kinds[&Kind::ReferenceGrant] {
            if let Ok(spec) = object.typed(Some("spec")) {
                grants.entry(&*object.key.namespace).or_default().push(spec);
            }
        }
        let namespaces = Arc::new(Namespaces::new(&kinds));
        Index { namespaces, kinds, grants, pending: BTreeMap::new(), issued: BTreeSet::new() }
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
        let all = self.all(kind);
        let place = |object: &Arc<Object>| (&*object.key.namespace, &*object.key.name).cmp(&(namespace, name));
        all.binary_search_by(place).ok().map(|position| &all[position])
    }

    /// All objects of a kind, by namespace and name.
    pub fn all(&self, kind: Kind) -> &'a [Arc<Object>] {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}
