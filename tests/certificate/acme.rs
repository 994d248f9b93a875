//! Certificates of an ACME server, against Pebble.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    harness::{LIMIT, annotated, answers, certificate, condition, object, wait_until_ready},
    pebble::{EXTERNAL, Pebble},
};
use crate::support::{
    Backend, Gapi, free_port,
    gapi::Start,
    loopback,
    manifest::{file, gateway, http, https, prefix, route, service},
    wait,
};

pub fn http01() -> Value {
    json!([{"http01": {"gatewayHTTPRoute": {"parentRefs": [{"name": "gate", "kind": "Gateway"}]}}}])
}

/// A ClusterIssuer for the server, a Gateway with these listeners, and a backend.
pub fn site(pebble: &Pebble, solvers: &Value, listeners: &[Value], backend: &Backend) -> Vec<Value> {
    let gate =
        annotated(gateway("gate", listeners), &[("cluster-issuer", "pebble"), ("private-key-algorithm", "ECDSA")]);
    let external = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "external", "namespace": "cert-manager"},
        "stringData": {"secret": EXTERNAL.1},
    });
    let mut documents = vec![object("ClusterIssuer", "", "pebble", pebble.issuer(solvers)), gate, external];
    documents.push(route("all", "gate", &[], &[prefix("/", "backend")]));
    documents.extend(service("backend", &[backend.address]));
    documents
}

pub fn start(pebble: &Pebble, documents: &[Value]) -> Start {
    Start::new().file("site.yaml", file(documents)).flag("--acme-http-port", &pebble.http.to_string())
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&loopback(port), Duration::from_secs(1)).is_ok()
}

#[test]
fn names_are_proven_by_http_and_by_tls() {
    let Some(pebble) = Pebble::new() else { return };
    let mut pebble = pebble.external();
    pebble.start();
    let backend = Backend::named("hello");
    let solvers = json!([
        {"http01": {"ingress": {"class": "nginx"}}},
        {"tlsALPN01": {}, "selector": {"dnsNames": ["alpn.example"]}},
    ]);
    let listeners = [
        https("a", pebble.tls, Some("a.example"), "shared"),
        https("b", pebble.tls, Some("b.example"), "shared"),
        https("alpn", pebble.tls, Some("alpn.example"), "alpn"),
        https("blocked", pebble.tls, Some("blocked.example"), "blocked"),
        https("wild", pebble.tls, Some("*.wild.example"), "wild"),
    ];
    let mut documents = site(&pebble, &solvers, &listeners, &backend);
    let spec = json!({
        "secretName": "by-address", "ipAddresses": ["127.0.0.1"],
        "privateKey": {"algorithm": "ECDSA"}, "issuerRef": {"name": "pebble", "kind": "ClusterIssuer"},
    });
    documents.push(object("Certificate", "default", "by-address", spec));
    let gapi = start(&pebble, &documents).serve();
    for name in ["default/shared", "default/alpn", "default/by-address"] {
        wait_until_ready(&gapi, name);
    }
    assert_eq!(certificate(&gapi, "default/shared")["spec"]["dnsNames"], json!(["a.example", "b.example"]));
    let trust = pebble.trust();
    for name in ["a.example", "b.example", "alpn.example"] {
        wait(name, LIMIT, || answers(loopback(pebble.tls), name, &trust));
    }
    // What the server refuses, or nothing can prove, is told; and not asked for again and again.
    for (name, text) in [("default/blocked", "blocked.example"), ("default/wild", "wildcard")] {
        wait("the refusal is told", LIMIT, || {
            let document = certificate(&gapi, name);
            let issuing = condition(&document, "Issuing");
            issuing["status"] == "False" && issuing["message"].as_str().is_some_and(|message| message.contains(text))
        });
    }
    wait("no socket is left for challenges", LIMIT, || !listens(pebble.http));
    let table = gapi.ask(&["get", "clusterissuers", "-o", "wide"]).text;
    assert!(table.contains("The ACME account was registered with the ACME server"), "{table}");
    assert!(gapi.state().join("secrets/cert-manager/account-key.yaml").exists());
    // A restart finds everything: nothing valid is ordered again, and the account is the same.
    let issuer = gapi.status_file("_cluster/clusterissuers/pebble.yaml");
    let uri = issuer.lines().find(|line| line.contains("uri:")).expect("the account has a URL").to_owned();
    let orders = pebble.orders();
    let (_, start) = gapi.end(Signal::TERM, Duration::from_secs(20));
    let gapi = start.flag("--acme-http-port", &pebble.http.to_string()).serve();
    wait("the account is known", LIMIT, || gapi.status_file("_cluster/clusterissuers/pebble.yaml").contains(&uri));
    assert!(answers(loopback(pebble.tls), "a.example", &trust));
    gapi.reload();
    assert_eq!(pebble.orders(), orders, "{}", pebble.log());
    for key in ["a.example", "alpn.example"] {
        assert!(answers(loopback(pebble.tls), key, &trust));
    }
}

/// HTTP-01 comes in at a listener that a Gateway has already, whatever its routes say.
#[test]
fn a_challenge_comes_before_routes_and_a_renewal_fails_no_request() {
    let Some(pebble) = Pebble::new() else { return };
    let mut pebble = pebble.validity(45);
    pebble.start();
    let backend = Backend::named("hello");
    let listeners = [http("http", pebble.http), https("a", pebble.tls, Some("a.example"), "a-tls")];
    let gapi = start(&pebble, &site(&pebble, &http01(), &listeners, &backend)).serve();
    wait_until_ready(&gapi, "default/a-tls");
    let trust = pebble.trust();
    let address = loopback(pebble.tls);
    wait("it is served", LIMIT, || answers(address, "a.example", &trust));
    let ended = Arc::new(AtomicBool::new(false));
    let traffic = thread::spawn({
        let (ended, trust) = (ended.clone(), trust.clone());
        move || {
            let (mut sent, mut failed) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                sent += 1;
                failed += usize::from(!answers(address, "a.example", &trust));
                thread::sleep(Duration::from_millis(50));
            }
            (sent, failed)
        }
    });
    wait("it is renewed twice", Duration::from_secs(180), || {
        certificate(&gapi, "default/a-tls")["status"]["revision"].as_u64() >= Some(3)
    });
    ended.store(true, Ordering::Relaxed);
    let (sent, failed) = traffic.join().expect("the thread ends");
    assert!(sent > 50 && failed == 0, "{failed} of {sent} failed");
    assert!(listens(pebble.http), "the Gateway's own listener stays");
}

#[test]
fn a_server_that_is_down_is_waited_for_and_an_order_goes_on() {
    let Some(pebble) = Pebble::new() else { return };
    let mut pebble = pebble.sleep(6);
    let backend = Backend::named("hello");
    let listeners = [https("a", pebble.tls, Some("a.example"), "a-tls")];
    let gapi = start(&pebble, &site(&pebble, &http01(), &listeners, &backend)).serve();
    wait("the trouble is told", LIMIT, || {
        gapi.ask(&["get", "clusterissuers", "-o", "wide"]).text.contains("Failed to register ACME account")
    });
    pebble.start();
    // Killed as soon as the order is made: it goes on, and is not made again.
    let record = |gapi: &Gapi| {
        let text = fs::read_to_string(gapi.state().join("certificates/default/a-tls.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or(Value::Null)
    };
    wait("an order is made", LIMIT, || record(&gapi)["order"]["url"].is_string());
    let (_, start) = gapi.end(Signal::KILL, Duration::from_secs(20));
    let gapi = start.flag("--acme-http-port", &pebble.http.to_string()).serve();
    wait_until_ready(&gapi, "default/a-tls");
    assert_eq!(pebble.orders(), 1, "{}", pebble.log());
    let trust = pebble.trust();
    wait("it is served", LIMIT, || answers(loopback(pebble.tls), "a.example", &trust));
    assert!(record(&gapi)["order"].is_null());
    // The server forgets its accounts: one is registered anew when it is needed.
    pebble.stop();
    pebble.start();
    let more = [https("a", pebble.tls, Some("a.example"), "a-tls"), https("b", pebble.tls, Some("b.example"), "b-tls")];
    gapi.put("site.yaml", file(&site(&pebble, &http01(), &more, &backend)));
    wait_until_ready(&gapi, "default/b-tls");
}

/// Killed again and again, a little later each time: whatever step it was in, the next run goes on.
#[test]
fn an_order_survives_kills() {
    let Some(pebble) = Pebble::new() else { return };
    let mut pebble = pebble.sleep(2);
    pebble.start();
    let backend = Backend::named("hello");
    let listeners = [https("a", pebble.tls, Some("a.example"), "a-tls")];
    let mut start = start(&pebble, &site(&pebble, &http01(), &listeners, &backend));
    const KILLS: usize = 8;
    for kill in 0..KILLS {
        let gapi = start.spawn();
        thread::sleep(Duration::from_millis(150 + 350 * kill as u64));
        let (_, next) = gapi.end(Signal::KILL, Duration::from_secs(20));
        start = next.flag("--acme-http-port", &pebble.http.to_string());
    }
    let gapi = start.serve();
    wait_until_ready(&gapi, "default/a-tls");
    let trust = pebble.trust();
    wait("it is served", LIMIT, || answers(loopback(pebble.tls), "a.example", &trust));
    // A kill between the server's answer and the disk loses an order, and so does one while the server looks for the
    // challenge; all the others go on.
    assert!(pebble.orders() <= KILLS / 2 + 1, "{} orders", pebble.orders());
}

#[test]
fn a_port_that_is_taken_is_told() {
    let Some(mut pebble) = Pebble::new() else { return };
    pebble.start();
    let backend = Backend::named("hello");
    let taken = std::net::TcpListener::bind(loopback(pebble.http)).expect("it is free");
    let port = free_port();
    let listeners = [https("a", port, Some("a.example"), "a-tls")];
    let gapi = start(&pebble, &site(&pebble, &http01(), &listeners, &backend)).serve();
    wait("the port is told", LIMIT, || {
        let document = certificate(&gapi, "default/a-tls");
        let message = condition(&document, "Issuing")["message"].as_str().unwrap_or_default().to_owned();
        message.contains(&format!("127.0.0.1:{}", pebble.http))
    });
    drop(taken);
    wait_until_ready(&gapi, "default/a-tls");
}

/// The example for Let's Encrypt, with Pebble's address and ports in place of its own.
#[test]
fn the_example_gets_its_certificate() {
    let Some(mut pebble) = Pebble::new() else { return };
    pebble.start();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/https-letsencrypt");
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect("the example is there");
    let server = "server: https://acme-v02.api.letsencrypt.org/directory";
    let issuer = read("issuer.yaml");
    assert!(issuer.contains(server));
    let bundle = format!("server: {}\n    caBundle: {}", pebble.url(), pebble.bundle());
    let ports = [("port: 80\n", pebble.http), ("port: 443\n", pebble.tls)];
    let moved = |text: String, (written, port): (&str, u16)| text.replace(written, &format!("port: {port}\n"));
    let gapi = Start::new()
        .file("issuer.yaml", issuer.replace(server, &bundle))
        .file("gateway.yaml", ports.into_iter().fold(read("gateway.yaml"), moved))
        .file("route.yaml", read("route.yaml"))
        .flag("--acme-http-port", &pebble.http.to_string())
        .serve();
    wait_until_ready(&gapi, "default/www-example-com-tls");
    let trust = pebble.trust();
    wait("it is served", LIMIT, || answers(loopback(pebble.tls), "www.example.com", &trust));
    let kept = fs::read_to_string(gapi.state().join("secrets/default/www-example-com-tls.yaml")).expect("it is kept");
    assert!(kept.contains("kubernetes.io/tls") && kept.contains("issuer-name: letsencrypt"), "{kept}");
}

#[test]
fn without_its_root_the_server_is_not_believed_unless_that_is_said() {
    let Some(mut pebble) = Pebble::new() else { return };
    pebble.start();
    let backend = Backend::named("hello");
    let listeners = [https("a", pebble.tls, Some("a.example"), "a-tls")];
    let mut documents = site(&pebble, &http01(), &listeners, &backend);
    let acme = documents[0]["spec"]["acme"].as_object_mut().expect("it is there");
    acme.remove("caBundle");
    let gapi = start(&pebble, &documents).serve();
    wait("the server is not trusted", LIMIT, || {
        gapi.ask(&["get", "clusterissuers", "-o", "wide"]).text.contains("UnknownIssuer")
    });
    documents[0]["spec"]["acme"]["skipTLSVerify"] = json!(true);
    gapi.put("site.yaml", file(&documents));
    wait_until_ready(&gapi, "default/a-tls");
}

/// Of several chains the one is taken whose topmost issuer is preferred; else the default one, and that is said.
#[test]
fn the_preferred_chain_is_taken_where_the_server_has_it() {
    let Some(pebble) = Pebble::new() else { return };
    let mut pebble = pebble.alternates(2);
    pebble.start();
    let roots: Vec<String> = (0..3).map(|i| pebble.root_name(i)).collect();
    let backend = Backend::named("hello");
    let listeners = [https("a", pebble.tls, Some("a.example"), "a-tls")];
    let mut documents = site(&pebble, &http01(), &listeners, &backend);
    documents[0]["spec"]["acme"]["preferredChain"] = json!(roots[2]);
    let gapi = start(&pebble, &documents).serve();
    wait_until_ready(&gapi, "default/a-tls");
    let trust = pebble.trust_root(2);
    wait("the other chain is served", LIMIT, || answers(loopback(pebble.tls), "a.example", &trust));
    assert!(!answers(loopback(pebble.tls), "a.example", &pebble.trust()), "the default chain is not");
    assert!(!gapi.ask(&["status"]).text.contains("the chain ends at"));
    let mut more = documents.clone();
    more[0]["spec"]["acme"]["preferredChain"] = json!("Nobody's Root");
    let spec =
        json!({"secretName": "b", "dnsNames": ["b.example"], "issuerRef": {"name": "pebble", "kind": "ClusterIssuer"}});
    more.push(object("Certificate", "default", "b", spec));
    gapi.put("site.yaml", file(&more));
    wait_until_ready(&gapi, "default/b");
    let text = gapi.ask(&["status"]).text;
    let said = format!("the chain ends at {:?}, and the server has none that ends at", roots[0]);
    assert!(text.contains(&said), "{text}");
}
