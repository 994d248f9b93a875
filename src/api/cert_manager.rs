//! Issuer, ClusterIssuer and Certificate of `cert-manager.io/v1`, the used part, with the names that cert-manager gives to
//! annotations and labels.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The API group of cert-manager.
pub const CERT_MANAGER_GROUP: &str = "cert-manager.io";

/// On a Gateway: the Issuer of its namespace that makes its certificates.
pub const ISSUER_ANNOTATION: &str = "cert-manager.io/issuer";
/// On a Gateway: the ClusterIssuer that makes its certificates.
pub const CLUSTER_ISSUER_ANNOTATION: &str = "cert-manager.io/cluster-issuer";
pub const ISSUER_NAME_ANNOTATION: &str = "cert-manager.io/issuer-name";
pub const ISSUER_KIND_ANNOTATION: &str = "cert-manager.io/issuer-kind";
pub const ISSUER_GROUP_ANNOTATION: &str = "cert-manager.io/issuer-group";
/// On a Secret: the Certificate that it was issued for.
pub const CERTIFICATE_NAME_ANNOTATION: &str = "cert-manager.io/certificate-name";
/// On a Gateway: listeners that get no certificate, by name, separated by commas.
pub const IGNORE_LISTENERS_ANNOTATION: &str = "cert-manager.io/ignore-tls-listeners";
/// On Secrets that cert-manager looks at: `true`.
pub const ATTENTION_LABEL: &str = "controller.cert-manager.io/fao";
/// gapi's own. On an ACME issuer: another value asks for another account key. On the key's Secret: the value that the key
/// was made for.
pub const ROLL_ACCOUNT_KEY_ANNOTATION: &str = "gapi.dev/roll-account-key";

/// `spec.duration` where there is none.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(90 * 24 * 3600);
/// The least `spec.duration`.
pub const MINIMUM_DURATION: Duration = Duration::from_secs(3600);
/// The least `spec.renewBefore`.
pub const MINIMUM_RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);

/// Key usages, as `spec.usages` names them.
pub const USAGES: &[&str] = &[
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];

/// `Certificate.spec`, the used part.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateSpec {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub common_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub literal_subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<Value>,
    pub secret_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_template: Option<SecretTemplate>,
    pub issuer_ref: IssuerRef,
    #[serde(rename = "isCA", skip_serializing_if = "std::ops::Not::not")]
    pub is_ca: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<String>,
    #[serde(deserialize_with = "duration", serialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    #[serde(deserialize_with = "duration", serialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before_percentage: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKey>,
    /// Whether an ACME server is told the usages; it is, where nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode_usages_in_request: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature_algorithm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_output_formats: Vec<OutputFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_constraints: Option<NameConstraints>,
}

/// `spec.issuerRef`.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default)]
pub struct IssuerRef {
    pub name: String,
    /// `Issuer` where it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// `cert-manager.io` where it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
}

/// `spec.subject`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizational_units: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provinces: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub street_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub postal_codes: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial_number: String,
}

/// `spec.privateKey`; what is empty has cert-manager's default.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrivateKey {
    /// `Always` by default: each issuance makes a new key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rotation_policy: String,
    /// `PKCS1` by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encoding: String,
    /// `RSA` by default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub algorithm: String,
    /// Bits; 2048 for RSA and 256 for ECDSA by default.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// `spec.secretTemplate`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct SecretTemplate {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// `spec.renewal`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Renewal {
    /// `RenewBefore` or `Disabled`.
    pub policy: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Value>,
}

/// `spec.additionalOutputFormats[]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutputFormat {
    /// `DER` or `CombinedPEM`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// `spec.nameConstraints`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NameConstraints {
    pub critical: bool,
    pub permitted: Option<NameConstraint>,
    pub excluded: Option<NameConstraint>,
}

/// `spec.nameConstraints.permitted` and `.excluded`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NameConstraint {
    pub dns_domains: Vec<String>,
    pub ip_ranges: Vec<String>,
    pub email_addresses: Vec<String>,
    pub uri_domains: Vec<String>,
}

/// `spec` of Issuer and ClusterIssuer: exactly one of them is there.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IssuerSpec {
    pub acme: Option<AcmeIssuer>,
    pub ca: Option<CaIssuer>,
    pub self_signed: Option<SelfSignedIssuer>,
    pub vault: Option<Value>,
    pub venafi: Option<Value>,
}

/// `spec.ca`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaIssuer {
    pub secret_name: String,
    pub crl_distribution_points: Vec<String>,
    #[serde(rename = "issuingCertificateURLs")]
    pub issuing_certificate_urls: Vec<String>,
    pub ocsp_servers: Vec<String>,
}

/// `spec.selfSigned`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelfSignedIssuer {
    pub crl_distribution_points: Vec<String>,
}

/// `spec.acme`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AcmeIssuer {
    pub email: String,
    pub server: String,
    pub preferred_chain: String,
    pub profile: String,
    /// Base64 of PEM.
    pub ca_bundle: String,
    #[serde(rename = "skipTLSVerify")]
    pub skip_tls_verify: bool,
    pub external_account_binding: Option<ExternalAccount>,
    pub private_key_secret_ref: SecretKey,
    pub solvers: Vec<Solver>,
    pub disable_account_key_generation: bool,
    pub enable_duration_feature: bool,
    /// `ARI` by default, or `None`.
    pub renewal_information_source: String,
}

/// `spec.acme.externalAccountBinding`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalAccount {
    #[serde(rename = "keyID")]
    pub key_id: String,
    pub key_secret_ref: SecretKey,
}

/// An entry of a Secret.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default)]
pub struct SecretKey {
    pub name: String,
    pub key: String,
}

/// `spec.acme.solvers[]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Solver {
    pub selector: Option<Selector>,
    pub http01: Option<Value>,
    pub dns01: Option<Value>,
    /// An extension of gapi.
    #[serde(rename = "tlsALPN01")]
    pub tls_alpn01: Option<Value>,
    /// How long a record is waited for, in place of a look at it.
    #[serde(deserialize_with = "duration", serialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub wait_instead_of_self_check: Option<Duration>,
}

/// `spec.acme.solvers[].selector`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    pub match_labels: BTreeMap<String, String>,
    pub dns_names: Vec<String>,
    pub dns_zones: Vec<String>,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| read_duration(&text)))
}

fn written<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&duration.map(write_duration).unwrap_or_default())
}

/// A duration as Go writes it: `2160h0m0s`.
pub fn write_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{nanos:09}");
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// A duration as Go's `time.ParseDuration` reads it (`2160h`, `1h30m`, `1.5h`); none where it does not, or where it is
/// negative or greater than Go's greatest.
pub fn read_duration(text: &str) -> Option<Duration> {
    const LARGEST: f64 = i64::MAX as f64;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos = 0.0;
    loop {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number = &rest[..digits];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 || number.len() > 40 {
            return None;
        }
        rest = &rest[digits..];
        let units =
            [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
        let (unit, factor) = units.iter().find(|(unit, _)| {
            let after = rest.strip_prefix(unit);
            after.is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        })?;
        nanos += number.parse::<f64>().ok()? * factor;
        rest = &rest[unit.len()..];
        if rest.is_empty() {
            return (nanos < LARGEST).then(|| Duration::from_nanos(nanos.round() as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let seconds = |text| read_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("2160h"), Some(7_776_000.0));
        assert_eq!(seconds("1h30m5.5s"), Some(5405.5));
        assert_eq!(seconds("1.5h"), Some(5400.0));
        assert_eq!(seconds(".5m"), Some(30.0));
        assert_eq!(seconds("0"), Some(0.0));
        assert_eq!(seconds("250ms"), Some(0.25));
        for wrong in ["", "1", "90d", "-1h", "1h 2m", "h", "1.h.", "1..5h", "999999999h", "1hm", "."] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
        for text in ["2160h0m0s", "15m0s", "1.5s", "0s"] {
            assert_eq!(read_duration(text).map(write_duration).as_deref(), Some(text));
        }
    }
}
