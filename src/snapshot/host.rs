//! The rules of the routes with one hostname at one listener, and how a request finds its own.

use std::{borrow::Cow, sync::Arc, time::Duration};

use foldhash::HashMap;
use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

use super::{Conditions, Filter, HostPattern, Retry, Value, WeightedBackend, path};

/// What is done with a request that matched.
pub struct Rule {
    /// The kind of the route: those of different kinds may have the same name.
    pub kind: &'static str,
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
///
/// A path costs one hash lookup for its exact form, one for each distinct length of prefix, and one run of each
/// expression, however many matches there are.
pub struct Host {
    pub pattern: HostPattern,
    pub rules: Box<[Rule]>,
    /// In the order of precedence.
    matches: Box<[Match]>,
    /// Indices into `matches`, ascending.
    exact: HashMap<Box<str>, Vec<u32>>,
    prefix: HashMap<Box<str>, Vec<u32>>,
    /// The distinct lengths of prefixes.
    prefix_lengths: Box<[usize]>,
    regex: Box<[(Regex, u32)]>,
}

struct Match {
    conditions: Conditions,
    rule: u32,
    prefix: usize,
}

/// A rule, and what of the path its match took.
pub struct Matched<'a> {
    pub rule: &'a Rule,
    /// Length in bytes of the prefix that matched: for [`super::PathModifier::Prefix`]. 0 for other matches.
    pub prefix: usize,
}

impl Host {
    /// `matches` are in the order of precedence; the number is the index into `rules`. Paths are brought into the
    /// canonical form that requests have.
    pub fn new(pattern: HostPattern, matches: Vec<(PathMatch, Conditions, u32)>, rules: Vec<Rule>) -> Host {
        let (mut exact, mut prefixes) = (HashMap::<_, Vec<u32>>::default(), HashMap::<_, Vec<u32>>::default());
        let mut regex = Vec::new();
        let mut list = Vec::with_capacity(matches.len());
        for (index, (path, conditions, rule)) in (0..).zip(matches) {
            let mut prefix = 0;
            match path {
                PathMatch::Exact(path) => exact.entry(canonical(&path)).or_default().push(index),
                PathMatch::Prefix(path) => {
                    let path: Box<str> = canonical(&path).trim_end_matches('/').into();
                    prefix = path.len();
                    prefixes.entry(path).or_default().push(index);
                }
                PathMatch::Regex(expression) => regex.push((expression, index)),
            }
            list.push(Match { conditions, rule, prefix });
        }
        let mut lengths: Vec<usize> = prefixes.keys().map(|path| path.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Host {
            pattern,
            rules: rules.into(),
            matches: list.into(),
            exact,
            prefix: prefixes,
            prefix_lengths: lengths.into(),
            regex: regex.into(),
        }
    }

    /// The first match, in the order of precedence, that the request satisfies. `path` is the canonical path without
    /// the query, `query` the raw query string.
    pub fn find(&self, path: &str, query: Option<&str>, method: &Method, headers: &HeaderMap) -> Option<Matched<'_>> {
        let mut best = u32::MAX;
        let mut consider = |candidates: &[u32]| {
            let fits = |&&index: &&u32| self.matches[index as usize].conditions.hold(query, method, headers);
            if let Some(&found) = candidates.iter().take_while(|&&index| index < best).find(fits) {
                best = found;
            }
        };
        if let Some(candidates) = self.exact.get(path) {
            consider(candidates);
        }
        for &length in self.prefix_lengths.iter().rev() {
            let whole_segments = length == path.len() || path.as_bytes().get(length) == Some(&b'/');
            if whole_segments && let Some(candidates) = self.prefix.get(&path[..length]) {
                consider(candidates);
            }
        }
        for (expression, index) in &self.regex {
            if expression.is_match(path) {
                consider(&[*index]);
            }
        }
        let found = self.matches.get(best as usize)?;
        Some(Matched { rule: &self.rules[found.rule as usize], prefix: found.prefix })
    }
}

/// A path of a route as requests have it; as written where no request could have it.
fn canonical(path: &str) -> Box<str> {
    path::canonical(path, false).unwrap_or(Cow::Borrowed(path)).into()
}

impl Conditions {
    fn hold(&self, query: Option<&str>, method: &Method, headers: &HeaderMap) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.headers.iter().all(|(name, value)| header(headers, name).is_some_and(|text| value.matches(&text)))
            && self.query.iter().all(|(name, value)| parameter(query, name).is_some_and(|text| value.matches(&text)))
    }
}

impl Value {
    fn matches(&self, text: &str) -> bool {
        match self {
            Value::Exact(value) => **value == *text,
            Value::Regex(expression) => expression.is_match(text),
        }
    }
}

/// Several fields of one name count as one, joined with commas (RFC 9110, section 5.2).
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |joined, value| joined + ", " + value))
}

/// The first parameter of that name, decoded.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, str>> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decoded(key), value)).find(|(key, _)| key == name).map(|(_, value)| decoded(value))
}

/// Percent-decoded; an escape that is none stays as it is.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let digits = escape.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(index: usize) -> Rule {
        Rule {
            kind: "HTTPRoute",
            route: "ns/route".into(),
            index,
            name: None,
            broken: None,
            filters: Box::default(),
            backends: Box::default(),
            request_timeout: None,
            backend_timeout: None,
            retry: None,
        }
    }

    fn none() -> Conditions {
        Conditions { method: None, headers: Box::default(), query: Box::default() }
    }

    fn host(matches: Vec<(PathMatch, Conditions)>) -> Host {
        let rules = (0..matches.len()).map(rule).collect();
        let matches = (0..).zip(matches).map(|(index, (path, conditions))| (path, conditions, index)).collect();
        Host::new(HostPattern::Any, matches, rules)
    }

    fn find(host: &Host, target: &str, headers: &HeaderMap) -> Option<(usize, usize)> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        host.find(path, query, &Method::GET, headers).map(|found| (found.rule.index, found.prefix))
    }

    #[test]
    fn paths() {
        let exact = |path: &str| (PathMatch::Exact(path.into()), none());
        let prefix = |path: &str| (PathMatch::Prefix(path.into()), none());
        let regex = |path: &str| (PathMatch::Regex(Regex::new(path).expect("valid")), none());
        let host = host(vec![
            exact("/a"),
            exact("/caf%c3%a9"),
            regex("^/r[0-9]+$"),
            prefix("/a/b"),
            prefix("/a"),
            prefix("/r1"),
        ]);
        let of = |path| find(&host, path, &HeaderMap::new());
        assert_eq!(of("/a"), Some((0, 0)));
        assert_eq!(of("/caf%C3%A9"), Some((1, 0)));
        assert_eq!(of("/r1"), Some((2, 0)));
        assert_eq!(of("/r1/x"), Some((5, 3)));
        assert_eq!(of("/a/b"), Some((3, 4)));
        assert_eq!(of("/a/b/"), Some((3, 4)));
        assert_eq!(of("/a/bc"), Some((4, 2)));
        assert_eq!(of("/ab"), None);
        assert_eq!(of("/"), None);
    }

    #[test]
    fn conditions() {
        let header = |name: &'static str, value: &str| {
            let headers = [(HeaderName::from_static(name), Value::Exact(value.into()))];
            (PathMatch::Prefix("".into()), Conditions { headers: headers.into(), ..none() })
        };
        let query = |name: &str, value: &str| {
            let query = [(name.into(), Value::Exact(value.into()))];
            (PathMatch::Prefix("".into()), Conditions { query: query.into(), ..none() })
        };
        let post = (PathMatch::Prefix("".into()), Conditions { method: Some(Method::POST), ..none() });
        let host = host(vec![post, header("x-v", "1, 2"), header("x-v", "1"), query("a b", "c/d"), query("q", "")]);
        let mut headers = HeaderMap::new();
        assert_eq!(find(&host, "/?a%20b=c%2fd&a%20b=e", &headers), Some((3, 0)));
        assert_eq!(find(&host, "/?a%20b=e&a%20b=c%2fd", &headers), None);
        assert_eq!(find(&host, "/x?y&q", &headers), Some((4, 0)));
        headers.append("x-v", "1".parse().expect("valid"));
        assert_eq!(find(&host, "/", &headers), Some((2, 0)));
        headers.append("x-v", "2".parse().expect("valid"));
        assert_eq!(find(&host, "/", &headers), Some((1, 0)));
    }

    #[test]
    fn order_beats_specificity() {
        let first = (PathMatch::Prefix("".into()), none());
        let host = host(vec![first, (PathMatch::Exact("/a".into()), none())]);
        assert_eq!(find(&host, "/a", &HeaderMap::new()), Some((0, 0)));
    }
}
