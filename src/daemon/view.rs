//! What the daemon says of itself: the [`View`] after a pass, made from what the pass knows and computed nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::reporter::{Documents, Job};
use crate::{
    api::{Kind, ObjectKey},
    cli::run::RunOptions,
    finding::Finding,
    graph::Graph,
    manifest::accepted::{NOT_KEPT, Objects},
    plan::{ListenerProtocol, SocketPlan},
    status::Published,
    view::{CertificateView, Count, Counts, SocketView, Traffic, View, fingerprint, list, text},
};

/// What the report knows.
pub struct Facts<'a> {
    pub options: &'a RunOptions,
    pub documents: &'a Documents,
    pub started: Timestamp,
    pub job: &'a Job,
    /// Those of the job, and what the report itself found.
    pub findings: Vec<Finding>,
}

/// The view after a pass, without objects.
pub fn view(facts: Facts) -> View {
    let Facts { options, documents, started, job, findings } = facts;
    View {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: seconds(started),
        state_dir: options.state_dir.display().to_string(),
        state_problem: state_problem(options, &findings),
        config_dir: options.config_dir.display().to_string(),
        traffic_path: "user space".to_owned(),
        generation: job.generation,
        last_pass: Some(seconds(job.now)),
        stale: stale(&job.stale),
        sockets: sockets(job),
        counts: counts(documents),
        findings,
        ignored: job.ignored.clone(),
        certificates: certificates(&job.graph),
        settings: options.in_force.clone(),
        traffic: Traffic::default(),
        deny: None,
        kernel: None,
        plan: job.plan.clone(),
        objects: Vec::new(),
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Why the state directory does not keep what is in force.
fn state_problem(options: &RunOptions, findings: &[Finding]) -> Option<String> {
    let directory = options.state_dir.display().to_string();
    let unkept = |finding: &&Finding| finding.reason == NOT_KEPT && finding.message.contains(&directory);
    if let Some(finding) = findings.iter().find(unkept) {
        return Some(finding.message.clone());
    }
    let access = rustix::fs::access(&options.state_dir, rustix::fs::Access::WRITE_OK);
    access.err().map(|error| std::io::Error::from(error).to_string())
}

fn stale(stale: &BTreeSet<ObjectKey>) -> Option<String> {
    let mut stale = stale.iter();
    let first = stale.next()?;
    Some(match stale.count() {
        0 => format!("what runs of {first} is older than what is on disk"),
        more => format!("what runs of {first} and {more} more is older than what is on disk"),
    })
}

/// Those of TCP, then those of UDP.
fn sockets(job: &Job) -> Vec<SocketView> {
    let Published { sockets, datagram_sockets } = &job.published;
    let streams = sockets.iter().map(|(address, bound)| (address, bound, job.plan.sockets.get(address)));
    let datagrams = datagram_sockets.iter();
    let datagrams = datagrams.map(|(address, bound)| (address, bound, job.plan.datagram_sockets.get(address)));
    let view = |(address, bound, plan): (&SocketAddr, &Result<(), String>, Option<&SocketPlan>)| SocketView {
        address: *address,
        protocol: plan.map(protocol).unwrap_or_default(),
        problem: bound.clone().err(),
    };
    streams.chain(datagrams).map(view).collect()
}

/// What its listeners speak: `HTTP`, or `HTTPS,TLS`. One that is there for challenges alone has none.
fn protocol(socket: &SocketPlan) -> String {
    let word = |protocol| match protocol {
        ListenerProtocol::Http => "HTTP",
        ListenerProtocol::Https => "HTTPS",
        ListenerProtocol::Tcp => "TCP",
        ListenerProtocol::TlsPassthrough | ListenerProtocol::TlsTerminate => "TLS",
        ListenerProtocol::Udp => "UDP",
    };
    let words: BTreeSet<&str> = socket.listeners.iter().map(|listener| word(listener.protocol)).collect();
    match words.is_empty() {
        true => if socket.tls { "HTTPS" } else { "HTTP" }.to_owned(),
        false => Vec::from_iter(words).join(","),
    }
}

fn counts(documents: &Documents) -> Counts {
    let mut counts = Counts::default();
    for (key, document) in documents {
        let status = document;
        match key.served() {
            Some(Kind::Gateway) => {
                add(&mut counts.gateways, is_true(list(status, "/status/conditions"), "Programmed"));
                for listener in list(status, "/status/listeners") {
                    add(&mut counts.listeners, is_true(list(listener, "/conditions"), "Programmed"));
                }
            }
            Some(kind) if kind.is_route() => {
                let mut parents = list(status, "/status/parents").iter();
                add(&mut counts.routes, parents.any(|parent| is_true(list(parent, "/conditions"), "Accepted")));
            }
            _ => {}
        }
    }
    counts
}

fn add(count: &mut Count, programmed: bool) {
    count.total += 1;
    count.programmed += usize::from(programmed);
}

fn is_true(conditions: &[Value], type_: &str) -> bool {
    conditions.iter().any(|condition| text(condition, "/type") == type_ && text(condition, "/status") == "True")
}

fn certificates(graph: &Graph) -> Vec<CertificateView> {
    let listeners = graph.gateways.iter().flat_map(|gateway| &gateway.listeners);
    let mut views = BTreeMap::new();
    for certificate in listeners.flat_map(|listener| &listener.certificates) {
        views.entry(&certificate.key).or_insert_with(|| certificate_view(&certificate.key, &certificate.chain_pem));
    }
    views.into_values().collect()
}

fn certificate_view(key: &str, chain_pem: &[u8]) -> CertificateView {
    let mut view = CertificateView { name: key.to_owned(), ..CertificateView::default() };
    let der = CertificateDer::from_pem_slice(chain_pem).unwrap_or_else(|_| Vec::new().into());
    let Ok((_, leaf)) = X509Certificate::from_der(&der) else {
        view.problem = Some("it cannot be read".to_owned());
        return view;
    };
    view.fingerprint = fingerprint(&der);
    let names = leaf.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    view.hostnames = names.into_iter().flatten().filter_map(dns_name).collect();
    let not_after = Timestamp::from_second(leaf.validity().not_after.timestamp());
    view.not_after = not_after.map(seconds).unwrap_or_default();
    if !leaf.validity().is_valid() {
        view.problem = Some("it is not valid now".to_owned());
    }
    view
}

fn dns_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

/// The user's objects with our status in them, and those that exist without a manifest.
pub fn objects(accepted: &Objects, documents: &Documents) -> Vec<Arc<Value>> {
    let mut objects: BTreeMap<&ObjectKey, Arc<Value>> = BTreeMap::new();
    for (key, object) in accepted {
        let mut value = Value::clone(&object.value);
        if let Some(metadata) = value.get_mut("metadata") {
            metadata["uid"] = object.meta.uid.clone().into();
            metadata["generation"] = object.meta.generation.into();
            metadata["creationTimestamp"] = object.meta.creation_timestamp.clone().into();
        }
        if let Some(document) = documents.get(key) {
            value["status"] = document["status"].clone();
        }
        objects.insert(key, Arc::new(value));
    }
    for (key, document) in documents {
        objects.entry(key).or_insert_with(|| document.clone());
    }
    objects.into_values().collect()
}
