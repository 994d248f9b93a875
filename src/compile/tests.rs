use super::*;
use crate::plan::{CertificatePlan, FilterPlan, MatchPlan, PathPlan, RulePlan, SocketPlan, ValuePlan};

fn host(hostname: &str, path: PathPlan, rule: RulePlan) -> Arc<HostPlan> {
    let one = MatchPlan { path, method: None, headers: Vec::new(), query: Vec::new(), rule: 0 };
    Arc::new(HostPlan { hostname: Some(hostname.to_owned()), matches: vec![one], rules: vec![rule] })
}

fn plain(hostname: &str, route: &str) -> Arc<HostPlan> {
    host(hostname, PathPlan::Prefix(String::new()), RulePlan { route: route.to_owned(), ..RulePlan::default() })
}

fn listener(key: &str, hosts: Vec<Arc<HostPlan>>) -> ListenerPlan {
    ListenerPlan { key: key.to_owned(), hosts, ..ListenerPlan::default() }
}

fn plan(sockets: &[(&str, Vec<ListenerPlan>)]) -> Plan {
    let socket = |(address, listeners): &(&str, Vec<ListenerPlan>)| {
        (address.parse().expect("an address"), SocketPlan { tls: false, listeners: listeners.clone() })
    };
    Plan { sockets: sockets.iter().map(socket).collect(), ..Plan::default() }
}

fn compiled(plan: &Plan, previous: Option<(&Plan, &Arc<Snapshot>)>) -> Arc<Snapshot> {
    Arc::new(compile(plan, previous, &BTreeMap::new()).0)
}

fn socket<'a>(snapshot: &'a Snapshot, address: &str) -> &'a Socket {
    &snapshot.sockets[&address.parse::<SocketAddr>().expect("an address")]
}

#[test]
fn what_is_equal_is_kept() {
    let first = plan(&[
        ("0.0.0.0:80", vec![listener("a", vec![plain("x", "r/x"), plain("y", "r/y")]), listener("b", vec![])]),
        ("0.0.0.0:81", vec![listener("c", vec![plain("z", "r/z")])]),
    ]);
    let old = compiled(&first, None);
    let mut second = plan(&[
        ("0.0.0.0:80", vec![listener("a", vec![plain("x", "r/x"), plain("y", "r/changed")]), listener("b", vec![])]),
        ("0.0.0.0:81", vec![listener("c", vec![plain("z", "r/z")])]),
    ]);
    let new = compiled(&second, Some((&first, &old)));
    assert_eq!((old.generation, new.generation), (1, 2));
    let (a, b) = (socket(&old, "0.0.0.0:80"), socket(&new, "0.0.0.0:80"));
    assert!(!Arc::ptr_eq(&a.listeners[0], &b.listeners[0]));
    assert!(Arc::ptr_eq(&a.listeners[0].hosts[0], &b.listeners[0].hosts[0]));
    assert!(!Arc::ptr_eq(&a.listeners[0].hosts[1], &b.listeners[0].hosts[1]));
    assert!(Arc::ptr_eq(&a.listeners[1], &b.listeners[1]));
    assert!(std::ptr::eq(socket(&old, "0.0.0.0:81"), socket(&new, "0.0.0.0:81")));

    second.sockets.clear();
    assert!(compiled(&second, Some((&first, &old))).sockets.is_empty());
}

#[test]
fn a_host_of_two_sockets_is_compiled_once() {
    let shared = plain("x", "r/x");
    let plan = plan(&[
        ("0.0.0.0:80", vec![listener("a", vec![shared.clone()])]),
        ("[::]:80", vec![listener("a", vec![shared])]),
    ]);
    let snapshot = compiled(&plan, None);
    let hosts = |address| &socket(&snapshot, address).listeners[0].hosts[0];
    assert!(Arc::ptr_eq(hosts("0.0.0.0:80"), hosts("[::]:80")));
}

#[test]
fn a_backend_is_kept_until_its_addresses_change() {
    let by_name = EndpointsPlan::Name { host: "db.example".to_owned(), port: 80 };
    let backends = [("a/b:80".into(), BackendPlan { endpoints: by_name, ..BackendPlan::default() })];
    let plan = Plan { backends: backends.into(), ..Plan::default() };
    let names = |ip: &str| BTreeMap::from([("db.example".to_owned(), vec![ip.parse().expect("an address")])]);
    let first = Arc::new(compile(&plan, None, &names("127.0.0.1")).0);
    let same = compile(&plan, Some((&plan, &first)), &names("127.0.0.1")).0;
    let moved = compile(&plan, Some((&plan, &first)), &names("127.0.0.2")).0;
    assert!(Arc::ptr_eq(&first.backends["a/b:80"], &same.backends["a/b:80"]));
    assert_eq!(*moved.backends["a/b:80"].endpoints, ["127.0.0.2:80".parse().expect("an address")]);
    assert!(compile(&plan, None, &BTreeMap::new()).0.backends["a/b:80"].endpoints.is_empty());
}

#[test]
fn what_cannot_be_compiled_is_found_and_stands_alone() {
    let set = |value: &str| {
        FilterPlan::RequestHeaders(crate::plan::HeadersPlan {
            set: vec![("x-a".to_owned(), value.to_owned())],
            ..Default::default()
        })
    };
    let bad_filter = RulePlan { route: "r/filter".to_owned(), filters: vec![set("a\nb")], ..RulePlan::default() };
    let mut bad_header = HostPlan::clone(&plain("h", "r/header"));
    bad_header.matches[0].headers = vec![ValuePlan { name: "x".to_owned(), regex: true, value: "a)|(b".to_owned() }];
    let huge = PathPlan::Regex("(?:a{1000}){1000}".to_owned());
    let broken_key = CertificatePlan {
        key: "ns/secret".to_owned(),
        digest: "d".to_owned(),
        chain_pem: b"none".to_vec(),
        key_pem: Vec::new(),
    };
    let mut one = listener(
        "a",
        vec![
            host("f", PathPlan::Prefix(String::new()), bad_filter),
            Arc::new(bad_header),
            host("p", huge, RulePlan { route: "r/path".to_owned(), ..RulePlan::default() }),
            plain("good", "r/good"),
        ],
    );
    one.certificates = vec![broken_key];
    let plan = plan(&[("0.0.0.0:80", vec![one])]);
    let (snapshot, findings) = compile(&plan, None, &BTreeMap::new());
    let listener = &socket(&snapshot, "0.0.0.0:80").listeners[0];
    let broken: Vec<bool> = listener.hosts.iter().map(|host| host.rules[0].broken.is_some()).collect();
    assert_eq!(broken, [true, true, true, false]);
    assert!(listener.certificates.is_empty());
    let said = |word: &str| findings.iter().any(|finding| finding.message.contains(word));
    assert!(["r/filter", "r/header", "r/path", "ns/secret"].iter().all(|word| said(word)), "{findings:#?}");
    assert_eq!(findings.len(), 4);
    let again = compile(&plan, Some((&plan, &Arc::new(snapshot))), &BTreeMap::new()).1;
    assert_eq!(again, findings, "the same input gives the same findings");
}

#[test]
fn an_expression_matches_the_whole_value() {
    let expression = expression::anchored("a|b").expect("valid");
    assert!(expression.is_match("a") && expression.is_match("b") && !expression.is_match("ab"));
    assert!(expression::anchored("a)|(b").is_err());
    let origin = expression::origin("https://*.example.com").expect("valid");
    assert!(origin.is_match("https://a.b.example.com") && !origin.is_match("https://a.example.com.evil.com"));
    assert!(!origin.is_match("https://example.com") && !origin.is_match("https://evil.com/x.example.com"));
}
