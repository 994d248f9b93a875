//! DNS-01 against Pebble and a real BIND.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    bind::{self, Bind, KEY},
    harness::{LIMIT, annotated, answers, certificate, condition, object, wait_until_ready},
    pebble::Pebble,
};
use crate::support::{
    Backend, Gapi, free_port,
    gapi::Start,
    loopback,
    manifest::{file, gateway, https, prefix, route, service},
    wait,
};

pub fn rfc2136(server: SocketAddr) -> Value {
    json!({"rfc2136": {
        "nameserver": server.to_string(), "tsigKeyName": KEY.0, "tsigAlgorithm": "HMACSHA256",
        "tsigSecretSecretRef": {"name": "tsig", "key": "secret"},
    }})
}

pub fn secret(name: &str, key: &str, value: &str) -> Value {
    let metadata = json!({"name": name, "namespace": "cert-manager"});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}})
}

/// A ClusterIssuer with this DNS-01 solver, the key for BIND, and a Certificate for these names.
pub fn site(pebble: &Pebble, dns01: &Value, names: &[&str]) -> Vec<Value> {
    vec![
        object("ClusterIssuer", "", "pebble", pebble.issuer(&json!([{"dns01": dns01}]))),
        secret("tsig", "secret", KEY.1),
        wanted(names),
    ]
}

pub fn wanted(names: &[&str]) -> Value {
    let spec = json!({
        "secretName": "site", "dnsNames": names, "privateKey": {"algorithm": "ECDSA"},
        "issuerRef": {"name": "pebble", "kind": "ClusterIssuer"},
    });
    object("Certificate", "default", "site", spec)
}

/// Asks BIND, and at its port 53 where it has that.
pub fn start(bind: &Bind, documents: &[Value]) -> Start {
    flags(Start::new().file("site.yaml", file(documents)), bind.address())
}

fn flags(start: Start, server: SocketAddr) -> Start {
    let start = start.flag("--dns01-recursive-nameservers", &server.to_string());
    if server.port() == 53 { start } else { start.flag("--dns01-recursive-nameservers-only", "") }
}

pub fn issuing(gapi: &Gapi) -> String {
    condition(&certificate(gapi, "default/site"), "Issuing")["message"].as_str().unwrap_or_default().to_owned()
}

pub fn wait_until_told(gapi: &Gapi, words: &[&str]) {
    let told = || words.iter().all(|word| issuing(gapi).contains(word));
    let start = Instant::now();
    while !told() {
        assert!(start.elapsed() < LIMIT, "{words:?} is not in {:?}\n{}", issuing(gapi), gapi.log());
        sleep(Duration::from_millis(50));
    }
}

/// Nothing is left in DNS, and nothing is noted.
pub fn wait_until_gone(gapi: &Gapi, bind: &Bind, name: &str) {
    let start = Instant::now();
    loop {
        let (left, notes) = (bind.txt(name), notes(gapi));
        if left.is_empty() && notes == 0 {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{left:?} and {notes} note(s) are left\n{}", gapi.log());
        sleep(Duration::from_millis(50));
    }
}

fn notes(gapi: &Gapi) -> usize {
    fs::read_dir(gapi.state().join("dns01")).map_or(0, |entries| entries.count())
}

/// Neither the log nor a status file has it.
pub fn assert_secret(gapi: &Gapi, secret: &str) {
    assert!(!gapi.log().contains(secret), "the log has it");
    let mut directories = vec![gapi.runtime()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                assert!(!text.contains(secret), "{} has it", path.display());
            }
        }
    }
}

#[test]
fn a_wildcard_and_its_name_are_proven_at_once() {
    let Some(bind) = Bind::start(&[("example", &["_acme-challenge.a TXT \"somebody else's\""])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address())) else { return };
    pebble.start();
    let (backend, port) = (Backend::named("hello"), free_port());
    let listeners = [https("name", port, Some("a.example"), "a"), https("wild", port, Some("*.a.example"), "a")];
    let gate =
        annotated(gateway("gate", &listeners), &[("cluster-issuer", "pebble"), ("private-key-algorithm", "ECDSA")]);
    let mut documents = site(&pebble, &rfc2136(bind.address()), &["*.wild.example"]);
    documents.extend([gate, route("all", "gate", &[], &[prefix("/", "backend")])]);
    documents.extend(service("backend", &[backend.address]));
    let gapi = start(&bind, &documents).serve();
    wait_until_ready(&gapi, "default/a");
    wait_until_ready(&gapi, "default/site");
    let trust = pebble.trust();
    for name in ["a.example", "b.a.example"] {
        wait(name, LIMIT, || answers(loopback(port), name, &trust));
    }
    wait("the records are gone, and what others put there is not", LIMIT, || {
        bind.txt("_acme-challenge.a.example") == ["somebody else's"]
    });
    wait_until_gone(&gapi, &bind, "_acme-challenge.wild.example");
    assert!(bind.log().matches("adding an RR at '_acme-challenge.a.example'").count() >= 2, "{}", bind.log());
    assert_secret(&gapi, KEY.1);
}

#[test]
fn a_cname_is_followed_into_another_zone() {
    let there = [
        "_acme-challenge.a CNAME one.alias",
        "one.alias CNAME a.proofs.test.",
        "_acme-challenge.loop CNAME x",
        "x CNAME _acme-challenge.loop",
    ];
    let Some(bind) = Bind::start(&[("example", &there), ("proofs.test", &[])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address())) else { return };
    pebble.start();
    let mut dns01 = rfc2136(bind.address());
    dns01["cnameStrategy"] = json!("Follow");
    let gapi = start(&bind, &site(&pebble, &dns01, &["*.a.example", "a.example"])).serve();
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, "a.proofs.test");
    assert!(bind.log().contains("adding an RR at 'a.proofs.test'"), "{}", bind.log());
    // A loop is told.
    gapi.put("site.yaml", file(&site(&pebble, &dns01, &["loop.example"])));
    wait_until_told(&gapi, &["_acme-challenge.loop.example", "lead back"]);
}

#[test]
fn a_wrong_key_is_told_and_a_right_one_taken() {
    let Some(bind) = Bind::start(&[("example", &[])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address())) else { return };
    pebble.start();
    for protocol in ["UDP", "TCP"] {
        let mut dns01 = rfc2136(bind.address());
        dns01["rfc2136"]["protocol"] = json!(protocol);
        let mut documents = site(&pebble, &dns01, &["*.a.example"]);
        let wrong = "bm90IHRoZSByaWdodCBrZXksIGJ1dCBhcyBsb25nIGE=";
        documents[1] = secret("tsig", "secret", wrong);
        let gapi = start(&bind, &documents).serve();
        let server = bind.address().to_string();
        wait_until_told(
            &gapi,
            &[
                "ClusterIssuer pebble",
                "spec.acme.solvers[0].dns01.rfc2136",
                &server,
                "_acme-challenge.a.example",
                "tsigSecretSecretRef",
            ],
        );
        assert_secret(&gapi, wrong);
        eprintln!("{protocol}: {}", issuing(&gapi));
        let orders = pebble.orders();
        wait_until_told(&gapi, &["not before"]);
        documents[1] = secret("tsig", "secret", KEY.1);
        gapi.put("site.yaml", file(&documents));
        wait_until_ready(&gapi, "default/site");
        assert_eq!(pebble.orders(), orders, "the order went on");
        wait_until_gone(&gapi, &bind, "_acme-challenge.a.example");
    }
}

/// Killed while the server looks: the record is there, and the next start removes it, wanted again or not.
#[test]
fn records_are_removed_after_a_kill() {
    let Some(bind) = Bind::start(&[("example", &[])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address()).sleep(600)) else { return };
    pebble.start();
    let documents = site(&pebble, &rfc2136(bind.address()), &["*.a.example"]);
    let gapi = start(&bind, &documents).serve();
    let name = "_acme-challenge.a.example";
    wait("the record is there", LIMIT, || bind.txt(name).len() == 1);
    wait_until_told(&gapi, &["the server looks"]);
    let (_, next) = gapi.end(Signal::KILL, Duration::from_secs(20));
    assert_eq!(bind.txt(name).len(), 1);
    // Nobody wants it any more.
    let gapi = flags(next.file("site.yaml", file(&documents[..2])), bind.address()).serve();
    wait_until_gone(&gapi, &bind, name);
    // The same value again, and a kill: the order goes on, and then it is gone.
    gapi.put("site.yaml", file(&documents));
    wait("the record is there", LIMIT, || bind.txt(name).len() == 1);
    let (_, next) = gapi.end(Signal::KILL, Duration::from_secs(20));
    pebble.stop();
    let gapi = flags(next, bind.address()).serve();
    wait_until_gone(&gapi, &bind, name);
    let mut pebble = pebble.sleep(0);
    pebble.start();
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, name);
    // A certificate that is not wanted any more takes its record with it.
    pebble.stop();
    let mut pebble = pebble.sleep(600);
    pebble.start();
    gapi.put("site.yaml", file(&site(&pebble, &rfc2136(bind.address()), &["*.b.example"])));
    let name = "_acme-challenge.b.example";
    wait("the record is there", Duration::from_secs(120), || bind.txt(name).len() == 1);
    gapi.put("site.yaml", file(&documents[..2]));
    wait_until_gone(&gapi, &bind, name);
}

/// The server of ACME is not told before every server of the zone has the record.
#[test]
fn every_server_of_the_zone_is_looked_at() {
    let addresses = [bind::address(), bind::address()];
    if addresses.iter().any(|address| address.port() != 53) {
        eprintln!("SKIPPED: port 53 is not to be had by this user");
        return;
    }
    let records = [
        "@ NS ns1".to_owned(),
        "@ NS ns2".to_owned(),
        format!("ns1 A {}", addresses[0].ip()),
        format!("ns2 A {}", addresses[1].ip()),
    ];
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let zone: &[(&str, &[&str])] = &[("example", &records)];
    let Some(one) = Bind::start_at(addresses[0], zone) else { return };
    let Some(other) = Bind::start_at(addresses[1], zone) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(one.address())) else { return };
    pebble.start();
    let gapi = start(&one, &site(&pebble, &rfc2136(one.address()), &["a.example"])).serve();
    let lacking = format!("ns2.example ({}) does not have it", addresses[1].ip());
    let having = format!("ns1.example ({}) has it", addresses[0].ip());
    wait_until_told(&gapi, &["_acme-challenge.a.example", &having, &lacking]);
    let value = one.txt("_acme-challenge.a.example").remove(0);
    other.update(&format!("add _acme-challenge.a.example 5 TXT {value}"));
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &one, "_acme-challenge.a.example");
}

#[test]
fn a_program_changes_dns() {
    let Some(bind) = Bind::start(&[("example", &[])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address())) else { return };
    pebble.start();
    let program = bind.program();
    let env = |key: &str| json!([{"name": "TSIG", "valueFrom": {"secretKeyRef": {"name": "tsig", "key": key}}}]);
    let exec = |key: &str| {
        let config = json!({"command": program, "env": env(key), "timeout": "30s"});
        json!({"webhook": {"groupName": "gapi.dev", "solverName": "exec", "config": config}})
    };
    let gapi = Start::new()
        .file("site.yaml", file(&site(&pebble, &exec("secret"), &["a.example", "*.a.example"])))
        .flag("--dns01-recursive-nameservers", &bind.address().to_string())
        .flag("--dns01-recursive-nameservers-only", "")
        .serve();
    wait_until_ready(&gapi, "default/site");
    wait_until_gone(&gapi, &bind, "_acme-challenge.a.example");
    let calls = bind.calls();
    assert_eq!(calls.matches("present _acme-challenge.a.example. ").count(), 2, "{calls}");
    assert_eq!(calls.matches("cleanup _acme-challenge.a.example. ").count(), 2, "{calls}");
    assert_secret(&gapi, KEY.1);
    // What it says is told.
    let mut documents = site(&pebble, &exec("secret"), &["b.other.test"]);
    gapi.put("site.yaml", file(&documents));
    wait_until_told(&gapi, &["spec.acme.solvers[0].dns01.", "present ended with exit status", "b.other.test"]);
    // And so is what others could change.
    documents[0] = object("ClusterIssuer", "", "pebble", pebble.issuer(&json!([{"dns01": exec("secret")}])));
    documents[2] = wanted(&["c.example"]);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).expect("ours");
    gapi.put("site.yaml", file(&documents));
    wait_until_told(&gapi, &["webhook.config.command", "chmod go-w"]);
}

#[test]
fn a_solver_that_is_not_there_is_told_with_those_that_are() {
    let Some(bind) = Bind::start(&[("example", &[])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address())) else { return };
    pebble.start();
    let other = json!({"webhook": {"groupName": "acme.example.com", "solverName": "x", "config": {}}});
    let gapi = start(&bind, &site(&pebble, &other, &["a.example"])).serve();
    wait_until_told(&gapi, &["webhook.groupName", "acme.example.com", "gapi.dev", "exec, alidns", "hetzner"]);
    let told = gapi.reload().text;
    assert!(told.contains("spec.acme.solvers[0].dns01.webhook.groupName"), "{told}");
    // A Secret that is missing.
    let mut documents = site(&pebble, &rfc2136(bind.address()), &["a.example"]);
    documents.remove(1);
    gapi.put("site.yaml", file(&documents));
    let told = gapi.reload().text;
    assert!(told.contains("rfc2136.tsigSecretSecretRef") && told.contains("cert-manager/tsig"), "{told}");
}

/// The example for wildcards, with the addresses of the servers of this test in place of its own.
#[test]
fn the_wildcard_example_gets_its_certificate() {
    let Some(bind) = Bind::start(&[("example.com", &[])]) else { return };
    let Some(mut pebble) = Pebble::new().map(|pebble| pebble.name_server(bind.address())) else { return };
    pebble.start();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/wildcard-dns");
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect("the example is there");
    let replaced = |text: String, from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replace(from, to)
    };
    let server = format!("server: {}\n    caBundle: {}", pebble.url(), pebble.bundle());
    let issuer = replaced(read("issuer.yaml"), "server: https://acme-v02.api.letsencrypt.org/directory", &server);
    let issuer = replaced(issuer, "192.0.2.53:53", &bind.address().to_string());
    let key = replaced(read("key.yaml"), "bm90IGEga2V5OiBydW4gdHNpZy1rZXlnZW4hISEhISE=", KEY.1);
    let port = free_port();
    let gateway = replaced(read("gateway.yaml"), "port: 443\n", &format!("port: {port}\n"));
    let start = Start::new().file("issuer.yaml", issuer).file("key.yaml", key).file("gateway.yaml", gateway);
    let gapi = flags(start.file("route.yaml", read("route.yaml")), bind.address()).serve();
    wait_until_ready(&gapi, "default/example-com-tls");
    let trust = pebble.trust();
    for name in ["example.com", "www.example.com"] {
        wait(name, LIMIT, || answers(loopback(port), name, &trust));
    }
    wait_until_gone(&gapi, &bind, "_acme-challenge.example.com");
}
