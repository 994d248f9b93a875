//! Manifests of issuers, and clients that trust what is told to them.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};

use crate::support::{Client, Gapi, wait};

/// How long an issuance may take on a machine that does other things.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let mut metadata = json!({"name": name});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// A ClusterIssuer `site-ca` whose CA certificate is made by another, and self-signed.
pub fn own_ca() -> Vec<Value> {
    vec![
        object("ClusterIssuer", "", "self", json!({"selfSigned": {}})),
        object(
            "Certificate",
            "cert-manager",
            "site-ca",
            json!({
                "isCA": true, "commonName": "Site CA", "secretName": "site-ca", "duration": "87600h",
                "privateKey": {"algorithm": "ECDSA"}, "issuerRef": {"name": "self", "kind": "ClusterIssuer"},
            }),
        ),
        object("ClusterIssuer", "", "site-ca", json!({"ca": {"secretName": "site-ca"}})),
    ]
}

/// A Gateway with these annotations of cert-manager.
pub fn annotated(mut gateway: Value, annotations: &[(&str, &str)]) -> Value {
    for (name, value) in annotations {
        gateway["metadata"]["annotations"][format!("cert-manager.io/{name}")] = json!(value);
    }
    gateway
}

/// A client that trusts the certificates in this PEM text.
pub fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

pub fn trusting_file(path: &Path) -> Arc<ClientConfig> {
    trusting(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Does a client get an answer by this name?
pub fn answers(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> bool {
    Client::tls(address, name, config).is_ok_and(|mut client| client.get(name, "/").is_ok())
}

/// The status document of a Certificate (`namespace/name`).
pub fn certificate(gapi: &Gapi, name: &str) -> Value {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let text = gapi.status_file(&format!("{namespace}/certificates/{name}.yaml"));
    serde_yaml::from_str(&text).unwrap_or(Value::Null)
}

pub fn condition<'a>(document: &'a Value, type_: &str) -> &'a Value {
    let conditions = document["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

pub fn wait_until_ready(gapi: &Gapi, name: &str) -> Value {
    wait(&format!("Certificate {name} is Ready: {:#}", certificate(gapi, name)), LIMIT, || {
        condition(&certificate(gapi, name), "Ready")["status"] == "True"
    });
    certificate(gapi, name)
}
