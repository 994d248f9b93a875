//! Manifests from their text to the snapshot, and the report: nothing panics, and a second pass that takes over what it
//! knows from the first comes to the same.
#![no_main]

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use gapi::{
    api::ObjectKey,
    compile::compile,
    graph::{self, Addresses, LastGood, issuance::Progress},
    manifest::{Object, parse::parse_file, span::Bounds},
    plan,
    status::{self, Published, ReportInput},
};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

mod change;

fuzz_target!(|data: &[u8]| {
    let parsed = parse_file("fuzz.yaml", data, &Bounds::default());
    // As the accepted-object store has them: one of each name, numbered, sorted.
    let mut objects = BTreeMap::new();
    for mut object in parsed.objects {
        object.meta.generation = object.meta.generation.max(1);
        objects.entry(object.key.clone()).or_insert_with(|| Arc::new(object));
    }
    let objects: Arc<[Arc<Object>]> = objects.into_values().collect();
    let addresses = Addresses {
        bind: vec!["0.0.0.0".parse().expect("an address")],
        advertised: vec!["192.0.2.1".parse().expect("an address")],
        pool: None,
        assigned: BTreeMap::new(),
    };
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    let progress = Progress::default();
    let mut hosts = plan::Hosts::default();
    let none = LastGood::default();
    let input =
        graph::Input { objects: &objects, addresses: &addresses, last_good: &none, now, progress: Some(&progress) };
    let graph = graph::resolve(&input);
    let first = plan::lower(&graph, &mut hosts);
    let _ = plan::shadowed(&graph, &input);
    let (snapshot, _) = compile(&first, None, &BTreeMap::new());
    let bound = first.sockets.keys().map(|address| (*address, Ok(()))).collect();
    let published = Published { sockets: bound, ..Published::default() };
    let previous: BTreeMap<ObjectKey, Arc<serde_json::Value>> = BTreeMap::new();
    let unchanged = HashSet::new();
    let report = ReportInput { objects: &objects, previous: &previous, now, unchanged: &unchanged, paths: None };
    status::report(&graph, &published, &report);

    let last_good = graph.last_good();
    let again = graph::resolve(&graph::Input { last_good: &last_good, ..input });
    let second = plan::lower(&again, &mut hosts);
    assert!(first == second, "the second pass gives another plan");
    assert_eq!(graph.findings.len(), again.findings.len(), "the second pass finds something else");
    let _ = compile(&second, Some((&first, &Arc::new(snapshot))), &BTreeMap::new());
});

// Text that is changed byte by byte is hardly ever a manifest: every other time a document is changed in its structure.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 2 {
        0 => change::documents(data, size, max_size, seed).unwrap_or(size),
        _ => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
});
