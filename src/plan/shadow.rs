//! Matches that can never be reached, because another rule's match takes all that they take and comes first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    api::{Kind, ObjectKey},
    finding::Finding,
    graph::{Graph, Input, Route, problem::warning},
};

use super::{
    MatchPlan, PathPlan, ValuePlan,
    lower::{Entry, entries, hosts, sockets},
};

/// Expressions that take every path.
const EVERY_PATH: &[&str] = &[".*", "^.*", ".*$", "^.*$", "/.*", "^/.*", "/.*$", "^/.*$", ".+", "^.+$"];

/// A match: route, rule and position.
type Place<'g> = (&'g ObjectKey, usize, usize);

/// One warning for each match that is taken whole at every listener and for every hostname that it has.
pub fn shadowed(graph: &Graph, input: &Input) -> Vec<Finding> {
    // How often each match stands somewhere, and how often in vain; with the first that takes it.
    let mut places: BTreeMap<Place, (usize, usize, Option<Place>)> = BTreeMap::new();
    let mut done: HashMap<Vec<*const Route>, Vec<Verdict>> = HashMap::new();
    let mut listeners: Vec<(usize, usize)> = sockets(graph).into_values().flatten().collect();
    listeners.sort_unstable();
    listeners.dedup();
    let mut hosts = hosts(graph);
    for listener in listeners {
        for (_, routes) in hosts.remove(&listener).unwrap_or_default() {
            let key = routes.iter().map(|route| Arc::as_ptr(route)).collect();
            let verdicts = done.entry(key).or_insert_with(|| verdicts(&entries(&routes)));
            for (place, taker) in verdicts {
                let (count, vain, first) = places.entry(*place).or_default();
                *count += 1;
                *vain += usize::from(taker.is_some());
                *first = first.or(*taker);
            }
        }
    }
    let unreachable = places.into_iter().filter(|(_, (count, vain, _))| count == vain);
    unreachable.filter_map(|(place, (_, _, taker))| finding(input, place, taker?)).collect()
}

fn place<'g>(entry: &Entry<'g>) -> Place<'g> {
    (&entry.route.key, entry.rule.index, entry.matched.index)
}

/// A match, and the one that takes it whole, if any.
type Verdict<'g> = (Place<'g>, Option<Place<'g>>);

/// All that a match asks for, in an order of its own.
type Question<'e> = (&'e PathPlan, Option<&'e str>, Vec<&'e ValuePlan>, Vec<&'e ValuePlan>);

/// For each match who takes it whole, if anybody. Whoever comes first and takes as much has, by the order of precedence,
/// either the same conditions or an expression for every path.
fn verdicts<'g>(entries: &[Entry<'g>]) -> Vec<Verdict<'g>> {
    let mut same: HashMap<Question, Place> = HashMap::new();
    let mut every: Vec<&Entry> = Vec::new();
    let mut verdicts = Vec::new();
    for entry in entries {
        let plan = &entry.plan;
        let key = (&plan.path, plan.method.as_deref(), sorted(&plan.headers), sorted(&plan.query));
        let wide = every.iter().find(|other| covers(&other.plan, plan)).map(|other| place(other));
        let taker = same.get(&key).copied().or(wide).filter(|_| !entry.matched.loosened);
        let own_rule = |other: &Place| (other.0, other.1) == (&entry.route.key, entry.rule.index);
        verdicts.push((place(entry), taker.filter(|other| !own_rule(other))));
        if matches!(&plan.path, PathPlan::Regex(expression) if EVERY_PATH.contains(&expression.as_str())) {
            every.push(entry);
        }
        same.entry(key).or_insert(place(entry));
    }
    verdicts
}

fn sorted(values: &[ValuePlan]) -> Vec<&ValuePlan> {
    let mut values: Vec<&ValuePlan> = values.iter().collect();
    values.sort();
    values
}

/// `wide` takes every path; does it ask for nothing that `narrow` does not ask for?
fn covers(wide: &MatchPlan, narrow: &MatchPlan) -> bool {
    let within = |wide: &[ValuePlan], narrow: &[ValuePlan]| wide.iter().all(|value| narrow.contains(value));
    (wide.method.is_none() || wide.method == narrow.method)
        && within(&wide.headers, &narrow.headers)
        && within(&wide.query, &narrow.query)
}

fn finding(input: &Input, (route, rule, position): Place, taker: Place) -> Option<Finding> {
    let object = input.object(route)?;
    let traffic = match object.kind {
        Kind::GrpcRoute => "calls",
        Kind::TcpRoute | Kind::TlsRoute => "connections",
        Kind::UdpRoute => "datagrams",
        _ => "requests",
    };
    let message = format!("never reached: rule {} of {} takes the same {traffic} and comes first", taker.1, taker.0);
    let (field, remedy) = match object.kind {
        Kind::HttpRoute | Kind::GrpcRoute => (
            format!("spec.rules[{rule}].matches[{position}]"),
            "remove one of the two, or make this match more specific",
        ),
        Kind::TlsRoute => (format!("spec.rules[{rule}]"), "remove one of the two, or use another hostname or listener"),
        _ => (format!("spec.rules[{rule}]"), "remove one of the two, or use another listener"),
    };
    Some(warning(object, &field, "Unreachable", message, remedy))
}
