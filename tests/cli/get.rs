//! `gapi get`: columns, formats, scopes, what is not there.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::*;

/// The age of everything in the fixtures.
fn age() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    format!("{}y", (seconds - 978_307_200) / 86400 / 365)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_columns_are_kubectls() {
    let dir = RuntimeDir::with_daemon(view());
    let age = age();
    for (words, expected) in [
        (
            "gatewayclasses",
            vec!["NAME CONTROLLER ACCEPTED AGE".into(), format!("gapi gapi.dev/gateway-controller True {age}")],
        ),
        (
            "gc -o wide",
            vec![
                "NAME CONTROLLER ACCEPTED AGE DESCRIPTION".into(),
                format!("gapi gapi.dev/gateway-controller True {age} this machine"),
            ],
        ),
        (
            "gateway -n infrastructure",
            vec!["NAME CLASS ADDRESS PROGRAMMED AGE".into(), format!("platform gapi 192.0.2.1 True {age}")],
        ),
        ("HTTPRoutes -n echo", vec!["NAME HOSTNAMES AGE".into(), format!(r#"echo-1 ["a.example","yes"] {age}"#)]),
        (
            "httproutes -A -o wide",
            vec![
                "NAMESPACE NAME HOSTNAMES AGE PARENTS ACCEPTED".into(),
                format!(
                    r#"echo echo-1 ["a.example","yes"] {age} infrastructure/platform/http,infrastructure/platform/https 1/2"#
                ),
            ],
        ),
        (
            "svc -n echo",
            vec![
                "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE".into(),
                format!("echo-1 ClusterIP 10.0.0.1 <none> 80/TCP {age}"),
            ],
        ),
        ("secrets -n echo", vec!["NAME TYPE DATA AGE".into(), format!("tls kubernetes.io/tls 2 {age}")]),
        (
            "endpointslices.discovery.k8s.io -n echo",
            vec![
                "NAME ADDRESSTYPE PORTS ENDPOINTS AGE".into(),
                format!("echo-1-x IPv4 3000 127.0.0.1,127.0.0.2 {age}"),
            ],
        ),
        ("ns echo", vec!["NAME STATUS AGE".into(), format!("echo Active {age}")]),
        (
            "gateways,svc -A --no-headers",
            vec![
                format!("infrastructure gateway.gateway.networking.k8s.io/platform gapi 192.0.2.1 True {age}"),
                String::new(),
                format!("echo service/echo-1 ClusterIP 10.0.0.1 <none> 80/TCP {age}"),
            ],
        ),
        ("gateway/platform -n infrastructure -o name", vec!["gateway.gateway.networking.k8s.io/platform".into()]),
    ] {
        let ran = dir.gapi(&format!("get {words}"));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words}");
        assert_eq!(lines(&ran.out), expected, "{words}");
    }
    let ran = dir.gapi("get gateway -n infrastructure");
    let spaced =
        format!("NAME       CLASS   ADDRESS     PROGRAMMED   AGE\nplatform   gapi    192.0.2.1   True         {age}\n");
    assert_eq!(ran.out, spaced);
}

#[test]
fn documents_are_whole_objects() {
    let dir = RuntimeDir::with_daemon(view());
    let ran = dir.gapi("get httproute echo-1 -n echo -o json");
    assert_eq!(serde_json::from_str::<Value>(&ran.out).expect("JSON"), route());
    assert!(
        ran.out.starts_with("{\n    \"apiVersion\": \"gateway.networking.k8s.io/v1\",\n    \"kind\""),
        "{}",
        ran.out
    );
    let ran = dir.gapi("get httproute echo-1 -n echo -o yaml");
    assert_eq!(serde_yaml::from_str::<Value>(&ran.out).expect("YAML"), route());
    assert!(ran.out.contains("- \"yes\"\n"), "a word that YAML 1.1 takes for true is quoted: {}", ran.out);
    let ran = dir.gapi("get gateways,gatewayclasses -A -o json");
    let list: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(
        list,
        json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": [gateway(), gateway_class()] })
    );
}

#[test]
fn secrets_stay_secret() {
    let dir = RuntimeDir::with_daemon(view());
    for words in
        ["get secret tls -n echo -o yaml", "get secrets -A -o json", "describe secret tls -n echo", "status -o json"]
    {
        let ran = dir.gapi(words);
        assert_eq!(ran.code, 0, "{words}");
        assert!(!ran.out.contains("aHVudGVyMg") && !ran.out.contains("hunter2"), "{words}: {}", ran.out);
        assert_eq!(ran.out.contains("<7 bytes>"), !words.starts_with("status"), "{words}: {}", ran.out);
    }
}

#[test]
fn what_is_not_there_is_told() {
    let dir = RuntimeDir::with_daemon(view());
    for (words, code, err) in [
        ("get gateway", 0, "No resources found in default namespace.\n"),
        ("get referencegrants -A", 0, "No resources found\n"),
        (
            "get gateways x -n infrastructure",
            1,
            "Error from server (NotFound): gateways.gateway.networking.k8s.io \"x\" not found\n",
        ),
        ("describe gtw/x", 1, "Error from server (NotFound): gateways.gateway.networking.k8s.io \"x\" not found\n"),
        ("get gateway x -A", 2, "gapi: an object cannot be named across all namespaces; leave out the name or -A\n"),
    ] {
        let ran = dir.gapi(words);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (code, "", err), "{words}");
    }
    let ran = dir.gapi("get pods");
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("there is no kind \"pods\"; kinds are: ") && ran.err.contains("httproutes"),
        "{}",
        ran.err
    );
    assert_eq!(dir.gapi("get").code, 2);
    assert_eq!(dir.gapi("get gateways -o table").code, 2);
    let found = dir.gapi("get gateway platform x -n infrastructure");
    assert_eq!((found.code, found.out.lines().count()), (1, 2), "what is found is printed: {found:?}");
}

#[test]
fn without_a_daemon_status_files_answer() {
    let dir = RuntimeDir::new();
    for words in ["get gateways -A", "describe gateway x", "status", "reload"] {
        let ran = dir.gapi(words);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{words}: {ran:?}");
        assert!(ran.err.contains("no daemon runs"), "{words}: {ran:?}");
    }
    dir.write_status("infrastructure", "gateways", &gateway());
    dir.write_status("_cluster", "gatewayclasses", &gateway_class());
    dir.write_status("echo", "httproutes", &route());
    std::fs::write(dir.path().join("status/echo/httproutes/.new.yaml"), "{").expect("temporary file");
    let ran = dir.gapi("get gateways,gatewayclasses,httproutes -A -o name");
    let names = "gateway.gateway.networking.k8s.io/platform\ngatewayclass.gateway.networking.k8s.io/gapi\n\
                 httproute.gateway.networking.k8s.io/echo-1\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, names), "{ran:?}");
    assert_eq!(ran.err.matches("showing status files").count(), 1, "{}", ran.err);
    let ran = dir.gapi("describe gateway platform -n infrastructure");
    assert!(ran.out.contains("HTTPRoute echo/echo-1 at listener http: accepted, but"), "{}", ran.out);
    let ran = dir.gapi("describe httproute echo-1 -n echo");
    assert!(ran.out.contains("not accepted, NotAllowedByListeners") && !ran.out.contains("Backends:"), "{}", ran.out);
    assert_eq!(dir.gapi("get gateway other -n infrastructure").code, 1);
    let ran = dir.gapi("get secrets -A");
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("secrets have no status files"), "{}", ran.err);
    assert_eq!(dir.gapi("status").code, 3);
}

#[test]
fn a_broken_status_file_hides_no_other() {
    let dir = RuntimeDir::new();
    dir.write_status("infrastructure", "gateways", &gateway());
    std::fs::write(dir.path().join("status/infrastructure/gateways/broken.yaml"), "a: [").expect("temporary file");
    let ran = dir.gapi("get gateways -A -o name");
    assert_eq!((ran.code, ran.out.as_str()), (0, "gateway.gateway.networking.k8s.io/platform\n"));
    assert!(ran.err.contains("broken.yaml"), "{}", ran.err);
}

#[test]
fn watching_prints_what_changes() {
    let dir = RuntimeDir::new();
    dir.write_status("infrastructure", "gateways", &gateway());
    let mut child = Command::new(env!("CARGO_BIN_EXE_gapi"))
        .args(["get", "gateways", "-A", "--watch"])
        .env("GAPI_RUNTIME_DIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut output = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut next = || lines(&output.next().expect("goes on").expect("text")).remove(0);
    let age = age();
    assert_eq!(next(), "NAMESPACE NAME CLASS ADDRESS PROGRAMMED AGE");
    assert_eq!(next(), format!("infrastructure platform gapi 192.0.2.1 True {age}"));
    let mut changed = gateway();
    changed["status"]["addresses"][0]["value"] = "192.0.2.2".into();
    dir.write_status("infrastructure", "gateways", &changed);
    assert_eq!(next(), format!("infrastructure platform gapi 192.0.2.2 True {age}"));
    changed["metadata"]["name"] = "second".into();
    dir.write_status("infrastructure", "gateways", &changed);
    assert_eq!(next(), format!("infrastructure second gapi 192.0.2.2 True {age}"));
    child.kill().expect("still watches");
    child.wait().expect("ends");
}
