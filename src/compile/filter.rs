//! Filters, with everything in them ready to send.

use http::{HeaderName, HeaderValue, StatusCode};

use super::expression;
use crate::{
    plan::{CorsPlan, FilterPlan, HeadersPlan, PathModifierPlan},
    snapshot::{Cors, Filter, Headers, Names, Origins, PathModifier, Redirect, path},
};

/// All or none: a rule with a part of its filters would do what nobody wrote.
///
/// # Errors
/// What cannot be sent.
pub(super) fn compile(plans: &[FilterPlan]) -> Result<Box<[Filter]>, String> {
    plans.iter().map(filter).collect()
}

fn filter(plan: &FilterPlan) -> Result<Filter, String> {
    Ok(match plan {
        FilterPlan::Cors(plan) => Filter::Cors(cors(plan)?),
        FilterPlan::Mirror { backend, numerator, denominator } => Filter::Mirror {
            backend: backend.as_deref().map(Into::into),
            numerator: *numerator,
            denominator: *denominator,
        },
        FilterPlan::Redirect { scheme, hostname, path, port, status } => Filter::Redirect(Redirect {
            scheme: scheme.as_deref().map(Into::into),
            hostname: hostname.as_deref().map(Into::into),
            path: path.as_ref().map(path_modifier),
            port: *port,
            status: StatusCode::from_u16(*status).map_err(|_| format!("{status} is no status code"))?,
        }),
        FilterPlan::RequestHeaders(plan) => Filter::RequestHeaders(headers(plan)?),
        FilterPlan::ResponseHeaders(plan) => Filter::ResponseHeaders(headers(plan)?),
        FilterPlan::Rewrite { hostname, path } => Filter::Rewrite {
            hostname: hostname.as_deref().map(value).transpose()?,
            path: path.as_ref().map(path_modifier),
        },
    })
}

fn path_modifier(plan: &PathModifierPlan) -> PathModifier {
    match plan {
        PathModifierPlan::Full(path) => PathModifier::Full(path::written(path).into()),
        PathModifierPlan::Prefix(path) => {
            let path = path::written(path);
            PathModifier::Prefix(path.strip_suffix('/').unwrap_or(&path).into())
        }
    }
}

fn headers(plan: &HeadersPlan) -> Result<Headers, String> {
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(name, text)| Ok((self::name(name)?, value(text)?))).collect::<Result<Box<[_]>, String>>()
    };
    let remove = plan.remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
    Ok(Headers { set: pairs(&plan.set)?, add: pairs(&plan.add)?, remove })
}

fn name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is no header name"))
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("{text:?} cannot be a header value"))
}

fn cors(plan: &CorsPlan) -> Result<Cors, String> {
    Ok(Cors {
        origins: origins(&plan.allow_origins)?,
        allow_credentials: plan.allow_credentials,
        allow_methods: names(&plan.allow_methods)?,
        allow_headers: names(&plan.allow_headers)?,
        expose_headers: names(&plan.expose_headers)?,
        max_age: HeaderValue::from(plan.max_age),
    })
}

fn origins(plan: &[String]) -> Result<Origins, String> {
    if plan.iter().any(|origin| origin == "*") {
        return Ok(Origins::All);
    }
    let (patterns, exact): (Vec<_>, Vec<_>) =
        plan.iter().map(|origin| origin.to_ascii_lowercase()).partition(|origin| origin.contains('*'));
    let build = |origin: &String| expression::origin(origin).map_err(|why| format!("the origin {origin:?}: {why}"));
    Ok(Origins::Some {
        exact: exact.into_iter().map(String::into_boxed_str).collect(),
        patterns: patterns.iter().map(build).collect::<Result<_, _>>()?,
    })
}

fn names(plan: &[String]) -> Result<Names, String> {
    if plan.is_empty() {
        Ok(Names::None)
    } else if plan.iter().any(|name| name == "*") {
        Ok(Names::All)
    } else {
        value(&plan.join(", ")).map(Names::Some)
    }
}
