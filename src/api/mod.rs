//! The Gateway API's own words: kinds, object metadata, and one file per kind with its fields as written.
//!
//! A leaf: imports nothing from the crate. Values are made by *parse* from admitted and defaulted documents, so every
//! bound and cross-field rule of the CRDs holds of them; *resolve* reads them.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub mod cert_manager;
pub mod condition;
pub mod core;
pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
pub mod layer4_route;
pub mod rbac;
pub mod reference_grant;
pub mod selector;

/// The API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// `spec.controllerName` of the classes that this program serves.
pub const CONTROLLER_NAME: &str = "gapi.dev/gateway-controller";
/// The GatewayClass that exists without a manifest.
pub const DEFAULT_CLASS: &str = "gapi";

/// A kind that gapi serves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Kind {
    Certificate,
    ClusterIssuer,
    ClusterRole,
    ClusterRoleBinding,
    ConfigMap,
    EndpointSlice,
    Endpoints,
    Gateway,
    GatewayClass,
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    Issuer,
    Namespace,
    ReferenceGrant,
    Role,
    RoleBinding,
    Secret,
    Service,
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    #[serde(rename = "TLSRoute")]
    TlsRoute,
    #[serde(rename = "UDPRoute")]
    UdpRoute,
}

/// Name, group, served versions and spellings of a kind.
#[derive(Debug)]
pub struct KindNames {
    pub kind: Kind,
    /// As manifests write it: `HTTPRoute`.
    pub name: &'static str,
    /// API group; empty for core.
    pub group: &'static str,
    /// Versions that are served, the preferred one first.
    pub versions: &'static [&'static str],
    pub plural: &'static str,
    pub singular: &'static str,
    pub short: &'static [&'static str],
    pub namespaced: bool,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $group:literal $versions:expr, $plural:literal $singular:literal $short:expr, $ns:literal;)*) => {
        /// Every kind that gapi serves, in alphabetical order.
        pub const KINDS: &[KindNames] = &[$(KindNames {
            kind: Kind::$kind, name: $name, group: $group, versions: &$versions, plural: $plural, singular: $singular,
            short: &$short, namespaced: $ns,
        }),*];
    };
}

kinds! {
    Certificate "Certificate" "cert-manager.io" ["v1"], "certificates" "certificate" ["cert", "certs"], true;
    ClusterIssuer "ClusterIssuer" "cert-manager.io" ["v1"], "clusterissuers" "clusterissuer" ["ciss"], false;
    ClusterRole "ClusterRole" "rbac.authorization.k8s.io" ["v1"], "clusterroles" "clusterrole" [], false;
    ClusterRoleBinding "ClusterRoleBinding" "rbac.authorization.k8s.io" ["v1"], "clusterrolebindings" "clusterrolebinding" [], false;
    ConfigMap "ConfigMap" "" ["v1"], "configmaps" "configmap" ["cm"], true;
    EndpointSlice "EndpointSlice" "discovery.k8s.io" ["v1"], "endpointslices" "endpointslice" [], true;
    Endpoints "Endpoints" "" ["v1"], "endpoints" "endpoints" ["ep"], true;
    Gateway "Gateway" "gateway.networking.k8s.io" ["v1", "v1beta1"], "gateways" "gateway" ["gtw"], true;
    GatewayClass "GatewayClass" "gateway.networking.k8s.io" ["v1", "v1beta1"], "gatewayclasses" "gatewayclass" ["gc"], false;
    GrpcRoute "GRPCRoute" "gateway.networking.k8s.io" ["v1"], "grpcroutes" "grpcroute" [], true;
    HttpRoute "HTTPRoute" "gateway.networking.k8s.io" ["v1", "v1beta1"], "httproutes" "httproute" [], true;
    Issuer "Issuer" "cert-manager.io" ["v1"], "issuers" "issuer" ["iss"], true;
    Namespace "Namespace" "" ["v1"], "namespaces" "namespace" ["ns"], false;
    ReferenceGrant "ReferenceGrant" "gateway.networking.k8s.io" ["v1", "v1beta1"], "referencegrants" "referencegrant" ["refgrant"], true;
    Role "Role" "rbac.authorization.k8s.io" ["v1"], "roles" "role" [], true;
    RoleBinding "RoleBinding" "rbac.authorization.k8s.io" ["v1"], "rolebindings" "rolebinding" [], true;
    Secret "Secret" "" ["v1"], "secrets" "secret" [], true;
    Service "Service" "" ["v1"], "services" "service" ["svc"], true;
    TcpRoute "TCPRoute" "gateway.networking.k8s.io" ["v1", "v1alpha2"], "tcproutes" "tcproute" [], true;
    TlsRoute "TLSRoute" "gateway.networking.k8s.io" ["v1", "v1alpha3", "v1alpha2"], "tlsroutes" "tlsroute" [], true;
    UdpRoute "UDPRoute" "gateway.networking.k8s.io" ["v1", "v1alpha2"], "udproutes" "udproute" [], true;
}

/// The kinds that attach to Gateways.
pub const ROUTE_KINDS: [Kind; 5] = [Kind::GrpcRoute, Kind::HttpRoute, Kind::TcpRoute, Kind::TlsRoute, Kind::UdpRoute];

impl Kind {
    /// Does it attach to Gateways?
    pub fn is_route(self) -> bool {
        ROUTE_KINDS.contains(&self)
    }

    /// Names, group and versions of this kind.
    pub fn names(self) -> &'static KindNames {
        KINDS.iter().find(|names| names.kind == self).expect("every kind has a row in KINDS")
    }

    /// The kind that a document's `apiVersion` group and `kind` name, whatever the version.
    pub fn of(group: &str, name: &str) -> Option<Kind> {
        KINDS.iter().find(|names| names.group == group && names.name == name).map(|names| names.kind)
    }

    /// The kind that a person means on the command line: plural, singular, short or kind name, with or without
    /// `.group`, in any case.
    pub fn from_argument(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        KINDS
            .iter()
            .find(|names| {
                let bare = match word.split_once('.') {
                    Some((bare, group)) if group == names.group || group.ends_with(&format!(".{}", names.group)) => {
                        bare
                    }
                    Some(_) => return false,
                    None => word.as_str(),
                };
                bare == names.plural || bare == names.singular || names.short.contains(&bare)
            })
            .map(|names| names.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().name)
    }
}

/// What identifies an object: kind, namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey {
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(kind: impl Into<Arc<str>>, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }

    /// The served kind, if gapi serves it.
    pub fn served(&self) -> Option<Kind> {
        KINDS.iter().find(|names| names.name == &*self.kind).map(|names| names.kind)
    }
}

/// `HTTPRoute echo/echo-1`; `GatewayClass gapi` for cluster-scoped objects.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (kind, rest) = text.split_once(' ').ok_or_else(|| serde::de::Error::custom("no kind"))?;
        let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
        Ok(ObjectKey::new(kind, namespace, name))
    }
}

/// The used part of `metadata`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    pub name: String,
    /// Empty for cluster-scoped kinds; never empty for others once *parse* has put the default in.
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Given by the accepted-object store where the manifest has none.
    pub uid: String,
    /// As written; status files repeat it.
    pub resource_version: Option<String>,
    /// Raised by the accepted-object store when the spec changes; as written where the manifest has one.
    pub generation: i64,
    /// As written, else first seen.
    pub creation_timestamp: Option<String>,
    /// True where the manifest itself has a creationTimestamp: only such a one counts as age in precedence.
    pub creation_timestamp_written: bool,
}

/// Condition of an object's status, `metav1.Condition`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub last_transition_time: String,
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

/// A reference from a route, a listener or a filter to an object, with the spec's defaults in place.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(default)]
    pub group: String,
    #[serde(default)]
    pub kind: String,
    pub name: String,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub port: Option<u16>,
}

/// A label selector, `metav1.LabelSelector`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LabelSelectorRequirement {
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`; anything else makes the selector invalid.
    pub operator: String,
    #[serde(default)]
    pub values: Vec<String>,
}
