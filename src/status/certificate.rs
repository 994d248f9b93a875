//! The documents of Certificates and issuers, as cert-manager writes them.

use serde_json::{Map, Value, json};

use crate::{
    api::{Condition, ObjectKey},
    graph::{
        Graph, Object,
        issuance::{Issuer, Method, RenewalInfo, Wanted, seconds},
    },
};

use super::{
    StatusDocument,
    merge::Before,
    report::{document, metadata},
};

/// Condition types that are ours; the others in a manifest belong to somebody else.
const OURS: [&str; 2] = ["Ready", "Issuing"];

/// Where documents come from and what stood in them.
pub struct Known<'a> {
    pub now: &'a str,
    pub object: &'a dyn Fn(&ObjectKey) -> Option<&'a Object>,
    pub before: &'a dyn Fn(&ObjectKey) -> Before<'a>,
}

/// The documents of all Certificates, also of those made for Gateways, and of all issuers.
pub fn documents(graph: &Graph, known: &Known) -> Vec<StatusDocument> {
    let certificates = graph.issuance.wanted.iter().map(|wanted| certificate(wanted, known));
    let issuers = graph.issuance.issuers.iter().filter_map(|one| issuer(one, known));
    certificates.chain(issuers).collect()
}

fn certificate(wanted: &Wanted, known: &Known) -> StatusDocument {
    let attempt = &wanted.attempt;
    let issuing = wanted.issuing.as_ref().map(|issuing| issuing.condition("Issuing"));
    let ours: Vec<Condition> = issuing.into_iter().chain([wanted.ready.condition("Ready")]).collect();
    let mut status = Map::new();
    if let Some(info) = &attempt.renewal_info {
        status.insert("acme".into(), json!({ "ari": renewal_info(info) }));
    }
    let generation = wanted.meta.generation.max(1);
    status.insert("conditions".into(), conditions(ours, &wanted.key, generation, known));
    if attempt.failures > 0 {
        status.insert("failedIssuanceAttempts".into(), attempt.failures.into());
    }
    if let Some(time) = attempt.last_failure {
        status.insert("lastFailureTime".into(), seconds(time).into());
    }
    if let Some(validity) = &wanted.judgement.validity {
        status.insert("notAfter".into(), seconds(validity.not_after).into());
        status.insert("notBefore".into(), seconds(validity.not_before).into());
        if let Some(renewal) = validity.renewal {
            status.insert("renewalTime".into(), seconds(renewal).into());
        }
    }
    if attempt.revision > 0 {
        status.insert("revision".into(), attempt.revision.into());
    }
    match (known.object)(&wanted.key) {
        Some(object) => document(object, status.into()),
        None => made(wanted, status.into()),
    }
}

fn renewal_info(info: &RenewalInfo) -> Value {
    let mut value = json!({
        "lastChecked": seconds(info.checked),
        "nextCheck": seconds(info.next_check),
        "suggestedWindow": { "start": seconds(info.start), "end": seconds(info.end) },
    });
    if let Some(url) = &info.explanation_url {
        value["explanationURL"] = url.as_str().into();
    }
    value
}

/// A Certificate that has no manifest.
fn made(wanted: &Wanted, status: Value) -> StatusDocument {
    let mut metadata = metadata(&wanted.meta);
    if let Some(owner) = &wanted.owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": &*owner.kind,
            "name": &*owner.name,
            "controller": true,
            "blockOwnerDeletion": true,
        }]);
    }
    let value = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": metadata,
        "spec": serde_json::to_value(&wanted.spec).expect("a spec is plain data"),
        "status": status,
    });
    StatusDocument { key: wanted.key.clone(), value }
}

fn issuer(issuer: &Issuer, known: &Known) -> Option<StatusDocument> {
    let object = (known.object)(&issuer.key)?;
    let ready = issuer.ready.is_true || !issuer.ready.message.is_empty();
    let ours = ready.then(|| issuer.ready.condition("Ready")).into_iter().collect();
    let mut status = Map::new();
    if let Method::Acme(acme) = &issuer.method
        && let Some(uri) = &acme.uri
    {
        let mut account = json!({ "uri": uri });
        if !acme.spec.email.is_empty() {
            account["lastRegisteredEmail"] = acme.spec.email.as_str().into();
        }
        status.insert("acme".into(), account);
    }
    status.insert("conditions".into(), conditions(ours, &issuer.key, object.meta.generation, known));
    Some(document(object, status.into()))
}

/// Ours, each with the time of its last change, then those of others.
fn conditions(ours: Vec<Condition>, key: &ObjectKey, generation: i64, known: &Known) -> Value {
    let list = |status: Option<&Value>| {
        status.and_then(|status| status.get("conditions")?.as_array()).cloned().unwrap_or_default()
    };
    let before = (known.before)(key);
    let (written, previous) = (list(before.written), list(before.previous));
    let ours = ours.into_iter().map(|condition| {
        let same = |other: &&Value| other["type"] == *condition.type_ && other["status"] == *condition.status;
        let kept = previous.iter().find(same).and_then(|other| other["lastTransitionTime"].as_str());
        json!({
            "type": condition.type_,
            "status": condition.status,
            "observedGeneration": generation,
            "lastTransitionTime": kept.unwrap_or(known.now),
            "reason": condition.reason,
            "message": condition.message,
        })
    });
    let is_foreign = |condition: &&Value| !OURS.iter().any(|own| condition["type"] == **own);
    let foreign = written.iter().filter(is_foreign).cloned();
    ours.collect::<Vec<_>>().into_iter().chain(foreign).collect()
}
