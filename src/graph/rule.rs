//! One rule of a route: its backends resolved, and whether gapi can do what it says.

use std::{fmt::Display, sync::Arc};

use crate::{
    api::{
        Kind, ObjectReference,
        condition::{ROUTE_INCOMPATIBLE_FILTERS, ROUTE_INVALID_KIND, ROUTE_UNSUPPORTED_VALUE},
        http_route::{
            HttpPathModifier, HttpRouteFilter, HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteTimeouts,
            HttpValueMatch,
        },
    },
    manifest::Object,
};

use super::{
    backend::Backends,
    expression::{self, Expressions},
    problem::Problem,
    spec::{Call, CallSpec, RuleSpec},
};

/// A rule, valid or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Position in `spec.rules`.
    pub index: usize,
    pub name: Option<String>,
    /// Never empty.
    pub matches: Vec<Match>,
    pub filters: Vec<Filter>,
    pub backends: Vec<RuleBackend>,
    pub timeouts: HttpRouteTimeouts,
    pub retry: Option<HttpRouteRetry>,
    /// Why it cannot be served: it then answers 500, and calls INTERNAL.
    pub broken: Vec<Problem>,
}

impl Rule {
    /// It answers 500.
    pub fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// The keys of its backends, mirrors included.
    pub fn backend_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        let filters = self.filters.iter().chain(self.backends.iter().flat_map(|backend| &backend.filters));
        let mirrors = filters.filter_map(|filter| filter.backend.as_ref());
        self.backends.iter().filter_map(|backend| backend.key.as_ref()).chain(mirrors)
    }

    /// Its regular expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &str> {
        self.matches.iter().flat_map(|one| {
            let path = one.spec.path.iter().filter(|path| path.type_ == "RegularExpression");
            let values = one.spec.headers.iter().chain(&one.spec.query_params);
            let values = values.filter(|value| value.type_ == "RegularExpression");
            path.map(|path| path.value.as_str()).chain(values.map(|value| value.value.as_str()))
        })
    }
}

/// A match whose expressions all compile.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    pub spec: HttpRouteMatch,
    /// Position in `rules[].matches`.
    pub index: usize,
    /// An expression that does not compile was left out, so the match takes more than was meant: it yields to matches of
    /// the same rank. Its rule is broken.
    pub loosened: bool,
    /// Set in a GRPCRoute.
    pub call: Option<Call>,
}

/// A filter; `backend` is where a mirror leads, if that is usable.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub spec: HttpRouteFilter,
    pub backend: Option<Arc<str>>,
}

/// An entry of `backendRefs`.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleBackend {
    /// Key into `Graph::backends`; none for an invalid reference, whose share is answered 500, UNAVAILABLE for calls, and
    /// refused for connections and datagrams.
    pub key: Option<Arc<str>>,
    pub weight: u32,
    pub filters: Vec<Filter>,
}

/// Resolves rules of one route; collects what is wrong with their references.
pub(super) struct Resolver<'r, 'a> {
    pub route: &'r Object,
    pub backends: &'r mut Backends<'a>,
    pub expressions: &'r mut Expressions<'a>,
    pub unresolved: Vec<Problem>,
}

impl Resolver<'_, '_> {
    /// Resolves rule `index`.
    pub fn rule(&mut self, index: usize, spec: RuleSpec) -> Rule {
        let RuleSpec { http: spec, calls } = spec;
        let field = format!("spec.rules[{index}]");
        let mut broken = unsupported(&spec, &field);
        broken.extend(incompatible(&spec, &field));
        let matches = self.matches(spec.matches, calls, &field, &mut broken);
        let filters = self.filters(spec.filters, &format_args!("{field}"));
        let mut backends = Vec::with_capacity(spec.backend_refs.len());
        for (i, backend) in spec.backend_refs.into_iter().enumerate() {
            let filters = self.filters(backend.filters, &format_args!("{field}.backendRefs[{i}]"));
            let key = self.reference(&backend.reference, &format_args!("{field}.backendRefs[{i}]"));
            backends.push(RuleBackend { key, weight: backend.weight.unwrap_or(1), filters });
        }
        let timeouts = spec.timeouts.unwrap_or_default();
        Rule { index, name: spec.name, matches, filters, backends, timeouts, retry: spec.retry, broken }
    }

    fn reference(&mut self, reference: &ObjectReference, field: &dyn Display) -> Option<Arc<str>> {
        match self.backends.resolve(self.route.kind, &self.route.key.namespace, reference, field) {
            Ok(key) => Some(key),
            Err(problem) => {
                self.unresolved.push(problem);
                None
            }
        }
    }

    /// The `filters` of what stands at `field`.
    fn filters(&mut self, filters: Vec<HttpRouteFilter>, field: &dyn Display) -> Vec<Filter> {
        let mut resolved = Vec::with_capacity(filters.len());
        for (i, spec) in filters.into_iter().enumerate() {
            let mut backend = None;
            if let Some(mirror) = &spec.request_mirror {
                let field = format_args!("{field}.filters[{i}].requestMirror.backendRef");
                backend = self.reference(&mirror.backend_ref, &field);
            }
            if let Some(extension) = &spec.extension_ref {
                let message = format!("{} of group {} is no filter of gapi", extension.kind, extension.group);
                let field = format!("{field}.filters[{i}].extensionRef");
                self.unresolved.push(Problem::new(ROUTE_INVALID_KIND, field, message, "remove the filter"));
            }
            resolved.push(Filter { spec, backend });
        }
        resolved
    }

    /// The matches, one of prefix `/` where there is none. Expressions that do not compile are left out and break the
    /// rule.
    fn matches(
        &mut self,
        specs: Vec<HttpRouteMatch>,
        calls: Vec<CallSpec>,
        field: &str,
        broken: &mut Vec<Problem>,
    ) -> Vec<Match> {
        let is_grpc = self.route.kind == Kind::GrpcRoute;
        let part = if is_grpc { "method" } else { "path.value" };
        let mut calls = calls.into_iter();
        let specs = if specs.is_empty() { vec![HttpRouteMatch::default()] } else { specs };
        let mut matches = Vec::with_capacity(specs.len());
        for (index, mut spec) in specs.into_iter().enumerate() {
            let before = broken.len();
            let CallSpec { call, expressions } = calls.next().unwrap_or_default();
            // Each by itself: `a)(b` must not become valid by what is put around it.
            for (part, expression) in expressions {
                if let Err(error) = expression::build(&expression) {
                    let field = format!("{field}.matches[{index}].method.{part}");
                    broken.push(uncompiled(field, &expression, &error));
                    spec.path = None;
                }
            }
            if let Some(path) = spec.path.take_if(|path| path.type_ == "RegularExpression") {
                match self.expressions.check(&path.value) {
                    Ok(()) => spec.path = Some(path),
                    Err(error) => {
                        let field = format!("{field}.matches[{index}].{part}");
                        broken.push(uncompiled(field, &path.value, &error));
                    }
                }
            }
            self.keep_compiling(&mut spec.headers, &format_args!("{field}.matches[{index}].headers"), broken);
            self.keep_compiling(&mut spec.query_params, &format_args!("{field}.matches[{index}].queryParams"), broken);
            // What takes more calls than was meant ranks as what it takes.
            let is_whole = spec.path.is_some();
            let call = is_grpc.then(|| if is_whole { call } else { Call::default() });
            matches.push(Match { spec, index, loosened: broken.len() > before, call });
        }
        matches
    }

    fn keep_compiling(&mut self, values: &mut Vec<HttpValueMatch>, field: &dyn Display, broken: &mut Vec<Problem>) {
        let mut i = 0..;
        values.retain(|value| {
            let i = i.next().unwrap_or_default();
            if value.type_ != "RegularExpression" {
                return true;
            }
            let error = self.expressions.check(&value.value).err();
            broken.extend(error.iter().map(|error| uncompiled(format!("{field}[{i}].value"), &value.value, error)));
            error.is_none()
        });
    }
}

/// All filters of a rule: its own, then its backends', each with the position of its backend and its own.
fn all_filters(spec: &HttpRouteRule) -> impl Iterator<Item = ((Option<usize>, usize), &HttpRouteFilter)> {
    let own = spec.filters.iter().enumerate().map(|(i, filter)| ((None, i), filter));
    let of_backends = spec
        .backend_refs
        .iter()
        .enumerate()
        .flat_map(|(b, backend)| backend.filters.iter().enumerate().map(move |(i, filter)| ((Some(b), i), filter)));
    own.chain(of_backends)
}

fn filter_field(field: &str, (backend, filter): (Option<usize>, usize)) -> String {
    match backend {
        Some(backend) => format!("{field}.backendRefs[{backend}].filters[{filter}]"),
        None => format!("{field}.filters[{filter}]"),
    }
}

/// What the rule asks for and gapi does not have. Left out, it would let through what it is there to stop.
fn unsupported(spec: &HttpRouteRule, field: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if spec.session_persistence.is_some() {
        let message = "session persistence is not served yet";
        let field = format!("{field}.sessionPersistence");
        problems.push(Problem::new(ROUTE_UNSUPPORTED_VALUE, field, message, "remove it"));
    }
    let known =
        ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "CORS"];
    for (position, filter) in all_filters(spec) {
        if !known.contains(&filter.type_.as_str()) {
            let message = format!("filter {} is not served", filter.type_);
            let field = format!("{}.type", filter_field(field, position));
            problems.push(Problem::new(ROUTE_UNSUPPORTED_VALUE, field, message, "remove the filter"));
        }
    }
    problems
}

/// What the API's own rules let pass although it cannot be done: a backend's redirect under a rule's rewrite, and
/// prefix replacement where there is no prefix.
fn incompatible(spec: &HttpRouteRule, field: &str) -> Option<Problem> {
    let own = |type_: &str| spec.filters.iter().any(|filter| filter.type_ == type_);
    for (a, b) in [("RequestRedirect", "URLRewrite"), ("URLRewrite", "RequestRedirect")] {
        let other = || all_filters(spec).find(|(_, filter)| filter.type_ == b);
        if let Some((position, _)) = own(a).then(other).flatten() {
            let message = format!("{b} cannot be combined with {a} of the same rule");
            let field = filter_field(field, position);
            return Some(Problem::new(ROUTE_INCOMPATIBLE_FILTERS, field, message, "remove one of the two"));
        }
    }
    let is_prefix =
        |one: &HttpRouteMatch| one.path.as_ref().is_none_or(|path| matches!(path.type_.as_str(), "" | "PathPrefix"));
    if spec.matches.iter().all(is_prefix) {
        return None;
    }
    let (position, _) = all_filters(spec).find(|(_, filter)| replaces_prefix(filter))?;
    let message = "ReplacePrefixMatch needs matches of type PathPrefix";
    let remedy = "use ReplaceFullPath, or a PathPrefix match";
    Some(Problem::new(ROUTE_UNSUPPORTED_VALUE, filter_field(field, position), message, remedy))
}

fn replaces_prefix(filter: &HttpRouteFilter) -> bool {
    let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let is_prefix = |path: &HttpPathModifier| path.type_ == "ReplacePrefixMatch";
    redirect.is_some_and(is_prefix) || rewrite.is_some_and(is_prefix)
}

fn uncompiled(field: String, expression: &str, error: &str) -> Problem {
    let message = format!("the expression {expression:?} does not compile: {error}");
    Problem::new(
        ROUTE_UNSUPPORTED_VALUE,
        field,
        message,
        "correct it; the syntax is that of the Rust crate regex (as RE2)",
    )
}
