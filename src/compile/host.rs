//! One hostname's matches and rules.

use http::{HeaderName, Method};

use super::{error, expression, filter};
use crate::{
    finding::Finding,
    plan::{HostPlan, MatchPlan, PathPlan, RulePlan, ValuePlan, WeightedBackendPlan},
    snapshot::{Conditions, Host, HostPattern, Retry, Rule, Value, WeightedBackend, host::PathMatch},
};

/// Wait between attempts where the route names none.
const BACKOFF: std::time::Duration = std::time::Duration::from_millis(25);

/// A rule with something in it that cannot be compiled answers 500. Of its matches, a condition that cannot be compiled
/// counts as met, so that its requests do not fall to another rule; a path that cannot be compiled is left out.
pub(super) fn compile(plan: &HostPlan, findings: &mut Vec<Finding>) -> Host {
    let mut rules: Vec<Rule> = plan.rules.iter().map(|rule| self::rule(rule, findings)).collect();
    let mut matches = Vec::with_capacity(plan.matches.len());
    for one in &plan.matches {
        let (path, conditions, faults) = self::one_match(one);
        let Some(rule) = rules.get_mut(one.rule) else { continue };
        for fault in faults {
            findings.push(expression_finding(rule, &fault));
            rule.broken.get_or_insert_with(|| fault.into());
        }
        let index = u32::try_from(one.rule).expect("a route has few rules");
        matches.extend(path.map(|path| (path, conditions, index)));
    }
    Host::new(HostPattern::new(plan.hostname.as_deref()), matches, rules)
}

/// Is nothing broken in the compiled `host` that is not broken in its plan?
pub(super) fn is_faultless(plan: &HostPlan, host: &Host) -> bool {
    plan.rules.iter().zip(&host.rules).all(|(plan, rule)| {
        let mut backends = plan.backends.iter().zip(&rule.backends);
        plan.broken.is_some() == rule.broken.is_some()
            && backends.all(|(plan, backend)| plan.backend.is_some() == backend.backend.is_some())
    })
}

fn expression_finding(rule: &Rule, fault: &str) -> Finding {
    let message = format!("{} {}: spec.rules[{}].matches: {fault}", rule.kind, rule.route, rule.index);
    error("InvalidExpression", message, "write an expression in RE2 syntax, or a shorter one")
}

fn one_match(plan: &MatchPlan) -> (Option<PathMatch>, Conditions, Vec<String>) {
    let mut faults = Vec::new();
    let path = match &plan.path {
        PathPlan::Exact(path) => Some(PathMatch::Exact(path.as_str().into())),
        PathPlan::Prefix(path) => Some(PathMatch::Prefix(path.as_str().into())),
        PathPlan::Regex(pattern) => expression(pattern, &mut faults).map(PathMatch::Regex),
    };
    let method = plan.method.as_deref().and_then(|method| match Method::from_bytes(method.as_bytes()) {
        Ok(method) => Some(method),
        Err(_) => {
            faults.push(format!("the method {method:?} is none"));
            None
        }
    });
    let mut headers = Vec::with_capacity(plan.headers.len());
    for header in &plan.headers {
        match HeaderName::from_bytes(header.name.as_bytes()) {
            Ok(name) => headers.extend(value(header, &mut faults).map(|value| (name, value))),
            Err(_) => faults.push(format!("the header name {:?} is none", header.name)),
        }
    }
    let mut query = Vec::with_capacity(plan.query.len());
    for parameter in &plan.query {
        query.extend(value(parameter, &mut faults).map(|value| (parameter.name.as_str().into(), value)));
    }
    (path, Conditions { method, headers: headers.into(), query: query.into() }, faults)
}

fn value(plan: &ValuePlan, faults: &mut Vec<String>) -> Option<Value> {
    if plan.regex {
        expression(&plan.value, faults).map(Value::Regex)
    } else {
        Some(Value::Exact(plan.value.as_str().into()))
    }
}

fn expression(pattern: &str, faults: &mut Vec<String>) -> Option<regex::Regex> {
    match expression::anchored(pattern) {
        Ok(expression) => Some(expression),
        Err(why) => {
            faults.push(format!("the regular expression {pattern:?} cannot be used: {why}"));
            None
        }
    }
}

fn rule(plan: &RulePlan, findings: &mut Vec<Finding>) -> Rule {
    let (filters, fault) = match filter::compile(&plan.filters) {
        Ok(filters) => (filters, None),
        Err(fault) => (Box::default(), Some(fault)),
    };
    if let Some(fault) = &fault {
        findings.push(filter_finding(plan, "", fault));
    }
    let backends = plan.backends.iter().enumerate().map(|(index, backend)| weighted(plan, index, backend, findings));
    Rule {
        kind: plan.kind.names().name,
        backends: backends.collect(),
        route: plan.route.as_str().into(),
        index: plan.index,
        name: plan.name.as_deref().map(Into::into),
        broken: plan.broken.clone().or(fault).map(Into::into),
        filters,
        request_timeout: plan.request_timeout,
        backend_timeout: plan.backend_timeout,
        retry: plan.retry.as_ref().map(|retry| Retry {
            codes: retry.codes.as_slice().into(),
            attempts: retry.attempts,
            backoff: retry.backoff.unwrap_or(BACKOFF),
        }),
    }
}

/// A backend with a filter that cannot be compiled answers 500 for its share.
fn weighted(rule: &RulePlan, index: usize, plan: &WeightedBackendPlan, findings: &mut Vec<Finding>) -> WeightedBackend {
    let key = plan.backend.as_deref().map(Into::into);
    let (backend, filters) = match filter::compile(&plan.filters) {
        Ok(filters) => (key, filters),
        Err(fault) => {
            findings.push(filter_finding(rule, &format!(".backendRefs[{index}]"), &fault));
            (None, Box::default())
        }
    };
    WeightedBackend { backend, weight: plan.weight, filters }
}

fn filter_finding(rule: &RulePlan, place: &str, fault: &str) -> Finding {
    let message =
        format!("{} {}: spec.rules[{}]{place}.filters: {fault}", rule.kind.names().name, rule.route, rule.index);
    error("InvalidValue", message, "write what RFC 9110 allows there")
}
