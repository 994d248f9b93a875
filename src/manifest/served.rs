//! What is a document of this `apiVersion` and `kind` to gapi?

use super::admit::fields::{distance, nearest};
use crate::api::{GATEWAY_GROUP, KINDS, Kind, cert_manager::CERT_MANAGER_GROUP};

/// What becomes of a document, by its `apiVersion` and `kind`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Served {
    /// A kind that gapi serves, in a served version.
    Kind(Kind),
    /// A list whose `items` are documents themselves.
    List,
    /// A kind of the Gateway API that this gapi does not serve: left out, with a warning.
    NotYet,
    /// None of gapi's business.
    Ignored(&'static str),
    /// A group of ours with a version or kind that no server has.
    Wrong { field: &'static str, message: String, remedy: String },
}

const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";

/// Kinds of the Gateway API that gapi does not serve, with the versions that a server has.
const NOT_YET: &[(&str, &str, &[&str])] = &[
    (GATEWAY_GROUP, "BackendTLSPolicy", &["v1", "v1alpha3"]),
    (GATEWAY_GROUP, "ListenerSet", &["v1"]),
    (EXPERIMENTAL_GROUP, "XBackend", &["v1alpha1"]),
    (EXPERIMENTAL_GROUP, "XBackendTrafficPolicy", &["v1alpha1"]),
    (EXPERIMENTAL_GROUP, "XMesh", &["v1alpha1"]),
    (EXPERIMENTAL_GROUP, "XTelemetryPolicy", &["v1alpha1"]),
];

/// Characters of a group's name that may be wrong for it to be taken for a mistake.
const MISTYPED: usize = 3;

/// Tells what a document is to gapi.
pub fn served(api_version: &str, kind: &str) -> Served {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if version.is_empty() || version.contains('/') {
        return Served::Wrong {
            field: "apiVersion",
            message: format!("apiVersion {api_version:?} is not group/version"),
            remedy: "write for example gateway.networking.k8s.io/v1".to_owned(),
        };
    }
    if let Some(kind) = Kind::of(group, kind) {
        return match kind.names().versions.contains(&version) {
            true => Served::Kind(kind),
            false => unserved(group, kind.names().name, version, kind.names().versions),
        };
    }
    if let Some((_, name, versions)) = NOT_YET.iter().find(|(other, name, _)| *other == group && *name == kind) {
        return match versions.contains(&version) {
            true => Served::NotYet,
            false => unserved(group, name, version, versions),
        };
    }
    match (group, kind.strip_suffix("List")) {
        ("", Some("")) => Served::List,
        (group, Some(item)) if Kind::of(group, item).is_some() => Served::List,
        (CERT_MANAGER_GROUP, _) if kind == "CertificateRequest" => {
            Served::Ignored("cert-manager's own note of an issuance; gapi issues without it")
        }
        (GATEWAY_GROUP | EXPERIMENTAL_GROUP | CERT_MANAGER_GROUP, _) => unknown(group, kind),
        ("", _) if version != "v1" => Served::Wrong {
            field: "apiVersion",
            message: format!("apiVersion {api_version:?} is neither v1 nor group/version"),
            remedy: "write for example gateway.networking.k8s.io/v1".to_owned(),
        },
        ("", _) if nearest(kind, &kinds("")).is_some() => unknown(group, kind),
        ("", _) => Served::Ignored("core kind that a gateway does not read"),
        _ => mistyped(group, kind).unwrap_or(Served::Ignored("kind of another group")),
    }
}

/// A kind of ours in a group that is all but ours.
fn mistyped(group: &str, kind: &str) -> Option<Served> {
    let ours = KINDS.iter().map(|names| (names.group, names.name));
    let mut ours = ours.chain(NOT_YET.iter().map(|(group, name, _)| (*group, *name)));
    let is_near = |own: &str| group.len().abs_diff(own.len()) <= MISTYPED && distance(group, own) <= MISTYPED;
    let (own, _) = ours.find(|(own, name)| *name == kind && !own.is_empty() && is_near(own))?;
    Some(Served::Wrong {
        field: "apiVersion",
        message: format!("{kind} is no kind of group {group:?}"),
        remedy: format!("did you mean {own}?"),
    })
}

fn unserved(group: &str, kind: &str, version: &str, versions: &[&str]) -> Served {
    let full = |version: &&str| if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
    let choices: Vec<String> = versions.iter().map(full).collect();
    Served::Wrong {
        field: "apiVersion",
        message: format!("{kind} is not served in version {version}"),
        remedy: format!("write apiVersion: {}", choices.join(" or ")),
    }
}

/// The kinds of `group` that a gateway has to do with.
fn kinds(group: &str) -> Vec<&'static str> {
    let names = KINDS.iter().map(|names| (names.group, names.name));
    let others = NOT_YET.iter().map(|(group, name, _)| (*group, *name));
    names.chain(others).filter(|(other, _)| *other == group).map(|(_, name)| name).collect()
}

fn unknown(group: &str, kind: &str) -> Served {
    let known = kinds(group);
    let group = if group.is_empty() { "v1" } else { group };
    Served::Wrong {
        field: "kind",
        message: format!("{group} has no kind {kind:?}"),
        remedy: match nearest(kind, &known) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("its kinds: {}", known.join(", ")),
        },
    }
}
