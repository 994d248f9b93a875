//! What a restart must not change, and what a user's own objects do to those that gapi shows.

mod support;

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, time::Duration};

use rustix::process::Signal;
use support::{
    Authority, Backend, Client, Gapi, free_port,
    gapi::{Start, run},
    loopback,
    manifest::{file, gateway, http, https, prefix, route, secret, service},
};

const LIMIT: Duration = Duration::from_secs(30);

/// A Secret that becomes unusable leaves its last good certificate in force, also for the daemon after this one, whether
/// the Secret was broken under the old daemon's eyes or between the two.
#[test]
fn the_last_good_certificate_outlives_the_daemon() {
    let authority = Authority::new();
    let config = authority.client(&["http/1.1"]);
    let (port, pair) = (free_port(), authority.sign(&["secure.test"]));
    let presented = |gapi: &Gapi| {
        let client = Client::tls(loopback(port), "secure.test", &config);
        client.unwrap_or_else(|error| panic!("no handshake: {error}\n{}", gapi.log())).certificate
    };
    let mut broken = secret("pair", &pair);
    broken["stringData"]["tls.key"] = "rubbish".into();
    let broken = file(&[broken]);

    let gapi = Start::new()
        .file("gateway.yaml", file(&[gateway("secure", &[https("https", port, Some("secure.test"), "pair")])]))
        .file("pair.yaml", file(&[secret("pair", &pair)]))
        .serve();
    assert_eq!(presented(&gapi), Some(pair.der.clone()));
    assert!(!gapi.state().join("certificates.json").exists());

    // Broken while nobody looks.
    let (_, start) = gapi.end(Signal::KILL, LIMIT);
    let gapi = start.file("pair.yaml", &broken).serve();
    assert_eq!(presented(&gapi), Some(pair.der.clone()));
    let kept = gapi.state().join("certificates.json");
    assert_eq!(fs::metadata(&kept).expect("the certificate is kept").permissions().mode() & 0o777, 0o600);

    // The store has the broken Secret by now, and so have the files.
    let mut gapi = gapi;
    for signal in [Signal::KILL, Signal::TERM] {
        let (_, start) = gapi.end(signal, LIMIT);
        gapi = start.serve();
        assert_eq!(presented(&gapi), Some(pair.der.clone()), "after {signal:?}");
    }
    assert!(gapi.status_file("default/gateways/secure.yaml").contains("InvalidCertificateRef"));

    // Mended: the old pair is neither served nor kept.
    let other = authority.sign(&["secure.test"]);
    gapi.put("pair.yaml", file(&[secret("pair", &other)]));
    assert_eq!(gapi.reload().code, 0, "{}", gapi.log());
    assert_eq!(presented(&gapi), Some(other.der.clone()));
    assert!(!kept.exists());
    // A Secret that is gone takes its certificate with it.
    gapi.take("pair.yaml");
    gapi.reload();
    assert!(Client::tls(loopback(port), "secure.test", &config).is_err());
    let (_, start) = gapi.end(Signal::TERM, LIMIT);
    let gapi = start.serve();
    assert!(Client::tls(loopback(port), "secure.test", &config).is_err(), "{}", gapi.log());
}

/// The user's Service is routed to and shown as it is; the one that gapi would show under its name is left out.
#[test]
fn a_service_with_the_name_of_a_generated_one() {
    let backend = Backend::named("hello");
    let (port, shown) = (free_port(), "default/services/gapi-gate.yaml");
    let services = |name: &str| file(&service(name, &[backend.address]));
    let routes = |name: &str| file(&[route("r", "gate", &[], &[prefix("/", name)])]);
    let gapi = Gapi::serve(&[
        ("gateway.yaml", file(&[gateway("gate", &[http("http", port)])])),
        ("service.yaml", services("gapi-gate")),
        ("route.yaml", routes("gapi-gate")),
    ]);
    assert_eq!(get(loopback(port)), (200, "hello".into()), "{}", gapi.log());
    let reload = gapi.reload();
    assert_eq!(reload.code, 0, "it is a warning: {}", reload.text);
    for word in ["Service default/gapi-gate", "Gateway default/gate", "another name"] {
        assert!(reload.text.contains(word), "{word}: {}", reload.text);
    }
    assert_eq!(gapi.status_file(shown), "");
    let described = gapi.ask(&["get", "service", "gapi-gate", "-o", "yaml"]);
    assert!(!described.text.contains("LoadBalancer"), "{}", described.text);

    gapi.put("service.yaml", services("mine"));
    gapi.put("route.yaml", routes("mine"));
    let reload = gapi.reload();
    assert_eq!(reload.code, 0, "{}", reload.text);
    assert!(!reload.text.contains("gapi-gate"), "{}", reload.text);
    assert!(gapi.status_file(shown).contains("LoadBalancer"));
    assert_eq!(get(loopback(port)), (200, "hello".into()), "{}", gapi.log());
    // Exported, and back as a manifest: still the generated one.
    gapi.put("exported.yaml", gapi.status_file(shown));
    let reload = gapi.reload();
    assert_eq!(reload.code, 0, "{}", reload.text);
    assert!(!reload.text.contains("gapi-gate"), "{}", reload.text);
    assert!(gapi.status_file(shown).contains("LoadBalancer"));
}

/// `check` has the bounds that the daemon has, under the same names.
#[test]
fn check_has_the_daemons_bounds() {
    let directory = support::Directory::new();
    let path = directory.path().join("two.yaml");
    fs::write(&path, file(&service("a", &[loopback(1)]))).expect("the directory is writable");
    let path = path.to_str().expect("the path is ASCII");
    let check = |flags: &[&str]| run(["check", path].into_iter().chain(flags.iter().copied()));
    assert_eq!(check(&[]).code, 0);
    for flags in [["--max-documents", "1"], ["--max-file-size", "64"], ["--max-nodes", "5"], ["--max-depth", "1"]] {
        let ran = check(&flags);
        assert_eq!(ran.code, 1, "{flags:?}: {}", ran.text);
    }
    assert_eq!(check(&["--max-documents", "none"]).code, 2);
}

fn get(address: SocketAddr) -> (u16, String) {
    let answer = Client::connect(address).expect("the port is bound").get("any.test", "/").expect("an answer");
    (answer.status(), answer.text())
}
