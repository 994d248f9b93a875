//! When had a certificate best be renewed? The ACME server knows (RFC 9773).

use std::time::Duration;

use instant_acme::{Account, CertificateIdentifier, Error};
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::account::Accounts;
use crate::graph::issuance::{Held, Method, RenewalInfo, Wanted};

/// How often a server is asked, whatever it says.
const SHORTEST: Duration = Duration::from_secs(3600);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// When to ask again where there is no answer.
const NO_ANSWER: Duration = Duration::from_secs(6 * 3600);
/// When to ask again a server that knows of no such thing.
const UNSUPPORTED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whom to ask about the certificate of `wanted`, if it is an ACME server's and nothing else decides.
pub fn inquirable(wanted: &Wanted, accounts: &Accounts) -> Option<(Account, CertificateDer<'static>)> {
    let issuer = wanted.issuer.as_ref().ok()?;
    let Method::Acme(acme) = &issuer.method else { return None };
    let asks = acme.spec.renewal_information_source != "None" && wanted.held == Held::Store;
    if !asks || wanted.judgement.unfit.is_some() {
        return None;
    }
    let certificate = wanted.judgement.certificate.as_ref()?;
    let leaf = CertificateDer::from_pem_slice(&certificate.chain_pem).ok()?;
    Some((accounts.get(&issuer.key)?, leaf))
}

/// Asks; or says when to ask again.
pub async fn inquire(
    account: Account,
    certificate: CertificateDer<'static>,
    serial: String,
) -> Result<RenewalInfo, Duration> {
    let identifier = CertificateIdentifier::try_from(&certificate).map_err(|_| UNSUPPORTED)?;
    let (info, again) = match account.renewal_info(&identifier).await {
        Ok(answer) => answer,
        Err(Error::Unsupported(_)) => return Err(UNSUPPORTED),
        Err(_) => return Err(NO_ANSWER),
    };
    let time = |time: time::OffsetDateTime| Timestamp::from_second(time.unix_timestamp()).map_err(|_| NO_ANSWER);
    let (start, end) = (time(info.suggested_window.start)?, time(info.suggested_window.end)?);
    let width = end.duration_since(start).as_secs().max(0);
    let chosen = start.checked_add(SignedDuration::from_secs(fastrand::i64(0..=width))).unwrap_or(start);
    let now = Timestamp::now();
    let again = SignedDuration::try_from(again.clamp(SHORTEST, LONGEST)).unwrap_or(SignedDuration::from_hours(6));
    Ok(RenewalInfo {
        serial,
        start,
        end,
        chosen,
        explanation_url: info.explanation_url,
        checked: now,
        next_check: now.checked_add(again).unwrap_or(now),
    })
}
