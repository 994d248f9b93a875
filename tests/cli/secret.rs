//! What `gapi check` keeps to itself.

use std::fs;

use super::support::RuntimeDir;

const KEY: &str = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCg";
const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMIIEvgIBADANBgkqhkiG9w0BAQEFAASC\n";

/// No line of a Secret is shown, nor of what may be meant as one; its place is.
#[test]
fn the_source_lines_of_secrets_are_not_shown() {
    let dir = RuntimeDir::new();
    let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata:\n  tls.key: {KEY}\n");
    let json = format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [{{"apiVersion": "v1", "kind": "Service", "metadata": {{"name": "a"}}, "spek": 1}},
           {{"apiVersion": "v1", "kind": "Secret", "metadata": {{"name": "a"}}, "data": {{"k": "{KEY}"}}}}]}}"#
    )
    .replace('\n', "");
    let broken = [
        secret.clone(),
        secret.replace("tls.key: ", "tls.key: [ "),
        secret.replace("tls.key: ", "tls.key: a: "),
        secret.replace("  tls.key", "\ttls.key"),
        secret.replace("tls.key: ", "tls.key: *"),
        secret.replace("data:\n  ", ""),
        secret.replace("kind: Secret\n", ""),
        json,
        PEM.to_owned(),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  tls.key: |\n{PEM}"),
    ];
    let path = dir.path().join("secret.yaml");
    for text in &broken {
        fs::write(&path, text).expect("a temporary file");
        let ran = dir.gapi(&format!("check {}", path.display()));
        assert_eq!(ran.code, 1, "{text}{}", ran.out);
        assert!(!ran.out.contains(&KEY[..12]) && !ran.out.contains("PRIVATE KEY"), "{text}{}", ran.out);
        assert!(ran.out.contains("secret.yaml:"), "{}", ran.out);
    }
}

/// The other documents of such a file keep theirs.
#[test]
fn the_source_lines_of_others_are_shown() {
    let dir = RuntimeDir::new();
    let path = dir.path().join("all.yaml");
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{prt: 80}]}\n";
    fs::write(&path, text).expect("a temporary file");
    let ran = dir.gapi(&format!("check {}", path.display()));
    assert!(ran.out.contains("8 | spec: {ports: [{prt: 80}]}"), "{}", ran.out);
}
