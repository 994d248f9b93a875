//! TCPRoute, TLSRoute and UDPRoute: `spec` as the experimental channel of v1.7 has it. The three differ only in that a
//! TLSRoute has hostnames.

use serde::{Deserialize, Serialize};

use super::{ObjectReference, http_route::ParentReference};

/// `TCPRoute.spec`, `TLSRoute.spec` and `UDPRoute.spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Layer4RouteSpec {
    pub parent_refs: Vec<ParentReference>,
    pub use_default_gateways: Option<String>,
    /// Of a TLSRoute: SNI names, of which `v1alpha2` may have none.
    pub hostnames: Vec<String>,
    /// One; in `v1alpha2` up to 16.
    pub rules: Vec<Layer4RouteRule>,
}

/// `rules[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Layer4RouteRule {
    pub name: Option<String>,
    /// Never empty.
    pub backend_refs: Vec<BackendRef>,
}

/// `rules[].backendRefs[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct BackendRef {
    #[serde(flatten)]
    pub reference: ObjectReference,
    /// `None` counts as 1.
    pub weight: Option<u32>,
}
