//! The Secret of a Certificate, as cert-manager writes it: for `kubectl apply` as it is.

use std::{collections::BTreeMap, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Map, Value, json};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, x509::X509Name};
use zeroize::Zeroizing;

use super::sign::Issued;
use crate::{
    api::ObjectKey,
    api::cert_manager::{
        ATTENTION_LABEL, CERT_MANAGER_GROUP, CERTIFICATE_NAME_ANNOTATION, ISSUER_GROUP_ANNOTATION,
        ISSUER_KIND_ANNOTATION, ISSUER_NAME_ANNOTATION,
    },
    graph::issuance::Wanted,
    status::yaml::to_yaml,
};

/// The manifest of the Secret.
///
/// # Errors
/// The issuer gave no certificate that can be read.
pub fn manifest(wanted: &Wanted, issued: &Issued) -> Result<Zeroizing<String>, String> {
    let leaf = CertificateDer::from_pem_slice(issued.chain.as_bytes()).map_err(|_| "the issuer gave no certificate")?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).map_err(|_| "the issuer gave no certificate")?;
    let template = wanted.spec.secret_template.clone().unwrap_or_default();
    let mut annotations = template.annotations;
    annotations.extend(details(&leaf));
    let reference = &wanted.spec.issuer_ref;
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    annotations.insert(CERTIFICATE_NAME_ANNOTATION.into(), wanted.key.name.to_string());
    annotations.insert(ISSUER_NAME_ANNOTATION.into(), reference.name.clone());
    annotations.insert(ISSUER_KIND_ANNOTATION.into(), or(&reference.kind, "Issuer"));
    annotations.insert(ISSUER_GROUP_ANNOTATION.into(), or(&reference.group, CERT_MANAGER_GROUP));
    let mut labels = template.labels;
    labels.insert(ATTENTION_LABEL.into(), "true".into());
    Ok(document(&wanted.secret().namespace, &wanted.spec.secret_name, (annotations, labels), TLS, data(wanted, issued)))
}

const TLS: &str = "kubernetes.io/tls";

/// A Secret with these entries: an account's key.
pub fn opaque(key: &ObjectKey, annotations: Texts, entries: &[(&str, &[u8])]) -> Zeroizing<String> {
    let labels = BTreeMap::from([(ATTENTION_LABEL.to_owned(), "true".to_owned())]);
    let data = entries.iter().map(|(name, bytes)| ((*name).to_owned(), STANDARD.encode(bytes).into()));
    document(&key.namespace, &key.name, (annotations, labels), "Opaque", data.collect())
}

/// Annotations or labels.
pub type Texts = BTreeMap<String, String>;

fn document(
    namespace: &str,
    name: &str,
    (annotations, labels): (Texts, Texts),
    type_: &str,
    data: Map<String, Value>,
) -> Zeroizing<String> {
    let mut metadata = json!({ "name": name, "namespace": namespace });
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    metadata["labels"] = json!(labels);
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "data": data });
    Zeroizing::new(to_yaml(&secret))
}

fn data(wanted: &Wanted, issued: &Issued) -> Map<String, Value> {
    let mut data = Map::new();
    let mut put = |name: &str, bytes: &[u8]| data.insert(name.to_owned(), STANDARD.encode(bytes).into());
    if let Some(ca) = &issued.ca {
        put("ca.crt", ca.as_bytes());
    }
    for format in &wanted.spec.additional_output_formats {
        match format.type_.as_str() {
            "DER" => {
                let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(issued.key.as_bytes());
                if let Ok(key) = key {
                    put("key.der", key.secret_der());
                }
            }
            _ => {
                let both = Zeroizing::new(format!("{}\n{}", issued.key.as_str(), issued.chain));
                put("tls-combined.pem", both.as_bytes());
            }
        }
    }
    put("tls.crt", issued.chain.as_bytes());
    put("tls.key", issued.key.as_bytes());
    data
}

/// What cert-manager notes of the certificate in annotations.
fn details(leaf: &X509Certificate) -> Texts {
    let (mut dns, mut ips, mut uris, mut emails) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let alternative = leaf.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(email) => emails.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                ips.extend(four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).map(|ip| ip.to_string()));
            }
            _ => {}
        }
    }
    let common = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    let mut details = Texts::from([
        ("cert-manager.io/common-name".to_owned(), common.to_owned()),
        ("cert-manager.io/alt-names".to_owned(), dns.join(",")),
        ("cert-manager.io/ip-sans".to_owned(), ips.join(",")),
        ("cert-manager.io/uri-sans".to_owned(), uris.join(",")),
    ]);
    if !emails.is_empty() {
        details.insert("cert-manager.io/email-sans".into(), emails.join(","));
    }
    details.extend(subject(leaf.subject()));
    details
}

fn subject<'a>(name: &'a X509Name) -> impl Iterator<Item = (String, String)> + use<'a> {
    let text = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue>| {
        let values = attributes.iter().filter_map(|attribute| attribute.as_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let parts = [
        ("organizations", text(name.iter_organization().collect())),
        ("organizationalunits", text(name.iter_organizational_unit().collect())),
        ("countries", text(name.iter_country().collect())),
        ("provinces", text(name.iter_state_or_province().collect())),
        ("localities", text(name.iter_locality().collect())),
    ];
    let filled = parts.into_iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(name, value)| (format!("cert-manager.io/subject-{name}"), value))
}
