//! Is the certificate that a listener shows the right one, for this name, now?

use jiff::Timestamp;
use rustls::{
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::row::Wrong;
use crate::view::{CertificateView, fingerprint};

/// An expiry that is nearer than this is worth a note, in seconds.
const SOON: i64 = 30 * 86400;

/// What the daemon says of a listener's certificates.
pub struct Expected<'a> {
    /// `namespace/secret`.
    pub secrets: Vec<&'a str>,
    pub views: &'a [CertificateView],
    /// Seconds since 1970.
    pub now: i64,
}

impl Expected<'_> {
    /// What is wrong with the certificate shown for `name`, and what is worth knowing of it.
    pub fn look(&self, shown: &CertificateDer, name: &ServerName) -> (Option<Wrong>, Vec<String>) {
        let digest = fingerprint(shown);
        let known = self.views.iter().filter(|one| self.secrets.contains(&one.name.as_str()));
        let Some(view) = known.clone().find(|one| one.fingerprint == digest) else {
            let message = format!("the certificate shown is not that of Secret {}", self.secrets.join(" or "));
            let remedy = "run the test again; is another program at this address?";
            return (Some(Wrong::new("WrongCertificate", message, remedy)), Vec::new());
        };
        let Ok((_, leaf)) = X509Certificate::from_der(shown) else {
            let message = format!("the certificate of Secret {} cannot be read", view.name);
            return (Some(Wrong::new("InvalidCertificate", message, "replace it")), Vec::new());
        };
        let wrong = self.validity(view, &leaf).or_else(|| mismatch(view, shown, name));
        let mut notes = Vec::new();
        if leaf.issuer() == leaf.subject() {
            let secret = &view.name;
            notes.push(format!(
                "the certificate of Secret {secret} is self-signed: clients have to be told to trust it"
            ));
        }
        let end = leaf.validity().not_after.timestamp();
        if wrong.is_none() && end - self.now < SOON {
            notes.push(format!("the certificate of Secret {} expires at {}", view.name, date(end)));
        }
        (wrong, notes)
    }

    fn validity(&self, view: &CertificateView, leaf: &X509Certificate) -> Option<Wrong> {
        let (start, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        let secret = &view.name;
        if end < self.now {
            let message = format!("the certificate of Secret {secret} expired at {}", date(end));
            return Some(Wrong::new("CertificateExpired", message, "renew it"));
        }
        let message = || format!("the certificate of Secret {secret} is valid only from {}", date(start));
        (start > self.now).then(|| Wrong::new("CertificateNotYetValid", message(), "check this machine's clock"))
    }
}

fn mismatch(view: &CertificateView, shown: &CertificateDer, name: &ServerName) -> Option<Wrong> {
    let parsed = ParsedCertificate::try_from(shown);
    let is_for = parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok());
    if is_for || matches!(name, ServerName::IpAddress(_)) {
        return None;
    }
    let (secret, names) = (&view.name, view.hostnames.join(", "));
    let message = format!("the certificate of Secret {secret} is for {names}, not for {}", name.to_str());
    let remedy = "replace it by one for that name: clients refuse it";
    Some(Wrong::new("CertificateHostnameMismatch", message, remedy))
}

fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}
