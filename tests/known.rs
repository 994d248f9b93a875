//! A pass takes over what did not change since the one before. Whatever the edits were, it must come to the same as a
//! pass that takes over nothing: edits are drawn at random from the objects of all golden cases.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use gapi::{
    api::{Kind, ObjectKey},
    graph::{self, Addresses, Graph, Input, LastGood, Object},
    manifest::{parse::parse_file, span::Bounds},
    plan::{self, Plan},
};

const EDITS: usize = 400;

/// Every object of the golden cases; many have the same key.
fn pool() -> Vec<Arc<Object>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut inputs: Vec<_> = fs::read_dir(folder).expect("the golden cases").map(|case| case.unwrap().path()).collect();
    inputs.sort();
    let texts = inputs.iter().filter_map(|case| fs::read(case.join("in.yaml")).ok());
    texts.flat_map(|text| parse_file("in.yaml", &text, &Bounds::default()).objects).map(Arc::new).collect()
}

fn pass(objects: &Arc<[Arc<Object>]>, last_good: &LastGood, hosts: &mut plan::Hosts) -> (Graph, Plan) {
    let addresses = Addresses {
        bind: vec!["0.0.0.0".parse().unwrap()],
        advertised: vec!["192.0.2.1".parse().unwrap()],
        ..Addresses::default()
    };
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let progress = Some(&graph::Progress::default());
    let graph = graph::resolve(&Input { objects, addresses: &addresses, last_good, now, progress });
    let plan = plan::lower(&graph, hosts);
    (graph, plan)
}

fn assert_same(one: &Graph, other: &Graph) {
    assert_eq!(one.findings, other.findings);
    assert_eq!(one.backends, other.backends);
    assert_eq!(one.gateways, other.gateways);
    assert_eq!(one.expressions, other.expressions);
    assert_eq!(one.routes.len(), other.routes.len());
    for (one, other) in one.routes.iter().zip(&other.routes) {
        assert_eq!((&one.key, &one.hostnames, &one.rules), (&other.key, &other.hostnames, &other.rules));
        assert_eq!((&one.parents, &one.attachments), (&other.parents, &other.attachments));
    }
}

#[test]
fn what_is_taken_over_is_what_would_come_anew() {
    let pool = pool();
    let mut random = fastrand::Rng::with_seed(11);
    let mut objects: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
    let (mut last_good, mut hosts) = (LastGood::default(), plan::Hosts::default());
    let (mut taken_over, mut resolved) = (0, 0);
    let mut before: Vec<Arc<graph::Route>> = Vec::new();
    for _ in 0..EDITS {
        for _ in 0..random.usize(1..4) {
            // Rarely of the kinds that Gateways, and so all routes, look at: each change has everything resolved anew.
            let rarely = random.usize(0..20) == 0;
            let object = loop {
                let object = &pool[random.usize(0..pool.len())];
                let own = object.kind.is_route()
                    || matches!(object.kind, Kind::Service | Kind::EndpointSlice | Kind::Endpoints);
                if own != rarely {
                    break object;
                }
            };
            match random.usize(0..4) {
                0 => _ = objects.remove(&object.key),
                _ => _ = objects.insert(object.key.clone(), object.clone()),
            }
        }
        let list: Arc<[_]> = objects.values().cloned().collect();
        let (graph, plan) = pass(&list, &last_good, &mut hosts);
        let anew = LastGood { known: Default::default(), ..last_good };
        let (graph_anew, plan_anew) = pass(&list, &anew, &mut plan::Hosts::default());
        assert_same(&graph, &graph_anew);
        assert_eq!(plan, plan_anew);
        let is_known = |route: &&Arc<graph::Route>| before.iter().any(|before| Arc::ptr_eq(before, route));
        taken_over += graph.routes.iter().filter(is_known).count();
        resolved += graph.routes.len();
        last_good = graph.last_good();
        before = graph.routes;
    }
    assert!(taken_over * 10 > resolved, "{taken_over} of {resolved} routes were taken over");
}
