//! What a certificate is to say: names, subject and usages of a Certificate's `spec`, as rcgen takes them.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose as Extended, IsCa, KeyUsagePurpose as Usage, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::der;
use crate::api::cert_manager::{CertificateSpec, DEFAULT_DURATION, Subject};

/// What an ACME server is asked for: names and subject, and the usages unless they are not to be told.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn asked(spec: &CertificateSpec) -> Result<CertificateParams, String> {
    let mut params = names(spec)?;
    if spec.encode_usages_in_request != Some(false) {
        (params.key_usages, params.extended_key_usages) = usages(spec);
    }
    Ok(params)
}

fn names(spec: &CertificateSpec) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = alternative_names(spec)?;
    params.distinguished_name = subject(spec)?;
    Ok(params)
}

/// All of it, valid from `now` for the duration asked for.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn params(spec: &CertificateSpec, now: Timestamp) -> Result<CertificateParams, String> {
    let mut params = names(spec)?;
    let from = OffsetDateTime::from_unix_timestamp(now.as_second()).map_err(|error| error.to_string())?;
    params.not_before = from;
    let life = spec.duration.unwrap_or(DEFAULT_DURATION);
    params.not_after = from.checked_add(seconds(life)).ok_or("spec.duration reaches beyond the calendar")?;
    let mut serial: [u8; 16] = uuid::Uuid::new_v4().into_bytes();
    // Positive, and of one length.
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = if spec.is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    (params.key_usages, params.extended_key_usages) = usages(spec);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn seconds(duration: Duration) -> time::Duration {
    time::Duration::seconds(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

fn alternative_names(spec: &CertificateSpec) -> Result<Vec<SanType>, String> {
    let text = |name: &String| name.as_str().try_into().map_err(|_| format!("{name:?} is not plain ASCII"));
    let mut names = Vec::new();
    for name in &spec.dns_names {
        names.push(SanType::DnsName(text(name)?));
    }
    for address in &spec.ip_addresses {
        let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no IP address"))?;
        names.push(SanType::IpAddress(address));
    }
    for uri in &spec.uris {
        names.push(SanType::URI(text(uri)?));
    }
    for email in &spec.email_addresses {
        names.push(SanType::Rfc822Name(text(email)?));
    }
    Ok(names)
}

/// Attribute types of X.520 that rcgen does not name.
const STREET_ADDRESS: [u64; 4] = [2, 5, 4, 9];
const POSTAL_CODE: [u64; 4] = [2, 5, 4, 17];
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// In the order in which Go writes it. Of several values for one attribute rcgen can write one.
fn subject(spec: &CertificateSpec) -> Result<DistinguishedName, String> {
    let mut name = DistinguishedName::new();
    let none = Subject::default();
    let subject = spec.subject.as_ref().unwrap_or(&none);
    let printable = |text: &str| {
        let value = text.try_into().map_err(|_| format!("{text:?} has other than letters, digits and '()+,-./:=?"));
        value.map(DnValue::PrintableString)
    };
    if let Some(country) = subject.countries.first() {
        name.push(DnType::CountryName, printable(country)?);
    }
    let lists = [
        (DnType::OrganizationName, &subject.organizations),
        (DnType::OrganizationalUnitName, &subject.organizational_units),
        (DnType::LocalityName, &subject.localities),
        (DnType::StateOrProvinceName, &subject.provinces),
        (DnType::from_oid(&STREET_ADDRESS), &subject.street_addresses),
        (DnType::from_oid(&POSTAL_CODE), &subject.postal_codes),
    ];
    for (type_, values) in lists {
        if let Some(value) = values.first() {
            name.push(type_, value.as_str());
        }
    }
    if !spec.common_name.is_empty() {
        name.push(DnType::CommonName, spec.common_name.as_str());
    }
    if !subject.serial_number.is_empty() {
        name.push(DnType::from_oid(&SERIAL_NUMBER), printable(&subject.serial_number)?);
    }
    Ok(name)
}

/// What of the request is left out, for people to know.
pub fn left_out(spec: &CertificateSpec) -> Option<String> {
    let subject = spec.subject.as_ref()?;
    let lists = [
        ("countries", &subject.countries),
        ("organizations", &subject.organizations),
        ("organizationalUnits", &subject.organizational_units),
        ("localities", &subject.localities),
        ("provinces", &subject.provinces),
        ("streetAddresses", &subject.street_addresses),
        ("postalCodes", &subject.postal_codes),
    ];
    let long: Vec<&str> = lists.iter().filter(|(_, values)| values.len() > 1).map(|(name, _)| *name).collect();
    (!long.is_empty())
        .then(|| format!("of several values in spec.subject the first alone is written: {}", long.join(", ")))
}

fn usages(spec: &CertificateSpec) -> (Vec<Usage>, Vec<Extended>) {
    let (mut plain, mut extended) = (Vec::new(), Vec::new());
    let defaults = ["digital signature".to_owned(), "key encipherment".to_owned()];
    let written = if spec.usages.is_empty() { &defaults[..] } else { &spec.usages };
    for usage in written {
        match usage.as_str() {
            "signing" | "digital signature" => plain.push(Usage::DigitalSignature),
            "content commitment" => plain.push(Usage::ContentCommitment),
            "key encipherment" => plain.push(Usage::KeyEncipherment),
            "key agreement" => plain.push(Usage::KeyAgreement),
            "data encipherment" => plain.push(Usage::DataEncipherment),
            "cert sign" => plain.push(Usage::KeyCertSign),
            "crl sign" => plain.push(Usage::CrlSign),
            "encipher only" => plain.push(Usage::EncipherOnly),
            "decipher only" => plain.push(Usage::DecipherOnly),
            "any" => extended.push(Extended::Any),
            "server auth" => extended.push(Extended::ServerAuth),
            "client auth" => extended.push(Extended::ClientAuth),
            "code signing" => extended.push(Extended::CodeSigning),
            "email protection" | "s/mime" => extended.push(Extended::EmailProtection),
            "ipsec end system" => extended.push(Extended::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 5])),
            "ipsec tunnel" => extended.push(Extended::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 6])),
            "ipsec user" => extended.push(Extended::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 7])),
            "timestamping" => extended.push(Extended::TimeStamping),
            "ocsp signing" => extended.push(Extended::OcspSigning),
            "microsoft sgc" => extended.push(Extended::Other(vec![1, 3, 6, 1, 4, 1, 311, 10, 3, 3])),
            "netscape sgc" => extended.push(Extended::Other(vec![2, 16, 840, 1, 113_730, 4, 1])),
            _ => {}
        }
    }
    if spec.is_ca {
        plain.push(Usage::KeyCertSign);
    }
    let mut seen = Vec::new();
    plain.retain(|usage| !seen.contains(usage) && (seen.push(*usage), true).1);
    extended.dedup();
    (plain, extended)
}

/// Where revocations are listed.
pub fn crl_distribution_points(urls: &[String]) -> Vec<CrlDistributionPoint> {
    if urls.is_empty() { Vec::new() } else { vec![CrlDistributionPoint { uris: urls.to_vec() }] }
}

/// Authority information access (RFC 5280, 4.2.2.1): where the issuer's certificate and its OCSP server are.
pub fn authority_access(issuers: &[String], ocsp: &[String]) -> Option<CustomExtension> {
    // id-ad-ocsp and id-ad-caIssuers, 1.3.6.1.5.5.7.48.1 and .2, as object identifiers in DER.
    let method = |last: u8| [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, last];
    let description = |last: u8, url: &String| {
        let mut content = method(last).to_vec();
        // uniformResourceIdentifier [6]
        content.extend(der::encode(0x86, url.as_bytes()));
        der::encode(der::SEQUENCE, &content)
    };
    let ocsp = ocsp.iter().flat_map(|url| description(1, url));
    let content: Vec<u8> = ocsp.chain(issuers.iter().flat_map(|url| description(2, url))).collect();
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    (!content.is_empty()).then(|| CustomExtension::from_oid_content(&oid, der::encode(der::SEQUENCE, &content)))
}
