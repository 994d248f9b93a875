//! The spec's match order (HTTPRouteRule.matches) as one `Ord`.
//!
//! Between hostnames the spec decides first: each [`super::HostPlan`] holds one hostname, and they stand the most
//! specific first. Within one hostname, the smaller [`Precedence`] has the request.

use std::cmp::Reverse;

use crate::graph::{Age, spec::Call};

/// Rank of one match among those of one hostname: total, no two matches are equal.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Precedence<'a> {
    // The derived order is that of the fields: they stand in the order of the spec's list.
    pub path: PathRank,
    pub method: Reverse<bool>,
    /// Number of header matches.
    pub headers: Reverse<usize>,
    /// Number of query parameter matches.
    pub query: Reverse<usize>,
    /// A match that takes more than was meant (see `graph::rule::Match`) yields to its equals.
    pub loosened: bool,
    /// The oldest route.
    pub age: Age,
    /// `namespace/name`, alphabetically.
    pub route: &'a str,
    /// The first rule of a route, and the first match of a rule.
    pub rule: usize,
    pub position: usize,
}

/// Exact paths first, then prefixes by length. The spec leaves expressions to the implementation: here they stand
/// between, the longest first, since whoever writes one means it to be more than a prefix.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PathRank {
    Exact,
    Regex(Reverse<usize>),
    /// Length without a trailing slash, which does not count for matching either.
    Prefix(Reverse<usize>),
    /// Of a GRPCRoute, which has a hostname to itself.
    Call(Call),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::spec::Part;

    fn plain() -> Precedence<'static> {
        Precedence {
            path: PathRank::Prefix(Reverse(0)),
            method: Reverse(false),
            headers: Reverse(0),
            query: Reverse(0),
            loosened: false,
            age: Age::Unwritten,
            route: "b/b",
            rule: 1,
            position: 1,
        }
    }

    /// `better` must win although everything below it in the list speaks for `plain`.
    fn wins(better: Precedence) {
        assert!(better < plain(), "{better:?}");
    }

    #[test]
    fn exact_path_before_everything() {
        wins(Precedence { path: PathRank::Exact, ..plain() });
        assert!(PathRank::Exact < PathRank::Regex(Reverse(100)));
    }

    #[test]
    fn expression_before_prefix_and_longest_first() {
        wins(Precedence { path: PathRank::Regex(Reverse(1)), ..plain() });
        assert!(PathRank::Regex(Reverse(2)) < PathRank::Regex(Reverse(1)));
        assert!(PathRank::Regex(Reverse(1)) < PathRank::Prefix(Reverse(100)));
    }

    #[test]
    fn service_before_method_before_headers_of_a_call() {
        let expression = |length| Part::Expression(Reverse(length));
        let call = |service, method| PathRank::Call(Call { service, method });
        let order = [
            call(Part::Name, Part::Name),
            call(Part::Name, Part::Any),
            call(expression(9), expression(1)),
            call(expression(9), Part::Any),
            call(expression(8), expression(9)),
            call(Part::Any, Part::Name),
            call(Part::Any, expression(9)),
            call(Part::Any, Part::Any),
        ];
        assert!(order.is_sorted());
        let headers = Precedence { path: call(Part::Name, Part::Any), headers: Reverse(9), ..plain() };
        assert!(Precedence { path: call(Part::Name, Part::Name), ..plain() } < headers);
    }

    #[test]
    fn longest_prefix_before_method() {
        let longer = Precedence { path: PathRank::Prefix(Reverse(2)), ..plain() };
        assert!(longer < Precedence { method: Reverse(true), ..plain() });
    }

    #[test]
    fn method_before_headers() {
        let method = Precedence { method: Reverse(true), ..plain() };
        wins(method.clone());
        assert!(method < Precedence { headers: Reverse(9), ..plain() });
    }

    #[test]
    fn most_headers_before_query() {
        let headers = Precedence { headers: Reverse(2), ..plain() };
        assert!(headers < Precedence { headers: Reverse(1), query: Reverse(9), ..plain() });
    }

    #[test]
    fn most_query_parameters_before_age() {
        let query = Precedence { query: Reverse(2), ..plain() };
        let old = Age::Written("2020-01-01T00:00:00Z".parse().unwrap());
        assert!(query < Precedence { query: Reverse(1), age: old, ..plain() });
    }

    #[test]
    fn oldest_before_name() {
        let age = |text: &str| Age::Written(text.parse().unwrap());
        let old = Precedence { age: age("2020-01-01T00:00:00Z"), ..plain() };
        assert!(old < Precedence { age: age("2020-01-01T00:00:01Z"), route: "a/a", ..plain() });
        assert!(old < Precedence { route: "a/a", ..plain() }, "an unwritten timestamp is the youngest");
    }

    #[test]
    fn name_before_rule_order() {
        wins(Precedence { route: "b/a", rule: 9, ..plain() });
    }

    #[test]
    fn first_rule_then_first_match() {
        wins(Precedence { rule: 0, position: 9, ..plain() });
        wins(Precedence { position: 0, ..plain() });
    }

    #[test]
    fn a_loosened_match_yields_to_its_equals_only() {
        let old = Age::Written("2020-01-01T00:00:00Z".parse().unwrap());
        assert!(plain() < Precedence { loosened: true, age: old, ..plain() });
        wins(Precedence { loosened: true, path: PathRank::Prefix(Reverse(1)), ..plain() });
    }
}
