//! Rules, matches and filters in the data plane's words.

use crate::{
    api::http_route::{
        HttpCors, HttpHeader, HttpHeaderFilter, HttpPathModifier, HttpRequestMirror, HttpRequestRedirect,
        HttpRouteRetry, HttpUrlRewrite, HttpValueMatch,
    },
    graph::{Filter, Route, Rule, problem::Problem, rule::Match},
};

use super::{
    CorsPlan, FilterPlan, HeadersPlan, MatchPlan, PathModifierPlan, PathPlan, RetryPlan, RulePlan, ValuePlan,
    WeightedBackendPlan, duration,
};

/// `Access-Control-Max-Age` where a CORS filter says nothing (HTTPCORSFilter.maxAge).
const CORS_MAX_AGE: u32 = 5;

/// A match, not yet tied to its rule's position.
pub(super) fn match_plan(matched: &Match) -> MatchPlan {
    let spec = &matched.spec;
    let path = match &spec.path {
        None => PathPlan::Prefix(String::new()),
        Some(path) => match path.type_.as_str() {
            "Exact" => PathPlan::Exact(path.value.clone()),
            "RegularExpression" => PathPlan::Regex(path.value.clone()),
            _ => PathPlan::Prefix(path.value.trim_end_matches('/').into()),
        },
    };
    let headers = values(&spec.headers, |name| name.to_ascii_lowercase());
    let query = values(&spec.query_params, str::to_string);
    MatchPlan { path, method: spec.method.clone(), headers, query, rule: 0 }
}

/// Of equivalent names only the first counts (HTTPHeaderMatch.name).
fn values(matches: &[HttpValueMatch], name: impl Fn(&str) -> String) -> Vec<ValuePlan> {
    let mut values: Vec<ValuePlan> = Vec::new();
    for one in matches {
        let name = name(&one.name);
        if values.iter().all(|value| value.name != name) {
            values.push(ValuePlan { name, regex: one.type_ == "RegularExpression", value: one.value.clone() });
        }
    }
    values
}

/// A rule of a route. A broken one holds nothing but why.
pub(super) fn rule_plan(route: &Route, rule: &Rule) -> RulePlan {
    let (kind, route) = (route.kind, route.name.clone());
    let plan = RulePlan { kind, route, index: rule.index, name: rule.name.clone(), ..RulePlan::default() };
    if rule.is_broken() {
        let texts: Vec<String> = rule.broken.iter().map(Problem::text).collect();
        return RulePlan { broken: Some(texts.join(". ")), ..plan };
    }
    let backends = rule.backends.iter().map(|backend| WeightedBackendPlan {
        backend: backend.key.as_deref().map(str::to_owned),
        weight: backend.weight,
        filters: filters(&backend.filters),
    });
    RulePlan {
        filters: filters(&rule.filters),
        backends: backends.collect(),
        request_timeout: rule.timeouts.request.as_deref().and_then(duration::parse),
        backend_timeout: rule.timeouts.backend_request.as_deref().and_then(duration::parse),
        retry: rule.retry.as_ref().and_then(retry),
        ..plan
    }
}

/// No retry for zero attempts, one without a number (HTTPRouteRetry.attempts).
fn retry(spec: &HttpRouteRetry) -> Option<RetryPlan> {
    let attempts = spec.attempts.unwrap_or(1);
    let backoff = spec.backoff.as_deref().and_then(duration::parse);
    (attempts > 0).then(|| RetryPlan { codes: spec.codes.clone(), attempts, backoff })
}

fn filters(filters: &[Filter]) -> Vec<FilterPlan> {
    filters.iter().filter_map(filter).collect()
}

fn filter(filter: &Filter) -> Option<FilterPlan> {
    let spec = &filter.spec;
    match spec.type_.as_str() {
        "CORS" => spec.cors.as_ref().map(cors),
        "RequestHeaderModifier" => spec.request_header_modifier.as_ref().map(headers).map(FilterPlan::RequestHeaders),
        "RequestMirror" => {
            spec.request_mirror.as_ref().map(|mirror| mirror_plan(mirror, filter.backend.as_deref().map(str::to_owned)))
        }
        "RequestRedirect" => spec.request_redirect.as_ref().map(redirect),
        "ResponseHeaderModifier" => {
            spec.response_header_modifier.as_ref().map(headers).map(FilterPlan::ResponseHeaders)
        }
        "URLRewrite" => spec.url_rewrite.as_ref().map(rewrite),
        _ => None,
    }
}

fn cors(spec: &HttpCors) -> FilterPlan {
    FilterPlan::Cors(CorsPlan {
        allow_origins: spec.allow_origins.clone(),
        allow_credentials: spec.allow_credentials.unwrap_or(false),
        allow_methods: spec.allow_methods.clone(),
        allow_headers: spec.allow_headers.clone(),
        expose_headers: spec.expose_headers.clone(),
        max_age: spec.max_age.unwrap_or(CORS_MAX_AGE),
    })
}

fn headers(spec: &HttpHeaderFilter) -> HeadersPlan {
    let lower = |name: &String| name.to_ascii_lowercase();
    let mut remove: Vec<String> = spec.remove.iter().filter(|name| !name.is_empty()).map(lower).collect();
    remove.dedup();
    HeadersPlan { set: first_of_each(&spec.set), add: first_of_each(&spec.add), remove }
}

/// Of equivalent names only the first counts (HTTPHeader.name).
fn first_of_each(headers: &[HttpHeader]) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        if pairs.iter().all(|(other, _)| *other != name) {
            pairs.push((name, header.value.clone()));
        }
    }
    pairs
}

fn mirror_plan(spec: &HttpRequestMirror, backend: Option<String>) -> FilterPlan {
    let (numerator, denominator) = match (&spec.fraction, spec.percent) {
        (Some(fraction), _) => (fraction.numerator, fraction.denominator),
        (None, Some(percent)) => (percent, 100),
        (None, None) => (100, 100),
    };
    FilterPlan::Mirror { backend, numerator, denominator }
}

fn redirect(spec: &HttpRequestRedirect) -> FilterPlan {
    FilterPlan::Redirect {
        scheme: spec.scheme.clone(),
        hostname: spec.hostname.clone(),
        path: spec.path.as_ref().map(path_modifier),
        port: spec.port,
        status: spec.status_code.unwrap_or(302),
    }
}

fn rewrite(spec: &HttpUrlRewrite) -> FilterPlan {
    FilterPlan::Rewrite { hostname: spec.hostname.clone(), path: spec.path.as_ref().map(path_modifier) }
}

fn path_modifier(spec: &HttpPathModifier) -> PathModifierPlan {
    match spec.type_.as_str() {
        "ReplacePrefixMatch" => PathModifierPlan::Prefix(spec.replace_prefix_match.clone().unwrap_or_default()),
        _ => PathModifierPlan::Full(spec.replace_full_path.clone().unwrap_or_default()),
    }
}
