//! Another key for an ACME account, against Pebble.

use std::{fs, path::PathBuf, thread, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    acme::{http01, site, start},
    harness::{LIMIT, object, wait_until_ready},
    pebble::Pebble,
};
use crate::support::{Backend, Gapi, gapi::Start, manifest::file, wait};

const MARK: &str = "gapi.dev/roll-account-key";

fn path(state: PathBuf) -> PathBuf {
    state.join("secrets/cert-manager/account-key.yaml")
}

fn read(path: PathBuf) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap_or_default()).unwrap_or(Value::Null)
}

fn secret(gapi: &Gapi) -> Value {
    read(path(gapi.state()))
}

/// The account's URL, as the issuer's status has it.
fn account(gapi: &Gapi) -> String {
    let mut found = String::new();
    wait("the account is registered", LIMIT, || {
        let status = gapi.status_file("_cluster/clusterissuers/pebble.yaml");
        let status: Value = serde_yaml::from_str(&status).unwrap_or(Value::Null);
        found = status["status"]["acme"]["uri"].as_str().unwrap_or_default().to_owned();
        !found.is_empty()
    });
    found
}

/// The documents with this value of the annotation, and Certificates of these names.
fn asking(pebble: &Pebble, mark: &str, names: &[&str], backend: &Backend) -> Vec<Value> {
    let mut documents = site(pebble, &http01(), &[], backend);
    // Without listeners there is no Gateway.
    documents.retain(|document| document["kind"] != "Gateway" && document["kind"] != "HTTPRoute");
    if !mark.is_empty() {
        documents[0]["metadata"]["annotations"] = json!({ MARK: mark });
    }
    for name in names {
        let spec = json!({
            "secretName": name, "dnsNames": [format!("{name}.example")], "privateKey": {"algorithm": "ECDSA"},
            "issuerRef": {"name": "pebble", "kind": "ClusterIssuer"},
        });
        documents.push(object("Certificate", "default", name, spec));
    }
    documents
}

fn restart(start: Start, pebble: &Pebble) -> Gapi {
    start.flag("--acme-http-port", &pebble.http.to_string()).spawn()
}

fn wait_until_rolled(gapi: &Gapi, mark: &str) -> Value {
    wait("the key is another", LIMIT, || secret(gapi)["metadata"]["annotations"][MARK] == mark);
    secret(gapi)
}

#[test]
fn an_account_keeps_its_url_when_its_key_changes() {
    let Some(mut pebble) = Pebble::new() else { return };
    pebble.start();
    let backend = Backend::named("hello");
    let gapi = start(&pebble, &asking(&pebble, "", &["a"], &backend)).spawn();
    wait_until_ready(&gapi, "default/a");
    let (url, first) = (account(&gapi), secret(&gapi)["data"]["tls.key"].clone());
    gapi.put("site.yaml", file(&asking(&pebble, "2026-11", &["a"], &backend)));
    let second = wait_until_rolled(&gapi, "2026-11")["data"].clone();
    assert_ne!(second["tls.key"], first);
    assert!(second["tls.key.next"].is_null(), "{second}");
    // The new key orders, and no second account is made.
    gapi.put("site.yaml", file(&asking(&pebble, "2026-11", &["a", "b"], &backend)));
    wait_until_ready(&gapi, "default/b");
    assert_eq!(account(&gapi), url);
    // Cut off after the server heard of it, and before: as the disk would then be.
    let fresh = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let fresh = json!(STANDARD.encode(fresh));
    let mut from = gapi;
    for (was, next, name) in [(&first, &second["tls.key"], "c"), (&second["tls.key"], &fresh, "d")] {
        let (_, start) = from.end(Signal::KILL, Duration::from_secs(20));
        let mut cut = read(path(start.state()));
        cut["metadata"]["annotations"] = json!({});
        cut["data"] = json!({"tls.key": was, "tls.key.next": next});
        fs::write(path(start.state()), cut.to_string()).expect("it is writable");
        from = restart(start, &pebble);
        assert_eq!(wait_until_rolled(&from, "2026-11")["data"], json!({ "tls.key": next }));
        from.put("site.yaml", file(&asking(&pebble, "2026-11", &["a", "b", name], &backend)));
        wait_until_ready(&from, &format!("default/{name}"));
        assert_eq!(account(&from), url);
    }
    assert!(!pebble.log().contains("There are now 2 accounts"), "one account");
    // The same value asks for nothing.
    from.reload();
    assert_eq!(secret(&from)["data"], json!({ "tls.key": fresh }));
}

/// Killed again and again while keys change: the account is never lost.
#[test]
fn a_change_of_key_survives_kills() {
    let Some(mut pebble) = Pebble::new() else { return };
    pebble.start();
    let backend = Backend::named("hello");
    let gapi = start(&pebble, &asking(&pebble, "", &["a"], &backend)).spawn();
    wait_until_ready(&gapi, "default/a");
    let url = account(&gapi);
    let mut gapi = gapi;
    for round in 0..10 {
        let mark = format!("round-{round}");
        gapi.put("site.yaml", file(&asking(&pebble, &mark, &["a"], &backend)));
        thread::sleep(Duration::from_millis(40 * round));
        let (_, start) = gapi.end(Signal::KILL, Duration::from_secs(20));
        gapi = restart(start, &pebble);
        wait_until_rolled(&gapi, &mark);
    }
    gapi.put("site.yaml", file(&asking(&pebble, "round-9", &["a", "b"], &backend)));
    wait_until_ready(&gapi, "default/b");
    assert_eq!(account(&gapi), url);
    assert!(!pebble.log().contains("There are now 2 accounts"), "one account");
}

#[test]
fn a_key_of_a_manifest_stays() {
    let Some(pebble) = Pebble::new() else { return };
    // The account is made for the key that is there, bound to an external one.
    let mut pebble = pebble.external();
    pebble.start();
    let backend = Backend::named("hello");
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let own = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "account-key", "namespace": "cert-manager"},
        "stringData": {"tls.key": key},
    });
    let documents = asking(&pebble, "now", &["a"], &backend);
    let gapi = start(&pebble, &documents).file("key.yaml", file(&[own])).spawn();
    wait_until_ready(&gapi, "default/a");
    let text = gapi.ask(&["status"]).text;
    assert!(text.contains("the account keeps its key: Secret cert-manager/account-key is a manifest"), "{text}");
    assert!(!path(gapi.state()).exists());
    // The key is gapi's own now, but another issuer's too.
    let mut documents = documents;
    let mut other = documents[0].clone();
    other["metadata"]["name"] = json!("other");
    documents.push(other);
    gapi.put("site.yaml", file(&documents));
    gapi.take("key.yaml");
    wait("a key is made", LIMIT, || path(gapi.state()).exists());
    let first = secret(&gapi)["data"].clone();
    documents[0]["metadata"]["annotations"][MARK] = json!("later");
    gapi.put("site.yaml", file(&documents));
    wait("the sharing is told", LIMIT, || {
        gapi.ask(&["status"]).text.contains("another issuer has its key in Secret cert-manager/account-key too")
    });
    gapi.reload();
    assert_eq!(secret(&gapi)["data"], first);
}
