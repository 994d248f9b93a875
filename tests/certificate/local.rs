//! Issuers that need nobody else: self-signed, and an own CA.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{
    LIMIT, annotated, answers, certificate, condition, object, own_ca, trusting, trusting_file, wait_until_ready,
};
use crate::support::{
    Authority, Backend, Client, free_port,
    gapi::Start,
    loopback,
    manifest::{file, gateway, https, prefix, route, secret, service},
    wait,
};

/// One HTTPS listener for `a.example` with a certificate of the own CA, and a backend.
fn site(port: u16, annotations: &[(&str, &str)], backend: &Backend) -> Vec<Value> {
    let gate = gateway("gate", &[https("a", port, Some("a.example"), "a-tls")]);
    let mut documents = own_ca();
    documents.push(annotated(gate, annotations));
    documents.push(route("all", "gate", &[], &[prefix("/", "backend")]));
    documents.extend(service("backend", &[backend.address]));
    documents
}

fn start(port: u16, backend: &Backend) -> Start {
    Start::new().file("site.yaml", file(&site(port, &[("cluster-issuer", "site-ca")], backend)))
}

#[test]
fn a_gateway_gets_a_certificate_of_the_own_ca() {
    let (port, backend) = (free_port(), Backend::named("hello"));
    let address = loopback(port);
    let gapi = start(port, &backend).serve();
    let document = wait_until_ready(&gapi, "default/a-tls");
    assert_eq!(document["spec"]["dnsNames"], json!(["a.example"]));
    assert_eq!(document["metadata"]["ownerReferences"][0]["name"], "gate");
    assert_eq!(document["status"]["revision"], 1);
    // What clients are to trust.
    let trust = trusting_file(&gapi.state().join("ca/cert-manager/site-ca.crt"));
    wait("it is served", LIMIT, || answers(address, "a.example", &trust));
    let path = gapi.state().join("secrets/default/a-tls.yaml");
    assert_eq!(fs::metadata(&path).expect("the Secret is there").permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_yaml::from_str(&fs::read_to_string(&path).expect("text")).expect("YAML");
    assert_eq!(kept["type"], "kubernetes.io/tls");
    assert_eq!(kept["metadata"]["annotations"]["cert-manager.io/issuer-name"], "site-ca");
    assert_eq!(kept["metadata"]["annotations"]["cert-manager.io/alt-names"], "a.example");
    assert_eq!(kept["metadata"]["labels"]["controller.cert-manager.io/fao"], "true");
    assert!(kept["data"]["ca.crt"].is_string());
    let table = gapi.ask(&["get", "certificates", "-A", "-o", "wide"]).text;
    assert!(table.contains("Certificate is up to date and has not expired"), "{table}");
    let table = gapi.ask(&["get", "ciss"]).text;
    assert!(table.lines().filter(|line| line.contains("True")).count() == 2, "{table}");
    let gate = gapi.status_file("default/gateways/gate.yaml");
    assert!(!gate.contains("InvalidCertificateRef"), "{gate}");
    // Nothing is made anew after a restart.
    let before = fs::read_to_string(&path).expect("text");
    let (_, start) = gapi.end(Signal::TERM, Duration::from_secs(20));
    let gapi = start.serve();
    wait("it is served again", LIMIT, || answers(address, "a.example", &trust));
    assert_eq!(fs::read_to_string(&path).expect("text"), before);
    assert_eq!(certificate(&gapi, "default/a-tls")["status"]["revision"], 1);
}

#[test]
fn certificates_are_what_they_were_asked_to_be() {
    let mut documents = own_ca();
    let issuer = json!({"name": "site-ca", "kind": "ClusterIssuer"});
    documents.push(object(
        "Certificate",
        "web",
        "rich",
        json!({
            "secretName": "rich-tls", "commonName": "box", "dnsNames": ["box.example", "*.box.example"],
            "ipAddresses": ["192.0.2.1", "2001:db8::1"], "uris": ["spiffe://box"], "emailAddresses": ["a@box.example"],
            "usages": ["digital signature", "server auth", "client auth"], "duration": "48h", "renewBefore": "24h",
            "subject": {"organizations": ["Box"], "countries": ["DE"]},
            "privateKey": {"algorithm": "ECDSA", "size": 384, "encoding": "PKCS8"},
            "additionalOutputFormats": [{"type": "CombinedPEM"}, {"type": "DER"}],
            "secretTemplate": {"labels": {"mine": "yes"}}, "issuerRef": issuer,
        }),
    ));
    for (name, key) in [("rsa", json!({"algorithm": "RSA"})), ("edwards", json!({"algorithm": "Ed25519"}))] {
        let spec = json!({"secretName": name, "dnsNames": ["x.example"], "privateKey": key, "issuerRef": issuer});
        documents.push(object("Certificate", "web", name, spec));
    }
    let gapi = Start::new().file("all.yaml", file(&documents)).serve();
    let rich = wait_until_ready(&gapi, "web/rich");
    let day = |field: &str| rich["status"][field].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert_eq!(day("notAfter").duration_since(day("notBefore")).as_hours(), 48);
    assert_eq!(day("notAfter").duration_since(day("renewalTime")).as_hours(), 24);
    let kept = fs::read_to_string(gapi.state().join("secrets/web/rich-tls.yaml")).expect("the Secret is there");
    let kept: Value = serde_yaml::from_str(&kept).expect("YAML");
    assert_eq!(kept["metadata"]["labels"]["mine"], "yes");
    for entry in ["tls.crt", "tls.key", "ca.crt", "key.der", "tls-combined.pem"] {
        assert!(kept["data"][entry].is_string(), "{entry}");
    }
    let pem = gapi::api::core::decode(kept["data"]["tls.crt"].as_str().expect("base64")).expect("base64");
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let leaf = CertificateDer::from_pem_slice(&pem).expect("PEM");
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).expect("a certificate");
    assert_eq!(leaf.subject().to_string(), "C=DE, O=Box, CN=box");
    let names = leaf.subject_alternative_name().expect("it parses").expect("it is there");
    assert_eq!(names.value.general_names.len(), 6);
    let usage = leaf.extended_key_usage().expect("it parses").expect("it is there");
    assert!(usage.value.server_auth && usage.value.client_auth && !leaf.is_ca());
    let usage = leaf.key_usage().expect("it parses").expect("it is there");
    assert!(usage.value.digital_signature() && !usage.value.key_encipherment() && !usage.value.key_cert_sign());
    wait_until_ready(&gapi, "web/rsa");
    wait_until_ready(&gapi, "web/edwards");
    // A CA signs certificates, whatever else it says of itself.
    let authority = fs::read(gapi.state().join("ca/cert-manager/site-ca.crt")).expect("it is there");
    let authority = CertificateDer::from_pem_slice(&authority).expect("PEM");
    let (_, authority) = x509_parser::parse_x509_certificate(&authority).expect("a certificate");
    let usage = authority.key_usage().expect("it parses").expect("it is there");
    assert!(usage.value.key_cert_sign() && usage.value.digital_signature() && authority.is_ca());
    // Something else is asked for: it is made anew, at once.
    gapi.put("all.yaml", file(&documents).replace("spiffe://box", "spiffe://other"));
    wait("a second revision", LIMIT, || certificate(&gapi, "web/rich")["status"]["revision"] == 2);
    assert_eq!(certificate(&gapi, "web/rsa")["status"]["revision"], 1);
}

#[test]
fn a_secret_of_the_config_directory_wins() {
    let (port, backend) = (free_port(), Backend::named("hello"));
    let authority = Authority::new();
    let own = secret("a-tls", &authority.sign(&["a.example"]));
    let gapi = start(port, &backend).file("secret.yaml", file(&[own])).serve();
    let trust = authority.client(&[]);
    wait("the manifest's certificate is served", LIMIT, || answers(loopback(port), "a.example", &trust));
    wait_until_ready(&gapi, "cert-manager/site-ca");
    gapi.reload();
    assert!(!gapi.state().join("secrets/default/a-tls.yaml").exists());
    // It goes away: now one is made.
    gapi.take("secret.yaml");
    let path = gapi.state().join("ca/cert-manager/site-ca.crt");
    wait("the own CA's is served", LIMIT, || answers(loopback(port), "a.example", &trusting_file(&path)));
    // It comes back, and wins again; the store's stays as it is.
    let kept = fs::read(gapi.state().join("secrets/default/a-tls.yaml")).expect("it is kept");
    gapi.put("secret.yaml", file(&[secret("a-tls", &authority.sign(&["a.example"]))]));
    wait("the manifest's certificate is served again", LIMIT, || answers(loopback(port), "a.example", &trust));
    assert_eq!(fs::read(gapi.state().join("secrets/default/a-tls.yaml")).expect("it is kept"), kept);
}

#[test]
fn what_waits_for_its_certificate_says_so_and_others_serve() {
    let backend = Backend::named("hello");
    let port = free_port();
    let authority = Authority::new();
    let listeners = [https("a", port, Some("a.example"), "a-tls"), https("b", port, Some("b.example"), "b-tls")];
    let gate = annotated(gateway("gate", &listeners), &[("issuer", "nobody")]);
    let mut documents = vec![gate, secret("b-tls", &authority.sign(&["b.example"]))];
    documents.push(route("all", "gate", &[], &[prefix("/", "backend")]));
    documents.extend(service("backend", &[backend.address]));
    let gapi = Start::new().file("site.yaml", file(&documents)).serve();
    let trust = authority.client(&[]);
    wait("the other is served", LIMIT, || answers(loopback(port), "b.example", &trust));
    // No certificate of another name is shown.
    assert!(Client::tls(loopback(port), "a.example", &trust).is_err());
    let gate = gapi.status_file("default/gateways/gate.yaml");
    assert!(gate.contains("InvalidCertificateRef") && gate.contains("Issuer default/nobody does not exist"), "{gate}");
    // The issuer comes: no restart is needed.
    let issuer = object("Issuer", "default", "nobody", json!({"selfSigned": {}}));
    gapi.put("issuer.yaml", file(&[issuer]));
    wait_until_ready(&gapi, "default/a-tls");
    let kept = fs::read_to_string(gapi.state().join("secrets/default/a-tls.yaml")).expect("it is kept");
    let kept: Value = serde_yaml::from_str(&kept).expect("YAML");
    let pem = gapi::api::core::decode(kept["data"]["tls.crt"].as_str().expect("base64")).expect("base64");
    let trust = trusting(&String::from_utf8(pem).expect("PEM"));
    wait("it is served", LIMIT, || answers(loopback(port), "a.example", &trust));
}

#[test]
fn a_broken_store_is_told_and_made_good() {
    let (port, backend) = (free_port(), Backend::named("hello"));
    let gapi = start(port, &backend).serve();
    wait_until_ready(&gapi, "default/a-tls");
    let (_, start) = gapi.end(Signal::KILL, Duration::from_secs(20));
    let path = start.state().join("secrets/default/a-tls.yaml");
    fs::write(&path, "apiVersion: v1\nkind: Secr").expect("it is writable");
    let gapi = start.serve();
    let trust = trusting_file(&gapi.state().join("ca/cert-manager/site-ca.crt"));
    wait("it is made anew", LIMIT, || answers(loopback(port), "a.example", &trust));
    assert!(gapi.log().contains("a-tls.yaml cannot be used"), "{}", gapi.log());
    wait("it is no error any more", LIMIT, || gapi.reload().code == 0);
}

#[test]
fn nothing_is_issued_that_could_not_be_kept() {
    let (port, backend) = (free_port(), Backend::named("hello"));
    let start = start(port, &backend);
    fs::write(start.state().join("secrets"), "in the way").expect("it is writable");
    let gapi = start.serve();
    wait("the failure is told", LIMIT, || {
        let issuing = certificate(&gapi, "cert-manager/site-ca");
        condition(&issuing, "Issuing")["message"].as_str().is_some_and(|text| text.contains("could not be kept"))
    });
    assert!(gapi.ask(&["status"]).text.contains("could not be kept"));
    // Room is made: it is tried again without being told.
    fs::remove_file(gapi.state().join("secrets")).expect("it is there");
    wait_until_ready(&gapi, "default/a-tls");
}

/// What the Secret is to have beside the certificate is changed at once, and nothing is issued for that.
#[test]
fn a_secret_takes_another_form_with_the_same_certificate() {
    let mut documents = own_ca();
    documents.push(object(
        "Certificate",
        "web",
        "formed",
        json!({
            "secretName": "formed", "dnsNames": ["x.example"], "privateKey": {"algorithm": "ECDSA"},
            "secretTemplate": {"labels": {"one": "1", "two": "2"}, "annotations": {"note": "first"}},
            "issuerRef": {"name": "site-ca", "kind": "ClusterIssuer"},
        }),
    ));
    let gapi = Start::new().file("all.yaml", file(&documents)).serve();
    wait_until_ready(&gapi, "web/formed");
    let path = gapi.state().join("secrets/web/formed.yaml");
    let read = || -> Value { serde_yaml::from_str(&fs::read_to_string(&path).expect("text")).expect("YAML") };
    let first = read();
    assert_eq!(first["metadata"]["labels"]["one"], "1");
    let spec = &mut documents.last_mut().expect("it is there")["spec"];
    spec["secretTemplate"] = json!({"labels": {"two": "second"}});
    spec["additionalOutputFormats"] = json!([{"type": "CombinedPEM"}]);
    gapi.put("all.yaml", file(&documents));
    wait("the label is another", LIMIT, || read()["metadata"]["labels"]["two"] == "second");
    let second = read();
    assert!(second["metadata"]["labels"]["one"].is_null() && second["metadata"]["annotations"]["note"].is_null());
    assert_eq!(second["metadata"]["annotations"]["cert-manager.io/issuer-name"], "site-ca");
    assert!(second["data"]["tls-combined.pem"].is_string());
    for entry in ["tls.crt", "tls.key", "ca.crt"] {
        assert_eq!(second["data"][entry], first["data"][entry], "{entry}");
    }
    let stays = |gapi: &crate::support::Gapi| {
        let document = certificate(gapi, "web/formed");
        assert_eq!(
            (&document["status"]["revision"], &condition(&document, "Ready")["status"]),
            (&json!(1), &json!("True"))
        );
        assert!(condition(&document, "Issuing").is_null());
    };
    gapi.reload();
    stays(&gapi);
    // It is known after a restart: the file stays as it is.
    let written = |path: &std::path::Path| fs::metadata(path).and_then(|file| file.modified()).expect("it is there");
    let before = written(&path);
    let (_, start) = gapi.end(Signal::TERM, Duration::from_secs(20));
    let gapi = start.serve();
    wait_until_ready(&gapi, "web/formed");
    gapi.reload();
    assert_eq!(written(&path), before);
    stays(&gapi);
}
