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

/// A pass that takes over what is known, which comes to the same as one that knows nothing.
fn pass_as_anew(objects: &BTreeMap<ObjectKey, Arc<Object>>, last_good: LastGood, hosts: &mut plan::Hosts) -> Graph {
    let list: Arc<[_]> = objects.values().cloned().collect();
    let (graph, plan) = pass(&list, &last_good, hosts);
    let anew = LastGood { known: Default::default(), ..last_good };
    let (graph_anew, plan_anew) = pass(&list, &anew, &mut plan::Hosts::default());
    assert_same(&graph, &graph_anew);
    assert_eq!(plan, plan_anew);
    graph
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
    let (mut taken_over, mut resolved) = (0, 0);
    // Several: how much of one is taken over depends on which Gateways are drawn.
    for seed in 11..15 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut objects: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        let (mut last_good, mut hosts) = (LastGood::default(), plan::Hosts::default());
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
            let graph = pass_as_anew(&objects, last_good, &mut hosts);
            let is_known = |route: &&Arc<graph::Route>| before.iter().any(|before| Arc::ptr_eq(before, route));
            taken_over += graph.routes.iter().filter(is_known).count();
            resolved += graph.routes.len();
            last_good = graph.last_good();
            before = graph.routes;
        }
    }
    assert!(taken_over * 20 > resolved, "{taken_over} of {resolved} routes were taken over");
}

/// A Gateway with a listener of each protocol, and Services of both transports.
const SURROUNDINGS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec:
  gatewayClassName: gapi
  listeners:
  - {name: any, port: 80, protocol: HTTP}
  - {name: org, port: 81, protocol: HTTP, hostname: '*.b.org'}
  - {name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}
  - {name: tcp, port: 53, protocol: TCP}
  - {name: udp, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: t, port: 1}, {name: u, port: 2, protocol: UDP}]
endpoints: [{addresses: [192.0.2.1]}]
";

/// A route of one of the five kinds: few names, hostnames, ages, listeners and Services, so that many meet.
fn drawn(random: &mut fastrand::Rng) -> String {
    let mut of = |words: &[&'static str]| words[random.usize(0..words.len())];
    let kind = of(&["HTTPRoute", "HTTPRoute", "GRPCRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"]);
    let names = ["a.b.org", "b.org", "'*.b.org'", "'*.org'", "x.a.b.org", "c.com"];
    let hostnames = match (kind, of(&["none", "one", "two"])) {
        ("TCPRoute" | "UDPRoute", _) => String::new(),
        ("HTTPRoute" | "GRPCRoute", "none") => String::new(),
        (_, "two") => format!("hostnames: [{}, {}]", of(&names), of(&names)),
        _ => format!("hostnames: [{}]", of(&names)),
    };
    let age = match of(&["1", "2", "3", "none"]) {
        "none" => String::new(),
        day => format!(", creationTimestamp: '2026-01-0{day}T00:00:00Z'"),
    };
    let section = match of(&["all", "any", "org", "tls", "tcp", "udp"]) {
        "all" => String::new(),
        section => format!(", sectionName: {section}"),
    };
    let (name, service) = (of(&["a", "b", "c", "d", "e", "f"]), of(&["s", "s", "s", "missing"]));
    let rule = match (kind, of(&["plain", "plain", "plain", "broken"])) {
        ("GRPCRoute", "broken") => "  - matches: [{method: {type: RegularExpression, service: 'a('}}]\n",
        ("HTTPRoute", "broken") => "  - matches: [{path: {type: RegularExpression, value: '/a('}}]\n",
        _ => "",
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}{age}}}\nspec:\n  \
         parentRefs: [{{name: g{section}}}]\n  {hostnames}\n  rules:\n  \
         - backendRefs: [{{name: {service}, port: 53}}]\n{rule}"
    )
}

/// HTTPRoutes and GRPCRoutes never share a name of a listener, and whoever lost one did so to a route that comes first.
fn assert_rivals(graph: &Graph) {
    let is_call = |route: &graph::Route| route.kind == Kind::GrpcRoute;
    let meet = |a: &graph::Attachment, b: &graph::Attachment| {
        let meets = |one: &Option<String>| {
            b.hostnames.iter().any(|other| graph::hostname::intersect(one.as_deref(), other.as_deref()))
        };
        (a.gateway, a.listener) == (b.gateway, b.listener) && a.hostnames.iter().any(meets)
    };
    let http = |route: &&Arc<graph::Route>| matches!(route.kind, Kind::HttpRoute | Kind::GrpcRoute);
    for (r, route) in graph.routes.iter().enumerate().filter(|(_, route)| http(route)) {
        for other in graph.routes[r + 1..].iter().filter(http).filter(|other| is_call(other) != is_call(route)) {
            let both = route.attachments.iter().any(|a| other.attachments.iter().any(|b| meet(a, b)));
            assert!(!both, "{} and {}", route.key, other.key);
        }
        for parent in &route.parents {
            let [accepted, rest @ ..] = parent.conditions.as_slice() else { panic!("{}: no condition", route.key) };
            let has = |type_: &str| rest.iter().any(|condition| condition.type_ == type_);
            assert!(accepted.status == "True" || !has("PartiallyInvalid"), "{}", route.key);
            if accepted.reason == "HostnameConflict" {
                let rival =
                    |other: &&Arc<graph::Route>| accepted.message.contains(&format!("{} comes first", other.key));
                let rival = graph.routes[..r].iter().find(rival).expect("a rival that comes first");
                assert!(is_call(rival) != is_call(route) && !rival.attachments.is_empty(), "{}", accepted.message);
            }
        }
    }
}

#[test]
fn rivals_come_and_go() {
    let mut random = fastrand::Rng::with_seed(12);
    let parse = |text: &str| parse_file("in.yaml", text.as_bytes(), &Bounds::default());
    let surroundings = parse(SURROUNDINGS).objects.into_iter().map(Arc::new);
    let mut objects: BTreeMap<ObjectKey, Arc<Object>> =
        surroundings.map(|object| (object.key.clone(), object)).collect();
    let (mut last_good, mut hosts) = (LastGood::default(), plan::Hosts::default());
    let (mut conflicts, mut regained) = (0, 0);
    let mut lost: Vec<ObjectKey> = Vec::new();
    for _ in 0..EDITS {
        let parsed = parse(&drawn(&mut random));
        assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
        let object = Arc::new(parsed.objects.into_iter().next().expect("one route"));
        match random.usize(0..3) {
            0 => _ = objects.remove(&object.key),
            _ => _ = objects.insert(object.key.clone(), object),
        }
        let graph = pass_as_anew(&objects, last_good, &mut hosts);
        assert_rivals(&graph);
        let has_lost = |route: &&Arc<graph::Route>| {
            route.parents.iter().any(|parent| parent.conditions[0].reason == "HostnameConflict")
        };
        let (now_lost, others): (Vec<_>, Vec<_>) = graph.routes.iter().partition(has_lost);
        conflicts += now_lost.len();
        regained += others.iter().filter(|route| lost.contains(&route.key) && !route.attachments.is_empty()).count();
        lost = now_lost.iter().map(|route| route.key.clone()).collect();
        last_good = graph.last_good();
    }
    assert!(conflicts > 200 && regained > 20, "{conflicts} conflicts, {regained} ended");
}
