//! What routes and backends came to in the pass before. Most are as they were, and resolving thousands of them again
//! takes longer than all the rest of a pass.
//!
//! A route or a backend is known when nothing was to be said about it. A backend then comes to the same again while its
//! Service, the EndpointSlices and the Endpoints of it are the very same objects; a route while its own object is, all
//! that routes look at besides (Gateways, namespaces, grants) is equal, and its backends are still usable, which the
//! pass asks each time.

use std::{cmp::Ordering, sync::Arc};

use foldhash::{HashMap, HashSet};

use crate::{api::Kind, manifest::Object};

use super::{
    backend::{Backend, service_of, service_of_key},
    gateway::Gateway,
    index::Index,
    namespace::Namespaces,
    route::Route,
};

/// A pass, for the next one.
#[derive(Debug, Default)]
pub struct Known {
    /// All that the pass was about. They keep the addresses in `routes` taken.
    pub(super) objects: Arc<[Arc<Object>]>,
    pub(super) namespaces: Arc<Namespaces>,
    /// Before routes were counted.
    pub(super) gateways: Vec<Gateway>,
    /// Those about which there was nothing to say, by the address of their object.
    pub(super) routes: HashMap<usize, Arc<Route>>,
    /// The usable ones.
    pub(super) backends: Arc<HashMap<Arc<str>, Backend>>,
    /// Backends about which there was something to say.
    pub(super) noted: HashSet<Arc<str>>,
}

/// The pass before, as far as it still holds in this one.
pub(super) struct Before<'a> {
    known: &'a Known,
    /// What routes look at besides their own object and their backends is as it was.
    same_surroundings: bool,
    /// Services (namespace and name) of which an object changed.
    touched: HashSet<(&'a str, &'a str)>,
}

impl<'a> Before<'a> {
    /// `objects` and `gateways` are those of this pass.
    pub fn new(known: &'a Known, objects: &'a [Arc<Object>], index: &Index, gateways: &[Gateway]) -> Before<'a> {
        let changes = changes(&known.objects, objects);
        let matters = |object: &&Arc<Object>| matches!(object.kind, Kind::Gateway | Kind::ReferenceGrant);
        let same_surroundings =
            !changes.iter().any(matters) && known.namespaces == index.namespaces && known.gateways == gateways;
        let touched = changes.into_iter().filter_map(|object| service_of(object)).collect();
        Before { known, same_surroundings, touched }
    }

    /// The route that was made of the object at this address.
    pub fn route(&self, address: usize) -> Option<&'a Arc<Route>> {
        self.known.routes.get(&address).filter(|_| self.same_surroundings)
    }

    /// The backend of this key.
    pub fn backend(&self, key: &str) -> Option<&'a Backend> {
        let is_touched = || service_of_key(key).is_none_or(|service| self.touched.contains(&service));
        self.known.backends.get(key).filter(|_| !self.known.noted.contains(key) && !is_touched())
    }
}

/// The objects, sorted by key, that are in one of the lists alone.
fn changes<'a>(before: &'a [Arc<Object>], now: &'a [Arc<Object>]) -> Vec<&'a Arc<Object>> {
    let mut changes = Vec::new();
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) => {
                before.next();
                now.next();
                continue;
            }
            (Some(one), Some(other)) => one.key.cmp(&other.key),
        };
        if order.is_le() {
            changes.extend(before.next());
        }
        if order.is_ge() {
            changes.extend(now.next());
        }
    }
}
