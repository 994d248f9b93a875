//! What is to be issued now, and when to ask again: pure, from what is wanted, what runs, and the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::{
    api::ObjectKey,
    graph::issuance::{Held, Issuance, Method, Wanted, form_digest, request_digest},
};

/// Orders in flight at once, of all issuers together.
pub const MAX_ORDERS: usize = 20;
/// Certificates that are signed here at once: keys are made, which takes a core each.
pub const MAX_LOCAL: usize = 2;

/// What is to be done with one Certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Nothing, until then (none: until something changes).
    Rest(Option<Timestamp>),
    Issue,
}

/// Decides for one Certificate. `held_back` is the time before which its issuer is asked nothing.
pub fn decide(wanted: &Wanted, held_back: Option<Timestamp>, now: Timestamp) -> Decision {
    let ready = wanted.issuer.as_ref().is_ok_and(|issuer| issuer.ready.is_true);
    if wanted.held == Held::Manifest || !ready {
        return Decision::Rest(None);
    }
    if wanted.judgement.due.is_none() {
        return Decision::Rest(wanted.judgement.validity.as_ref().and_then(|validity| validity.renewal));
    }
    let attempt = &wanted.attempt;
    // Asked for something else than what failed, or by other means: nothing speaks against trying at once.
    let backed_off = attempt.not_before.filter(|_| attempt.failed_request == basis(wanted));
    match backed_off.max(held_back) {
        Some(time) if time > now => Decision::Rest(Some(time)),
        _ => Decision::Issue,
    }
}

/// Is the Secret that is there, and good, to be written in another form?
pub fn rewrites(wanted: &Wanted, now: Timestamp) -> bool {
    let (judgement, attempt) = (&wanted.judgement, &wanted.attempt);
    let is_kept = wanted.held == Held::Store && wanted.issuer.is_ok();
    let is_good = judgement.due.is_none() && judgement.certificate.is_some();
    let waits = attempt.not_before.is_some_and(|time| time > now);
    is_kept && is_good && !waits && attempt.form != form_digest(&wanted.spec)
}

/// Of all that an issuance goes by: what is asked for, and how it is proven, with the solvers' secrets.
pub fn basis(wanted: &Wanted) -> String {
    let request = request_digest(&wanted.spec);
    let Ok(Method::Acme(acme)) = wanted.issuer.as_ref().map(|issuer| &issuer.method) else { return request };
    let mut digest = Sha256::new();
    digest.update(request);
    digest.update(serde_json::to_vec(&acme.spec.solvers).unwrap_or_default());
    for held in acme.secrets.values() {
        // Missing ones are as good as empty.
        let bytes = held.as_deref().unwrap_or_default();
        digest.update(bytes.len().to_be_bytes());
        digest.update(bytes);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What starts now, the longest due first within the bounds on what runs at once, and when to decide again.
pub fn choose(
    issuance: &Issuance,
    running: &BTreeSet<ObjectKey>,
    held_back: &BTreeMap<ObjectKey, Timestamp>,
    now: Timestamp,
) -> (Vec<ObjectKey>, Option<Timestamp>) {
    let (mut wake, mut due) = (None, Vec::new());
    let (mut orders, mut local) = (MAX_ORDERS, MAX_LOCAL);
    for wanted in &issuance.wanted {
        if running.contains(&wanted.key) {
            let room = if is_acme(wanted) { &mut orders } else { &mut local };
            *room = room.saturating_sub(1);
            continue;
        }
        let held_back = wanted.issuer.as_ref().ok().and_then(|issuer| held_back.get(&issuer.key)).copied();
        match decide(wanted, held_back, now) {
            Decision::Rest(until) => wake = earlier(wake, until),
            Decision::Issue => due.push(wanted),
        }
        // A certificate that was not renewed gets loud at a time of its own.
        let loud = wanted.judgement.validity.as_ref().map(|validity| validity.loud_from());
        wake = earlier(wake, loud.filter(|time| *time > now));
    }
    due.sort_by_key(|wanted| (wanted.attempt.failures, wanted.attempt.since, &wanted.key));
    let mut start = Vec::new();
    for wanted in due {
        let room = if is_acme(wanted) { &mut orders } else { &mut local };
        if *room > 0 {
            *room -= 1;
            start.push(wanted.key.clone());
        }
    }
    (start, wake)
}

fn is_acme(wanted: &Wanted) -> bool {
    wanted.issuer.as_ref().is_ok_and(|issuer| matches!(issuer.method, Method::Acme(_)))
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Why an issuance failed, as far as it says when to try again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The issuer could not be reached, or has trouble of its own.
    Unreachable,
    /// The issuer asks to come back later.
    Limited,
    /// The names could not be proven, or the issuer does not want to: more tries cost.
    Refused,
    /// Something of this machine.
    Local,
}

/// How long to wait after the `failures`th failure in a row. `asked` is what the issuer asked for; `spread` (of 65,535)
/// keeps many from coming back at once.
pub fn back_off(cause: Cause, failures: u32, asked: Option<Duration>, spread: u16) -> SignedDuration {
    let (first, most) = match cause {
        Cause::Unreachable => (5, 10 * 60),
        Cause::Local => (10, 10 * 60),
        // A public CA takes five failures for a name in an hour.
        Cause::Refused => (120, 12 * 3600),
        Cause::Limited => (15 * 60, 12 * 3600),
    };
    let doubled = 1_u64.checked_shl(failures.saturating_sub(1).min(20)).unwrap_or(1) * first;
    // What an issuer asks for is believed up to a week.
    let asked = asked.map_or(0, |asked| asked.as_secs().min(7 * 24 * 3600));
    let wait = match cause {
        Cause::Limited if asked > 0 => asked,
        _ => doubled.min(most).max(asked),
    };
    let extra = wait * u64::from(spread) / u64::from(u16::MAX) / 10;
    SignedDuration::from_secs(i64::try_from(wait + extra).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::{ObjectMeta, cert_manager::CertificateSpec},
        graph::issuance::{Attempt, Issuer, Judgement, Verdict, renewal::Validity},
    };

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn issuer(acme: bool) -> Arc<Issuer> {
        let method = match acme {
            true => Method::Acme(Box::default()),
            false => Method::SelfSigned(Default::default()),
        };
        let ready = Verdict::yes("IsReady", "");
        Arc::new(Issuer { key: ObjectKey::new("ClusterIssuer", "", "i"), namespace: "x".into(), method, ready })
    }

    fn wanted(name: &str, due: bool) -> Wanted {
        Wanted {
            key: ObjectKey::new("Certificate", "web", name),
            meta: ObjectMeta::default(),
            spec: CertificateSpec::default(),
            owner: None,
            issuer: Ok(issuer(true)),
            held: Held::Nowhere,
            judgement: Judgement { due: due.then(|| ("DoesNotExist", String::new())), ..Judgement::default() },
            ready: Verdict::default(),
            issuing: None,
            attempt: Attempt::default(),
        }
    }

    const NOW: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn a_valid_certificate_rests_until_its_renewal() {
        let mut one = wanted("a", false);
        let renewal = at("2026-03-01T00:00:00Z");
        one.held = Held::Store;
        one.judgement.validity =
            Some(Validity { not_before: at(NOW), not_after: at("2026-04-01T00:00:00Z"), renewal: Some(renewal) });
        assert_eq!(decide(&one, None, at(NOW)), Decision::Rest(Some(renewal)));
    }

    #[test]
    fn a_secret_of_a_manifest_is_never_issued_and_neither_is_one_without_issuer() {
        let mut one = wanted("a", true);
        one.held = Held::Manifest;
        assert_eq!(decide(&one, None, at(NOW)), Decision::Rest(None));
        one.held = Held::Nowhere;
        assert_eq!(decide(&one, None, at(NOW)), Decision::Issue);
        one.issuer = Err("there is none".into());
        assert_eq!(decide(&one, None, at(NOW)), Decision::Rest(None));
    }

    #[test]
    fn a_failure_is_waited_out_unless_something_else_is_asked_for() {
        let mut one = wanted("a", true);
        let later = at("2026-01-01T00:02:00Z");
        one.attempt.failures = 1;
        one.attempt.not_before = Some(later);
        one.attempt.failed_request = basis(&one);
        assert_eq!(decide(&one, None, at(NOW)), Decision::Rest(Some(later)));
        assert_eq!(decide(&one, None, later), Decision::Issue);
        one.spec.dns_names.push("other.example".into());
        assert_eq!(decide(&one, None, at(NOW)), Decision::Issue);
        assert_eq!(decide(&one, Some(later), at(NOW)), Decision::Rest(Some(later)));
    }

    #[test]
    fn two_hundred_at_once_are_twenty_at_a_time() {
        let wanted: Vec<Wanted> = (0..200).map(|i| wanted(&format!("c{i:03}"), true)).collect();
        let mut issuance = Issuance { wanted, ..Issuance::default() };
        let (first, _) = choose(&issuance, &BTreeSet::new(), &BTreeMap::new(), at(NOW));
        assert_eq!(first.len(), MAX_ORDERS);
        let running: BTreeSet<ObjectKey> = first.iter().take(15).cloned().collect();
        let (next, _) = choose(&issuance, &running, &BTreeMap::new(), at(NOW));
        assert_eq!(next.len(), 5);
        assert!(next.iter().all(|key| !running.contains(key)));
        let held = BTreeMap::from([(ObjectKey::new("ClusterIssuer", "", "i"), at("2026-01-01T01:00:00Z"))]);
        let (none, wake) = choose(&issuance, &BTreeSet::new(), &held, at(NOW));
        assert_eq!((none.len(), wake), (0, Some(at("2026-01-01T01:00:00Z"))));
        for wanted in &mut issuance.wanted {
            wanted.issuer = Ok(issuer(false));
        }
        assert_eq!(choose(&issuance, &BTreeSet::new(), &BTreeMap::new(), at(NOW)).0.len(), MAX_LOCAL);
    }

    #[test]
    fn back_off_grows_and_does_what_it_is_told() {
        let wait = |cause, failures, asked: Option<u64>| {
            back_off(cause, failures, asked.map(Duration::from_secs), 0).as_secs()
        };
        assert_eq!([1, 2, 3, 4].map(|n| wait(Cause::Unreachable, n, None)), [5, 10, 20, 40]);
        assert_eq!(wait(Cause::Unreachable, 100, None), 600);
        // Five failures in the first hour and no more.
        let starts = (1..6).map(|n| wait(Cause::Refused, n, None)).sum::<i64>();
        assert!(starts > 3600, "{starts}");
        assert_eq!(wait(Cause::Limited, 1, Some(30)), 30);
        assert_eq!(wait(Cause::Refused, 1, Some(3600)), 3600);
        assert_eq!(wait(Cause::Limited, 9, None), 12 * 3600);
        assert_eq!(wait(Cause::Limited, 1, Some(u64::MAX)), 7 * 24 * 3600);
        assert_eq!(back_off(Cause::Unreachable, 1, None, u16::MAX).as_secs(), 5);
        assert_eq!(back_off(Cause::Limited, 1, None, u16::MAX).as_secs(), 990);
    }
}
