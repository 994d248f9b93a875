//! `gapi test` and `gapi status -o wide` against the real daemon: what is well passes, and each fault is told with its
//! reason and its remedy.

mod support;

use serde_json::{Value, json};
use support::{
    Authority, Backend, Gapi, Message, Ran, Reply, free_port,
    gapi::Start,
    loopback,
    manifest::{
        file, gateway, http, https, layer4_route, listener, prefix, route, secret, service, simple, udp_service,
    },
};

/// `gapi test -o json` with more words.
fn tested(gapi: &Gapi, words: &[&str]) -> (i32, Value) {
    let ran = gapi.ask(&[&["test", "-o", "json"], words].concat());
    let report = serde_json::from_str(&ran.text).unwrap_or_else(|error| panic!("{error}: {}", ran.text));
    (ran.code, report)
}

/// The rows of a route, in their order.
fn rows<'a>(report: &'a Value, route: &str) -> Vec<&'a Value> {
    let rows = report["tests"].as_array().expect("a list").iter();
    rows.filter(|row| row["route"] == format!("default/{route}")).collect()
}

/// Outcome, status and reason of a route's only row.
fn only(report: &Value, route: &str) -> (String, Option<u64>, String) {
    let rows = rows(report, route);
    assert_eq!(rows.len(), 1, "{report:#}");
    let word = |field: &str| rows[0][field].as_str().expect("a word").to_owned();
    (word("outcome"), rows[0]["status"].as_u64(), word("reason"))
}

fn expect(report: &Value, route: &str, outcome: &str, status: Option<u64>, reason: &str) {
    assert_eq!(only(report, route), (outcome.to_owned(), status, reason.to_owned()), "{route}: {report:#}");
}

fn failing(report: &Value, route: &str, status: Option<u64>, reason: &str, says: &str) {
    expect(report, route, "failed", status, reason);
    let row = rows(report, route)[0];
    let text = format!("{} | {}", row["message"], row["remedy"]);
    assert!(text.contains(says) && !row["remedy"].as_str().expect("text").is_empty(), "{text}");
}

fn rule(matches: Value, backends: Value) -> Value {
    json!({"matches": matches, "backendRefs": backends})
}

fn to(service: &str) -> Value {
    json!([{"name": service, "port": 80}])
}

/// Answers with what it was asked, as the test wants to see it.
fn mirror() -> Backend {
    Backend::start(|request: &Message, _| {
        let field = |name: &str| request.all(name).join(",");
        Reply::ok(&format!("{} {} {} {}", request.method(), request.target(), field("host"), field("version")))
    })
}

#[test]
fn every_kind_of_match_gets_its_request() {
    let backend = Backend::named("ok");
    let port = free_port();
    let kinds = [
        json!({"path": {"type": "Exact", "value": "/exact"}}),
        json!({"path": {"type": "PathPrefix", "value": "/exact"}}),
        json!({"path": {"type": "RegularExpression", "value": "/r/[0-9]{3}/(a|b)"}}),
        json!({"path": {"type": "PathPrefix", "value": "/h"}, "headers": [
            {"name": "Version", "value": "2"}, {"type": "RegularExpression", "name": "Channel", "value": "beta|(al|del)pha?"}]}),
        json!({"path": {"type": "PathPrefix", "value": "/q"}, "queryParams": [{"name": "a", "value": "c&d e"}]}),
        json!({"path": {"type": "PathPrefix", "value": "/m"}, "method": "HEAD"}),
        json!({"path": {"type": "PathPrefix", "value": "/m"}, "method": "OPTIONS"}),
        json!({"path": {"type": "PathPrefix", "value": "/m"}, "method": "DELETE"}),
    ];
    let rules: Vec<Value> = kinds.iter().map(|kind| rule(json!([kind]), to("backend"))).collect();
    let mut documents = vec![
        gateway("gate", &[http("http", port)]),
        route("kinds", "gate", &["a.test"], &rules),
        route("wild", "gate", &["*.b.test"], &[prefix("/", "backend")]),
        route("any", "gate", &[], &[prefix("/", "backend")]),
    ];
    documents.extend(service("backend", &[backend.address]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let (code, report) = tested(&gapi, &[]);
    assert_eq!((code, report["failed"].as_u64(), report["passed"].as_u64()), (0, Some(0), Some(9)), "{report:#}");
    let kinds = rows(&report, "kinds");
    let outcomes: Vec<&str> = kinds.iter().map(|row| row["outcome"].as_str().expect("a word")).collect();
    assert_eq!(outcomes, [["passed"; 7].as_slice(), &["skipped"]].concat());
    let url = |index: usize| kinds[index]["request"]["url"].as_str().expect("text");
    let base = format!("http://a.test:{port}");
    // The prefix's own path belongs to the exact match.
    assert_eq!((url(0), url(1)), (&*format!("{base}/exact"), &*format!("{base}/exact/")));
    assert_eq!((url(2), url(4)), (&*format!("{base}/r/000/a"), &*format!("{base}/q?a=c%26d%20e")));
    assert_eq!(kinds[3]["request"]["headers"], json!([["version", "2"], ["channel", "beta"]]));
    assert_eq!(kinds[0]["answer"], "default/backend:80");
    assert!(rows(&report, "wild")[0]["request"]["url"].as_str().expect("text").contains("://gapi-test.b.test:"));
    assert!(backend.messages().iter().all(|message| message.method() != "DELETE"));

    let (_, report) = tested(&gapi, &["--unsafe"]);
    assert_eq!(report["passed"], 10, "{report:#}");
    assert!(backend.messages().iter().any(|message| message.method() == "DELETE"));
}

#[test]
fn the_backend_gets_what_the_match_asks_for() {
    let backend = mirror();
    let port = free_port();
    let matches =
        json!([{"path": {"type": "PathPrefix", "value": "/v"}, "headers": [{"name": "Version", "value": "2"}]}]);
    let mut documents = vec![
        gateway("gate", &[http("http", port)]),
        route("one", "gate", &["a.test"], &[rule(matches, to("backend"))]),
    ];
    documents.extend(service("backend", &[backend.address]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    assert_eq!(tested(&gapi, &[]).0, 0);
    let messages = backend.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].method(), messages[0].target()), ("GET", "/v"));
    assert_eq!(
        (messages[0].all("host").join(","), messages[0].all("version").join(",")),
        (format!("a.test:{port}"), "2".into())
    );
    assert!(messages[0].all("user-agent").join(",").starts_with("gapi-test/"));
}

#[test]
fn each_fault_has_its_reason_and_remedy() {
    let (good, bad) = (
        Backend::named("ok"),
        Backend::start(|_, _| Reply::Bytes(b"HTTP/1.1 503 x\r\nContent-Length: 1\r\n\r\n!".to_vec())),
    );
    // Connections wait in its queue for ever.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|one| one.local_addr().map(|at| (one, at)))
        .expect("loopback");
    let (port, nobody) = (free_port(), free_port());
    let at = |name: &str, path: &str, backends: Value| {
        route(name, "gate", &[], &[rule(json!([{"path": {"type": "PathPrefix", "value": path}}]), backends)])
    };
    let mut redirect = at("moved", "/moved", json!([]));
    redirect["spec"]["rules"][0]["filters"] =
        json!([{"type": "RequestRedirect", "requestRedirect": {"hostname": "new.test", "statusCode": 301}}]);
    let mut refused = at("refused", "/refused", to("good"));
    refused["spec"]["parentRefs"][0]["sectionName"] = json!("nowhere");
    let mut lost = at("lost", "/lost", to("good"));
    lost["spec"]["parentRefs"][0]["name"] = json!("nowhere");
    let mut documents = vec![
        gateway("gate", &[http("http", port)]),
        redirect,
        refused,
        lost,
        at("fine", "/fine", to("good")),
        at("missing", "/missing", to("no-such-service")),
        at("empty", "/empty", to("empty")),
        at("down", "/down", to("down")),
        at("error", "/error", to("bad")),
        at("slow", "/slow", to("silent")),
        at(
            "share",
            "/share",
            json!([{"name": "good", "port": 80, "weight": 3}, {"name": "no-such-service", "port": 80, "weight": 1}]),
        ),
        at(
            "canary",
            "/canary",
            json!([{"name": "good", "port": 80, "weight": 9}, {"name": "down", "port": 80, "weight": 1}]),
        ),
        at("half", "/half", to("half")),
        at("zero", "/zero", json!([{"name": "good", "port": 80, "weight": 0}])),
        at("twin-a", "/twin", to("good")),
        at("twin-b", "/twin", to("good")),
    ];
    for (name, endpoints) in [
        ("good", vec![good.address]),
        ("bad", vec![bad.address]),
        ("silent", vec![silent.1]),
        ("down", vec![loopback(nobody)]),
        ("empty", vec![]),
        ("half", vec![good.address, loopback(nobody)]),
    ] {
        documents.extend(service(name, &endpoints));
    }
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let (code, report) = tested(&gapi, &["--timeout", "2s"]);
    assert_eq!(code, 1);
    expect(&report, "fine", "passed", Some(200), "");
    expect(&report, "twin-a", "passed", Some(200), "");
    expect(&report, "moved", "passed", Some(301), "");
    assert_eq!(rows(&report, "moved")[0]["answer"], format!("redirect to http://new.test:{port}/moved"));
    failing(&report, "missing", Some(500), "invalid-backend", "no-such-service");
    failing(&report, "empty", Some(503), "no-endpoint", "EndpointSlice");
    failing(&report, "down", Some(502), "connect-failed", &format!("127.0.0.1:{nobody}"));
    failing(&report, "error", Some(503), "BackendError", "the backend itself answered 503");
    failing(&report, "slow", None, "Timeout", "--timeout");
    failing(&report, "zero", Some(500), "no-backend", "weight");
    failing(&report, "twin-b", None, "Shadowed", "rule 0 of HTTPRoute default/twin-a");
    failing(&report, "refused", None, "NoMatchingParent", "has no such listener");
    failing(&report, "lost", None, "ParentNotFound", "nowhere");
    let share = only(&report, "share");
    assert_eq!((&*share.0, &*share.2), ("failed", "invalid-backend"), "{report:#}");
    assert!(rows(&report, "share")[0]["message"].as_str().expect("text").contains(if share.1 == Some(200) {
        "25%"
    } else {
        "answered 500"
    }));

    let canary = only(&report, "canary");
    assert_eq!((&*canary.0, &*canary.2), ("failed", "connect-failed"), "{report:#}");
    expect(&report, "half", "passed", Some(200), "");
    let notes = rows(&report, "half")[0]["notes"].to_string();
    assert!(notes.contains(&format!("endpoint 127.0.0.1:{nobody} of default/half:80 takes no connection")), "{notes}");

    let page = gapi.ask(&["test", "--route", "missing"]);
    assert_eq!(page.code, 1);
    for part in
        ["FAILED", "default/missing", "500", "gapi (invalid-backend)", "remedy: ", "0 passed, 1 failed, 0 skipped"]
    {
        assert!(page.text.contains(part), "no {part} in {}", page.text);
    }
}

#[test]
fn certificates_are_looked_at() {
    let backend = Backend::named("ok");
    let authority = Authority::new();
    let (port, open) = (free_port(), free_port());
    let own = rcgen::generate_simple_self_signed(vec!["own.test".to_owned()]).expect("can be made");
    let own = support::certificate::Pair {
        certificate: own.cert.pem(),
        key: own.signing_key.serialize_pem(),
        der: own.cert.der().to_vec(),
    };
    let listener = |name: &str, secret: &str| https(name, port, Some(&format!("{name}.test")), secret);
    let listeners = [
        listener("good", "good"),
        listener("other", "good"),
        listener("own", "own"),
        listener("none", "nowhere"),
        https("any", open, None, "good"),
    ];
    let at = |name: &str| {
        let mut one = route(name, "gate", &[], &[prefix("/", "backend")]);
        one["spec"]["parentRefs"][0]["sectionName"] = json!(name);
        one
    };
    let mut documents = vec![gateway("gate", &listeners), at("good"), at("other"), at("own"), at("none"), at("any")];
    documents.push(secret("good", &authority.sign(&["good.test", "*.good.test"])));
    documents.push(secret("own", &own));
    documents.extend(service("backend", &[backend.address]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let (code, report) = tested(&gapi, &[]);
    assert_eq!(code, 1);
    expect(&report, "good", "passed", Some(200), "");
    expect(&report, "any", "passed", Some(200), "");
    failing(
        &report,
        "other",
        Some(200),
        "CertificateHostnameMismatch",
        "is for good.test, *.good.test, not for other.test",
    );
    expect(&report, "own", "passed", Some(200), "");
    assert!(rows(&report, "own")[0]["notes"][0].as_str().expect("a note").contains("self-signed"));
    let listeners: Vec<&Value> =
        report["tests"].as_array().expect("a list").iter().filter(|row| row["route"] == "").collect();
    assert_eq!(
        (listeners.len(), &listeners[0]["listener"], &listeners[0]["reason"]),
        (1, &json!("default/gate/none"), &json!("InvalidCertificateRef"))
    );
    assert_eq!(rows(&report, "none")[0]["outcome"], "failed", "{report:#}");
}

#[test]
fn what_is_tested_can_be_chosen() {
    let backend = Backend::named("ok");
    let ports = [free_port(), free_port()];
    let mut far = route("far", "two", &[], &[prefix("/", "backend")]);
    far["metadata"]["namespace"] = json!("elsewhere");
    far["spec"]["parentRefs"][0]["namespace"] = json!("default");
    let mut documents = vec![
        gateway("one", &[http("http", ports[0])]),
        gateway("two", &[http("http", ports[1])]),
        route("a", "one", &["a.test"], &[prefix("/", "backend")]),
        route("b", "two", &["b.test"], &[prefix("/", "backend")]),
        far,
    ];
    documents.extend(service("backend", &[backend.address]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let routes = |words: &[&str]| {
        let (code, report) = tested(&gapi, words);
        let rows = report["tests"].as_array().expect("a list").clone();
        (code, rows.iter().map(|row| row["route"].as_str().expect("text").to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(routes(&["--route", "a"]), (0, vec!["default/a".to_owned()]));
    assert_eq!(routes(&["--route", "default/b"]), (0, vec!["default/b".to_owned()]));
    assert_eq!(routes(&["--gateway", "one"]), (0, vec!["default/a".to_owned()]));
    assert_eq!(routes(&["-n", "default"]), (0, vec!["default/a".to_owned(), "default/b".to_owned()]));
    // Listeners take routes of their own namespace unless they say otherwise.
    assert_eq!(routes(&["-n", "elsewhere"]), (1, vec!["elsewhere/far".to_owned()]));
    for (words, says) in
        [(&["--route", "c"][..], "there is no route default/c"), (&["--gateway", "x/y"], "there is no Gateway x/y")]
    {
        let ran = gapi.ask(&[&["test"], words].concat());
        assert!(ran.code == 1 && ran.text.contains(says), "{ran:?}");
    }
}

#[test]
fn nothing_is_sent_to_a_program_that_has_the_port() {
    let backend = Backend::named("ok");
    let taken = Backend::named("somebody else");
    let gapi = Start::new().file("all.yaml", simple(taken.address.port(), backend.address)).serve();
    let (code, report) = tested(&gapi, &[]);
    assert_eq!(code, 1);
    failing(&report, "all", None, "SocketNotBound", "in use");
    assert!(taken.messages().is_empty());
}

#[test]
fn without_a_daemon() {
    let ran = support::gapi::run(["test", "--runtime-dir", "/nonexistent"]);
    assert!(ran.code == 3 && ran.text.contains("no daemon runs"), "{ran:?}");
}

/// A line of the page, with single blanks.
fn has_line(ran: &Ran, line: &str) -> bool {
    ran.text.lines().any(|one| one.split_whitespace().collect::<Vec<_>>().join(" ") == line)
}

#[test]
fn the_wide_status_says_what_is_in_force() {
    let backend = Backend::named("ok");
    let port = free_port();
    let start = Start::new().under(&["env", "GAPI_HEAD_TIMEOUT=3s"]).flag("--max-fields", "99");
    let gapi = start.file("all.yaml", simple(port, backend.address)).serve();
    let held = std::net::TcpStream::connect(loopback(port)).expect("it listens");
    support::wait("the connection is counted", std::time::Duration::from_secs(10), || {
        has_line(&gapi.ask(&["status", "-o", "wide"]), "Connections: 1 open")
    });
    let ran = gapi.ask(&["status", "-o", "wide"]);
    assert_eq!(ran.code, 0, "{}", ran.text);
    for line in [
        "head-timeout 3s environment",
        "max-fields 99 flag",
        "max-head 60KiB default",
        "Workers: 2",
        &format!("State: {}, kept", gapi.state().display()),
        &format!("127.0.0.1:{port} HTTP 1 bound"),
        &format!("default/gate/http HTTP {port} * 1 True"),
    ] {
        assert!(has_line(&ran, line), "no {line:?} in\n{}", ran.text);
    }
    let plain = gapi.ask(&["status"]);
    assert!(!plain.text.contains("max-fields") && !plain.text.contains("Workers"), "{}", plain.text);
    drop(held);
    let json: Value = serde_json::from_str(&gapi.ask(&["status", "-o", "json"]).text).expect("JSON");
    assert_eq!((&json["traffic"]["workers"], &json["stateProblem"]), (&json!(2), &Value::Null));
}

#[test]
fn a_rejected_route_is_no_success() {
    let backend = Backend::named("ok");
    let mut wrong = route("wrong", "gate", &[], &[prefix("/", "backend")]);
    wrong["spec"]["hostname"] = json!("a.test");
    let gapi =
        Start::new().file("all.yaml", simple(free_port(), backend.address)).file("wrong.yaml", file(&[wrong])).serve();
    for words in [&[][..], &["--route", "wrong"]] {
        let (code, report) = tested(&gapi, words);
        assert_eq!(code, 1);
        failing(&report, "wrong", None, "UnknownField", "hostname");
    }
}

/// A field that gapi sets itself cannot be sent by everybody; who is believed can.
#[test]
fn fields_that_gapi_sets_are_not_pretended() {
    let backend = Backend::named("ok");
    let proto = json!([{"headers": [{"name": "X-Forwarded-Proto", "value": "gopher"}]}]);
    let manifest = |port| {
        let mut documents = vec![
            gateway("gate", &[http("http", port)]),
            route("proto", "gate", &[], &[rule(proto.clone(), to("backend"))]),
        ];
        documents.extend(service("backend", &[backend.address]));
        file(&documents)
    };
    let stranger = Gapi::serve(&[("all.yaml", manifest(free_port()))]);
    let (code, report) = tested(&stranger, &[]);
    assert_eq!(code, 0);
    expect(&report, "proto", "skipped", None, "NoExample");
    let trusted = Start::new().file("all.yaml", manifest(free_port())).flag("--trusted-proxy", "127.0.0.0/8").serve();
    let (code, report) = tested(&trusted, &[]);
    assert_eq!(code, 0);
    expect(&report, "proto", "passed", Some(200), "");
}

#[test]
fn a_more_specific_listener_takes_the_host() {
    let backend = Backend::named("ok");
    let port = free_port();
    let named =
        |name: &str, hostname: &str| json!({"name": name, "protocol": "HTTP", "port": port, "hostname": hostname});
    let at = |name: &str, section: Option<&str>| {
        let mut one = route(name, "gate", &["a.test"], &[prefix(&format!("/{name}"), "backend")]);
        if let Some(section) = section {
            one["spec"]["parentRefs"][0]["sectionName"] = json!(section);
        }
        one
    };
    let mut documents = vec![
        gateway("gate", &[named("wide", "*.test"), named("narrow", "a.test")]),
        at("lost", Some("wide")),
        at("both", None),
    ];
    documents.extend(service("backend", &[backend.address]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let (code, report) = tested(&gapi, &[]);
    assert_eq!(code, 1);
    expect(&report, "both", "passed", Some(200), "");
    failing(&report, "lost", None, "Shadowed", "listener default/gate/narrow has this host");
}

#[test]
fn layer_4_is_looked_at() {
    let backend = Backend::named("not asked");
    let (well, down, datagrams, web) = (free_port(), free_port(), free_port(), free_port());
    let listeners = [
        listener("well", "TCP", well),
        listener("down", "TCP", down),
        listener("datagrams", "UDP", datagrams),
        http("web", web),
    ];
    let mut documents = vec![
        gateway("gate", &listeners),
        layer4_route("TCPRoute", "well", "gate", "well", "up"),
        layer4_route("TCPRoute", "down", "gate", "down", "nobody"),
        layer4_route("UDPRoute", "datagrams", "gate", "datagrams", "resolver"),
        layer4_route("UDPRoute", "elsewhere", "gate", "nowhere", "resolver"),
    ];
    documents.extend(service("up", &[backend.address]));
    documents.extend(service("nobody", &[loopback(free_port())]));
    documents.extend(udp_service("resolver", &[loopback(free_port())]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let (code, report) = tested(&gapi, &[]);
    assert_eq!(code, 1);
    expect(&report, "well", "skipped", None, "NotHttp");
    failing(&report, "down", None, "connect-failed", "100% of the connections are reset");
    expect(&report, "datagrams", "skipped", None, "NotHttp");
    failing(&report, "elsewhere", None, "NoMatchingParent", "udproute elsewhere");
    assert!(backend.messages().is_empty(), "{:?}", backend.messages());
    let page = gapi.ask(&["test"]).text;
    assert!(page.contains("TCPRoute default/down rule 0") && page.contains("UDPRoute default/elsewhere"), "{page}");
}

/// `gapi echo`, which answers HTTP/2, until it is dropped.
struct Echo(std::process::Child);

impl Echo {
    fn start(port: u16) -> Echo {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gapi"));
        command.stdout(std::process::Stdio::null());
        let child = command.args(["echo", "--listen", &format!("127.0.0.1:{port}")]).spawn().expect("it starts");
        let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !answers() {
            assert!(std::time::Instant::now() < deadline, "gapi echo does not listen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Echo(child)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn routes_of_one_name_and_several_kinds_are_told_apart() {
    let (port, tcp) = (free_port(), free_port());
    let echo = free_port();
    let _echo = Echo::start(echo);
    let kind = |kind: &str, mut route: Value| {
        route["kind"] = kind.into();
        route
    };
    let call = |method: Value, service: &str| rule(json!([{"method": method}]), to(service));
    let calls = [
        call(json!({"service": "a.B", "method": "C"}), "echo"),
        call(json!({"service": "a.B"}), "echo"),
        call(json!({"service": "a.B", "method": "C"}), "echo"),
        call(json!({"type": "RegularExpression", "service": "x|y"}), "missing"),
        json!({"backendRefs": to("echo")}),
    ];
    let listener = |name: &str, port: u16, protocol: &str| json!({"name": name, "port": port, "protocol": protocol});
    let mut documents = vec![
        gateway("gate", &[http("http", port), listener("tcp", tcp, "TCP"), listener("udp", tcp, "UDP")]),
        route("same", "gate", &["www.test"], &[prefix("/", "echo")]),
        kind("GRPCRoute", route("same", "gate", &["grpc.test"], &calls)),
        kind("TCPRoute", route("same", "gate", &[], &[json!({"backendRefs": to("echo")})])),
        kind("UDPRoute", route("same", "gate", &[], &[json!({"backendRefs": to("echo")})])),
    ];
    documents.extend(service("echo", &[([127, 0, 0, 1], echo).into()]));
    let gapi = Gapi::serve(&[("all.yaml", file(&documents))]);
    let (code, report) = tested(&gapi, &["--route", "same"]);
    assert_eq!(code, 1, "{report:#}");
    let rows = rows(&report, "same");
    let of = |kind: &str| -> Vec<&Value> {
        rows.iter().filter(|row| row["kind"].as_str().unwrap_or("HTTPRoute") == kind).copied().collect()
    };
    let told = |kind: &str| -> Vec<(&str, &str)> {
        of(kind).iter().map(|row| (row["outcome"].as_str().unwrap(), row["reason"].as_str().unwrap())).collect()
    };
    assert_eq!(told("HTTPRoute"), [("passed", "")], "{report:#}");
    let (passed, shadowed, invalid) = (("passed", ""), ("failed", "Shadowed"), ("failed", "invalid-backend"));
    let skipped = ("skipped", "UnsafeMethod");
    assert_eq!(told("GRPCRoute"), [skipped, passed, shadowed, invalid, passed], "{report:#}");
    assert_eq!(told("TCPRoute"), [("skipped", "NotHttp")], "{report:#}");
    assert_eq!(told("UDPRoute"), [("failed", "invalid-backend")], "{report:#}");

    let rows = of("GRPCRoute");
    let url =
        |row: usize| rows[row]["request"]["url"].as_str().expect("text").rsplit_once("/a.B/").map(|(_, rest)| rest);
    assert_eq!((url(0), url(1)), (Some("C"), Some("gapi-test")));
    assert_eq!(rows[1]["answer"], "default/echo:80/grpc");
    assert!(rows[2]["message"].as_str().expect("text").contains("rule 0 of GRPCRoute default/same"), "{}", rows[2]);
    assert!(rows[3]["message"].as_str().expect("text").contains("Service default/missing"), "{}", rows[3]);
    assert!(of("UDPRoute")[0]["message"].as_str().expect("text").contains("is not UDP"), "{report:#}");

    let (_, report) = tested(&gapi, &["--route", "same", "--unsafe"]);
    let call = report["tests"].as_array().unwrap().iter().find(|row| row["kind"] == "GRPCRoute").expect("the first");
    assert_eq!((&call["outcome"], &call["status"]), (&json!("passed"), &json!(200)), "{call:#}");

    let page = gapi.ask(&["test"]).text;
    for says in ["GRPCRoute default/same rule 2", "UDPRoute default/same rule 0", "TCPRoute default/same rule 0"] {
        assert!(page.contains(says), "{says}: {page}");
    }
}
