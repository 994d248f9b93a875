//! What annotations of a Gateway say of its Certificates.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::{
    api::cert_manager::{
        CertificateSpec, MINIMUM_DURATION, MINIMUM_RENEW_BEFORE, PrivateKey, SecretTemplate, Subject, USAGES,
        read_duration,
    },
    manifest::admit::cert_manager::certificate::wrong_size,
};

type Wrong = (&'static str, String);

/// Puts into `spec` what the annotations say.
///
/// # Errors
/// The first annotation that cannot be, and why.
pub(super) fn translate(annotations: &BTreeMap<String, String>, spec: &mut CertificateSpec) -> Result<(), Wrong> {
    let get = |name: &str| annotations.get(name).map(String::as_str);
    names(&get, spec)?;
    subject(&get, spec)?;
    times(&get, spec)?;
    if let Some(usages) = get("cert-manager.io/usages") {
        spec.usages = usages.split(',').map(|usage| usage.trim_matches(' ').to_owned()).collect();
        if let Some(unknown) = spec.usages.iter().find(|usage| !USAGES.contains(&usage.as_str())) {
            return Err(("cert-manager.io/usages", format!("{unknown:?} is no key usage")));
        }
    }
    if let Some(limit) = get("cert-manager.io/revision-history-limit") {
        let number = limit.parse().ok().filter(|number| *number > 0);
        let wrong = || ("cert-manager.io/revision-history-limit", format!("{limit:?} is no positive number"));
        spec.revision_history_limit = Some(number.ok_or_else(wrong)?);
    }
    private_key(&get, spec)?;
    if let Some(template) = get("cert-manager.io/secret-template") {
        spec.secret_template = secret_template(template)?;
    }
    Ok(())
}

fn names<'a>(get: &impl Fn(&str) -> Option<&'a str>, spec: &mut CertificateSpec) -> Result<(), Wrong> {
    if let Some(name) = get("cert-manager.io/common-name") {
        if name.len() > 64 {
            return Err(("cert-manager.io/common-name", "it has more than 64 bytes".into()));
        }
        spec.common_name = name.to_owned();
    }
    let list = |name: &str| get(name).filter(|text| !text.is_empty()).map(|text| text.split(','));
    if let Some(names) = list("cert-manager.io/alt-names") {
        spec.dns_names.extend(names.map(str::to_owned));
    }
    for ip in list("cert-manager.io/ip-sans").into_iter().flatten().map(str::trim) {
        if ip.parse::<IpAddr>().is_err() {
            return Err(("cert-manager.io/ip-sans", format!("{ip:?} is no IP address")));
        }
        spec.ip_addresses.push(ip.to_owned());
    }
    for email in list("cert-manager.io/email-sans").into_iter().flatten().map(str::trim) {
        let is_plain = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        if !is_plain || email.contains(['<', '>', ' ', '"']) {
            return Err(("cert-manager.io/email-sans", format!("{email:?} is no bare e-mail address")));
        }
        spec.email_addresses.push(email.to_owned());
    }
    Ok(())
}

fn subject<'a>(get: &impl Fn(&str) -> Option<&'a str>, spec: &mut CertificateSpec) -> Result<(), Wrong> {
    let mut subject = Subject::default();
    let lists = [
        ("cert-manager.io/subject-organizations", &mut subject.organizations),
        ("cert-manager.io/subject-organizationalunits", &mut subject.organizational_units),
        ("cert-manager.io/subject-countries", &mut subject.countries),
        ("cert-manager.io/subject-provinces", &mut subject.provinces),
        ("cert-manager.io/subject-localities", &mut subject.localities),
        ("cert-manager.io/subject-postalcodes", &mut subject.postal_codes),
        ("cert-manager.io/subject-streetaddresses", &mut subject.street_addresses),
    ];
    for (name, field) in lists {
        if let Some(text) = get(name) {
            *field = comma_separated(text).ok_or((name, "its quotes do not match".to_owned()))?;
        }
    }
    if let Some(number) = get("cert-manager.io/subject-serialnumber") {
        subject.serial_number = number.to_owned();
    }
    if subject != Subject::default() {
        spec.subject = Some(subject);
    }
    Ok(())
}

fn times<'a>(get: &impl Fn(&str) -> Option<&'a str>, spec: &mut CertificateSpec) -> Result<(), Wrong> {
    let span = |name: &'static str, least: Duration| -> Result<Option<Duration>, Wrong> {
        let Some(text) = get(name) else { return Ok(None) };
        let span = read_duration(text).ok_or((name, format!("{text:?} is no duration")))?;
        if span < least {
            return Err((name, format!("{text:?} is too short: the least is {} minutes", least.as_secs() / 60)));
        }
        Ok(Some(span))
    };
    spec.duration = span("cert-manager.io/duration", MINIMUM_DURATION)?;
    spec.renew_before = span("cert-manager.io/renew-before", MINIMUM_RENEW_BEFORE)?;
    if let Some(text) = get("cert-manager.io/renew-before-percentage") {
        let wrong = || ("cert-manager.io/renew-before-percentage", format!("{text:?} is no whole number"));
        spec.renew_before_percentage = Some(text.parse().map_err(|_| wrong())?);
    }
    Ok(())
}

fn private_key<'a>(get: &impl Fn(&str) -> Option<&'a str>, spec: &mut CertificateSpec) -> Result<(), Wrong> {
    let mut key = PrivateKey::default();
    let words = [
        ("cert-manager.io/private-key-algorithm", &mut key.algorithm, &["RSA", "ECDSA", "Ed25519"][..]),
        ("cert-manager.io/private-key-encoding", &mut key.encoding, &["PKCS1", "PKCS8"]),
        ("cert-manager.io/private-key-rotation-policy", &mut key.rotation_policy, &["Never", "Always"]),
    ];
    for (name, field, choices) in words {
        if let Some(word) = get(name) {
            if !choices.contains(&word) {
                return Err((name, format!("{word:?} is none of {}", choices.join(", "))));
            }
            *field = word.to_owned();
        }
    }
    const SIZE: &str = "cert-manager.io/private-key-size";
    if let Some(text) = get(SIZE) {
        key.size = text.parse().map_err(|_| (SIZE, format!("{text:?} is no whole number")))?;
        let algorithm = if key.algorithm.is_empty() { "RSA" } else { &key.algorithm };
        if let Some(sizes) = wrong_size(algorithm, key.size) {
            return Err((SIZE, format!("no {algorithm} key has {text} bits; there are {sizes}")));
        }
    }
    if key != PrivateKey::default() {
        spec.private_key = Some(key);
    }
    Ok(())
}

fn secret_template(text: &str) -> Result<Option<SecretTemplate>, Wrong> {
    const NAME: &str = "cert-manager.io/secret-template";
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    let Strict { annotations, labels } = serde_json::from_str(text).map_err(|error| (NAME, error.to_string()))?;
    if let Some(own) = annotations.keys().find(|name| name.starts_with("cert-manager.io/")) {
        return Err((NAME, format!("{own:?} is not the template's to set")));
    }
    let template = SecretTemplate { annotations, labels };
    Ok((template != SecretTemplate::default()).then_some(template))
}

/// The items of one line of comma-separated values (RFC 4180); none where quotes do not match.
fn comma_separated(text: &str) -> Option<Vec<String>> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        match rest.strip_prefix('"') {
            None => {
                let (item, more) = match rest.split_once(',') {
                    Some((item, more)) => (item, Some(more)),
                    None => (rest, None),
                };
                if item.contains(['"', '\n']) {
                    return None;
                }
                items.push(item.to_owned());
                match more {
                    Some(more) => rest = more,
                    None => return Some(items),
                }
            }
            Some(quoted) => {
                let (mut item, mut left) = (String::new(), quoted);
                loop {
                    let (part, after) = left.split_once('"')?;
                    item.push_str(part);
                    match after.strip_prefix('"') {
                        Some(after) => (left, _) = (after, item.push('"')),
                        None => {
                            left = after;
                            break;
                        }
                    }
                }
                items.push(item);
                match left.strip_prefix(',') {
                    Some(more) => rest = more,
                    None if left.is_empty() => return Some(items),
                    None => return None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(pairs: &[(&str, &str)]) -> Result<CertificateSpec, &'static str> {
        let annotations =
            pairs.iter().map(|(name, value)| (format!("cert-manager.io/{name}"), (*value).to_owned())).collect();
        let mut spec = CertificateSpec::default();
        translate(&annotations, &mut spec).map(|()| spec).map_err(|(name, _)| name)
    }

    #[test]
    fn annotations_become_fields() {
        let spec = translated(&[
            ("common-name", "a.example"),
            ("duration", "2160h"),
            ("renew-before", "1440h"),
            ("usages", "digital signature, server auth"),
            ("revision-history-limit", "7"),
            ("private-key-algorithm", "ECDSA"),
            ("private-key-size", "384"),
            ("subject-organizations", "\"Widgets, Inc.\",Other"),
            ("ip-sans", "192.0.2.1, ::1"),
            ("secret-template", r#"{"labels":{"a":"b"}}"#),
        ])
        .expect("all of them are right");
        assert_eq!(spec.common_name, "a.example");
        assert_eq!(spec.duration, Some(Duration::from_secs(2160 * 3600)));
        assert_eq!(spec.usages, ["digital signature", "server auth"]);
        assert_eq!(spec.private_key.expect("is set").size, 384);
        assert_eq!(spec.subject.expect("is set").organizations, ["Widgets, Inc.", "Other"]);
        assert_eq!(spec.ip_addresses, ["192.0.2.1", "::1"]);
        assert_eq!(spec.secret_template.expect("is set").labels["a"], "b");
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (name, value) in [
            ("duration", "30m"),
            ("duration", "90d"),
            ("renew-before", "1m"),
            ("usages", "sing"),
            ("revision-history-limit", "0"),
            ("private-key-algorithm", "rsa"),
            ("private-key-size", "1024"),
            ("private-key-encoding", "PKCS12"),
            ("ip-sans", "localhost"),
            ("email-sans", "A <a@b.example>"),
            ("subject-countries", "\"DE"),
            ("secret-template", r#"{"label":{}}"#),
        ] {
            let wrong = translated(&[(name, value)]).expect_err(value);
            assert_eq!(wrong, format!("cert-manager.io/{name}"), "{value}");
        }
    }
}
