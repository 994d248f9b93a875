//! Golden cases: `tests/golden/<case>/in.yaml` goes through parse, resolve, plan and report, and what comes out is compared
//! with the files beside it. `UPDATE_GOLDEN=1 cargo test --test golden` rewrites them.
//!
//! A case is complete in its folder: `in.yaml` (the manifests; its first line says what the case is about), `plan.yaml`,
//! `status.yaml`, `findings.txt`; where needed `setting.yaml` (addresses, sockets that do not bind), and `before.yaml`
//! (the manifests of the pass before). Any other file fails.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use gapi::{
    api::{
        CONTROLLER_NAME, ObjectKey,
        condition::{REASONS, Reason, Subject},
    },
    finding::Finding,
    graph::{self, Addresses, LastGood},
    manifest::{Object, parse::parse_file, span::Bounds},
    plan,
    status::{
        self, Published, ReportInput, StatusDocument,
        path::{Paths, Way},
        yaml::to_yaml,
    },
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// What a case may set besides its manifests.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Setting {
    bind: Vec<IpAddr>,
    advertised: Vec<IpAddr>,
    pool: Option<ipnet::IpNet>,
    assigned: BTreeMap<String, IpAddr>,
    /// Sockets that cannot be bound, with the reason.
    unbound: BTreeMap<SocketAddr, String>,
    /// Sockets that nobody has tried to bind yet.
    pending: BTreeSet<SocketAddr>,
    /// Which way the traffic of layer-4 listeners takes, where that is known.
    paths: Option<BTreeMap<Arc<str>, Vec<WaySetting>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaySetting {
    address: SocketAddr,
    route: Arc<str>,
    kernel: bool,
    #[serde(default)]
    user: Vec<String>,
}

impl Setting {
    fn paths(&self) -> Option<Paths> {
        let way = |way: &WaySetting| Way::new(way.address, way.route.clone(), way.kernel, &way.user);
        let paths = self.paths.as_ref()?.iter();
        Some(paths.map(|(listener, ways)| (listener.clone(), ways.iter().map(way).collect())).collect())
    }
}

impl Default for Setting {
    fn default() -> Self {
        Setting {
            bind: vec!["0.0.0.0".parse().unwrap()],
            advertised: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
            pool: None,
            assigned: BTreeMap::new(),
            unbound: BTreeMap::new(),
            pending: BTreeSet::new(),
            paths: None,
        }
    }
}

/// What one pass gives.
struct Outcome {
    plan: plan::Plan,
    documents: Vec<StatusDocument>,
    findings: Vec<Finding>,
    last_good: LastGood,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("tests/golden is there");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn pass(text: &[u8], setting: &Setting, now: &str, last_good: &LastGood, before: &[StatusDocument]) -> Outcome {
    let parsed = parse_file("in.yaml", text, &Bounds::default());
    let mut objects: Vec<Arc<Object>> = parsed.objects.into_iter().map(numbered).collect();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    let objects = objects.into();
    let addresses = Addresses {
        bind: setting.bind.clone(),
        advertised: setting.advertised.clone(),
        pool: setting.pool,
        assigned: setting.assigned.clone(),
    };
    let now: Timestamp = now.parse().unwrap();
    let input = graph::Input { objects: &objects, addresses: &addresses, last_good, now, progress: None };
    let graph = graph::resolve(&input);
    let plan = plan::lower(&graph, &mut plan::Hosts::default());
    let mut findings = parsed.findings;
    findings.extend(graph.findings.iter().cloned());
    findings.extend(plan::shadowed(&graph, &input));
    let published = published(&plan, setting);
    let previous: BTreeMap<ObjectKey, Arc<Value>> =
        before.iter().map(|document| (document.key.clone(), Arc::new(document.value.clone()))).collect();
    let (unchanged, paths) = (HashSet::new(), setting.paths());
    let input =
        ReportInput { objects: &objects, previous: &previous, now, unchanged: &unchanged, paths: paths.as_ref() };
    let documents = status::report(&graph, &published, &input);
    Outcome { plan, documents, findings, last_good: graph.last_good() }
}

/// The accepted-object store numbers objects without a generation.
fn numbered(mut object: Object) -> Arc<Object> {
    object.meta.generation = object.meta.generation.max(1);
    Arc::new(object)
}

fn published(plan: &plan::Plan, setting: &Setting) -> Published {
    let result = |address: &SocketAddr| setting.unbound.get(address).map_or(Ok(()), |error| Err(error.clone()));
    let results = |sockets: &BTreeMap<SocketAddr, plan::SocketPlan>| {
        let tried = sockets.keys().filter(|address| !setting.pending.contains(address));
        tried.map(|address| (*address, result(address))).collect()
    };
    Published { sockets: results(&plan.sockets), datagram_sockets: results(&plan.datagram_sockets) }
}

fn outcome(case: &Path) -> Outcome {
    let setting = fs::read_to_string(case.join("setting.yaml"));
    let setting: Setting = setting.map_or_else(|_| Setting::default(), |text| serde_yaml::from_str(&text).unwrap());
    let before = case.join("before.yaml");
    let (last_good, documents) = if before.exists() {
        let outcome = pass(&fs::read(before).unwrap(), &setting, "2025-12-31T00:00:00Z", &LastGood::default(), &[]);
        (outcome.last_good, outcome.documents)
    } else {
        (LastGood::default(), Vec::new())
    };
    pass(&fs::read(case.join("in.yaml")).unwrap(), &setting, "2026-01-01T00:00:00Z", &last_good, &documents)
}

/// The files that the case must hold, with their text.
fn texts(outcome: &Outcome) -> BTreeMap<&'static str, String> {
    let plan = to_yaml(&serde_json::to_value(&outcome.plan).unwrap());
    let documents: Vec<String> = outcome.documents.iter().map(|document| to_yaml(&document.value)).collect();
    let findings: Vec<String> = outcome
        .findings
        .iter()
        .map(|finding| format!("{:?} {} {finding}\n", finding.severity, finding.reason))
        .collect();
    BTreeMap::from([("plan.yaml", plan), ("status.yaml", documents.join("---\n")), ("findings.txt", findings.concat())])
}

#[test]
fn each_case_gives_what_its_files_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut drift = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(case.join("in.yaml")).unwrap_or_else(|error| panic!("{name}/in.yaml: {error}"));
        assert!(text.starts_with('#'), "{name}/in.yaml does not start with a comment that says what it is about");
        let texts = texts(&outcome(&case));
        for (file, text) in &texts {
            let path = case.join(file);
            if update {
                fs::write(&path, text).unwrap();
            } else if fs::read_to_string(&path).unwrap_or_default() != *text {
                drift.push(format!("{name}/{file}:\n{}", first_difference(&path, text)));
            }
        }
        for entry in fs::read_dir(&case).unwrap() {
            let file = entry.unwrap().file_name().to_string_lossy().into_owned();
            let inputs = ["in.yaml", "before.yaml", "setting.yaml", "requests.yaml"];
            assert!(
                texts.contains_key(file.as_str()) || inputs.contains(&file.as_str()),
                "{name}/{file} belongs to nothing"
            );
        }
    }
    assert!(drift.is_empty(), "UPDATE_GOLDEN=1 rewrites these, if they are meant:\n{}", drift.join("\n"));
}

fn first_difference(path: &Path, text: &str) -> String {
    let old = fs::read_to_string(path).unwrap_or_default();
    let count = old.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(count).unwrap_or("(end)").to_string();
    format!("  line {}: expected {:?}\n           now {:?}", count + 1, line(&old), line(text))
}

#[test]
fn every_reason_has_a_case() {
    let documents: Vec<Value> =
        cases().iter().flat_map(|case| outcome(case).documents).map(|document| document.value).collect();
    let missing: Vec<&&Reason> =
        REASONS.iter().filter(|reason| !documents.iter().any(|document| has(document, reason))).collect();
    assert!(missing.is_empty(), "no case shows {missing:#?}");
}

#[test]
fn conditions_fit_what_the_api_server_takes() {
    for document in cases().iter().flat_map(|case| outcome(case).documents) {
        let all = [Subject::Class, Subject::Gateway, Subject::Route].map(|subject| lists(&document.value, subject));
        let listeners = lists(&document.value, Subject::Listener);
        for list in all.into_iter().flatten().chain(listeners) {
            let list = list.as_array().unwrap();
            assert!(list.len() <= 8, "{}", document.key);
            for condition in list {
                let text = |field: &str| condition[field].as_str().unwrap_or_default();
                assert!(text("message").chars().count() <= 32768, "{}: {condition}", document.key);
                assert!(text("lastTransitionTime").parse::<Timestamp>().is_ok(), "{}: {condition}", document.key);
                assert!(!text("reason").is_empty(), "{}: {condition}", document.key);
            }
        }
    }
}

/// The lists of conditions on `subject` in a document.
fn lists(document: &Value, subject: Subject) -> Vec<&Value> {
    let status = &document["status"];
    let each = |list: &'static str| status[list].as_array().map_or(&[][..], Vec::as_slice).iter();
    match (subject, document["kind"].as_str().unwrap()) {
        (Subject::Class, "GatewayClass") | (Subject::Gateway, "Gateway") => vec![&status["conditions"]],
        (Subject::Listener, "Gateway") => each("listeners").map(|one| &one["conditions"]).collect(),
        (Subject::Route, "HTTPRoute" | "TCPRoute" | "UDPRoute") => each("parents")
            .filter(|one| one["controllerName"] == CONTROLLER_NAME)
            .map(|one| &one["conditions"])
            .collect(),
        _ => Vec::new(),
    }
}

fn has(document: &Value, reason: &Reason) -> bool {
    let is = |condition: &Value| {
        condition["type"] == reason.condition
            && condition["status"] == reason.status
            && condition["reason"] == reason.name
    };
    lists(document, reason.subject).iter().any(|list| list.as_array().is_some_and(|list| list.iter().any(is)))
}

/// The condition `gapi.dev/KernelPath` of each parent of a route.
fn path_conditions(outcome: &Outcome, kind: &str, name: &str) -> Vec<Value> {
    let key = ObjectKey::new(kind, "default", name);
    let document = &outcome.documents.iter().find(|document| document.key == key).expect("the case has it").value;
    let conditions = document["status"]["parents"].as_array().into_iter().flatten().flat_map(|parent| {
        let conditions = parent["conditions"].as_array().expect("a list").iter();
        conditions.filter(|condition| condition["type"] == "gapi.dev/KernelPath").cloned()
    });
    conditions.collect()
}

#[test]
fn what_was_said_of_the_path_stands_until_it_is_known() {
    let folder = folder().join("route-paths");
    let text = fs::read_to_string(folder.join("in.yaml")).unwrap();
    let known: Setting = serde_yaml::from_str(&fs::read_to_string(folder.join("setting.yaml")).unwrap()).unwrap();
    let pass = |text: &str, setting: &Setting, now: &str, before: &[StatusDocument]| {
        pass(text.as_bytes(), setting, now, &LastGood::default(), before)
    };
    let of = |outcome: &Outcome| path_conditions(outcome, "TCPRoute", "far");
    let first = pass(&text, &known, "2026-01-01T00:00:00Z", &[]);
    assert_eq!(of(&first)[0]["reason"], "Kernel");

    // Edited, and it is not known yet what the edit comes to.
    let edited = text.replace("name: far, generation: 1", "name: far, generation: 2");
    assert_ne!(text, edited);
    let between = pass(&edited, &Setting::default(), "2026-01-02T00:00:00Z", &first.documents);
    assert_eq!(of(&between), of(&first));
    assert_eq!(of(&between)[0]["observedGeneration"], 1);

    let after = pass(&edited, &known, "2026-01-03T00:00:00Z", &between.documents);
    assert_eq!(of(&after)[0]["observedGeneration"], 2);
    assert_eq!(of(&after)[0]["lastTransitionTime"], "2026-01-01T00:00:00Z");

    let refused = edited.replace("sectionName: far", "sectionName: nowhere");
    let refused = pass(&refused, &Setting::default(), "2026-01-04T00:00:00Z", &after.documents);
    assert!(of(&refused).is_empty(), "a parent that does not take the route has no path");
    assert!(of(&alone(&text)).is_empty(), "nothing is known of it in a check");
}

#[test]
fn the_order_of_documents_changes_nothing() {
    for case in cases().iter().filter(|case| !case.join("before.yaml").exists()) {
        let text = fs::read_to_string(case.join("in.yaml")).unwrap();
        let reversed: Vec<&str> = text.split("\n---\n").collect::<Vec<_>>().into_iter().rev().collect();
        let (a, b) = (alone(&text), alone(&reversed.join("\n---\n")));
        assert_eq!(a.plan, b.plan, "{}", case.display());
        assert_eq!(a.documents, b.documents, "{}", case.display());
    }
}

#[test]
fn an_unrelated_route_changes_no_other() {
    let text = fs::read_to_string(folder().join("httproute-precedence/in.yaml")).unwrap();
    let unrelated = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a-first}\n\
        spec: {parentRefs: [{name: web}], hostnames: [unrelated.example.com], rules: [{name: x}]}\n";
    let (a, b) = (alone(&text), alone(&format!("{text}---\n{unrelated}")));
    let route = |outcome: &Outcome| {
        let routes = outcome.documents.iter().filter(|document| &*document.key.kind == "HTTPRoute").cloned();
        routes.filter(|document| &*document.key.name != "a-first").collect::<Vec<_>>()
    };
    let hosts = |outcome: &Outcome| outcome.plan.sockets.values().next().unwrap().listeners[0].hosts.clone();
    assert_eq!(route(&a), route(&b));
    assert_eq!(hosts(&a), hosts(&b)[1..]);
    assert_eq!(hosts(&b)[0].hostname.as_deref(), Some("unrelated.example.com"));
}

/// One pass over `text`, as `gapi check` does it.
fn alone(text: &str) -> Outcome {
    pass(text.as_bytes(), &Setting::default(), "2026-01-01T00:00:00Z", &LastGood::default(), &[])
}
