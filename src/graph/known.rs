//! What routes came to in the pass before. Most are as they were, and resolving thousands of them again takes longer than
//! everything else of a pass.
//!
//! A route is known when nothing was to be said about it: it attaches, all its references lead somewhere, all its
//! expressions compile. It then comes to the same again as long as its object is the very same, [`Surroundings`] are
//! equal, and its backends are still usable, which the pass asks each time.

use std::sync::Arc;

use foldhash::HashMap;

use crate::{api::Kind, manifest::Object};

use super::{gateway::Gateway, index::Index, namespace::Namespaces, route::Route};

/// All that a route looks at besides its own object and its backends.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    gateways: Vec<Gateway>,
    namespaces: Arc<Namespaces>,
    /// Gateways of all classes, and ReferenceGrants.
    objects: Vec<Arc<Object>>,
}

impl Surroundings {
    /// `gateways` as they are before routes are counted.
    pub fn new(index: &Index, gateways: &[Gateway]) -> Surroundings {
        let objects = [Kind::Gateway, Kind::ReferenceGrant].into_iter().flat_map(|kind| index.all(kind));
        Surroundings {
            gateways: gateways.to_vec(),
            namespaces: index.namespaces.clone(),
            objects: objects.map(|object| Arc::clone(object)).collect(),
        }
    }
}

impl PartialEq for Surroundings {
    fn eq(&self, other: &Surroundings) -> bool {
        self.objects.len() == other.objects.len()
            && self.objects.iter().zip(&other.objects).all(|(one, other)| Arc::ptr_eq(one, other))
            && self.namespaces == other.namespaces
            && self.gateways == other.gateways
    }
}

/// The known routes of one pass.
#[derive(Debug, Default)]
pub struct Known {
    surroundings: Surroundings,
    /// By the address of their object, which they keep in place.
    routes: HashMap<usize, Arc<Route>>,
}

impl Known {
    /// None known yet.
    pub(super) fn new(surroundings: Surroundings, before: &Known) -> Known {
        Known { surroundings, routes: HashMap::with_capacity_and_hasher(before.routes.len(), Default::default()) }
    }

    /// These, if they were resolved in the same surroundings.
    pub(super) fn if_still(&self, surroundings: &Surroundings) -> Option<&Known> {
        (self.surroundings == *surroundings).then_some(self)
    }

    pub(super) fn get(&self, object: &Arc<Object>) -> Option<&Arc<Route>> {
        self.routes.get(&Arc::as_ptr(object).addr())
    }

    pub(super) fn insert(&mut self, route: Arc<Route>) {
        self.routes.insert(Arc::as_ptr(&route.object).addr(), route);
    }
}
