use super::{
    fields::nearest,
    text::{duration, ip_address},
    time::rfc3339,
};
use crate::manifest::{parse::parse_file, span::Bounds};

fn reasons(spec: &str) -> Vec<String> {
    let text =
        format!("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec: {spec}\n");
    let parsed = parse_file("a.yaml", text.as_bytes(), &Bounds::default());
    parsed.findings.into_iter().map(|finding| finding.reason).collect()
}

#[test]
fn type_faults_block_the_rules_between_fields_and_pattern_faults_do_not() {
    let clash = "listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}]";
    assert_eq!(reasons(&format!("{{gatewayClassName: a, {clash}}}")), ["ConflictingFields"]);
    assert_eq!(reasons(&format!("{{gatewayClassName: 1, {clash}}}")), ["WrongType"]);
    assert_eq!(reasons(&format!("{{{clash}}}")), ["MissingField"]);
    let address = "addresses: [{value: x}]";
    assert_eq!(reasons(&format!("{{gatewayClassName: a, {address}, {clash}}}")), ["InvalidValue", "ConflictingFields"]);
    assert_eq!(reasons(&format!("{{gatewayClassName: a, x: 1, {clash}}}")), ["UnknownField", "ConflictingFields"]);
}

#[test]
fn forms() {
    assert_eq!(duration("1ms1h"), Some(3_600_001));
    assert_eq!([duration("0"), duration("1.5s"), duration("1s1s1s1s1s"), duration("")], [None; 4]);
    assert!(["1.2.3.04", "::1", "::ffff:1.2.3.4"].into_iter().all(ip_address));
    assert!(!["1.2.3", "1.2.3.256", "fe80::1%eth0", "", "1.2.3."].into_iter().any(ip_address));
    assert!(["2026-01-31T12:00:00Z", "2024-02-29T1:00:00.5+01:00"].into_iter().all(rfc3339));
    assert!(
        !["2026-01-31 12:00:00Z", "2026-02-29T12:00:00Z", "2026-01-31t12:00:00Z", "é-1-1T0:0:0Z"]
            .into_iter()
            .any(rfc3339)
    );
}

#[test]
fn the_word_that_was_meant() {
    let known = ["hostname", "hostnames", "backendRefs", "name"];
    assert_eq!(nearest("backendref", &known), Some("backendRefs"));
    assert_eq!(nearest("Hostnames", &known), Some("hostnames"));
    assert_eq!(nearest("filters", &known), None);
}
