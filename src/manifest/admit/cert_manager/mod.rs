//! The kinds of cert-manager: what its CRDs say, and behind them its validating webhook.
//!
//! What the webhook refuses is judged as a rule between fields, since it sees only what the CRDs let pass. Where gapi
//! takes less or more on purpose: templates of Pods and Ingresses, and the issuers `vault` and `venafi`, are kept as
//! written, since they mean nothing here; solvers may be `tlsALPN01: {}`.

pub mod certificate;
pub mod dns01;
pub mod issuer;
pub mod solver;

use serde_json::Value;

use super::{Fields, Judge, status::Shape};
use crate::{api::cert_manager::read_duration, manifest::span::Node};

/// `status.conditions` of these kinds.
const CONDITIONS: Shape = Shape::List(&Shape::Object(&[
    ("lastTransitionTime", Shape::Scalar),
    ("message", Shape::Scalar),
    ("observedGeneration", Shape::Scalar),
    ("reason", Shape::Scalar),
    ("status", Shape::Scalar),
    ("type", Shape::Scalar),
]));

fn strings(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.list(node, 0..=usize::MAX, Judge::string)
}

fn string_map(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.map_of(node, usize::MAX, |judge, entry| judge.string(&entry.node))
}

/// A map that is kept as written.
fn any_map(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.entries(node).map(|_| node.value())
}

/// A duration as Go writes it.
fn duration(judge: &mut Judge, node: &Node) -> Option<Value> {
    let text = judge.text(node)?;
    if read_duration(text).is_none() {
        judge.conflict(
            node.place,
            format!("{text:?} is not a duration"),
            "write hours, minutes and seconds: 2160h, 1h30m",
        );
    }
    Some(Value::from(text))
}

/// A Secret with the entry meant; the webhook asks for both names in most places (`needs_key`).
fn secret_key(judge: &mut Judge, node: &Node, needs_key: bool) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("key", Judge::string);
        fields.required("name", Judge::string);
        not_empty(fields, "name", "name the Secret");
        if needs_key {
            not_empty(fields, "key", "name the entry of the Secret");
        }
    })
}

/// The webhook refuses a text that is missing or empty.
fn not_empty(fields: &mut Fields, name: &'static str, remedy: &str) {
    if fields.text(name).unwrap_or_default().is_empty() {
        fields.conflict(name, format!("{name} must not be empty"), remedy);
    }
}
