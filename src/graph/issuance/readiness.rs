//! Is the Secret of a Certificate what the Certificate asks for? The checks of cert-manager, in its order, with its
//! reasons and messages.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, public_key::PublicKey};

use crate::{
    api::{
        ObjectKey,
        cert_manager::{
            CERTIFICATE_NAME_ANNOTATION, CertificateSpec, ISSUER_GROUP_ANNOTATION, ISSUER_KIND_ANNOTATION,
            ISSUER_NAME_ANNOTATION,
        },
    },
    graph::certificate::{Certificate, read},
    manifest::Object,
};

use super::{
    Attempt, RenewalInfo,
    renewal::{Validity, renewal_time},
    seconds,
};

/// What a Secret is worth to its Certificate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Why it is not Ready: reason and message.
    pub unfit: Option<(&'static str, String)>,
    /// Why it is to be issued: the same, or that its renewal time has come.
    pub due: Option<(&'static str, String)>,
    /// None where there is no certificate that can be read.
    pub validity: Option<Validity>,
    /// The usable certificate, also one that is unfit for the Certificate as it is now.
    pub certificate: Option<Certificate>,
    /// Its serial number, hexadecimal.
    pub serial: String,
}

/// Judges the Secret (none where there is none) of Certificate `key`.
pub(super) fn judge(
    secret: Option<&Object>,
    key: &ObjectKey,
    spec: &CertificateSpec,
    attempt: &Attempt,
    now: Timestamp,
) -> Judgement {
    let mut judgement = Judgement::default();
    let unfit = |reason: &'static str, message: String| Some((reason, message));
    let Some(secret) = secret else {
        judgement.unfit = unfit("DoesNotExist", "Issuing certificate as Secret does not exist".into());
        judgement.due = judgement.unfit.clone();
        return judgement;
    };
    let name = format!("{}/{}", secret.key.namespace, secret.key.name);
    match read(secret, &name, None) {
        Err(why) => {
            let reason = if why.contains("is not that of") { "InvalidKeyPair" } else { "MissingData" };
            judgement.unfit = unfit(reason, format!("Issuing certificate as Secret cannot be used: {why}"));
        }
        Ok(certificate) => {
            let judged = certificate.with_leaf(|leaf| {
                judgement.serial = hex(leaf.raw_serial());
                judgement.validity = validity(leaf, spec, &certificate, attempt.renewal_info.as_ref());
                violation(secret, key, spec, attempt, leaf, now)
            });
            judgement.unfit = judged.unwrap_or_else(|| {
                unfit("InvalidCertificate", "Issuing certificate as Secret contains an invalid certificate".into())
            });
            judgement.certificate = Some(certificate);
        }
    }
    judgement.due = judgement.unfit.clone();
    let renewal = judgement.validity.as_ref().and_then(|validity| validity.renewal);
    if let Some(renewal) = renewal.filter(|renewal| judgement.due.is_none() && *renewal <= now) {
        let message = format!("Renewing certificate as renewal was scheduled at {}", seconds(renewal));
        judgement.due = unfit("Renewing", message);
    }
    judgement
}

fn violation(
    secret: &Object,
    key: &ObjectKey,
    spec: &CertificateSpec,
    attempt: &Attempt,
    leaf: &X509Certificate,
    now: Timestamp,
) -> Option<(&'static str, String)> {
    if let Some(issuer) = other_issuer(secret, spec) {
        return Some(("IncorrectIssuer", format!("Issuing certificate as Secret was previously issued by {issuer:?}")));
    }
    if let Some(name) = secret.meta.annotations.get(CERTIFICATE_NAME_ANNOTATION).filter(|name| **name != *key.name) {
        let hint = "you might have two conflicting Certificates pointing to the same secret";
        let message = format!("Secret was issued for {name:?}. If this message is not transient, {hint}.");
        return Some(("IncorrectCertificate", message));
    }
    if let Some(fields) = key_mismatch(leaf, spec) {
        let message = format!("Existing private key is not up to date for spec: [{fields}]");
        return Some(("SecretMismatch", message));
    }
    if attempt.request.is_empty() {
        // Not known what was asked for: what was got has to do.
        let missing = names_mismatch(leaf, spec);
        if !missing.is_empty() {
            let fields = missing.join(" ");
            let start = "Issuing certificate as Existing issued Secret is not up to date for spec";
            return Some(("SecretMismatch", format!("{start}: [{fields}]")));
        }
    } else if attempt.request != request_digest(spec) {
        let message = "Fields on existing CertificateRequest resource not up to date".to_owned();
        return Some(("RequestChanged", message));
    }
    let end = Timestamp::from_second(leaf.validity().not_after.timestamp()).ok()?;
    (end < now).then(|| ("Expired", format!("Certificate expired on {}", seconds(end))))
}

/// Who issued the Secret, where its annotations say so and it is another than the Certificate names.
fn other_issuer(secret: &Object, spec: &CertificateSpec) -> Option<String> {
    let annotation = |name: &str| secret.meta.annotations.get(name).map(String::as_str);
    let name = annotation(ISSUER_NAME_ANNOTATION)?;
    let (kind, group) = (annotation(ISSUER_KIND_ANNOTATION), annotation(ISSUER_GROUP_ANNOTATION));
    let or = |text: Option<&str>, default: &str| text.filter(|text| !text.is_empty()).unwrap_or(default).to_owned();
    let of = |kind: Option<&str>, group: Option<&str>| (or(kind, "Issuer"), or(group, "cert-manager.io"));
    let wanted = of(Some(&spec.issuer_ref.kind), Some(&spec.issuer_ref.group));
    let (kind, group) = of(kind, group);
    (name != spec.issuer_ref.name || (kind.clone(), group.clone()) != wanted).then(|| format!("{kind}.{group}/{name}"))
}

/// The fields of `spec.privateKey` that the key is not as.
fn key_mismatch(leaf: &X509Certificate, spec: &CertificateSpec) -> Option<&'static str> {
    let wanted = spec.private_key.clone().unwrap_or_default();
    let size = |default: i64| if wanted.size > 0 { wanted.size } else { default };
    let spki = leaf.public_key();
    let algorithm = spki.algorithm.algorithm.to_id_string();
    match (wanted.algorithm.as_str(), spki.parsed()) {
        ("" | "RSA", Ok(PublicKey::RSA(key))) => {
            // A modulus's first bits are set, but for a leading zero byte.
            let bits = key.modulus.iter().skip_while(|byte| **byte == 0).count() as i64 * 8;
            (bits != size(2048)).then_some("spec.privateKey.size")
        }
        ("ECDSA", Ok(PublicKey::EC(point))) => {
            let bits = match point.data().len() {
                65 => 256,
                97 => 384,
                133 => 521,
                _ => 0,
            };
            (bits != size(256)).then_some("spec.privateKey.size")
        }
        // RFC 8410.
        ("Ed25519", _) if algorithm == "1.3.101.112" => None,
        _ => Some("spec.privateKey.algorithm"),
    }
}

/// The lists of names of which the certificate has not all.
fn names_mismatch(leaf: &X509Certificate, spec: &CertificateSpec) -> Vec<&'static str> {
    let mut got: [BTreeSet<String>; 4] = Default::default();
    let alternative = leaf.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        let (place, text) = match name {
            GeneralName::DNSName(name) => (0, name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => (1, address(bytes).map(|ip| ip.to_string()).unwrap_or_default()),
            GeneralName::URI(name) => (2, (*name).to_owned()),
            GeneralName::RFC822Name(name) => (3, (*name).to_owned()),
            _ => continue,
        };
        got[place].insert(text);
    }
    let ips: Vec<String> = spec.ip_addresses.iter().map(|ip| normal_address(ip)).collect();
    let dns: Vec<String> = spec.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let lists = [
        (&dns, "spec.dnsNames"),
        (&ips, "spec.ipAddresses"),
        (&spec.uris, "spec.uris"),
        (&spec.email_addresses, "spec.emailAddresses"),
    ];
    let wrong = lists.iter().zip(&got).filter(|((wanted, _), got)| !wanted.iter().all(|name| got.contains(name)));
    let mut fields: Vec<&str> = wrong.map(|((_, field), _)| *field).collect();
    let common: Vec<&str> = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    let wanted = &spec.common_name;
    if !wanted.is_empty() && !common.contains(&wanted.as_str()) && !got[0].contains(wanted) {
        fields.push("spec.commonName");
    }
    fields
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

fn normal_address(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_string())
}

fn validity(
    leaf: &X509Certificate,
    spec: &CertificateSpec,
    certificate: &Certificate,
    info: Option<&RenewalInfo>,
) -> Option<Validity> {
    let time = |seconds: i64| Timestamp::from_second(seconds).ok();
    let life = (time(leaf.validity().not_before.timestamp())?, time(leaf.validity().not_after.timestamp())?);
    let info = info.filter(|info| info.serial == hex(leaf.raw_serial()));
    let spread = certificate.digest.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let renewal = renewal_time(spec, life, info, spread);
    Some(Validity { not_before: life.0, not_after: life.1, renewal })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of all that an issuer is asked for: another value asks for another certificate.
pub fn request_digest(spec: &CertificateSpec) -> String {
    let request = json!([
        spec.common_name,
        spec.subject,
        spec.dns_names,
        spec.ip_addresses,
        spec.uris,
        spec.email_addresses,
        spec.is_ca,
        spec.usages,
        spec.duration,
        spec.signature_algorithm,
        spec.issuer_ref,
        spec.private_key.as_ref().map(|key| (&key.algorithm, key.size)),
    ]);
    hex(&Sha256::digest(request.to_string()))
}

/// Of what the Secret is to have beside the certificate: another value asks for another form of the same. Empty where
/// nothing is asked for.
pub fn form_digest(spec: &CertificateSpec) -> String {
    if spec.secret_template.is_none() && spec.additional_output_formats.is_empty() {
        return String::new();
    }
    hex(&Sha256::digest(json!([spec.secret_template, spec.additional_output_formats]).to_string()))
}
