//! Certificate.

use std::net::IpAddr;

use serde_json::Value;

use super::{CONDITIONS, duration, not_empty, secret_key, string_map, strings};
use crate::{
    api::cert_manager::{
        DEFAULT_DURATION, MINIMUM_DURATION, MINIMUM_RENEW_BEFORE, USAGES, read_duration, write_duration,
    },
    manifest::{
        admit::{
            Fields, Judge,
            metadata::NameRule,
            scalars::INT32_MAX,
            status::{self, Shape},
            text::dns_names,
        },
        span::Node,
    },
};

/// `Certificate.status`.
const STATUS: Shape = Shape::Object(&[
    (
        "acme",
        Shape::Object(&[(
            "ari",
            Shape::Object(&[
                ("explanationURL", Shape::Scalar),
                ("lastChecked", Shape::Scalar),
                ("lastError", Shape::Scalar),
                ("nextCheck", Shape::Scalar),
                ("suggestedWindow", Shape::Object(&[("end", Shape::Scalar), ("start", Shape::Scalar)])),
            ]),
        )]),
    ),
    ("conditions", CONDITIONS),
    ("failedIssuanceAttempts", Shape::Scalar),
    ("lastFailureTime", Shape::Scalar),
    ("nextPrivateKeySecretName", Shape::Scalar),
    ("notAfter", Shape::Scalar),
    ("notBefore", Shape::Scalar),
    ("renewalTime", Shape::Scalar),
    ("revision", Shape::Scalar),
]);

/// Judges a Certificate.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::Subdomain, |fields| {
        fields.required("spec", spec);
        status::status(fields, &STATUS);
    })
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("additionalOutputFormats", output_formats);
        fields.optional("commonName", Judge::string);
        for list in ["dnsNames", "emailAddresses", "ipAddresses", "uris"] {
            fields.optional(list, strings);
        }
        fields.optional("duration", duration);
        fields.optional("encodeUsagesInRequest", Judge::boolean);
        fields.optional("isCA", Judge::boolean);
        fields.required("issuerRef", issuer_ref);
        fields.optional("keystores", keystores);
        fields.optional("literalSubject", Judge::string);
        fields.optional("nameConstraints", name_constraints);
        fields.optional("otherNames", |judge, node| judge.list(node, 0..=usize::MAX, other_name));
        fields.optional("privateKey", private_key);
        fields.optional("renewBefore", duration);
        fields.optional("renewBeforePercentage", |judge, node| judge.integer(node, -INT32_MAX - 1..=INT32_MAX));
        fields.optional("renewal", renewal);
        fields.optional("revisionHistoryLimit", |judge, node| judge.integer(node, -INT32_MAX - 1..=INT32_MAX));
        fields.required("secretName", Judge::string);
        fields.optional("secretTemplate", secret_template);
        let algorithms = ["RSA", "ECDSA", "Ed25519"].iter().flat_map(|key| signatures(key));
        let algorithms: Vec<&str> = algorithms.copied().collect();
        fields.optional("signatureAlgorithm", |judge, node| judge.choice(node, &algorithms));
        fields.optional("subject", subject);
        fields.optional("usages", |judge, node| {
            judge.list(node, 0..=usize::MAX, |judge, node| judge.choice(node, USAGES))
        });
        secret_name(fields);
        names(fields);
        signature(fields);
        times(fields);
        if fields.get("revisionHistoryLimit").and_then(Value::as_i64).is_some_and(|limit| limit < 1) {
            fields.conflict("revisionHistoryLimit", "must not be less than 1", "write 1 or more");
        }
        if fields.has("nameConstraints") && fields.get("isCA") != Some(&Value::Bool(true)) {
            fields.conflict("nameConstraints", "only a CA has name constraints", "write isCA: true");
        }
    })
}

fn secret_name(fields: &mut Fields) {
    let name = fields.text("secretName").unwrap_or_default();
    if name.is_empty() {
        not_empty(fields, "secretName", "name the Secret that the certificate goes into");
    } else if !dns_names(name) || name.len() > 253 {
        let message = format!("{name:?} is not a name for a Secret");
        fields.conflict("secretName", message, "write lower-case letters, digits, '-' and '.'");
    }
}

fn names(fields: &mut Fields) {
    let common = fields.text("commonName").unwrap_or_default().to_owned();
    if common.len() > 64 {
        fields.conflict("commonName", "has more than 64 bytes", "leave it out: clients read dnsNames");
    }
    let literal = fields.text("literalSubject").is_some_and(|text| !text.is_empty());
    if literal && (!common.is_empty() || fields.has("subject")) {
        fields.conflict("literalSubject", "stands beside commonName or subject", "keep one of them");
    }
    let lists = ["dnsNames", "ipAddresses", "uris", "emailAddresses", "otherNames"];
    if common.is_empty() && !literal && lists.iter().all(|name| fields.items(name).is_empty()) {
        let remedy = "write at least one of commonName, dnsNames, ipAddresses, uris, emailAddresses, otherNames";
        fields.conflict("", "the certificate has no name", remedy);
    }
    let bad = |name: &str, holds: fn(&str) -> bool| {
        let texts = fields.items(name).iter().map(|item| item.as_str().unwrap_or_default());
        texts.enumerate().find(|(_, text)| !holds(text)).map(|(index, text)| format!("item {index}, {text:?}"))
    };
    let address = bad("ipAddresses", |text| text.parse::<IpAddr>().is_ok());
    let email = bad("emailAddresses", is_email);
    if let Some(item) = address {
        fields.conflict("ipAddresses", format!("{item}, is not an IP address"), "write an IPv4 or IPv6 address");
    }
    if let Some(item) = email {
        fields.conflict("emailAddresses", format!("{item}, is not a bare e-mail address"), "write name@example.com");
    }
}

fn is_email(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>(),;:\\\"[]".contains(&byte));
    plain
        && text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

fn times(fields: &mut Fields) {
    let read = |name| fields.text(name).and_then(read_duration);
    let (duration, before) = (read("duration"), read("renewBefore"));
    let percentage = fields.get("renewBeforePercentage").and_then(Value::as_i64);
    if duration.is_none() && before.is_none() {
        return;
    }
    let whole = duration.unwrap_or(DEFAULT_DURATION);
    if whole < MINIMUM_DURATION {
        fields.conflict("duration", "is less than an hour", "write 1h or more");
    }
    if before.is_some() && percentage.is_some() {
        fields.conflict("renewBefore", "stands beside renewBeforePercentage", "keep one of them");
    }
    if let Some(before) = before {
        if before < MINIMUM_RENEW_BEFORE {
            fields.conflict("renewBefore", "is less than five minutes", "write 5m or more");
        }
        if before >= whole {
            let message = format!("is not less than the duration, {}", write_duration(whole));
            fields.conflict("renewBefore", message, "write less");
        }
    }
    if let Some(percentage) = percentage {
        // As the webhook computes it, though not as the renewal time is computed.
        let before = whole.as_secs_f64() * (100 - percentage) as f64 / 100.0;
        if before < MINIMUM_RENEW_BEFORE.as_secs_f64() || before >= whole.as_secs_f64() {
            let message = "leaves less than five minutes, or more than the duration";
            fields.conflict("renewBeforePercentage", message, "write a number from 1 to 99");
        }
    }
}

fn issuer_ref(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("group", Judge::string);
        fields.optional("kind", Judge::string);
        fields.required("name", Judge::string);
        not_empty(fields, "name", "name the Issuer or ClusterIssuer");
        let (group, kind) = (fields.text("group").unwrap_or_default(), fields.text("kind").unwrap_or_default());
        if matches!(group, "" | "cert-manager.io") && !matches!(kind, "" | "Issuer" | "ClusterIssuer") {
            fields.conflict("kind", format!("{kind:?} is no issuer"), "write Issuer or ClusterIssuer");
        }
    })
}

fn private_key(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("algorithm", |judge, node| judge.choice(node, &["RSA", "ECDSA", "Ed25519"]));
        fields.optional("encoding", |judge, node| judge.choice(node, &["PKCS1", "PKCS8"]));
        fields.optional("rotationPolicy", |judge, node| judge.choice(node, &["Never", "Always"]));
        fields.optional("size", |judge, node| judge.integer(node, i64::MIN..=i64::MAX));
        let size = fields.get("size").and_then(Value::as_i64).filter(|size| *size > 0);
        let algorithm = fields.text("algorithm").unwrap_or("RSA");
        if let Some(sizes) = size.and_then(|size| wrong_size(algorithm, size)) {
            let message = format!("no {algorithm} key has this size");
            fields.conflict("size", message, format!("write {sizes}"));
        }
    })
}

/// The sizes that there are, where `size` is not among them.
pub fn wrong_size(algorithm: &str, size: i64) -> Option<&'static str> {
    match algorithm {
        "ECDSA" if !matches!(size, 256 | 384 | 521) => Some("256, 384 or 521"),
        "RSA" if !(2048..=8192).contains(&size) => Some("2048 to 8192"),
        _ => None,
    }
}

fn signature(fields: &mut Fields) {
    let key = fields.get("privateKey").and_then(|key| key["algorithm"].as_str()).unwrap_or("RSA");
    let Some(signature) = fields.text("signatureAlgorithm") else { return };
    if !signatures(key).contains(&signature) {
        let message = format!("no {key} key signs so");
        fields.conflict("signatureAlgorithm", message, format!("write one of: {}", signatures(key).join(", ")));
    }
}

fn signatures(key: &str) -> &'static [&'static str] {
    match key {
        "ECDSA" => &["ECDSAWithSHA256", "ECDSAWithSHA384", "ECDSAWithSHA512"],
        "Ed25519" => &["PureEd25519"],
        _ => &["SHA256WithRSA", "SHA384WithRSA", "SHA512WithRSA"],
    }
}

fn output_formats(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=usize::MAX, |judge, node| {
        judge.object(node, |fields| {
            fields.required("type", |judge, node| judge.choice(node, &["DER", "CombinedPEM"]));
        })
    })?;
    judge.unique(node, &value, "type");
    Some(value)
}

fn keystores(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for (name, pkcs12) in [("jks", false), ("pkcs12", true)] {
            fields.optional(name, |judge, node| {
                judge.object(node, |fields| {
                    fields.required("create", Judge::boolean);
                    fields.optional("password", Judge::string);
                    fields.optional("passwordSecretRef", |judge, node| secret_key(judge, node, false));
                    match pkcs12 {
                        true => fields.optional("profile", |judge, node| {
                            judge.choice(node, &["LegacyRC2", "LegacyDES", "Modern2023", "Modern2026"])
                        }),
                        false => fields.optional("alias", Judge::string),
                    }
                })
            });
        }
    })
}

fn name_constraints(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("critical", Judge::boolean);
        for name in ["excluded", "permitted"] {
            fields.optional(name, |judge, node| {
                judge.object(node, |fields| {
                    for list in ["dnsDomains", "emailAddresses", "ipRanges", "uriDomains"] {
                        fields.optional(list, strings);
                    }
                })
            });
        }
        if !fields.has("excluded") && !fields.has("permitted") {
            fields.conflict("", "neither permitted nor excluded is there", "write one of them");
        }
    })
}

fn other_name(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("oid", Judge::string);
        fields.optional("utf8Value", Judge::string);
        not_empty(fields, "oid", "write an object identifier: 1.3.6.1.4.1.311.20.2.3");
        not_empty(fields, "utf8Value", "write the name");
    })
}

fn renewal(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("policy", |judge, node| judge.choice(node, &["RenewBefore", "Disabled"]));
        fields.optional("windows", |judge, node| {
            judge.list(node, 0..=usize::MAX, |judge, node| {
                judge.object(node, |fields| {
                    fields.required("cron", |judge, node| judge.sized(node, 1..=usize::MAX));
                    fields.optional("timezone", |judge, node| judge.sized(node, 1..=usize::MAX));
                    fields.required("windowDuration", duration);
                })
            })
        });
    })
}

fn secret_template(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("annotations", |judge, node| {
            judge.map_of(node, usize::MAX, |judge, entry| {
                let own = entry.key.starts_with("cert-manager.io/");
                if own && entry.key != "cert-manager.io/allow-direct-injection" {
                    let message = "annotations of cert-manager.io are not the template's to set";
                    judge.conflict(entry.key_place, message, "remove it");
                }
                judge.string(&entry.node)
            })
        });
        fields.optional("labels", string_map);
    })
}

fn subject(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for list in [
            "countries",
            "localities",
            "organizationalUnits",
            "organizations",
            "postalCodes",
            "provinces",
            "streetAddresses",
        ] {
            fields.optional(list, strings);
        }
        fields.optional("serialNumber", Judge::string);
    })
}
