//! The names of ExternalName Services, resolved and resolved again at their TTL.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use tokio::{task::JoinSet, time::sleep_until};

/// What a TTL is taken for at least and at most.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// A lookup ends after this time.
const LOOKUP: Duration = Duration::from_secs(5);
/// A name that did not resolve is tried again after this time; its last addresses stay in use.
const AGAIN: Duration = Duration::from_secs(5);
/// Addresses of one name that are used.
const MAX_ADDRESSES: usize = 64;

/// The names that are wanted, and what they resolved to last.
#[derive(Default)]
pub struct Names {
    known: BTreeMap<String, Known>,
    lookups: JoinSet<(String, Result<Answer, String>)>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    /// When to look it up next; none while a lookup is under way.
    due: Option<Instant>,
    asked: bool,
    error: Option<String>,
}

struct Answer {
    addresses: Vec<IpAddr>,
    valid_until: Instant,
}

impl Names {
    /// Sets what is wanted; names that are no longer so are forgotten. True when one is new.
    pub fn want(&mut self, names: &BTreeSet<String>) -> bool {
        self.known.retain(|name, _| names.contains(name));
        let before = self.known.len();
        for name in names {
            let new = || Known { due: Some(Instant::now()), ..Known::default() };
            self.known.entry(name.clone()).or_insert_with(new);
        }
        self.start();
        self.known.len() > before
    }

    /// The last addresses of each name, sorted; none for a name that never resolved.
    pub fn addresses(&self) -> BTreeMap<String, Vec<IpAddr>> {
        self.known.iter().map(|(name, known)| (name.clone(), known.addresses.clone())).collect()
    }

    /// The names whose last lookup failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.iter().filter_map(|(name, known)| Some((name.as_str(), known.error.as_deref()?)))
    }

    /// Is a wanted name without its first answer?
    pub fn pending(&self) -> bool {
        self.known.values().any(|known| !known.asked)
    }

    /// Returns when an answer changed something; pending while nothing is wanted. Cancel safe.
    pub async fn changed(&mut self) {
        loop {
            let due = self.known.values().filter_map(|known| known.due).min();
            tokio::select! {
                Some(done) = self.lookups.join_next(), if !self.lookups.is_empty() => {
                    if done.is_ok_and(|(name, result)| self.take(&name, result)) {
                        return;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => self.start(),
                else => std::future::pending().await,
            }
        }
    }

    fn start(&mut self) {
        let now = Instant::now();
        for (name, known) in &mut self.known {
            if known.due.is_some_and(|due| due <= now) {
                known.due = None;
                let name = name.clone();
                self.lookups.spawn(async move {
                    let answer = tokio::time::timeout(LOOKUP, lookup(&name)).await;
                    (name, answer.unwrap_or_else(|_| Err("no answer in time".to_owned())))
                });
            }
        }
    }

    /// True when the addresses, or whether the name resolves, changed.
    fn take(&mut self, name: &str, result: Result<Answer, String>) -> bool {
        let Some(known) = self.known.get_mut(name) else { return false };
        let now = Instant::now();
        let first = !std::mem::replace(&mut known.asked, true);
        match result {
            Ok(answer) => {
                let ttl = answer.valid_until.saturating_duration_since(now).clamp(*TTL.start(), *TTL.end());
                known.due = Some(now + ttl);
                let recovered = known.error.take().is_some();
                let changed = known.addresses != answer.addresses;
                known.addresses = answer.addresses;
                first || changed || recovered
            }
            Err(error) => {
                known.due = Some(now + AGAIN);
                let changed = known.error.as_ref() != Some(&error);
                known.error = Some(error);
                first || changed
            }
        }
    }
}

/// The system's resolver, its configuration read anew each time: it changes with the network.
async fn lookup(name: &str) -> Result<Answer, String> {
    if let Ok(address) = name.parse() {
        return Ok(Answer { addresses: vec![address], valid_until: Instant::now() + *TTL.end() });
    }
    let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let qualified = format!("{}.", name.trim_end_matches('.'));
    let found = resolver.lookup_ip(qualified).await.map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = found.iter().collect();
    addresses.sort();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    Ok(Answer { addresses, valid_until: found.valid_until() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_resolve_and_forgotten_names_go() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut names = Names::default();
            names.want(&BTreeSet::from(["127.0.0.9".to_owned()]));
            assert!(names.pending());
            names.changed().await;
            assert_eq!(names.addresses()["127.0.0.9"], ["127.0.0.9".parse::<IpAddr>().unwrap()]);
            assert!(!names.pending());
            names.want(&BTreeSet::new());
            assert!(names.addresses().is_empty());
        });
    }

    #[test]
    fn a_failed_lookup_keeps_the_last_addresses() {
        let mut names = Names::default();
        names.known.insert("a.test".into(), Known::default());
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(names.take("a.test", Ok(Answer { addresses: vec![address], valid_until: Instant::now() })));
        assert!(names.take("a.test", Err("refused".into())));
        assert_eq!(names.addresses()["a.test"], [address]);
        assert!(!names.take("a.test", Err("refused".into())));
        assert_eq!(names.failures().collect::<Vec<_>>(), [("a.test", "refused")]);
    }
}
