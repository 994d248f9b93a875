//! Finding objects: by kind and name, EndpointSlices by their Service, grants and labels by namespace.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;

use crate::{
    api::{Kind, reference_grant::ReferenceGrantSpec},
    manifest::Object,
};

use super::namespace::Namespaces;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Every object of the pass. Lists keep the order of the input: by key.
pub struct Index<'a> {
    objects: HashMap<(Kind, &'a str, &'a str), &'a Arc<Object>>,
    kinds: BTreeMap<Kind, Vec<&'a Arc<Object>>>,
    slices: HashMap<(&'a str, &'a str), Vec<&'a Arc<Object>>>,
    pub(super) grants: HashMap<&'a str, Vec<&'a ReferenceGrantSpec>>,
    /// The namespaces that exist, with their labels.
    pub namespaces: Arc<Namespaces>,
}

impl<'a> Index<'a> {
    /// Indexes `objects`.
    pub fn new(objects: &'a [Arc<Object>]) -> Index<'a> {
        let mut index = Index {
            objects: HashMap::with_capacity_and_hasher(objects.len(), Default::default()),
            kinds: BTreeMap::new(),
            slices: HashMap::default(),
            grants: HashMap::default(),
            namespaces: Arc::new(Namespaces::new(objects)),
        };
        for object in objects {
            index.add(object);
        }
        index
    }

    fn add(&mut self, object: &'a Arc<Object>) {
        let (namespace, name) = (&*object.key.namespace, &*object.key.name);
        self.objects.insert((object.kind, namespace, name), object);
        self.kinds.entry(object.kind).or_default().push(object);
        match object.kind {
            Kind::EndpointSlice => {
                if let Some(service) = object.meta.labels.get(SERVICE_NAME) {
                    self.slices.entry((namespace, service)).or_default().push(object);
                }
            }
            Kind::ReferenceGrant => {
                if let Ok(spec) = object.typed(Some("spec")) {
                    self.grants.entry(namespace).or_default().push(spec);
                }
            }
            _ => {}
        }
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a Arc<Object>> {
        self.objects.get(&(kind, namespace, name)).copied()
    }

    /// All objects of a kind, by namespace and name.
    pub fn all(&self, kind: Kind) -> &[&'a Arc<Object>] {
        self.kinds.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// The EndpointSlices of a Service, by name.
    pub fn slices<'s>(&'s self, namespace: &'s str, service: &'s str) -> &'s [&'a Arc<Object>] {
        self.slices.get(&(namespace, service)).map_or(&[], Vec::as_slice)
    }
}
