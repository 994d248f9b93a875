//! `certificateRefs`: which Secrets a listener serves, and what keeps the others from it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;

use crate::{
    api::{
        Kind, ObjectReference,
        condition::{LISTENER_INVALID_CERTIFICATE_REF, LISTENER_REF_NOT_PERMITTED},
        core::Secret,
    },
    finding::Finding,
    manifest::Object,
};

use super::{
    grant::Crossing,
    index::Index,
    issuance::renewal::Validity,
    problem::{Problem, warning},
};

/// The only type of Secret that listeners take.
const TLS_SECRET: &str = "kubernetes.io/tls";

/// A chain and its key that were found to belong together. Compared by content.
#[derive(Clone, Eq, PartialEq)]
pub struct Certificate {
    /// `namespace/secret`.
    pub key: String,
    /// SHA-256 of chain and key, hexadecimal.
    pub digest: String,
    pub chain_pem: Arc<[u8]>,
    pub key_pem: Arc<[u8]>,
    /// Its Secret says something else by now, which cannot be used.
    pub is_fallback: bool,
}

impl Certificate {
    /// Shows the first certificate of the chain to `look`; none where it cannot be read.
    pub fn with_leaf<T>(&self, look: impl FnOnce(&X509Certificate) -> T) -> Option<T> {
        let leaf = CertificateDer::from_pem_slice(&self.chain_pem).ok()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).ok()?;
        Some(look(&leaf))
    }
}

/// Keys never reach a log.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("key", &self.key).field("digest", &self.digest).finish()
    }
}

/// By the key of the listener (`namespace/gateway/listener`) and of the Secret (`namespace/name`).
pub type CertificatesByUse = BTreeMap<(String, String), Certificate>;

/// What the `certificateRefs` of one listener come to.
#[derive(Default)]
pub struct Resolved {
    /// In the order written.
    pub certificates: Vec<Certificate>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Finding>,
}

/// Where the references stand, and what they may fall back to.
pub struct Referrer<'a> {
    pub index: &'a Index<'a>,
    pub gateway: &'a Object,
    /// Key of the listener.
    pub listener: &'a str,
    /// Field path of the listener, `spec.listeners[0]`.
    pub field: &'a str,
    pub hostname: Option<&'a str>,
    pub last_good: &'a CertificatesByUse,
    pub now: Timestamp,
}

impl Referrer<'_> {
    /// Resolves each reference.
    pub fn resolve(&self, references: &[ObjectReference]) -> Resolved {
        let mut resolved = Resolved::default();
        if references.is_empty() {
            let field = format!("{}.tls.certificateRefs", self.field);
            let message = "a listener that ends TLS needs a certificate";
            resolved.problems.push(Problem::new(
                LISTENER_INVALID_CERTIFICATE_REF,
                field,
                message,
                format!("name a Secret of type {TLS_SECRET}"),
            ));
        }
        for (i, reference) in references.iter().enumerate() {
            self.resolve_one(reference, &format!("{}.tls.certificateRefs[{i}]", self.field), &mut resolved);
        }
        resolved
    }

    fn resolve_one(&self, reference: &ObjectReference, field: &str, resolved: &mut Resolved) {
        let secret = match self.find(reference, field) {
            Ok(secret) => secret,
            Err(problem) => return resolved.problems.push(problem),
        };
        let key = format!("{}/{}", secret.key.namespace, secret.key.name);
        let last = self.last_good.get(&(self.listener.to_string(), key.clone()));
        match read(secret, &key, last) {
            Ok(certificate) => {
                resolved.warnings.extend(self.warnings(secret, field, &certificate));
                resolved.certificates.push(certificate);
            }
            Err(fact) => {
                let mut remedy =
                    "put a PEM certificate chain in tls.crt and its unencrypted PEM key in tls.key".to_string();
                if let Some(last) = last {
                    remedy.push_str(" (the certificate that worked last goes on being served)");
                    resolved.certificates.push(Certificate { is_fallback: true, ..last.clone() });
                }
                let message = format!("{} cannot be used: {fact}", secret.key);
                let problem = Problem::new(LISTENER_INVALID_CERTIFICATE_REF, field, message, remedy);
                resolved.problems.push(problem.error());
            }
        }
    }

    /// The Secret referred to, if the reference is of the right kind, permitted, and leads somewhere.
    fn find(&self, reference: &ObjectReference, field: &str) -> Result<&Object, Problem> {
        let invalid =
            |message: String, remedy: String| Problem::new(LISTENER_INVALID_CERTIFICATE_REF, field, message, remedy);
        if !reference.group.is_empty() || !matches!(reference.kind.as_str(), "" | "Secret") {
            let name = match reference.group.as_str() {
                "" => reference.kind.clone(),
                group => format!("{} of group {group}", reference.kind),
            };
            return Err(invalid(format!("kind {name} cannot hold a certificate"), "refer to a Secret".into()));
        }
        let from = &*self.gateway.key.namespace;
        let namespace = reference.namespace.as_deref().unwrap_or(from);
        let crossing = Crossing {
            from_kind: "Gateway",
            from_namespace: from,
            to_group: "",
            to_kind: "Secret",
            to_namespace: namespace,
            to_name: &reference.name,
        };
        if !crossing.is_permitted(self.index) {
            let message = format!("no ReferenceGrant lets this Gateway use Secret {namespace}/{}", reference.name);
            return Err(Problem::new(LISTENER_REF_NOT_PERMITTED, field, message, crossing.remedy()));
        }
        let secret = self.index.get(Kind::Secret, namespace, &reference.name).ok_or_else(|| {
            if let Some(text) = self.index.pending.get(&(Arc::from(namespace), reference.name.clone())) {
                return invalid(text.clone(), String::new()).quiet();
            }
            let message = format!("Secret {namespace}/{} does not exist", reference.name);
            invalid(message, format!("write a Secret of type {TLS_SECRET} with this name"))
        })?;
        match secret.value.get("type").and_then(|value| value.as_str()).unwrap_or("Opaque") {
            TLS_SECRET => Ok(secret),
            other => {
                Err(invalid(format!("{} is of type {other}", secret.key), format!("its type must be {TLS_SECRET}")))
            }
        }
    }

    /// Of one that was issued here, its Certificate tells.
    fn ends_soon(&self, secret: &Object, from: i64, until: i64) -> bool {
        let time = |seconds: i64| Timestamp::from_second(seconds).ok();
        let (Some(not_before), Some(not_after)) = (time(from), time(until)) else { return false };
        let validity = Validity { not_before, not_after, renewal: None };
        !self.index.issued.contains(&secret.key) && validity.is_loud(self.now)
    }

    /// A certificate out of its time, or for other names than the listener's, is served, but said.
    fn warnings(&self, secret: &Object, field: &str, certificate: &Certificate) -> Vec<Finding> {
        let mut warnings = Vec::new();
        let Some(leaf) = CertificateDer::from_pem_slice(&certificate.chain_pem).ok() else { return warnings };
        let Ok((_, leaf)) = x509_parser::parse_x509_certificate(&leaf) else { return warnings };
        let mut warn = |reason: &str, message: String, remedy: &str| {
            warnings.push(warning(self.gateway, field, reason, message, remedy));
        };
        let (from, until) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        let date = |seconds: i64| Timestamp::from_second(seconds).map_or_else(|_| "?".into(), |time| time.to_string());
        let now = self.now.as_second();
        if now > until {
            let message =
                format!("the certificate of {} expired at {} and is served all the same", secret.key, date(until));
            warn("CertificateExpired", message, "renew it");
        } else if self.ends_soon(secret, from, until) {
            let message = format!("the certificate of {} ends at {}", secret.key, date(until));
            warn("CertificateExpiresSoon", message, "renew it, or remove the Secret and have an issuer make it");
        } else if now < from {
            let message = format!("the certificate of {} is valid only from {}", secret.key, date(from));
            warn("CertificateNotYetValid", message, "check this machine's clock");
        }
        if let Some(hostname) = self.hostname
            && !names(&leaf).iter().any(|name| fits(name, hostname))
        {
            let message =
                format!("the certificate of {} is not for {hostname}; it is for {}", secret.key, list(&names(&leaf)));
            warn("CertificateHostnameMismatch", message, "clients will refuse it");
        }
        warnings
    }
}

/// The chain and key in a Secret; `last` spares the check where it has the same content.
///
/// # Errors
/// Why the Secret cannot be used.
pub(super) fn read(object: &Object, key: &str, last: Option<&Certificate>) -> Result<Certificate, String> {
    let secret: &Secret = object.typed(None)?;
    let entry = |name: &str| secret.bytes(name).ok_or_else(|| format!("it has no entry {name}"));
    let (chain_pem, key_pem) = (entry("tls.crt")?, entry("tls.key")?);
    let digest = digest(&chain_pem, &key_pem);
    if let Some(last) = last.filter(|last| last.digest == digest) {
        return Ok(Certificate { is_fallback: false, ..last.clone() });
    }
    check(&chain_pem, &key_pem)?;
    let (chain_pem, key_pem) = (chain_pem.into(), key_pem.into());
    Ok(Certificate { key: key.into(), digest, chain_pem, key_pem, is_fallback: false })
}

fn digest(chain: &[u8], key: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update((chain.len() as u64).to_be_bytes());
    hash.update(chain);
    hash.update(key);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Can rustls serve this chain with this key?
fn check(chain_pem: &[u8], key_pem: &[u8]) -> Result<(), String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem).collect();
    let chain = chain.map_err(|error| format!("tls.crt is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("tls.crt holds no PEM certificate".into());
    }
    // The two forms of PKCS #8 and of RFC 1421.
    let key_text = String::from_utf8_lossy(key_pem);
    if key_text.contains("BEGIN ENCRYPTED PRIVATE KEY") || key_text.contains("4,ENCRYPTED") {
        return Err("the key in tls.key is encrypted".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| "tls.key holds no PEM private key")?;
    let key = any_supported_type(&key).map_err(|error| format!("the key in tls.key: {error}"))?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0])
        .map_err(|_| "the first certificate in tls.crt cannot be read")?;
    match key.public_key() {
        Some(public) if *public != *leaf.public_key().raw => {
            Err("the key in tls.key is not that of the certificate in tls.crt".into())
        }
        _ => Ok(()),
    }
}

fn names(leaf: &X509Certificate) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_ascii_lowercase()) } else { None })
        .collect()
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no DNS name".into() } else { names.join(", ") }
}

/// Would a client that asks for (a name under) `hostname` take a certificate for `name`?
fn fits(name: &str, hostname: &str) -> bool {
    name == hostname
        || name.strip_prefix('*').is_some_and(|suffix| {
            hostname.strip_suffix(suffix).is_some_and(|label| !label.is_empty() && !label.contains('.'))
        })
        || hostname.strip_prefix('*').is_some_and(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of version 1 and its key, as `openssl x509 -req` makes them.
    const VERSION_1: &[u8] = include_bytes!("../../tests/support/version-1.pem");

    #[test]
    fn old_certificates_belong_to_their_keys() {
        assert_eq!(check(VERSION_1, VERSION_1), Ok(()));
        let cut = VERSION_1[..VERSION_1.len() / 4].to_vec();
        assert!(check(&cut, VERSION_1).is_err());
        assert!(check(VERSION_1, b"").unwrap_err().contains("no PEM private key"));
    }
}
