//! When is a certificate renewed, and when is it high time?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::cert_manager::CertificateSpec;

use super::RenewalInfo;

/// Its end is loud from this long before, or in the last third of a shorter life.
const LOUD: SignedDuration = SignedDuration::from_hours(21 * 24);

/// The life of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// None where it is not to be renewed.
    pub renewal: Option<Timestamp>,
}

impl Validity {
    /// The time after which a certificate that was not renewed is an error.
    pub fn loud_from(&self) -> Timestamp {
        let third = self.not_after.duration_since(self.not_before) / 3;
        self.not_after.checked_sub(third.min(LOUD)).unwrap_or(self.not_after)
    }

    /// Should it have been renewed by now? A renewal that is due only now is given an hour, or a twentieth of what is left.
    pub fn is_loud(&self, now: Timestamp) -> bool {
        let Some(renewal) = self.renewal else { return now >= self.loud_from() };
        let patience = (self.not_after.duration_since(renewal) / 20).min(SignedDuration::from_hours(1));
        let late = renewal.checked_add(patience).unwrap_or(renewal);
        now >= self.loud_from().max(late)
    }
}

/// The renewal time of a certificate: the moment chosen in the window of its ACME server; else `renewBefore` or its
/// percentage before the end; else at two thirds of its life, up to a twentieth of the rest earlier by `spread` (of
/// 65,535), so that certificates made together are not renewed together.
pub fn renewal_time(
    spec: &CertificateSpec,
    (not_before, not_after): (Timestamp, Timestamp),
    info: Option<&RenewalInfo>,
    spread: u16,
) -> Option<Timestamp> {
    if spec.renewal.as_ref().is_some_and(|renewal| renewal.policy == "Disabled") {
        return None;
    }
    if let Some(info) = info.filter(|info| info.start > not_before) {
        return Some(info.chosen.min(not_after));
    }
    let life = not_after.duration_since(not_before);
    let percentage = spec.renew_before_percentage.filter(|percentage| (1..100).contains(percentage));
    let fixed = spec.renew_before.and_then(|before| SignedDuration::try_from(before).ok());
    let before = match (fixed.filter(|before| *before > SignedDuration::ZERO && *before < life), percentage) {
        (Some(before), _) => before,
        (None, Some(percentage)) => portion(life, f64::from(percentage) / 100.0),
        (None, None) => {
            let third = life / 3;
            third + portion(third, f64::from(spread) / f64::from(u16::MAX) / 20.0)
        }
    };
    let time = not_after.checked_sub(before).unwrap_or(not_after);
    Timestamp::from_second(time.as_second()).ok()
}

fn portion(whole: SignedDuration, part: f64) -> SignedDuration {
    let seconds = whole.as_secs_f64().max(0.0) * part;
    SignedDuration::try_from(Duration::from_secs_f64(seconds)).unwrap_or(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn renewal_is_at_two_thirds_or_as_written() {
        let life = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        let mut spec = CertificateSpec::default();
        assert_eq!(renewal_time(&spec, life, None, 0), Some(at("2026-03-02T00:00:00Z")));
        let early = renewal_time(&spec, life, None, u16::MAX).expect("it is renewed");
        assert_eq!(early, at("2026-02-28T12:00:00Z"));
        spec.renew_before_percentage = Some(10);
        assert_eq!(renewal_time(&spec, life, None, u16::MAX), Some(at("2026-03-23T00:00:00Z")));
        spec.renew_before = Some(Duration::from_secs(24 * 3600));
        assert_eq!(renewal_time(&spec, life, None, u16::MAX), Some(at("2026-03-31T00:00:00Z")));
        // Longer than the life that the issuer gave: as if it were not written.
        spec.renew_before = Some(Duration::from_secs(24 * 3600 * 365));
        spec.renew_before_percentage = None;
        assert_eq!(renewal_time(&spec, life, None, 0), Some(at("2026-03-02T00:00:00Z")));
        spec.renewal = Some(crate::api::cert_manager::Renewal { policy: "Disabled".into(), windows: Vec::new() });
        assert_eq!(renewal_time(&spec, life, None, 0), None);
    }

    #[test]
    fn the_window_of_the_server_comes_first() {
        let life = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        let mut info = RenewalInfo {
            serial: String::new(),
            start: at("2026-01-05T00:00:00Z"),
            end: at("2026-01-07T00:00:00Z"),
            chosen: at("2026-01-06T00:00:00Z"),
            explanation_url: None,
            checked: at("2026-01-01T00:00:00Z"),
            next_check: at("2026-01-01T06:00:00Z"),
        };
        let spec = CertificateSpec::default();
        assert_eq!(renewal_time(&spec, life, Some(&info), 0), Some(info.chosen));
        info.start = at("2025-12-01T00:00:00Z");
        assert_eq!(renewal_time(&spec, life, Some(&info), 0), Some(at("2026-03-02T00:00:00Z")));
    }

    #[test]
    fn the_end_is_loud_in_time() {
        let mut validity = Validity {
            not_before: at("2026-01-01T00:00:00Z"),
            not_after: at("2026-04-01T00:00:00Z"),
            renewal: Some(at("2026-03-02T00:00:00Z")),
        };
        assert!(!validity.is_loud(at("2026-03-10T00:00:00Z")));
        assert!(validity.is_loud(at("2026-03-11T00:00:00Z")));
        validity.not_after = at("2026-01-01T03:00:00Z");
        validity.renewal = Some(at("2026-01-01T02:00:00Z"));
        assert!(!validity.is_loud(at("2026-01-01T02:01:00Z")));
        assert!(validity.is_loud(at("2026-01-01T02:03:00Z")));
        // Asked to be renewed late: loud only after that.
        validity.not_after = at("2026-04-01T00:00:00Z");
        validity.renewal = Some(at("2026-03-31T00:00:00Z"));
        assert!(!validity.is_loud(at("2026-03-30T00:00:00Z")));
    }
}
