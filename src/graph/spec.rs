//! `spec` of every kind of route, in the words of HTTPRoute: what the kinds share is resolved and planned once.
//!
//! A gRPC call is an HTTP/2 request for `/service/method`, so that a GRPCRoute's method match is a path match. A rule of a
//! TCPRoute, TLSRoute or UDPRoute has backends and nothing else.

use std::cmp::Reverse;

use crate::{
    api::{
        Kind,
        grpc_route::{GrpcMethodMatch, GrpcRouteMatch, GrpcRouteRule, GrpcRouteSpec},
        http_route::{HttpBackendRef, HttpPathMatch, HttpRouteMatch, HttpRouteRule, HttpRouteSpec, ParentReference},
        layer4_route::{Layer4RouteRule, Layer4RouteSpec},
    },
    manifest::Object,
};

/// `spec` of a route.
#[derive(Default)]
pub(super) struct RouteSpec {
    pub parent_refs: Vec<ParentReference>,
    pub use_default_gateways: Option<String>,
    /// Empty for kinds that have none.
    pub hostnames: Vec<String>,
    pub rules: Vec<RuleSpec>,
}

/// `rules[]` of a route.
#[derive(Default)]
pub(super) struct RuleSpec {
    pub http: HttpRouteRule,
    /// What each of the matches says of a call; empty for kinds other than GRPCRoute.
    pub calls: Vec<CallSpec>,
}

/// `matches[].method` of a rule of a GRPCRoute, besides its path.
#[derive(Default)]
pub(super) struct CallSpec {
    pub call: Call,
    /// The expressions as written, each with its field.
    pub expressions: Vec<(&'static str, String)>,
}

/// What counts for the precedence of a method match (GRPCRouteRule.matches): the characters of the service, then those of
/// the method. Of two names that both match a call these are as many, so that what counts is what kind of match it is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Call {
    pub service: Part,
    pub method: Part,
}

/// How the service or the method is matched, the most specific first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    Name,
    /// Yields to a name, and the longest first, which the spec leaves open.
    Expression(Reverse<usize>),
    #[default]
    Any,
}

/// The spec of a route of whatever kind; none where it cannot be read.
pub(super) fn route(object: &Object) -> Option<RouteSpec> {
    match object.kind {
        Kind::HttpRoute => object.typed::<HttpRouteSpec>(Some("spec")).ok().cloned().map(http),
        Kind::GrpcRoute => object.typed::<GrpcRouteSpec>(Some("spec")).ok().cloned().map(grpc),
        _ => object.typed::<Layer4RouteSpec>(Some("spec")).ok().cloned().map(layer4),
    }
}

fn http(spec: HttpRouteSpec) -> RouteSpec {
    let HttpRouteSpec { parent_refs, use_default_gateways, hostnames, rules } = spec;
    let rules = rules.into_iter().map(|http| RuleSpec { http, calls: Vec::new() }).collect();
    RouteSpec { parent_refs, use_default_gateways, hostnames, rules }
}

fn grpc(spec: GrpcRouteSpec) -> RouteSpec {
    let GrpcRouteSpec { parent_refs, use_default_gateways, hostnames, rules } = spec;
    RouteSpec { parent_refs, use_default_gateways, hostnames, rules: rules.into_iter().map(grpc_rule).collect() }
}

fn grpc_rule(rule: GrpcRouteRule) -> RuleSpec {
    let GrpcRouteRule { name, matches, filters, backend_refs, session_persistence } = rule;
    let calls = matches.iter().map(|one| one.method.as_ref().map(call_spec).unwrap_or_default()).collect();
    let matches = matches.into_iter().map(grpc_match).collect();
    let backend_refs = backend_refs.into_iter().map(|backend| HttpBackendRef {
        reference: backend.reference,
        weight: backend.weight,
        filters: backend.filters,
    });
    let backend_refs = backend_refs.collect();
    let http = HttpRouteRule { name, matches, filters, backend_refs, session_persistence, ..HttpRouteRule::default() };
    RuleSpec { http, calls }
}

fn grpc_match(one: GrpcRouteMatch) -> HttpRouteMatch {
    let path = one.method.as_ref().map(path);
    HttpRouteMatch { path, headers: one.headers, ..HttpRouteMatch::default() }
}

fn named(part: Option<&String>) -> Option<&str> {
    part.map(String::as_str).filter(|part| !part.is_empty())
}

fn is_expression(method: &GrpcMethodMatch) -> bool {
    method.type_ == "RegularExpression"
}

fn call_spec(method: &GrpcMethodMatch) -> CallSpec {
    let written = [("service", method.service.as_ref()), ("method", method.method.as_ref())];
    let written = written.into_iter().filter_map(|(field, part)| Some((field, named(part)?.to_owned())));
    let expressions = if is_expression(method) { written.collect() } else { Vec::new() };
    CallSpec { call: call(method), expressions }
}

fn call(method: &GrpcMethodMatch) -> Call {
    let part = |part| match named(part) {
        None => Part::Any,
        Some(part) if is_expression(method) => Part::Expression(Reverse(part.chars().count())),
        Some(_) => Part::Name,
    };
    Call { service: part(method.service.as_ref()), method: part(method.method.as_ref()) }
}

/// The path of the calls that a method match takes (the gRPC protocol over HTTP/2, "Requests").
fn path(method: &GrpcMethodMatch) -> HttpPathMatch {
    let (service, name) = (named(method.service.as_ref()), named(method.method.as_ref()));
    let (type_, value) = match (service, name) {
        (service, name) if is_expression(method) => {
            let part = |part: Option<&str>| part.map_or("[^/]+".to_owned(), |part| format!("(?:{part})"));
            ("RegularExpression", format!("/{}/{}", part(service), part(name)))
        }
        (Some(service), Some(name)) => ("Exact", format!("/{service}/{name}")),
        (Some(service), None) => ("PathPrefix", format!("/{service}")),
        (None, Some(name)) => ("RegularExpression", format!("/[^/]+/{name}")),
        (None, None) => ("PathPrefix", "/".to_owned()),
    };
    HttpPathMatch { type_: type_.to_owned(), value }
}

fn layer4(spec: Layer4RouteSpec) -> RouteSpec {
    let Layer4RouteSpec { parent_refs, use_default_gateways, hostnames, rules } = spec;
    RouteSpec { parent_refs, use_default_gateways, hostnames, rules: rules.into_iter().map(layer4_rule).collect() }
}

fn layer4_rule(rule: Layer4RouteRule) -> RuleSpec {
    let backend_refs = rule.backend_refs.into_iter().map(|backend| HttpBackendRef {
        reference: backend.reference,
        weight: backend.weight,
        filters: Vec::new(),
    });
    let http = HttpRouteRule { name: rule.name, backend_refs: backend_refs.collect(), ..HttpRouteRule::default() };
    RuleSpec { http, calls: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_match_is_a_path_match() {
        for (type_, service, method, want) in [
            ("Exact", "a.B", "C", ("Exact", "/a.B/C")),
            ("Exact", "a.B", "", ("PathPrefix", "/a.B")),
            ("Exact", "", "C", ("RegularExpression", "/[^/]+/C")),
            ("RegularExpression", "a|b", "", ("RegularExpression", "/(?:a|b)/[^/]+")),
            ("RegularExpression", "", "Get.*", ("RegularExpression", "/[^/]+/(?:Get.*)")),
        ] {
            let method = GrpcMethodMatch {
                type_: type_.into(),
                service: Some(service.into()),
                method: (!method.is_empty()).then(|| method.into()),
            };
            let path = path(&method);
            assert_eq!((path.type_.as_str(), path.value.as_str()), want);
        }
    }
}
