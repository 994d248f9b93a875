//! What the server stores of core documents, and where gapi differs from it on purpose. That verdicts agree is shown by
//! the corpus in `tests/admission`.

use serde_json::{Value, json};

use crate::{
    api::{
        Kind,
        core::{EndpointSlice, Secret},
    },
    manifest::{
        admit::{Fault, judge},
        span::{Bounds, read},
    },
};

fn admit(kind: Kind, text: &str) -> (Value, Vec<Fault>) {
    let documents = read(text, &Bounds::default()).expect("the test's text is YAML");
    judge(kind, &documents[0].root)
}

/// The stored form of what stands below `metadata: {name: a}`.
fn stored(kind: Kind, rest: &str) -> Value {
    let (value, faults) = admit(kind, &format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n{rest}"));
    assert_eq!(faults, []);
    value
}

fn faults(kind: Kind, rest: &str) -> Vec<String> {
    let (_, faults) = admit(kind, &format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n{rest}"));
    faults.into_iter().map(|fault| format!("{}: {}; {}", fault.field, fault.message, fault.remedy)).collect()
}

#[test]
fn a_service_is_stored_with_its_defaults() {
    let value = stored(Kind::Service, "spec: {clusterIP: 10.0.0.1, ports: [{port: 80, targetPort: 0, protocol: ''}]}");
    let expected = json!({
        "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    });
    assert_eq!(value["spec"], expected);
}

#[test]
fn sticky_services_have_a_time_limit_and_others_none() {
    let value = stored(Kind::Service, "spec: {sessionAffinity: ClientIP, ports: [{port: 80}]}");
    assert_eq!(value["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    let config = "sessionAffinityConfig: {clientIP: {timeoutSeconds: -1}}";
    let value = stored(Kind::Service, &format!("spec: {{{config}, ports: [{{port: 80}}]}}"));
    assert_eq!(value["spec"].get("sessionAffinityConfig"), None);
}

#[test]
fn a_load_balancer_is_stored_with_its_policies() {
    let value = stored(Kind::Service, "spec: {type: LoadBalancer, ports: [{port: 80}]}");
    assert_eq!(value["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(value["spec"]["allocateLoadBalancerNodePorts"], true);
}

#[test]
fn null_items_are_empty_items() {
    let slice = stored(Kind::EndpointSlice, "addressType: IPv4\nports: [null, {name: b, port: 70000}]");
    let expected = json!([{"name": "", "protocol": "TCP"}, {"name": "b", "port": 70000, "protocol": "TCP"}]);
    assert_eq!(slice["ports"], expected);
    let slice: EndpointSlice = serde_json::from_value(slice).expect("admitted");
    assert_eq!(slice.ports[1].port, Some(0), "no port, so nothing is reached");
}

#[test]
fn addresses_of_this_machine_are_endpoints() {
    stored(Kind::Endpoints, "subsets: [{addresses: [{ip: 127.0.0.1}, {ip: '::1'}, {ip: 169.254.1.1}]}]");
    stored(Kind::EndpointSlice, "addressType: IPv6\nendpoints: [{addresses: ['::1', 'fe80::1']}]");
    assert_eq!(faults(Kind::Endpoints, "subsets: [{addresses: [{ip: 0.0.0.0}]}]").len(), 1);
    assert_eq!(faults(Kind::Service, "spec: {externalIPs: [127.0.0.1], ports: [{port: 80}]}").len(), 1);
}

#[test]
fn a_secret_has_its_bytes_from_both_fields() {
    let text = "data: {a: \"aGVs\\nbG8=\", b: [104, 105], c: null, d: aGVsbG9=}\nstringData: {a: text, e: null}";
    let value = stored(Kind::Secret, text);
    assert_eq!(value["type"], "Opaque");
    assert_eq!(value["data"], json!({"a": "aGVsbG8=", "b": "aGk=", "c": "", "d": "aGVsbG8="}));
    let secret: Secret = serde_json::from_value(value).expect("admitted");
    let bytes = ["a", "b", "c", "d", "e", "f"].map(|key| secret.bytes(key));
    assert_eq!(bytes, [Some("text"), Some("hi"), Some(""), Some("hello"), Some(""), None].map(|b| b.map(Vec::from)));
}

#[test]
fn what_a_secret_holds_is_in_no_message() {
    for rest in ["stringData: {a: 12345}", "data: {a: 12345}", "data: {a: '12345'}", "data: {a: [12345]}"] {
        let faults = faults(Kind::Secret, rest);
        assert_eq!(faults.len(), 1, "{rest}");
        assert!(!faults[0].contains("12345"), "{faults:?}");
    }
}

#[test]
fn a_value_without_its_key_is_in_no_message() {
    let value = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JSUV2Z0lCQURBTkJna3Foa2lHOXcw".repeat(9);
    for rest in [
        format!("data: {{{value}: '!'}}"),
        format!("stringData: {{{value}: 5}}"),
        format!("data: {{'{value}': 'eA=='}}"),
    ] {
        let faults = faults(Kind::Secret, &rest);
        assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.contains(&value[..60])), "{faults:?}");
    }
}

#[test]
fn numbers_that_no_server_takes_are_no_json() {
    let with =
        |text: &str| format!("type: kubernetes.io/dockerconfigjson\nstringData: {{.dockerconfigjson: '{text}'}}");
    for json in [
        r#"{"a": [1e300, "1e999", "\"1e999"]}"#.to_owned(),
        format!("{{\"a\":{}1{}}}", "[".repeat(900), "]".repeat(900)),
    ] {
        stored(Kind::Secret, &with(&json));
    }
    assert_eq!(faults(Kind::Secret, &with(r#"{"a": 1e999}"#)).len(), 1);
}

#[test]
fn a_tls_secret_needs_both_entries_wherever_they_stand() {
    stored(Kind::Secret, "type: kubernetes.io/tls\ndata: {tls.crt: ''}\nstringData: {tls.key: x}");
    let faults = faults(Kind::Secret, "type: kubernetes.io/tls\nstringData: {tls.crt: x}");
    let message = "data[tls.key]: a Secret of type kubernetes.io/tls needs the private key in PEM under tls.key; \
                   add it, or change the Secret's type";
    assert_eq!(faults, [message]);
}

#[test]
fn a_namespace_has_its_name_as_a_label() {
    let value = stored(Kind::Namespace, "spec: {finalizers: [example.com/f]}");
    assert_eq!(value["metadata"], json!({"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}));
}

#[test]
fn ports_that_clash_are_reported_where_they_stand() {
    let text = "spec:\n  ports:\n  - {name: a, port: 80}\n  - {name: b, port: 80}\n  - {port: 80, protocol: UDP}\n";
    let (_, faults) = admit(Kind::Service, &format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\n{text}"));
    let at: Vec<_> = faults.iter().map(|fault| (fault.field.as_str(), fault.place.line, fault.place.column)).collect();
    assert_eq!(at, [("spec.ports[1]", 7, 21), ("spec.ports[2].name", 8, 5)]);
}
