//! What an ACME server is asked for, how often, and what comes of its answers: against a double.

use std::{thread, time::Duration};

use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose as Extended, KeyUsagePurpose as Usage};
use serde_json::{Value, json};

use super::{
    double::Double,
    harness::{LIMIT, annotated, certificate, condition, object, wait_until_ready},
};
use crate::support::{
    Gapi, free_port,
    gapi::Start,
    manifest::{file, gateway, https},
    wait,
};

/// A Certificate of Issuer `double` for one name, with more in its `spec`.
fn wanted(name: &str, more: Value) -> Value {
    let mut spec = json!({
        "secretName": name, "dnsNames": [format!("{name}.example")], "privateKey": {"algorithm": "ECDSA"},
        "issuerRef": {"name": "double"},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    object("Certificate", "default", name, spec)
}

fn start(double: &Double, certificates: &[Value]) -> Start {
    let issuer = object("Issuer", "default", "double", double.issuer());
    Start::new().file("issuer.yaml", file(&[issuer])).file("wanted.yaml", file(certificates))
}

fn wait_until_told(gapi: &Gapi, name: &str, text: &str) -> String {
    let mut message = String::new();
    wait(&format!("{name} says {text}"), LIMIT, || {
        let document = certificate(gapi, name);
        message = condition(&document, "Issuing")["message"].as_str().unwrap_or_default().to_owned();
        message.contains(text)
    });
    message
}

#[test]
fn a_change_of_email_reaches_the_account() {
    let double = Double::new();
    let mut issuer = double.issuer();
    issuer["acme"]["email"] = json!("first@example.com");
    let document = |issuer: &Value| file(&[object("Issuer", "default", "double", issuer.clone())]);
    let gapi = start(&double, &[wanted("a", json!({}))]).file("issuer.yaml", document(&issuer)).serve();
    wait_until_ready(&gapi, "default/a");
    assert_eq!(double.state().payloads("/account")[0]["contact"], json!(["mailto:first@example.com"]));
    let last = || double.state().payloads("/account/1").last().map(|payload| payload["contact"].clone());
    issuer["acme"]["email"] = json!("second@example.com");
    gapi.put("issuer.yaml", document(&issuer));
    wait("the server hears of it", LIMIT, || last() == Some(json!(["mailto:second@example.com"])));
    issuer["acme"].as_object_mut().expect("an object").remove("email");
    gapi.put("issuer.yaml", document(&issuer));
    wait("the server hears that there is none", LIMIT, || last() == Some(json!([])));
    // The account stays the same, and nothing is issued for that.
    let created = double.state().payloads("/account").into_iter().filter(|one| one["onlyReturnExisting"] != true);
    assert_eq!((created.count(), certificate(&gapi, "default/a")["status"]["revision"].clone()), (1, json!(1)));
}

#[test]
fn usages_are_asked_for() {
    let double = Double::new();
    let usages = json!({"usages": ["digital signature", "server auth", "client auth"]});
    let gapi = start(&double, &[wanted("a", usages.clone())]).serve();
    wait_until_ready(&gapi, "default/a");
    let asked = |number: usize| {
        let der = double.state().request(number);
        CertificateSigningRequestParams::from_der(&der.as_slice().into()).expect("a request").params
    };
    assert_eq!(asked(0).key_usages, [Usage::DigitalSignature]);
    assert_eq!(asked(0).extended_key_usages, [Extended::ServerAuth, Extended::ClientAuth]);
    let mut silent = usages;
    silent["encodeUsagesInRequest"] = json!(false);
    gapi.put("wanted.yaml", file(&[wanted("a", json!({})), wanted("b", silent)]));
    wait_until_ready(&gapi, "default/b");
    wait("the change is asked for", LIMIT, || certificate(&gapi, "default/a")["status"]["revision"] == 2);
    let (one, other) = (asked(1), asked(2));
    let (changed, silent) = if one.key_usages.is_empty() { (other, one) } else { (one, other) };
    assert_eq!(changed.key_usages, [Usage::DigitalSignature, Usage::KeyEncipherment]);
    assert_eq!(changed.extended_key_usages, []);
    assert_eq!((silent.key_usages, silent.extended_key_usages), (vec![], vec![]));
}

#[test]
fn a_renewal_comes_when_the_server_suggests_it() {
    let double = Double::new();
    double.state().window = Some((Duration::from_secs(3), Duration::from_secs(5)));
    let gapi = start(&double, &[wanted("a", json!({}))]).serve();
    wait_until_ready(&gapi, "default/a");
    wait("it is renewed", LIMIT, || certificate(&gapi, "default/a")["status"]["revision"] == 2);
    let orders = double.state().payloads("/order");
    assert_eq!(orders.len(), 2);
    assert!(orders[0]["replaces"].is_null());
    let asked = double.state().read.iter().find_map(|path| path.strip_prefix("/renewal/").map(str::to_owned));
    assert_eq!(orders[1]["replaces"].as_str(), asked.as_deref());
}

/// A server that says when to come back is left alone until then, however many names wait for it.
#[test]
fn a_server_that_has_enough_is_left_alone() {
    let double = Double::new();
    double.state().refuses_all = Some((429, "rateLimited", "far too many", Some(3600)));
    let port = free_port();
    let listeners: Vec<Value> =
        (0..40).map(|i| https(&format!("n{i}"), port, Some(&format!("n{i}.example")), &format!("n{i}"))).collect();
    let gate = annotated(gateway("gate", &listeners), &[("issuer", "double")]);
    let gapi = start(&double, &[gate]).serve();
    wait("the answer is told", LIMIT, || {
        let text = gapi.ask(&["get", "issuers", "-o", "wide"]).text;
        text.contains("429") && text.contains("far too many")
    });
    for _ in 0..5 {
        gapi.reload();
        thread::sleep(Duration::from_millis(300));
    }
    let state = double.state();
    assert_eq!((state.read.len(), state.asked.len()), (1, 0), "{:?}", state.asked);
}

/// The limit of one name, and a refusal for another, keep no third from its certificate.
#[test]
fn refused_names_wait_and_others_are_issued() {
    let double = Double::new();
    {
        let mut state = double.state();
        let limit = (429, "rateLimited", "too many certificates for limited.example", Some(7200));
        state.refuses.insert("limited.example".into(), limit);
        let caa = (403, "caa", "CAA record for caa.example prevents issuance", None);
        state.refuses.insert("caa.example".into(), caa);
    }
    let gapi = start(&double, &["limited", "caa"].map(|name| wanted(name, json!({})))).serve();
    let limited = wait_until_told(&gapi, "default/limited", "too many certificates for limited.example");
    let until = limited.split("not before ").nth(1).and_then(|rest| rest.split(')').next()).expect("it says when");
    let until: jiff::Timestamp = until.parse().expect("a time");
    let wait = until.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((7000..=7920).contains(&wait), "Retry-After is respected: {limited}");
    wait_until_told(&gapi, "default/caa", "caa: CAA record for caa.example prevents issuance");
    let documents = ["limited", "caa", "free"].map(|name| wanted(name, json!({})));
    gapi.put("wanted.yaml", file(&documents));
    wait_until_ready(&gapi, "default/free");
    for _ in 0..3 {
        gapi.reload();
    }
    assert_eq!(double.state().payloads("/order").len(), 3, "neither is asked for again at once");
}

#[test]
fn two_hundred_names_make_no_storm() {
    let double = Double::new();
    double.state().delay = Duration::from_millis(100);
    let documents: Vec<Value> = (0..200).map(|i| wanted(&format!("n{i}"), json!({}))).collect();
    let gapi = start(&double, &documents).serve();
    let limit = Duration::from_secs(240);
    wait("all are ready", limit, || {
        let table = gapi.ask(&["get", "certificates"]).text;
        table.lines().filter(|line| line.contains(" True ")).count() == documents.len()
    });
    let state = double.state();
    assert_eq!(state.payloads("/order").len(), documents.len(), "each is ordered once");
    assert!((2..=20).contains(&state.most_open), "{} orders at once", state.most_open);
}
