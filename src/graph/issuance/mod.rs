//! Which certificates are wanted, who is to make them, and how far that is: what cert-manager does in a cluster, from the
//! same manifests.
//!
//! [`issuer`] resolves Issuers and ClusterIssuers, [`dns01`] what their DNS-01 solvers need, `shim` makes Certificates of annotated Gateways, [`readiness`] judges
//! the Secret that a Certificate has, [`renewal`] says until when. Pure: what issuance has done so far comes in as
//! [`Progress`], what is to be done goes out as [`Wanted`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    api::{Condition, Kind, ObjectKey, ObjectMeta, cert_manager::CertificateSpec},
    finding::{Finding, Severity},
    manifest::Object,
};

use super::{Class, Index, Input, problem::warning};

mod annotation;
pub mod dns01;
pub mod issuer;
pub mod provider;
pub mod readiness;
pub mod renewal;
mod shim;

pub use issuer::{Issuer, Method};
pub use readiness::{Judgement, form_digest, request_digest};

/// The namespace of the Secrets that a ClusterIssuer names, where nothing else is said.
pub const CLUSTER_RESOURCE_NAMESPACE: &str = "cert-manager";

/// What issuance has come to so far: an input of the pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// By Certificate.
    pub attempts: BTreeMap<ObjectKey, Attempt>,
    /// Of ACME issuers, by Issuer or ClusterIssuer.
    pub accounts: BTreeMap<ObjectKey, AccountState>,
    /// Secrets that come from the store, not from a manifest.
    pub stored: BTreeSet<ObjectKey>,
    /// Where a ClusterIssuer's Secrets are; empty for [`CLUSTER_RESOURCE_NAMESPACE`].
    pub cluster_namespace: String,
}

impl Progress {
    fn cluster_namespace(&self) -> &str {
        if self.cluster_namespace.is_empty() { CLUSTER_RESOURCE_NAMESPACE } else { &self.cluster_namespace }
    }
}

/// How far one Certificate is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// How often it was issued.
    pub revision: u32,
    /// [`request_digest`] of what was issued last.
    pub request: String,
    /// [`form_digest`] of how its Secret was written.
    pub form: String,
    /// Since when it is being issued; none where nothing is under way or wanted.
    pub since: Option<Timestamp>,
    /// What is being waited for now.
    #[serde(skip)]
    pub step: String,
    /// One after another.
    pub failures: u32,
    pub last_failure: Option<Timestamp>,
    /// Why the last one failed.
    pub failure: String,
    /// Digest of what was asked for then, and by which means.
    pub failed_request: String,
    /// No earlier than this is it tried again.
    pub not_before: Option<Timestamp>,
    /// The window that the ACME server suggests for the renewal.
    pub renewal_info: Option<RenewalInfo>,
    /// What the issuer could not do of what was asked, though it issued.
    pub remark: String,
}

/// ACME renewal information of a certificate (RFC 9773).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewalInfo {
    /// The certificate that it is about: its serial number, hexadecimal.
    pub serial: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// The moment chosen in the window.
    pub chosen: Timestamp,
    pub explanation_url: Option<String>,
    pub checked: Timestamp,
    pub next_check: Timestamp,
}

/// What is known of the account of an ACME issuer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountState {
    /// The account's URL, once it is registered.
    pub uri: Option<String>,
    pub email: String,
    /// Why it could not be registered.
    pub problem: Option<String>,
}

/// A condition's status, reason and message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    pub is_true: bool,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    pub fn yes(reason: &str, message: impl Into<String>) -> Verdict {
        Verdict { is_true: true, reason: reason.into(), message: message.into() }
    }

    pub fn no(reason: &str, message: impl Into<String>) -> Verdict {
        Verdict { is_true: false, reason: reason.into(), message: message.into() }
    }

    /// The condition of this type. Generation and time are put in by *report*.
    pub fn condition(&self, type_: &str) -> Condition {
        Condition {
            type_: type_.into(),
            status: if self.is_true { "True" } else { "False" }.into(),
            observed_generation: None,
            last_transition_time: String::new(),
            reason: self.reason.clone(),
            message: self.message.clone(),
        }
    }
}

/// Where the Secret of a Certificate is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    Nowhere,
    /// A manifest has it: it is never overwritten, and nothing is issued.
    Manifest,
    /// Issued here.
    Store,
}

/// A Certificate: a manifest, or made of a Gateway's annotations.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: ObjectKey,
    pub meta: ObjectMeta,
    pub spec: CertificateSpec,
    /// The Gateway whose annotations ask for it.
    pub owner: Option<ObjectKey>,
    /// The issuer; or why there is none to ask.
    pub issuer: Result<Arc<Issuer>, String>,
    pub held: Held,
    /// What its Secret is worth.
    pub judgement: Judgement,
    /// Condition `Ready`.
    pub ready: Verdict,
    /// Condition `Issuing`.
    pub issuing: Option<Verdict>,
    pub attempt: Attempt,
}

impl Wanted {
    /// The Secret that it goes into.
    pub fn secret(&self) -> ObjectKey {
        ObjectKey::new("Secret", &self.key.namespace, &self.spec.secret_name)
    }
}

/// Issuers, and the Certificates wanted of them.
#[derive(Clone, Debug, Default)]
pub struct Issuance {
    /// By kind, namespace and name.
    pub issuers: Vec<Arc<Issuer>>,
    /// By namespace and name.
    pub wanted: Vec<Wanted>,
}

impl Issuance {
    /// What is said of the Secrets that are still to come.
    pub(super) fn pending(&self) -> BTreeMap<(Arc<str>, String), String> {
        let missing = self.wanted.iter().filter(|wanted| wanted.held == Held::Nowhere);
        missing
            .map(|wanted| ((wanted.key.namespace.clone(), wanted.spec.secret_name.clone()), waiting(wanted)))
            .collect()
    }
}

/// What a listener that waits for it says.
fn waiting(wanted: &Wanted) -> String {
    let secret = format!("Secret {}/{}", wanted.key.namespace, wanted.spec.secret_name);
    let since = wanted.attempt.since.map(|since| format!(" since {}", seconds(since))).unwrap_or_default();
    let what = match &wanted.issuing {
        Some(issuing) => issuing.message.as_str(),
        None => wanted.ready.message.as_str(),
    };
    format!("{secret} is being issued for {}{since}: {what}", wanted.key)
}

/// RFC 3339 in seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Resolves issuers and Certificates.
///
/// # Findings
/// `BadConfig` for annotations and listeners that make no certificate; `IssuerNotReady`, `CertificatePending`,
/// `IssuanceFailed`, `CertificateExpiresSoon`, and `UnsupportedValue` for what gapi does not do.
pub(super) fn resolve(index: &Index, classes: &[Class], input: &Input, findings: &mut Vec<Finding>) -> Issuance {
    let none = Progress::default();
    let progress = input.progress.unwrap_or(&none);
    let issuers: Vec<Arc<Issuer>> = issuer::resolve(index, progress, findings).into_iter().map(Arc::new).collect();
    let mut asked: BTreeMap<ObjectKey, Asked> = BTreeMap::new();
    for object in index.all(Kind::Certificate) {
        if let Ok(spec) = object.typed::<CertificateSpec>(Some("spec")) {
            asked.insert(object.key.clone(), Asked { meta: object.meta.clone(), spec: spec.clone(), owner: None });
        }
    }
    shim::resolve(index, classes, &mut asked, findings);
    let mut secrets: BTreeMap<ObjectKey, ObjectKey> = BTreeMap::new();
    let mut wanted = Vec::new();
    for (key, asked) in asked {
        let first = secrets.entry(ObjectKey::new("Secret", &key.namespace, &asked.spec.secret_name));
        let rival = match first {
            std::collections::btree_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(key.clone());
                None
            }
        };
        let one = resolve_one(index, &issuers, progress, (key, asked, rival), input.now);
        report(index, &one, input, findings);
        wanted.push(one);
    }
    Issuance { issuers, wanted }
}

/// A Certificate before it is resolved.
struct Asked {
    meta: ObjectMeta,
    spec: CertificateSpec,
    owner: Option<ObjectKey>,
}

fn resolve_one(
    index: &Index,
    issuers: &[Arc<Issuer>],
    progress: &Progress,
    (key, asked, rival): (ObjectKey, Asked, Option<ObjectKey>),
    now: Timestamp,
) -> Wanted {
    let Asked { meta, spec, owner } = asked;
    let secret = index.get(Kind::Secret, &key.namespace, &spec.secret_name);
    let held = match secret {
        None => Held::Nowhere,
        Some(secret) if progress.stored.contains(&secret.key) => Held::Store,
        Some(_) => Held::Manifest,
    };
    let attempt = progress.attempts.get(&key).cloned().unwrap_or_default();
    let issuer = match rival {
        Some(rival) => Err(format!("{rival} goes into Secret {} too, and has it", spec.secret_name)),
        None => issuer::find(issuers, &key, &spec.issuer_ref),
    };
    let judgement = readiness::judge(secret.map(AsRef::as_ref), &key, &spec, &attempt, now);
    let (ready, issuing) = conditions(&judgement, held, &issuer, &attempt);
    Wanted { key, meta, spec, owner, issuer, held, judgement, ready, issuing, attempt }
}

/// Conditions `Ready` and `Issuing`.
fn conditions(
    judgement: &Judgement,
    held: Held,
    issuer: &Result<Arc<Issuer>, String>,
    attempt: &Attempt,
) -> (Verdict, Option<Verdict>) {
    let ready = match &judgement.unfit {
        None => Verdict::yes("Ready", "Certificate is up to date and has not expired"),
        Some((reason, message)) if held == Held::Manifest => {
            Verdict::no(reason, format!("{message}; the Secret is a manifest's, so gapi does not replace it"))
        }
        Some((reason, message)) => Verdict::no(reason, message.clone()),
    };
    let Some((reason, message)) = judgement.due.as_ref().filter(|_| held != Held::Manifest) else {
        return (ready, None);
    };
    let issuing = if attempt.failures > 0 && attempt.step.is_empty() {
        let retry = attempt.not_before.map(|time| format!(" (not before {})", seconds(time))).unwrap_or_default();
        let start = "The certificate request has failed to complete and will be retried";
        Verdict::no("Failed", format!("{start}{retry}: {}", attempt.failure))
    } else {
        let step = match issuer {
            Err(why) => why.clone(),
            Ok(issuer) if !issuer.ready.is_true && !issuer.ready.message.is_empty() => {
                format!("waiting for {}: {}", issuer.key, issuer.ready.message)
            }
            Ok(_) => attempt.step.clone(),
        };
        let step = if step.is_empty() { step } else { format!(": {step}") };
        Verdict::yes(reason, format!("{message}{step}"))
    };
    (ready, Some(issuing))
}

/// The findings about one Certificate: none where manifests alone are judged.
fn report(index: &Index, wanted: &Wanted, input: &Input, findings: &mut Vec<Finding>) {
    let object = match &wanted.owner {
        Some(owner) => index.get(Kind::Gateway, &owner.namespace, &owner.name),
        None => index.get(Kind::Certificate, &wanted.key.namespace, &wanted.key.name),
    };
    let Some(object) = object else { return };
    if wanted.held == Held::Manifest {
        return;
    }
    if let Err(why) = &wanted.issuer {
        let field = if wanted.owner.is_some() { "metadata.annotations" } else { "spec.issuerRef" };
        let message = format!("{} cannot be issued: {why}", wanted.key);
        findings.push(warning(object, field, "IssuerNotFound", message, "write the issuer, or name another"));
        return;
    }
    unsupported(object, wanted, findings);
    if input.progress.is_none() {
        return;
    }
    let soon = wanted.judgement.validity.as_ref().is_some_and(|validity| validity.is_loud(input.now));
    if wanted.issuing.is_some() {
        let failed = wanted.attempt.failures > 0;
        let whose = match &wanted.owner {
            Some(_) => format!("{}: ", wanted.key),
            None => String::new(),
        };
        let urgent = failed && (soon || wanted.judgement.validity.is_none());
        let (reason, message) = match failed {
            // Neither the step nor the next try is told: what is said again and again is not read.
            true => {
                let (count, failure) = (wanted.attempt.failures, &wanted.attempt.failure);
                ("IssuanceFailed", format!("{whose}issuance failed {count} times, and is tried again: {failure}"))
            }
            false => ("CertificatePending", format!("{whose}{}", pending_message(wanted))),
        };
        let mut finding = warning(object, "", reason, message, "");
        finding.severity = if urgent { Severity::Error } else { Severity::Warning };
        findings.push(finding);
    }
    if let Some(validity) = wanted.judgement.validity.as_ref().filter(|_| soon) {
        let message = format!("{} ends at {} and is not renewed yet", wanted.key, seconds(validity.not_after));
        let mut finding = warning(object, "", "CertificateExpiresSoon", message, "see why its renewal fails");
        finding.severity = Severity::Error;
        findings.push(finding);
    }
    if !wanted.attempt.remark.is_empty() {
        findings.push(warning(
            object,
            "",
            "UnsupportedValue",
            format!("{}: {}", wanted.key, wanted.attempt.remark),
            "",
        ));
    }
}

/// What keeps a Certificate, without the steps of issuance.
fn pending_message(wanted: &Wanted) -> String {
    let due = wanted.judgement.due.as_ref().map_or("", |(_, message)| message.as_str());
    match &wanted.issuer {
        Ok(issuer) if !issuer.ready.is_true && !issuer.ready.message.is_empty() => {
            format!("{due}: {} is not ready: {}", issuer.key, issuer.ready.message)
        }
        _ => due.to_owned(),
    }
}

/// What a Certificate asks for that gapi does not do, without making the rest useless.
fn unsupported(object: &Object, wanted: &Wanted, findings: &mut Vec<Finding>) {
    let spec = &wanted.spec;
    let windows = spec.renewal.as_ref().is_some_and(|renewal| !renewal.windows.is_empty());
    let constraints = spec.name_constraints.as_ref();
    let asked = [
        (spec.keystores.is_some(), "spec.keystores", "gapi writes no key stores"),
        (windows, "spec.renewal.windows", "gapi renews at any hour"),
        (!spec.other_names.is_empty(), "spec.otherNames", "gapi asks for no such names"),
        (!spec.literal_subject.is_empty(), "spec.literalSubject", "gapi reads subject and commonName alone"),
        (constraints.is_some(), "spec.nameConstraints", "gapi puts no name constraints into certificates"),
    ];
    for (_, field, message) in asked.iter().filter(|(there, _, _)| *there) {
        findings.push(warning(object, field, "UnsupportedValue", format!("{message}: it has no effect"), "remove it"));
    }
}
