//! Which backend of a rule, and which endpoint of a backend, is next: positions that a worker keeps across snapshots.

use std::{cell::RefCell, net::SocketAddr, sync::Arc};

use foldhash::HashMap;

use crate::snapshot::{Backend, BackendKey, Rule, WeightedBackend};

/// Positions to keep at most before those that are not in use are thrown away with the others.
const KEPT: usize = 100_000;

/// The wheels of the routes of one name, by kind and index of the rule.
type WheelsOfRoutes = HashMap<(&'static str, usize), Wheel>;

/// A worker's positions. They begin at random places, so that workers do not march in step.
#[derive(Default)]
pub struct Balance {
    wheels: RefCell<HashMap<Arc<str>, WheelsOfRoutes>>,
    rings: RefCell<HashMap<BackendKey, usize>>,
}

impl Balance {
    /// The next backendRef of `rule` by weight; none when all weights are zero.
    pub fn backend<'a>(&self, rule: &'a Rule) -> Option<&'a WeightedBackend> {
        let mut weighted = rule.backends.iter().filter(|backend| backend.weight > 0);
        let first = weighted.next()?;
        if weighted.next().is_none() {
            return Some(first);
        }
        let mut wheels = self.wheels.borrow_mut();
        if !wheels.contains_key(&rule.route) {
            if wheels.len() >= KEPT {
                wheels.clear();
            }
            wheels.insert(rule.route.clone(), WheelsOfRoutes::default());
        }
        let of_route = wheels.get_mut(&rule.route).expect("inserted above");
        let weights = || rule.backends.iter().map(|backend| backend.weight);
        let wheel = of_route.entry((rule.kind, rule.index)).or_insert_with(|| Wheel::new(weights()));
        if !wheel.weights.iter().copied().eq(weights()) {
            *wheel = Wheel::new(weights());
        }
        rule.backends.get(wheel.turn())
    }

    /// The next endpoint in turn, those that `avoid` names only when there is no other; none when there are none.
    pub fn endpoint(&self, backend: &Backend, avoid: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let count = backend.endpoints.len();
        if count <= 1 {
            return backend.endpoints.first().copied();
        }
        let mut rings = self.rings.borrow_mut();
        if !rings.contains_key(&backend.key) {
            if rings.len() >= KEPT {
                rings.clear();
            }
            rings.insert(backend.key.clone(), fastrand::usize(..count));
        }
        let position = rings.get_mut(&backend.key).expect("inserted above");
        let start = position.wrapping_add(1) % count;
        let in_turn = (0..count).map(|step| (start + step) % count);
        let chosen = in_turn.clone().find(|&index| !avoid(backend.endpoints[index])).unwrap_or(start);
        *position = chosen;
        Some(backend.endpoints[chosen])
    }
}

/// Smooth weighted round-robin: in any run of requests each backend's share is off by less than one request.
struct Wheel {
    weights: Box<[u32]>,
    credit: Box<[i64]>,
    total: i64,
}

impl Wheel {
    fn new(weights: impl Iterator<Item = u32>) -> Wheel {
        let weights: Box<[u32]> = weights.collect();
        let total = weights.iter().map(|&weight| i64::from(weight)).sum();
        let mut wheel = Wheel { credit: vec![0; weights.len()].into(), weights, total };
        for _ in 0..fastrand::u32(..256) {
            wheel.turn();
        }
        wheel
    }

    fn turn(&mut self) -> usize {
        let mut chosen = 0;
        for (index, &weight) in self.weights.iter().enumerate() {
            self.credit[index] += i64::from(weight);
            if self.credit[index] > self.credit[chosen] {
                chosen = index;
            }
        }
        self.credit[chosen] -= self.total;
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Protocol;

    fn rule(weights: &[u32]) -> Rule {
        let backend = |&weight| WeightedBackend { backend: None, weight, filters: Box::default() };
        Rule {
            kind: "HTTPRoute",
            route: "ns/route".into(),
            index: 0,
            name: None,
            broken: None,
            filters: Box::default(),
            backends: weights.iter().map(backend).collect(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        }
    }

    fn counts(balance: &Balance, rule: &Rule, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; rule.backends.len()];
        for _ in 0..requests {
            let chosen = balance.backend(rule).expect("a positive weight");
            counts[rule.backends.iter().position(|backend| std::ptr::eq(backend, chosen)).expect("its own")] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_kept_in_every_hundred() {
        let balance = Balance::default();
        for _ in 0..10 {
            assert_eq!(counts(&balance, &rule(&[95, 5]), 100), [95, 5]);
        }
        assert_eq!(counts(&balance, &rule(&[7, 3, 0]), 10), [7, 3, 0]);
        assert_eq!(counts(&balance, &rule(&[0, 1]), 3), [0, 3]);
        assert!(balance.backend(&rule(&[0, 0])).is_none() && balance.backend(&rule(&[])).is_none());
    }

    #[test]
    fn routes_of_one_name_and_two_kinds_have_their_own() {
        let balance = Balance::default();
        let (requests, calls) = (rule(&[1, 1]), Rule { kind: "GRPCRoute", ..rule(&[95, 5]) });
        let mut counts = [0; 2];
        for _ in 0..100 {
            let chosen = balance.backend(&calls).expect("a positive weight");
            counts[usize::from(std::ptr::eq(chosen, &calls.backends[1]))] += 1;
            balance.backend(&requests);
        }
        assert_eq!(counts, [95, 5]);
    }

    #[test]
    fn endpoints_take_turns() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let backend =
            Backend { key: "ns/s:80".into(), protocol: Protocol::Http1, endpoints: (1..=3).map(address).collect() };
        let balance = Balance::default();
        let mut seen: Vec<_> = (0..3).filter_map(|_| balance.endpoint(&backend, |_| false)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=3).map(address).collect::<Vec<_>>());
        for _ in 0..5 {
            let chosen = balance.endpoint(&backend, |endpoint| endpoint.port() != 2);
            assert_eq!(chosen, Some(address(2)));
        }
        assert!(balance.endpoint(&backend, |_| true).is_some());
    }
}
