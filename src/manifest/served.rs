//! What is a document of this `apiVersion` and `kind` to gapi?

use super::admit::fields::nearest;
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
    Wrong { message: String, remedy: String },
}

const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";

/// Kinds of the Gateway API that gapi does not serve, with the versions that a server has.
const NOT_YET: &[(&str, &str, &[&str])] = &[
    (GATEWAY_GROUP, "BackendTLSPolicy", &["v1", "v1alpha3"]),
    (GATEWAY_GROUP, "GRPCRoute", &["v1"]),
    (GATEWAY_GROUP, "ListenerSet", &["v1"]),
    (GATEWAY_GROUP, "TCPRoute", &["v1", "v1alpha2"]),
    (GATEWAY_GROUP, "TLSRoute", &["v1", "v1alpha3", "v1alpha2"]),
    (GATEWAY_GROUP, "UDPRoute", &["v1", "v1alpha2"]),
    (EXPERIMENTAL_GROUP, "XBackend", &["v1alpha1"]),
    (EXPERIMENTAL_GROUP, "XBackendTrafficPolicy", &["v1alpha1"]),
    (EXPERIMENTAL_GROUP, "XMesh", &["v1alpha1"]),
    (EXPERIMENTAL_GROUP, "XTelemetryPolicy", &["v1alpha1"]),
];

/// Tells what a document is to gapi.
pub fn served(api_version: &str, kind: &str) -> Served {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if version.is_empty() || version.contains('/') {
        return Served::Wrong {
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
        ("", _) => Served::Ignored("core kind that a gateway does not read"),
        _ => Served::Ignored("kind of another group"),
    }
}

fn unserved(group: &str, kind: &str, version: &str, versions: &[&str]) -> Served {
    let full = |version: &&str| if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") };
    let choices: Vec<String> = versions.iter().map(full).collect();
    Served::Wrong {
        message: format!("{kind} is not served in version {version}"),
        remedy: format!("write apiVersion: {}", choices.join(" or ")),
    }
}

fn unknown(group: &str, kind: &str) -> Served {
    let names = KINDS.iter().map(|names| (names.group, names.name));
    let others = NOT_YET.iter().map(|(group, name, _)| (*group, *name));
    let known: Vec<&str> = names.chain(others).filter(|(other, _)| *other == group).map(|(_, name)| name).collect();
    Served::Wrong {
        message: format!("{group} has no kind {kind:?}"),
        remedy: match nearest(kind, &known) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("its kinds: {}", known.join(", ")),
        },
    }
}
