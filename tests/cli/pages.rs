//! `gapi describe`, `gapi status`, `gapi reload`, and the command line itself.

use gapi::{
    api::ObjectKey,
    finding::{Finding, Origin, Severity},
    manifest::Ignored,
    view::{CertificateView, Count, Counts, Setting, SocketView, View},
};

use crate::support::*;

fn finding(severity: Severity) -> Finding {
    Finding {
        severity,
        origin: Some(Origin { file: "routes.yaml".into(), line: 24, column: 17 }),
        object: Some(ObjectKey::new("HTTPRoute", "echo", "echo-1")),
        field: "spec.rules[0].backendRefs[1].name".into(),
        reason: "BackendNotFound".into(),
        message: "there is no Service echo/echo-2".into(),
        remedy: "add it, or name another".into(),
    }
}

fn assert_lines(text: &str, expected: &[&str]) {
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in expected {
        assert!(lines.iter().any(|found| found == line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn describe_says_why_a_route_is_not_taken() {
    let dir = RuntimeDir::with_daemon(View { findings: vec![finding(Severity::Warning)], ..view() });
    let ran = dir.gapi("describe httproute echo-1 -n echo");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_lines(
        &ran.out,
        &[
            "Name: echo-1",
            "Hostnames: a.example",
            "Gateway infrastructure/platform, listener http: accepted, but ResolvedRefs False (BackendNotFound): there is no Service echo/echo-2",
            "Gateway infrastructure/platform, listener https: not accepted, NotAllowedByListeners: namespace echo is not selected",
            "0: path /v2 and below, header version = 2",
            "RequestRedirect scheme=https statusCode=301",
            "to echo-1:80 (weight 95), echo-2:80 (weight 5)",
            "echo/echo-1:80 127.0.0.1:3000",
            "echo/echo-2:80 there is no Service echo/echo-2",
            "warning: spec.rules[0].backendRefs[1].name: there is no Service echo/echo-2; add it, or name another (routes.yaml:24:17)",
        ],
    );
}

#[test]
fn describe_shows_a_gateway_with_its_listeners_and_routes() {
    let dir = RuntimeDir::with_daemon(view());
    let ran = dir.gapi("describe gateway platform -n infrastructure");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_lines(
        &ran.out,
        &[
            "Class: gapi",
            "Addresses: 192.0.2.1",
            "2001:db8::1",
            "NAME PROTOCOL PORT HOSTNAME ROUTES PROGRAMMED WHY NOT",
            "http HTTP 80 * 1 True",
            "https HTTPS 443 a.example 0 False Programmed False (Invalid); ResolvedRefs False (InvalidCertificateRef): there is no Secret infrastructure/tls",
            "HTTPRoute echo/echo-1 at listener https: not accepted, NotAllowedByListeners: namespace echo is not selected",
        ],
    );
    assert!(!ran.out.contains("Conflicted"), "what is well is not complained about: {}", ran.out);
}

#[test]
fn describe_knows_the_other_kinds() {
    let dir = RuntimeDir::with_daemon(view());
    for (words, line) in [
        ("svc echo-1 -n echo", "80 127.0.0.1:3000"),
        ("endpointslice echo-1-x -n echo", "127.0.0.2 (not ready)"),
        ("secret tls -n echo", "tls.key: <7 bytes>"),
        ("gc gapi", "infrastructure/platform"),
        ("ns echo", "Name: echo"),
    ] {
        let ran = dir.gapi(&format!("describe {words}"));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words}");
        assert_lines(&ran.out, &[line]);
    }
}

fn full_view() -> View {
    View {
        sockets: vec![
            SocketView { address: "0.0.0.0:80".parse().expect("an address"), protocol: "HTTP".into(), problem: None },
            SocketView {
                address: "0.0.0.0:443".parse().expect("an address"),
                protocol: "HTTPS".into(),
                problem: Some("in use by nginx (812)".into()),
            },
        ],
        counts: Counts { routes: Count { total: 3, programmed: 2 }, ..Counts::default() },
        ignored: vec![Ignored {
            origin: Origin { file: "x.yaml".into(), line: 1, column: 1 },
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "a".into(),
            reason: "kind of another group".into(),
        }],
        certificates: vec![CertificateView {
            name: "echo/tls".into(),
            hostnames: vec!["a.example".into()],
            not_after: CREATED.into(),
            problem: None,
            ..CertificateView::default()
        }],
        settings: vec![Setting { name: "max-head".into(), value: "60KiB".into(), source: "default".into() }],
        ..view()
    }
}

#[test]
fn status_is_one_page() {
    let dir = RuntimeDir::with_daemon(full_view());
    let ran = dir.gapi("status");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("gapi 0.1.0: OK (no errors, no warnings)\n"), "{}", ran.out);
    assert_lines(
        &ran.out,
        &[
            "Programmed: 0 gateways, 0 listeners, 2 of 3 routes",
            "0.0.0.0:80 HTTP bound",
            "0.0.0.0:443 HTTPS NOT BOUND: in use by nginx (812)",
            "Deployment a: kind of another group (x.yaml:1:1)",
        ],
    );
    assert!(ran.out.contains("EXPIRED") && !ran.out.contains("max-head"), "{}", ran.out);
    assert_lines(&dir.gapi("status -o wide").out, &["max-head 60KiB default"]);
    let json: View = serde_json::from_str(&dir.gapi("status -o json").out).expect("JSON");
    assert_eq!((json.generation, json.sockets.len(), json.objects.len()), (7, 2, 0));
}

#[test]
fn errors_and_an_old_snapshot_are_exit_code_1() {
    let warned = RuntimeDir::with_daemon(View { findings: vec![finding(Severity::Warning)], ..view() });
    let ran = warned.gapi("reload");
    assert_eq!(ran.code, 0);
    assert!(ran.out.ends_with("serving generation 7, no errors, 1 warning\n"), "{}", ran.out);
    assert_eq!(warned.gapi("status").code, 0);

    let failed = RuntimeDir::with_daemon(View { findings: vec![finding(Severity::Error)], ..view() });
    let ran = failed.gapi("reload");
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.starts_with("error: HTTPRoute echo/echo-1: spec.rules[0].backendRefs[1].name: there is no"),
        "{}",
        ran.out
    );
    assert_eq!(failed.gapi("status").code, 1);

    let stale = RuntimeDir::with_daemon(View { stale: Some("routes.yaml was rejected".into()), ..view() });
    for words in ["status", "reload"] {
        let ran = stale.gapi(words);
        assert_eq!(ran.code, 1, "{words}");
        assert!(ran.out.contains("OLDER than what is on disk: routes.yaml was rejected"), "{}", ran.out);
    }
}

#[test]
fn nothing_in_a_manifest_drives_the_terminal() {
    let mut route = route();
    route["metadata"]["annotations"] = serde_json::json!({ "a": "\u{1b}[2J" });
    route["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] = "\u{1b}]0;x\u{7}".into();
    let mut shown = finding(Severity::Error);
    shown.message = "\u{1b}[31m".into();
    let objects = vec![route.into()];
    let dir = RuntimeDir::with_daemon(View { objects, findings: vec![shown], ..view() });
    for words in
        ["describe httproute -n echo", "get httproute -n echo -o wide", "status", "reload", "get httproutes -A -o yaml"]
    {
        let ran = dir.gapi(words);
        assert!(!ran.out.is_empty() && !ran.out.contains('\u{1b}'), "{words}: {}", ran.out);
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let dir = RuntimeDir::new();
    for words in
        ["", "frobnicate", "run --workers=0", "completion tcsh", "get gateways --frobnicate", "echo --listen nowhere"]
    {
        assert_eq!(dir.gapi(words).code, 2, "{words}");
    }
    for words in ["--help", "--version", "run --help", "completion bash", "completion zsh", "completion fish"] {
        let ran = dir.gapi(words);
        assert!(ran.code == 0 && ran.out.contains("gapi"), "{words}: {ran:?}");
    }
}

#[test]
fn variables_stand_for_flags() {
    for (name, value) in
        [("GAPI_HEAD_TIMEOUT", "10"), ("GAPI_KEEP_REPEATED_SLASHES", "perhaps"), ("GAPI_MAX_NODES", "many")]
    {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gapi")).arg("run").env(name, value).output();
        let ran = Ran::from(output.expect("the program runs"));
        assert!(ran.code == 2 && ran.err.contains(&format!("'{value}'")), "{name}: {ran:?}");
    }
}
