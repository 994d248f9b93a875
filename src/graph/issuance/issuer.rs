//! Issuers and ClusterIssuers: what makes certificates, and what keeps it from doing so.

use std::sync::Arc;

use crate::{
    api::{
        Kind, ObjectKey,
        cert_manager::{
            AcmeIssuer, CERT_MANAGER_GROUP, CaIssuer, IssuerRef, IssuerSpec, ROLL_ACCOUNT_KEY_ANNOTATION, SecretKey,
            SelfSignedIssuer,
        },
        core::Secret,
    },
    finding::Finding,
    graph::certificate::{Certificate, read},
    manifest::Object,
};

use super::{AccountState, Progress, Verdict, dns01};
use crate::graph::{Index, problem::warning};

/// An Issuer or ClusterIssuer with all that it needs.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub key: ObjectKey,
    /// Where its Secrets are.
    pub namespace: String,
    pub method: Method,
    /// Condition `Ready`; for ACME as far as the account is known.
    pub ready: Verdict,
}

impl Issuer {
    /// Is it there for every namespace?
    pub fn is_cluster(&self) -> bool {
        &*self.key.kind == "ClusterIssuer"
    }
}

/// How certificates are made.
#[derive(Clone, Debug)]
pub enum Method {
    SelfSigned(SelfSignedIssuer),
    /// By the CA in a Secret; none where that cannot be used.
    Ca(CaIssuer, Option<Certificate>),
    Acme(Box<Acme>),
    /// By something that gapi does not have.
    Other,
}

/// An ACME issuer.
#[derive(Clone, Default)]
pub struct Acme {
    pub spec: AcmeIssuer,
    /// The account's key in PEM, where its Secret is there.
    pub account_key: Option<Arc<[u8]>>,
    /// The key that is to follow it, kept before the server is told: it may have been.
    pub next_key: Option<Arc<[u8]>>,
    /// The issuer's annotation [`ROLL_ACCOUNT_KEY_ANNOTATION`], which a new key's Secret gets.
    pub key_mark: String,
    /// Another key is asked for, and can be kept.
    pub rolls: bool,
    /// Identifier and key of the external account, decoded.
    pub external_account: Option<(String, Arc<[u8]>)>,
    /// The account's URL, once registered.
    pub uri: Option<String>,
    /// What the DNS-01 solvers name.
    pub secrets: dns01::Secrets,
}

/// Keys never reach a log.
impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("server", &self.spec.server).field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Acme {
    /// The entry of the account key's Secret.
    pub fn key_entry(&self) -> &str {
        match self.spec.private_key_secret_ref.key.as_str() {
            "" => "tls.key",
            written => written,
        }
    }

    /// The entry of the key that is to follow.
    pub fn next_key_entry(&self) -> String {
        format!("{}.next", self.key_entry())
    }

    /// Is the account's key to be changed, or may a change have been cut off?
    pub fn changes_key(&self) -> bool {
        self.account_key.is_some() && (self.rolls || self.next_key.is_some())
    }
}

/// Every issuer, by kind, namespace and name.
pub(super) fn resolve(index: &Index, progress: &Progress, findings: &mut Vec<Finding>) -> Vec<Issuer> {
    let mut issuers = Vec::new();
    for object in index.all(Kind::ClusterIssuer).iter().chain(index.all(Kind::Issuer)) {
        let Ok(spec) = object.typed::<IssuerSpec>(Some("spec")) else { continue };
        let issuer = issuer(index, object, spec.clone(), progress);
        if !issuer.ready.is_true && !issuer.ready.message.is_empty() {
            let message = issuer.ready.message.clone();
            findings.push(warning(object, "spec", "IssuerNotReady", message, ""));
        }
        if let Method::Acme(acme) = &issuer.method {
            solvers(object, acme, findings);
        }
        if let Some(why) = kept_key(index, &issuer, object, progress) {
            let field = format!("metadata.annotations[{ROLL_ACCOUNT_KEY_ANNOTATION}]");
            findings.push(warning(object, &field, "AccountKeyKept", why.0, why.1));
        }
        issuers.push(issuer);
    }
    issuers
}

/// Why the account keeps its key though another is asked for, and what to do.
fn kept_key(index: &Index, issuer: &Issuer, object: &Object, progress: &Progress) -> Option<(String, &'static str)> {
    let Method::Acme(acme) = &issuer.method else { return None };
    let key = account_secret(&issuer.namespace, &acme.spec);
    if acme.rolls {
        let problem = progress.accounts.get(&issuer.key).filter(|state| state.uri.is_some())?.problem.as_ref()?;
        return Some((format!("the account keeps its key for now: {problem}"), ""));
    }
    if !asks_for_key(index, &issuer.namespace, object, &acme.spec) {
        return None;
    }
    Some(match progress.stored.contains(&key) {
        true => (
            format!("the account keeps its key: another issuer has its key in {key} too"),
            "give each issuer a Secret of its own in spec.acme.privateKeySecretRef",
        ),
        false => (
            format!("the account keeps its key: {key} is a manifest, which gapi does not replace"),
            "remove the annotation; a key that is put there by hand gets an account of its own",
        ),
    })
}

fn account_secret(namespace: &str, spec: &AcmeIssuer) -> ObjectKey {
    ObjectKey::new("Secret", namespace, &spec.private_key_secret_ref.name)
}

/// Is the account's key there, and made for another value of the annotation?
fn asks_for_key(index: &Index, namespace: &str, issuer: &Object, spec: &AcmeIssuer) -> bool {
    let mark = |object: &Object| object.meta.annotations.get(ROLL_ACCOUNT_KEY_ANNOTATION).cloned().unwrap_or_default();
    let secret = index.get(Kind::Secret, namespace, &spec.private_key_secret_ref.name);
    secret.is_some_and(|secret| !mark(issuer).is_empty() && mark(issuer) != mark(secret))
}

/// Has no other ACME issuer its account's key there? Two of them would change it in turn.
fn is_sole(index: &Index, namespace: &str, issuer: &Object, name: &str, progress: &Progress) -> bool {
    let others = index.all(Kind::ClusterIssuer).iter().chain(index.all(Kind::Issuer));
    let mut sharing = others.filter(|other| {
        other.key != issuer.key
            && issuer_namespace(other, progress) == namespace
            && other
                .typed::<IssuerSpec>(Some("spec"))
                .is_ok_and(|spec| spec.acme.as_ref().is_some_and(|acme| acme.private_key_secret_ref.name == name))
    });
    sharing.next().is_none()
}

fn issuer_namespace<'a>(object: &'a Object, progress: &'a Progress) -> &'a str {
    match object.kind {
        Kind::ClusterIssuer => progress.cluster_namespace(),
        _ => &object.key.namespace,
    }
}

fn issuer(index: &Index, object: &Object, spec: IssuerSpec, progress: &Progress) -> Issuer {
    let namespace = issuer_namespace(object, progress).to_owned();
    let (method, ready) = match spec {
        IssuerSpec { acme: Some(spec), .. } => acme(index, &namespace, object, spec, progress),
        IssuerSpec { ca: Some(spec), .. } => ca(index, &namespace, spec),
        IssuerSpec { self_signed: Some(spec), .. } => (Method::SelfSigned(spec), Verdict::yes("IsReady", "")),
        IssuerSpec { vault, .. } => {
            let name = if vault.is_some() { "vault" } else { "venafi" };
            let message = format!("gapi has no {name} issuers; it has acme, ca and selfSigned");
            (Method::Other, Verdict::no("InvalidConfig", message))
        }
    };
    Issuer { key: object.key.clone(), namespace, method, ready }
}

fn ca(index: &Index, namespace: &str, spec: CaIssuer) -> (Method, Verdict) {
    let key = format!("{namespace}/{}", spec.secret_name);
    let missing = || format!("secret \"{}\" not found in namespace {namespace}", spec.secret_name);
    let found = match index.get(Kind::Secret, namespace, &spec.secret_name) {
        None => Err(("ErrGetKeyPair", missing())),
        Some(secret) => match read(secret, &key, None) {
            Err(why) => Err(("ErrGetKeyPair", format!("Secret {key}: {why}"))),
            Ok(certificate) if !is_ca(&certificate) => Err(("ErrInvalidKeyPair", "certificate is not a CA".to_owned())),
            Ok(certificate) => Ok(certificate),
        },
    };
    match found {
        Ok(certificate) => {
            (Method::Ca(spec, Some(certificate)), Verdict::yes("KeyPairVerified", "Signing CA verified"))
        }
        Err((reason, why)) => {
            (Method::Ca(spec, None), Verdict::no(reason, format!("Error getting keypair for CA issuer: {why}")))
        }
    }
}

fn is_ca(certificate: &Certificate) -> bool {
    certificate.with_leaf(|leaf| leaf.is_ca()).unwrap_or(false)
}

fn acme(index: &Index, namespace: &str, object: &Object, spec: AcmeIssuer, progress: &Progress) -> (Method, Verdict) {
    let state = progress.accounts.get(&object.key);
    let secrets = dns01::secrets(index, namespace, &spec);
    let mut acme = Acme { spec, secrets, ..Acme::default() };
    acme.uri = state.and_then(|state| state.uri.clone());
    let reference = SecretKey { name: acme.spec.private_key_secret_ref.name.clone(), key: acme.key_entry().to_owned() };
    acme.account_key = entry(index, namespace, &reference).ok();
    acme.key_mark = object.meta.annotations.get(ROLL_ACCOUNT_KEY_ANNOTATION).cloned().unwrap_or_default();
    if progress.stored.contains(&account_secret(namespace, &acme.spec)) {
        let next = SecretKey { name: reference.name.clone(), key: acme.next_key_entry() };
        acme.next_key = entry(index, namespace, &next).ok();
        acme.rolls = asks_for_key(index, namespace, object, &acme.spec)
            && is_sole(index, namespace, object, &reference.name, progress);
    }
    let failed = |why: String| Verdict::no("ErrRegisterACMEAccount", format!("Failed to register ACME account: {why}"));
    let mut verdict = match state {
        Some(AccountState { uri: Some(_), .. }) => {
            Verdict::yes("ACMEAccountRegistered", "The ACME account was registered with the ACME server")
        }
        Some(AccountState { problem: Some(problem), .. }) => failed(problem.clone()),
        // Not known yet: no fault of the manifest.
        _ => Verdict::default(),
    };
    if let Some(binding) = &acme.spec.external_account_binding {
        match entry(index, namespace, &binding.key_secret_ref).and_then(|key| decode_hmac(&key)) {
            Ok(key) => acme.external_account = Some((binding.key_id.clone(), key)),
            Err(why) if !verdict.is_true => verdict = failed(format!("external account key: {why}")),
            Err(_) => {}
        }
    }
    if acme.spec.disable_account_key_generation && acme.account_key.is_none() {
        let message =
            "the ACME issuer config has 'disableAccountKeyGeneration' set to true, but the secret was not found";
        verdict = failed(format!("{message}: {namespace}/{}", reference.name));
    }
    (Method::Acme(Box::new(acme)), verdict)
}

/// An entry of a Secret.
pub(super) fn entry(index: &Index, namespace: &str, reference: &SecretKey) -> Result<Arc<[u8]>, String> {
    let SecretKey { name, key } = reference;
    let secret = index.get(Kind::Secret, namespace, name).ok_or(format!("Secret {namespace}/{name} does not exist"))?;
    let secret: &Secret = secret.typed(None)?;
    let bytes = secret.bytes(key).ok_or(format!("Secret {namespace}/{name} has no entry {key}"))?;
    Ok(bytes.into())
}

/// The key of an external account is base64url, without padding; cert-manager takes some that have it.
fn decode_hmac(bytes: &[u8]) -> Result<Arc<[u8]>, String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not base64url")?.trim().trim_end_matches('=');
    let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is not base64url")?;
    Ok(key.into())
}

/// What of an ACME issuer gapi does not have.
fn solvers(object: &Object, acme: &Acme, findings: &mut Vec<Finding>) {
    if acme.spec.enable_duration_feature {
        let message = "gapi asks ACME servers for no duration: it has no effect";
        findings.push(warning(object, "spec.acme.enableDurationFeature", "UnsupportedValue", message, "use a profile"));
    }
    dns01::findings(object, &acme.spec, &acme.secrets, findings);
}

/// The issuer that a Certificate names.
pub(super) fn find(issuers: &[Arc<Issuer>], from: &ObjectKey, reference: &IssuerRef) -> Result<Arc<Issuer>, String> {
    let IssuerRef { name, kind, group } = reference;
    if !matches!(group.as_str(), "" | CERT_MANAGER_GROUP) {
        return Err(format!("issuers of group {group} are not served; {CERT_MANAGER_GROUP} is"));
    }
    let key = match kind.as_str() {
        "ClusterIssuer" => ObjectKey::new("ClusterIssuer", "", name),
        "" | "Issuer" => ObjectKey::new("Issuer", &from.namespace, name),
        other => return Err(format!("{other} is no issuer: write Issuer or ClusterIssuer")),
    };
    issuers.iter().find(|issuer| issuer.key == key).cloned().ok_or_else(|| format!("{key} does not exist"))
}
