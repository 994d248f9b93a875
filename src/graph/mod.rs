//! *resolve*: objects become a graph: what attaches to what, which references are granted, what is wrong and where.
//!
//! Valid and invalid are both kept: *plan* takes the valid part, *report* writes down all of it, and the findings say
//! the same to people. One pass, no I/O, never fails: the same input gives the same graph.
//!
//! [`class`] → [`gateway`] with [`listener`], [`certificate`] and [`address`] → [`conflict`] (listeners of all Gateways
//! together) → [`route`] with [`rule`] and [`backend`]. [`index`] finds objects, [`grant`] and [`namespace`] say what
//! may refer to what.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use foldhash::HashMap;
use jiff::Timestamp;

use crate::{api::ObjectKey, finding::Finding};

pub use crate::manifest::Object;

pub mod address;
pub mod age;
mod attach;
pub mod backend;
pub mod certificate;
pub mod class;
pub mod conflict;
pub mod expression;
pub mod gateway;
pub mod grant;
pub mod hostname;
pub mod index;
pub mod issuance;
mod known;
pub mod label;
pub mod listener;
pub mod namespace;
pub mod problem;
mod rival;
pub mod route;
pub mod rule;
pub mod spec;

pub use address::Addresses;
pub use age::Age;
pub use backend::{Backend, Target};
pub use certificate::Certificate;
pub use class::Class;
pub use gateway::Gateway;
pub use issuance::{Issuance, Progress};
pub use listener::Listener;
pub use route::{Attachment, Parent, Route};
pub use rule::{Filter, Rule, RuleBackend};

use index::Index;

/// All that *resolve* may know.
pub struct Input<'a> {
    /// Objects of every kind, sorted by key.
    pub objects: &'a Arc<[Arc<Object>]>,
    /// The addresses that Gateways may have.
    pub addresses: &'a Addresses,
    /// [`Graph::last_good`] of the pass before.
    pub last_good: &'a LastGood,
    /// Only certificates' validity is compared with it.
    pub now: Timestamp,
    /// How far certificates are; none where nothing is issued, as in `gapi check`.
    pub progress: Option<&'a Progress>,
}

impl<'a> Input<'a> {
    /// One object.
    pub fn object(&self, key: &ObjectKey) -> Option<&'a Object> {
        let position = self.objects.binary_search_by(|object| object.key.cmp(key)).ok()?;
        Some(&self.objects[position])
    }
}

/// What was found good, for the next pass.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    /// The certificates in use: should a Secret become unusable, they go on being served.
    pub certificates: certificate::CertificatesByUse,
    /// Expressions that compile: they are not compiled again to find that out.
    pub expressions: BTreeSet<Arc<str>>,
    /// What need not be resolved again as long as nothing changes that it looks at.
    pub known: Arc<known::Known>,
}

/// What attaches to what. Made by [`resolve`], read by *plan* and *report*.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The GatewayClasses of our controller, by name; `gapi` is always among them.
    pub classes: Vec<Class>,
    /// The Gateways of those classes, the oldest first (see [`Age`]), then by namespace and name.
    pub gateways: Vec<Gateway>,
    /// Routes of every kind with at least one Gateway of ours among their parents, the oldest first, then by namespace and name:
    /// the order in which they win.
    pub routes: Vec<Arc<Route>>,
    /// What the rules name, by `namespace/service:port`.
    pub backends: Arc<HashMap<Arc<str>, Backend>>,
    /// With an address pool: the address of each Gateway (`namespace/name`), to be handed in again next time.
    pub assigned: BTreeMap<String, IpAddr>,
    /// The regular expressions of the routes that compile.
    pub expressions: BTreeSet<Arc<str>>,
    /// The issuers, and the certificates wanted of them.
    pub issuance: Issuance,
    /// Sorted by where they point.
    pub findings: Vec<Finding>,
    known: Arc<known::Known>,
}

impl Graph {
    /// What the next pass wants to know of this one.
    pub fn last_good(&self) -> LastGood {
        LastGood {
            certificates: self.certificates().collect(),
            expressions: self.expressions.clone(),
            known: self.known.clone(),
        }
    }
}

impl Graph {
    /// The certificates in use.
    fn certificates(&self) -> impl Iterator<Item = ((String, String), Certificate)> {
        let listeners = self.gateways.iter().flat_map(|gateway| &gateway.listeners);
        listeners.flat_map(|listener| {
            listener.certificates.iter().map(|one| ((listener.key.clone(), one.key.clone()), one.clone()))
        })
    }
}

/// Resolves every reference.
///
/// # Findings
/// One for each condition that is not as it should be, with the reason of the condition; further
/// `ParentNotFound`, `NoEndpoints`, `CertificateExpired`, `RedirectLoop` and the like where status has no place for it.
pub fn resolve(input: &Input) -> Graph {
    let mut index = Index::new(input.objects);
    let mut findings = Vec::new();
    let classes = class::resolve(&index, &mut findings);
    let issuance = issuance::resolve(&index, &classes, input, &mut findings);
    index.pending = issuance.pending();
    index.issued = input.progress.map(|progress| progress.stored.clone()).unwrap_or_default();
    let mut gateways = gateway::resolve(&index, &classes, input, &mut findings);
    let assigned = address::assign(&mut gateways, input.addresses);
    conflict::resolve(&mut gateways);
    let route::Resolved { routes, backends, expressions, known } =
        route::resolve(&index, &mut gateways, input, &mut findings);
    for gateway in &gateways {
        gateway.report(&index, &mut findings);
    }
    findings
        .sort_by(|a, b| (&a.origin, &a.object, &a.field, &a.reason).cmp(&(&b.origin, &b.object, &b.field, &b.reason)));
    findings.dedup();
    Graph { classes, gateways, routes, backends, assigned, expressions, issuance, findings, known }
}
