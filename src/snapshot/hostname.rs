//! Things found by the hostname of a request, the most specific first.

use std::{ops::Deref, sync::Arc};

use foldhash::HashMap;

use super::{Host, HostPattern, Listener};

/// What stands under a hostname.
pub trait Named {
    fn hostname(&self) -> &HostPattern;
}

impl Named for Arc<Host> {
    fn hostname(&self) -> &HostPattern {
        &self.pattern
    }
}

impl Named for Arc<Listener> {
    fn hostname(&self) -> &HostPattern {
        &self.hostname
    }
}

/// Entries with unique patterns, found by one hash lookup for each label of a host. Reads as the slice it was made of.
pub struct ByHostname<T> {
    entries: Box<[T]>,
    exact: HashMap<Box<str>, usize>,
    /// By what follows the star.
    wildcard: HashMap<Box<str>, usize>,
    any: Option<usize>,
}

impl<T> ByHostname<T> {
    /// Those whose pattern matches `host` (lower case, no port): the exact name, wildcards from the longest, the one for
    /// every name.
    pub fn find<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> {
        let exact = self.exact.get(host);
        let dots = (!self.wildcard.is_empty()).then(|| host.match_indices('.')).into_iter().flatten();
        let wildcards = dots.filter(|&(at, _)| at > 0).filter_map(move |(at, _)| self.wildcard.get(&host[at..]));
        exact.into_iter().chain(wildcards).chain(self.any.as_ref()).map(|&index| &self.entries[index])
    }
}

impl<T: Named> From<Vec<T>> for ByHostname<T> {
    fn from(entries: Vec<T>) -> ByHostname<T> {
        let (mut exact, mut wildcard, mut any) = (HashMap::default(), HashMap::default(), None);
        for (index, entry) in entries.iter().enumerate() {
            match entry.hostname() {
                HostPattern::Exact(name) => _ = exact.entry(name.clone()).or_insert(index),
                HostPattern::Wildcard(suffix) => _ = wildcard.entry(suffix.clone()).or_insert(index),
                HostPattern::Any => _ = any.get_or_insert(index),
            }
        }
        ByHostname { entries: entries.into(), exact, wildcard, any }
    }
}

impl<T: Named> FromIterator<T> for ByHostname<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a, T> IntoIterator for &'a ByHostname<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl<T: Named> Default for ByHostname<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> Deref for ByHostname<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_specific_first() {
        let hosts: ByHostname<Arc<Host>> = [None, Some("*.com"), Some("a.example.com"), Some("*.example.com")]
            .into_iter()
            .map(|name| Arc::new(Host::new(HostPattern::new(name), Vec::new(), Vec::new())))
            .collect();
        let found = |host: &str| {
            let name = |host: &Arc<Host>| match &host.pattern {
                HostPattern::Exact(name) => name.to_string(),
                HostPattern::Wildcard(suffix) => format!("*{suffix}"),
                HostPattern::Any => String::new(),
            };
            hosts.find(host).map(name).collect::<Vec<_>>()
        };
        assert_eq!(found("a.example.com"), ["a.example.com", "*.example.com", "*.com", ""]);
        assert_eq!(found("b.a.example.com"), ["*.example.com", "*.com", ""]);
        assert_eq!(found("example.com"), ["*.com", ""]);
        assert_eq!(found(".com"), [""]);
        assert_eq!(found("localhost"), [""]);
    }
}
