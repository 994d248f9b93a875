//! Which backends has a rule, and which of them can serve?
//!
//! One request is answered by one backend. What the others would do is told by the plan, and by whether their endpoints
//! take a connection.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use super::row::Wrong;
use crate::{
    dataplane::outcome::Reason,
    finding::Finding,
    plan::{EndpointsPlan, FilterPlan, Plan, RulePlan, WeightedBackendPlan},
};

/// The backends of the plan.
pub struct Backends<'a> {
    pub plan: &'a Plan,
    /// Endpoints that take no connection, and why.
    pub unreachable: HashMap<SocketAddr, String>,
}

impl<'a> Backends<'a> {
    /// The endpoints of the rules that have several: of one alone the answer itself says enough.
    pub fn to_be_reached(plan: &Plan, rules: impl Iterator<Item = &'a RulePlan>) -> BTreeSet<SocketAddr> {
        let backends = Backends { plan, unreachable: HashMap::new() };
        let several = |rule: &RulePlan| {
            let endpoints: Vec<SocketAddr> = used(rule).flat_map(|one| backends.addresses(one).to_vec()).collect();
            if endpoints.len() > 1 { endpoints } else { Vec::new() }
        };
        rules.filter(|rule| redirect(rule).is_none()).flat_map(several).collect()
    }

    /// Why part of the requests fail, though one did not. `findings` are those about the rule, `fate` is what becomes of
    /// them: `of the requests are answered 503`.
    pub fn unserved_share(
        &self,
        rule: &RulePlan,
        findings: &[&Finding],
        fate: impl Fn(Reason) -> String,
    ) -> Option<Wrong> {
        if redirect(rule).is_some() {
            return None;
        }
        let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let mut backends = rule.backends.iter().enumerate().filter(|(_, backend)| backend.weight > 0);
        let (index, backend, reason) =
            backends.find_map(|(index, backend)| Some((index, backend, self.refusal(backend)?)))?;
        let share = f64::from(backend.weight) * 100.0 / total as f64;
        let reference = format!(".backendRefs[{index}]");
        let finding = findings.iter().find(|finding| finding.field.contains(&reference));
        let key = backend.backend.as_deref().unwrap_or("it");
        let (fact, remedy) = match (reason, finding) {
            (Reason::InvalidBackend, Some(finding)) => (finding.message.clone(), finding.remedy.as_str()),
            (Reason::InvalidBackend, None) => ("it is not valid".to_owned(), "correct it"),
            (Reason::NoEndpoint, _) => (format!("{key} has no ready endpoint"), "add an EndpointSlice with one"),
            _ => {
                (format!("no endpoint of {key} takes a connection"), "start the backend, or correct its EndpointSlice")
            }
        };
        let message = format!("{share:.0}% {}, those for backendRefs[{index}]: {fact}", fate(reason));
        Some(Wrong::new(reason.word(), message, remedy))
    }

    /// Why every request to this backend fails.
    fn refusal(&self, backend: &WeightedBackendPlan) -> Option<Reason> {
        let target = backend.backend.as_ref().and_then(|key| self.plan.backends.get(&**key));
        match target.map(|target| &target.endpoints) {
            None => Some(Reason::InvalidBackend),
            // Whether it resolves is seen by those requests that it gets.
            Some(EndpointsPlan::Name { .. }) => None,
            Some(EndpointsPlan::Addresses(addresses)) if addresses.is_empty() => Some(Reason::NoEndpoint),
            Some(EndpointsPlan::Addresses(addresses)) => {
                let all = addresses.iter().all(|address| self.unreachable.contains_key(address));
                all.then_some(Reason::ConnectFailed)
            }
        }
    }

    /// Endpoints that others stand in for.
    pub fn notes(&self, rule: &RulePlan) -> Vec<String> {
        let addresses = used(rule).flat_map(|backend| {
            let key = backend.backend.as_deref().unwrap_or_default();
            self.addresses(backend).iter().map(move |address| (key, address))
        });
        let unreachable = addresses.filter_map(|(key, address)| {
            let why = self.unreachable.get(address)?;
            Some(format!("endpoint {address} of {key} takes no connection: {why}"))
        });
        unreachable.collect()
    }

    /// `default/a:80`, `one of default/a:80, default/b:80`; empty where none can serve.
    pub fn serving(&self, rule: &RulePlan) -> String {
        let serving = used(rule).filter(|backend| self.refusal(backend).is_none());
        let keys: BTreeSet<&str> = serving.filter_map(|backend| backend.backend.as_deref()).collect();
        let keys: Vec<&str> = keys.into_iter().collect();
        if keys.len() > 1 { format!("one of {}", keys.join(", ")) } else { keys.concat() }
    }

    /// `default/a:80 (127.0.0.1:9001)` for each backend of the rule.
    pub fn text(&self, rule: &RulePlan) -> String {
        let texts = used(rule).filter_map(|backend| {
            let key = backend.backend.as_deref()?;
            let endpoints = match &self.plan.backends.get(key)?.endpoints {
                EndpointsPlan::Addresses(some) => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                EndpointsPlan::Name { host, port } => format!("{host}:{port}"),
            };
            Some(if endpoints.is_empty() { key.to_owned() } else { format!("{key} ({endpoints})") })
        });
        texts.collect::<Vec<_>>().join(" or ")
    }

    /// Is the backend an ExternalName?
    pub fn is_by_name(&self, backend: &WeightedBackendPlan) -> bool {
        matches!(self.endpoints(backend), Some(EndpointsPlan::Name { .. }))
    }

    fn endpoints(&self, backend: &WeightedBackendPlan) -> Option<&EndpointsPlan> {
        let target = self.plan.backends.get(backend.backend.as_deref()?)?;
        Some(&target.endpoints)
    }

    pub fn addresses(&self, backend: &WeightedBackendPlan) -> &[SocketAddr] {
        match self.endpoints(backend) {
            Some(EndpointsPlan::Addresses(addresses)) => addresses,
            _ => &[],
        }
    }
}

/// Those that get requests.
pub fn used(rule: &RulePlan) -> impl Iterator<Item = &WeightedBackendPlan> {
    rule.backends.iter().filter(|backend| backend.weight > 0)
}

/// The status of the rule's redirect.
pub fn redirect(rule: &RulePlan) -> Option<u16> {
    rule.filters.iter().find_map(|filter| match filter {
        FilterPlan::Redirect { status, .. } => Some(*status),
        _ => None,
    })
}
