//! One rule of an HTTPRoute: its backends resolved, and whether gapi can do what it says.

use crate::{
    api::{
        condition::{ROUTE_INCOMPATIBLE_FILTERS, ROUTE_INVALID_KIND, ROUTE_UNSUPPORTED_VALUE},
        http_route::{
            HttpPathModifier, HttpRouteFilter, HttpRouteMatch, HttpRouteRetry, HttpRouteRule, HttpRouteTimeouts,
            HttpValueMatch,
        },
    },
    manifest::Object,
};

use super::{backend::Backends, expression, problem::Problem};

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
    /// Why it cannot be served: it answers 500.
    pub broken: Option<Problem>,
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
}

/// A filter; `backend` is where a mirror leads, if that is usable.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub spec: HttpRouteFilter,
    pub backend: Option<String>,
}

/// An entry of `backendRefs`.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleBackend {
    /// Key into `Graph::backends`; none for an invalid reference, whose share is answered 500.
    pub key: Option<String>,
    pub weight: u32,
    pub filters: Vec<Filter>,
}

/// Resolves rules of one route; collects what is wrong with their references.
pub(super) struct Resolver<'r, 'a> {
    pub route: &'r Object,
    pub backends: &'r mut Backends<'a>,
    pub unresolved: Vec<Problem>,
}

impl Resolver<'_, '_> {
    /// Resolves rule `index`.
    pub fn rule(&mut self, index: usize, spec: HttpRouteRule) -> Rule {
        let field = format!("spec.rules[{index}]");
        let mut broken = unsupported(&spec, &field).or_else(|| incompatible(&spec, &field));
        let matches = matches(spec.matches, &field, &mut broken);
        let filters = self.filters(spec.filters, &format!("{field}.filters"));
        let mut backends = Vec::new();
        for (i, backend) in spec.backend_refs.into_iter().enumerate() {
            let field = format!("{field}.backendRefs[{i}]");
            let filters = self.filters(backend.filters, &format!("{field}.filters"));
            let key = self.reference(&backend.reference, &field);
            backends.push(RuleBackend { key, weight: backend.weight.unwrap_or(1), filters });
        }
        let timeouts = spec.timeouts.unwrap_or_default();
        Rule { index, name: spec.name, matches, filters, backends, timeouts, retry: spec.retry, broken }
    }

    fn reference(&mut self, reference: &crate::api::ObjectReference, field: &str) -> Option<String> {
        match self.backends.resolve("HTTPRoute", &self.route.key.namespace, reference, field) {
            Ok(key) => Some(key),
            Err(problem) => {
                self.unresolved.push(problem);
                None
            }
        }
    }

    fn filters(&mut self, filters: Vec<HttpRouteFilter>, field: &str) -> Vec<Filter> {
        let mut resolved = Vec::new();
        for (i, spec) in filters.into_iter().enumerate() {
            let mut backend = None;
            if let Some(mirror) = &spec.request_mirror {
                backend = self.reference(&mirror.backend_ref, &format!("{field}[{i}].requestMirror.backendRef"));
            }
            if let Some(extension) = &spec.extension_ref {
                let message = format!("{} of group {} is no filter of gapi", extension.kind, extension.group);
                let field = format!("{field}[{i}].extensionRef");
                self.unresolved.push(Problem::new(ROUTE_INVALID_KIND, field, message, "remove the filter"));
            }
            resolved.push(Filter { spec, backend });
        }
        resolved
    }
}

/// All filters of a rule with their field paths: its own, then its backends'.
fn all_filters<'r>(spec: &'r HttpRouteRule, field: &str) -> Vec<(String, &'r HttpRouteFilter)> {
    let own = spec.filters.iter().enumerate().map(|(i, filter)| (format!("{field}.filters[{i}]"), filter));
    let of_backends = spec.backend_refs.iter().enumerate().flat_map(|(b, backend)| {
        let filters = backend.filters.iter().enumerate();
        filters.map(move |(i, filter)| (format!("{field}.backendRefs[{b}].filters[{i}]"), filter))
    });
    own.chain(of_backends).collect()
}

/// What the rule asks for and gapi does not have. Left out, it would let through what it is there to stop.
fn unsupported(spec: &HttpRouteRule, field: &str) -> Option<Problem> {
    if spec.session_persistence.is_some() {
        let message = "session persistence is not served yet";
        let field = format!("{field}.sessionPersistence");
        return Some(Problem::new(ROUTE_UNSUPPORTED_VALUE, field, message, "remove it"));
    }
    let known =
        ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "CORS"];
    let unknown = all_filters(spec, field).into_iter().find(|(_, filter)| !known.contains(&filter.type_.as_str()))?;
    let (field, filter) = unknown;
    let message = format!("filter {} is not served", filter.type_);
    Some(Problem::new(ROUTE_UNSUPPORTED_VALUE, format!("{field}.type"), message, "remove the filter"))
}

/// What the API's own rules let pass although it cannot be done: a backend's redirect under a rule's rewrite, and
/// prefix replacement where there is no prefix.
fn incompatible(spec: &HttpRouteRule, field: &str) -> Option<Problem> {
    let filters = all_filters(spec, field);
    let first = |type_: &str| filters.iter().find(|(_, filter)| filter.type_ == type_);
    let own = |type_: &str| spec.filters.iter().any(|filter| filter.type_ == type_);
    for (a, b) in [("RequestRedirect", "URLRewrite"), ("URLRewrite", "RequestRedirect")] {
        if let (true, Some((field, _))) = (own(a), first(b)) {
            let message = format!("{b} cannot be combined with {a} of the same rule");
            return Some(Problem::new(ROUTE_INCOMPATIBLE_FILTERS, field.as_str(), message, "remove one of the two"));
        }
    }
    let is_prefix =
        |one: &HttpRouteMatch| one.path.as_ref().is_none_or(|path| matches!(path.type_.as_str(), "" | "PathPrefix"));
    if spec.matches.iter().all(is_prefix) {
        return None;
    }
    let (field, _) = filters.iter().find(|(_, filter)| replaces_prefix(filter))?;
    let message = "ReplacePrefixMatch needs matches of type PathPrefix";
    Some(Problem::new(ROUTE_UNSUPPORTED_VALUE, field.as_str(), message, "use ReplaceFullPath, or a PathPrefix match"))
}

fn replaces_prefix(filter: &HttpRouteFilter) -> bool {
    let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let is_prefix = |path: &HttpPathModifier| path.type_ == "ReplacePrefixMatch";
    redirect.is_some_and(is_prefix) || rewrite.is_some_and(is_prefix)
}

/// The matches, one of prefix `/` where there is none. Expressions that do not compile are left out and break the rule.
fn matches(specs: Vec<HttpRouteMatch>, field: &str, broken: &mut Option<Problem>) -> Vec<Match> {
    let specs = if specs.is_empty() { vec![HttpRouteMatch::default()] } else { specs };
    let mut matches = Vec::new();
    for (index, mut spec) in specs.into_iter().enumerate() {
        let mut problems = Vec::new();
        let field = format!("{field}.matches[{index}]");
        if let Some(path) = spec.path.take_if(|path| path.type_ == "RegularExpression") {
            match expression::anchored(&path.value) {
                Ok(_) => spec.path = Some(path),
                Err(error) => problems.push(uncompiled(format!("{field}.path.value"), &path.value, &error)),
            }
        }
        keep_compiling(&mut spec.headers, &format!("{field}.headers"), &mut problems);
        keep_compiling(&mut spec.query_params, &format!("{field}.queryParams"), &mut problems);
        matches.push(Match { spec, index, loosened: !problems.is_empty() });
        *broken = broken.take().or(problems.into_iter().next());
    }
    matches
}

fn keep_compiling(values: &mut Vec<HttpValueMatch>, field: &str, problems: &mut Vec<Problem>) {
    let mut i = 0..;
    values.retain(|value| {
        let i = i.next().unwrap_or_default();
        if value.type_ != "RegularExpression" {
            return true;
        }
        let error = expression::anchored(&value.value).err();
        problems.extend(error.iter().map(|error| uncompiled(format!("{field}[{i}].value"), &value.value, error)));
        error.is_none()
    });
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
