//! Which solver proves a name? As cert-manager orders them: the one whose selector names it, then the one with the
//! longest zone, then the one with the most labels, then the first.

use std::collections::BTreeMap;

use crate::api::cert_manager::{Selector, Solver};

/// How a name is proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    Http01,
    TlsAlpn01,
    /// By the solver of this number.
    Dns01(usize),
}

/// The challenge types that a server offers for a name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offered {
    pub http01: bool,
    pub tls_alpn01: bool,
    pub dns01: bool,
}

/// The proof for `name` (`*.` in front for a wildcard) of a Certificate with `labels`.
///
/// # Errors
/// No solver is for it.
pub fn choose(
    solvers: &[Solver],
    name: &str,
    labels: &BTreeMap<String, String>,
    offered: Offered,
) -> Result<Proof, String> {
    let offers = |solver: &Solver| {
        offered.http01 && solver.http01.is_some()
            || offered.tls_alpn01 && solver.tls_alpn01.is_some()
            || offered.dns01 && solver.dns01.is_some()
    };
    let mut best: Option<(Rank, usize, &Solver)> = None;
    for (i, solver) in solvers.iter().enumerate().filter(|(_, solver)| offers(solver)) {
        let Some(rank) = rank(solver.selector.as_ref(), name, labels) else { continue };
        if best.as_ref().is_none_or(|(other, ..)| rank > *other) {
            best = Some((rank, i, solver));
        }
    }
    match best {
        Some((_, _, solver)) if solver.http01.is_some() => Ok(Proof::Http01),
        Some((_, _, solver)) if solver.tls_alpn01.is_some() => Ok(Proof::TlsAlpn01),
        Some((_, i, _)) => Ok(Proof::Dns01(i)),
        None if name.starts_with("*.") => {
            Err(format!("{name} is a wildcard, which DNS-01 alone can prove, and no dns01 solver is for it"))
        }
        None => {
            Err(format!("no solver of the issuer is for {name}: write one without selector, or add the name to one"))
        }
    }
}

/// Whether the name itself is there, the labels of the longest zone, and how many labels match.
type Rank = (bool, usize, usize);

fn rank(selector: Option<&Selector>, name: &str, labels: &BTreeMap<String, String>) -> Option<Rank> {
    let Some(selector) = selector else { return Some((false, 0, 0)) };
    if !selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return None;
    }
    let named = selector.dns_names.iter().any(|other| other.eq_ignore_ascii_case(name));
    if !selector.dns_names.is_empty() && !named {
        return None;
    }
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let zones = selector.dns_zones.iter().filter(|zone| within(bare, zone));
    let zone = zones.map(|zone| zone.split('.').count()).max();
    if !selector.dns_zones.is_empty() && zone.is_none() {
        return None;
    }
    Some((named, zone.unwrap_or(0), selector.match_labels.len()))
}

fn within(name: &str, zone: &str) -> bool {
    let (name, zone) = (name.to_ascii_lowercase(), zone.trim_end_matches('.').to_ascii_lowercase());
    name == zone || name.strip_suffix(&zone).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn solvers() -> Vec<Solver> {
        from_value(json!([
            { "http01": { "ingress": {} } },
            { "tlsALPN01": {}, "selector": { "dnsZones": ["example.com"] } },
            { "http01": { "ingress": {} }, "selector": { "dnsZones": ["deep.example.com"] } },
            { "dns01": { "cloudflare": {} }, "selector": { "dnsNames": ["named.example.com", "*.example.com"] } },
            { "tlsALPN01": {}, "selector": { "matchLabels": { "a": "b" } } },
        ]))
        .expect("solvers")
    }

    fn chosen(name: &str, labels: &[(&str, &str)]) -> Result<Proof, String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let plain = !name.starts_with("*.");
        let offered = Offered { http01: plain, tls_alpn01: plain, dns01: true };
        choose(&solvers(), name, &labels, offered)
    }

    #[test]
    fn the_most_specific_selector_wins() {
        assert_eq!(chosen("other.example", &[]), Ok(Proof::Http01));
        assert_eq!(chosen("www.example.com", &[]), Ok(Proof::TlsAlpn01));
        assert_eq!(chosen("example.com", &[]), Ok(Proof::TlsAlpn01));
        assert_eq!(chosen("notexample.com", &[]), Ok(Proof::Http01));
        assert_eq!(chosen("a.deep.example.com", &[]), Ok(Proof::Http01));
        assert_eq!(chosen("named.example.com", &[]), Ok(Proof::Dns01(3)));
        assert_eq!(chosen("*.example.com", &[]), Ok(Proof::Dns01(3)));
        assert!(chosen("*.other.example", &[]).is_err_and(|why| why.contains("wildcard")));
        assert_eq!(chosen("other.example", &[("a", "b")]), Ok(Proof::TlsAlpn01));
        assert_eq!(chosen("a.deep.example.com", &[("a", "b")]), Ok(Proof::Http01));
    }

    #[test]
    fn without_a_solver_there_is_no_proof() {
        let offered = Offered { http01: true, tls_alpn01: true, dns01: true };
        assert!(choose(&[], "a.example", &BTreeMap::new(), offered).is_err());
        let only = &solvers()[1..2];
        assert!(choose(only, "a.example", &BTreeMap::new(), offered).is_err());
        let no_http = Offered { tls_alpn01: true, ..Offered::default() };
        assert!(choose(&solvers()[..1], "a.example", &BTreeMap::new(), no_http).is_err());
    }
}
