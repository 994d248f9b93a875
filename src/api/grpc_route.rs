//! GRPCRoute: `spec` as the experimental channel of v1.7 has it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ObjectReference;
use super::http_route::{HttpRouteFilter, HttpValueMatch, ParentReference};

/// `GRPCRoute.spec`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteSpec {
    pub parent_refs: Vec<ParentReference>,
    pub use_default_gateways: Option<String>,
    pub hostnames: Vec<String>,
    pub rules: Vec<GrpcRouteRule>,
}

/// `rules[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteRule {
    pub name: Option<String>,
    /// Empty matches every call.
    pub matches: Vec<GrpcRouteMatch>,
    /// Of the types that GRPCRoute has: header modification, mirror, extension.
    pub filters: Vec<HttpRouteFilter>,
    pub backend_refs: Vec<GrpcBackendRef>,
    pub session_persistence: Option<Value>,
}

/// `rules[].matches[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct GrpcRouteMatch {
    pub method: Option<GrpcMethodMatch>,
    pub headers: Vec<HttpValueMatch>,
}

/// `matches[].method`: at least one of service and method.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct GrpcMethodMatch {
    /// `Exact` or `RegularExpression`.
    #[serde(rename = "type")]
    pub type_: String,
    /// With its package: `grpc.health.v1.Health`.
    pub service: Option<String>,
    pub method: Option<String>,
}

/// `rules[].backendRefs[]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcBackendRef {
    #[serde(flatten)]
    pub reference: ObjectReference,
    /// `None` counts as 1.
    pub weight: Option<u32>,
    pub filters: Vec<HttpRouteFilter>,
}
