use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> ParsedFile {
    parse_file("routes.yaml", text.as_bytes(), &Bounds::default())
}

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: echo
spec:
  parentRefs:
  - name: gw
  rules:
  - backendRefs:
    - name: echo
      port: 80
";

#[test]
fn an_object_is_typed_defaulted_and_has_places() {
    let parsed = parse(ROUTE);
    assert_eq!(parsed.findings, []);
    let object = &parsed.objects[0];
    assert_eq!(object.key.to_string(), "HTTPRoute default/echo");
    assert_eq!(object.meta.namespace, "default");
    assert!(!object.meta.creation_timestamp_written);
    assert_eq!(object.value["spec"]["rules"][0]["matches"][0]["path"]["value"], "/");
    assert_eq!(object.value["spec"]["rules"][0]["backendRefs"][0]["weight"], 1);
    let place = object.place("spec.rules[0].backendRefs[0].port");
    assert_eq!((place.line, place.column), (11, 13));
    assert_eq!(object.place("spec.rules[0].timeouts.request").line, 9);
}

#[test]
fn findings_point_where_the_fault_is() {
    let parsed = parse(&ROUTE.replace("port: 80", "port: \"80\"").replace("    - name: echo", "    - nam: echo"));
    let found: Vec<_> = parsed
        .findings
        .iter()
        .map(|finding| {
            let origin = finding.origin.clone().unwrap_or_default();
            (finding.field.as_str(), finding.reason.as_str(), origin.line, origin.column)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("spec.rules[0].backendRefs[0].nam", "UnknownField", 10, 7),
            ("spec.rules[0].backendRefs[0].name", "MissingField", 10, 7),
            ("spec.rules[0].backendRefs[0].port", "WrongType", 11, 13),
        ]
    );
    assert_eq!(parsed.findings[0].remedy, "did you mean name?");
    assert_eq!(parsed.rejected_keys[0].to_string(), "HTTPRoute default/echo");
    assert_eq!((parsed.documents, parsed.rejected, parsed.objects.len()), (1, 1, 0));
}

#[test]
fn one_bad_document_leaves_the_others() {
    let text = format!("{ROUTE}---\nkind: HTTPRoute\n---\n{}", ROUTE.replace("name: echo\nspec", "name: other\nspec"));
    let parsed = parse(&text);
    assert_eq!((parsed.documents, parsed.rejected, parsed.objects.len()), (3, 1, 2));
    assert_eq!(parsed.findings[0].field, "apiVersion");
}

#[test]
fn a_rejected_document_without_identity_may_be_any() {
    let of = |from: &str, to: &str| parse(&ROUTE.replacen(from, to, 1)).has_unidentified;
    for (from, to) in [
        ("kind: HTTPRoute", "kind: HttpRoute"),
        ("kind:", "knd:"),
        ("apiVersion:", "apiVersio:"),
        ("name:", "nme:"),
        ("name: echo", "name: Echo!"),
        ("name: echo", "name: 1"),
        ("name: echo", "name: echo\n  namespace: 1"),
        ("metadata:", "metadat:"),
    ] {
        assert!(of(from, to), "{to}");
    }
    assert!(parse(&format!("{ROUTE}---\njust text\n")).has_unidentified);
    assert!(!of("name: echo", "name: other"));
    assert!(!of("port: 80", "port: eighty"));
    assert!(!of("k8s.io/v1", "k8s.io/v9"));
}

#[test]
fn a_syntax_error_rejects_the_file() {
    let parsed = parse(&format!("{ROUTE}---\na: [\n"));
    assert!(parsed.whole_file_rejected && parsed.objects.is_empty());
    assert_eq!((parsed.rejected, parsed.findings.len()), (1, 1));
}

#[test]
fn lists_are_unpacked() {
    let items: String =
        ["a", "b"].map(|name| format!("- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: {name}}}\n")).concat();
    assert_eq!(parse(&format!("apiVersion: v1\nkind: List\nitems:\n{items}")).objects.len(), 2);
    assert_eq!(parse(&format!("apiVersion: v1\nkind: ConfigMapList\nitems:\n{items}")).documents, 2);
}

#[test]
fn items_leave_their_kind_to_a_typed_list() {
    let text = "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n  spec: {ports: [{prt: 80}]}\n- metadata: {name: b}\n  spec: {ports: [{port: 80}]}\n";
    let parsed = parse(text);
    assert_eq!(parsed.objects[0].key.to_string(), "Service default/b");
    assert_eq!(parsed.objects[0].value["apiVersion"], "v1");
    let unknown = parsed.findings.iter().find(|finding| finding.reason == "UnknownField").expect("prt is no field");
    let origin = unknown.origin.clone().unwrap_or_default();
    assert_eq!((origin.line, origin.column), (5, 19));
    assert_eq!(parse("apiVersion: v1\nkind: List\nitems: [{metadata: {name: a}}]\n").rejected, 1);
}

#[test]
fn a_list_has_items() {
    assert_eq!(parse("apiVersion: v1\nkind: List\nitems: []\n").findings, []);
    assert_eq!(parse("apiVersion: v1\nkind: List\nitem: []\n").findings[0].reason, "MissingField");
}

#[test]
fn other_kinds() {
    let of =
        |version: &str, kind: &str| parse(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n"));
    let reason = |version: &str, kind: &str| of(version, kind).ignored[0].reason.clone();
    assert_eq!(reason("apps/v1", "Deployment"), "kind of another group");
    for kind in ["Pod", "Node", "ServiceAccount", "Event", "PersistentVolume", "LimitRange"] {
        assert_eq!(reason("v1", kind), "core kind that a gateway does not read", "{kind}");
    }
    let mistyped = of("v1", "Secrt");
    assert_eq!(mistyped.findings[0].message, "v1 has no kind \"Secrt\"");
    assert_eq!(mistyped.findings[0].remedy, "did you mean Secret?");
    let policy = of("gateway.networking.k8s.io/v1", "BackendTLSPolicy");
    assert_eq!(policy.ignored[0].reason, "not served yet");
    assert_eq!(policy.findings[0].severity, Severity::Warning);
    let old = of("gateway.networking.k8s.io/v1alpha2", "HTTPRoute");
    assert_eq!(old.rejected, 1);
    assert_eq!(old.rejected_keys[0].to_string(), "HTTPRoute default/a");
    assert!(old.findings[0].remedy.contains("gateway.networking.k8s.io/v1 or gateway.networking.k8s.io/v1beta1"));
    let typo = of("gateway.networking.k8s.io/v1", "HttpRoute").findings.remove(0);
    assert_eq!((typo.remedy.as_str(), typo.field.as_str()), ("did you mean HTTPRoute?", "kind"));
    assert_eq!(typo.origin.map(|origin| (origin.line, origin.column)), Some((2, 7)));
    let group = of("gateway.netwrking.k8s.io/v1", "HTTPRoute");
    assert_eq!(group.findings[0].remedy, "did you mean gateway.networking.k8s.io?");
    assert_eq!(group.rejected_keys, old.rejected_keys);
    assert_eq!(reason("networking.istio.io/v1", "Gateway"), "kind of another group");
    assert_eq!(reason("serving.knative.dev/v1", "Service"), "kind of another group");
    assert_eq!(of("gateway.networking.k8s.io", "HTTPRoute").rejected_keys, old.rejected_keys);
    assert_eq!(parse("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n").ignored.len(), 1);
    assert_eq!(parse_file("x/kustomization.yaml", b"resources: [a.yaml]", &Bounds::default()).ignored.len(), 1);
}

#[test]
fn empty_files() {
    assert!(parse("").only_comments);
    assert!(parse("# nothing\n---\n").only_comments);
    assert!(!parse(ROUTE).only_comments);
    let large = parse_file("a.yaml", b"a: b", &Bounds { bytes: 3, ..Bounds::default() });
    assert_eq!(large.findings[0].reason, "FileTooLarge");
}

#[test]
fn findings_of_a_file_are_bounded() {
    let fields: String = (0..5000).map(|i| format!("x{i}: 1\n")).collect();
    let one = parse(&format!("{ROUTE}{fields}"));
    assert_eq!(one.findings.len(), 201);
    assert!(one.findings.iter().any(|finding| finding.message.starts_with("4800 more")));
    assert_eq!(parse(&format!("{ROUTE}{fields}---\n").repeat(6)).findings.len(), LISTED + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse_file("a.yaml", &bytes, &Bounds::default());
    }

    #[test]
    fn no_text_in_a_route_makes_it_panic(at in 0..ROUTE.len(), text in "[-a: \t\n\\[\\]{}&*!|>'\"%#,?\u{e9}0.]{1,12}") {
        let (before, after) = ROUTE.split_at(at);
        let parsed = parse(&format!("{before}{text}{after}"));
        prop_assert!(parsed.rejected == 0 || !parsed.findings.is_empty());
    }
}
