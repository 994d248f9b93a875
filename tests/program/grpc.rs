//! gRPC's own library for Python on both sides of a GRPCRoute: raw bytes as messages, over h2c and over TLS.
//!
//! What is called and expected is in `grpc_client.py`, each scenario a function.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    process::{PATIENCE, Running, Server, begin, program, route, service, to, write},
    support::{Authority, Directory, Gapi, free_port, loopback, manifest, wait},
};

const HOSTNAME: &str = "rpc.example.com";

struct Calls {
    // Ends before its directory.
    _server: Server,
    directory: Directory,
    gapi: Gapi,
    plain: u16,
    secure: u16,
}

/// The interpreter of `scripts/setup test`, with grpcio.
fn python() -> PathBuf {
    let home = std::env::var_os("HOME").expect("people have a home");
    let python = Path::new(&home).join(".cache/gapi-grpcio/bin/python3");
    assert!(python.is_file(), "{} is not there; run: scripts/setup test", python.display());
    python
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program").join(name)
}

impl Calls {
    fn start() -> Calls {
        let directory = Directory::new();
        let path = directory.path();
        let (one, two) = (free_port(), free_port());
        let mut server = Command::new(program("setpriv"));
        server.args(["--pdeathsig=KILL", "--"]).arg(python()).arg(script("grpc_server.py"));
        server.args([format!("one={one}"), format!("two={two}")]);
        let server = Server::start(server, path.join("log"), Signal::KILL)
            .wait_until(|server| server.log().lines().any(|line| line == "ready"));

        let authority = Authority::new();
        write(path, "roots.pem", authority.pem());
        let (plain, secure) = (free_port(), free_port());
        let mut documents = vec![
            manifest::gateway(
                "gate",
                &[manifest::http("plain", plain), manifest::https("secure", secure, Some(HOSTNAME), "rpc-tls")],
            ),
            manifest::secret("rpc-tls", &authority.sign(&[HOSTNAME])),
        ];
        documents.extend(service("one", &[("grpc", "TCP", None, loopback(one))]));
        documents.extend(service("two", &[("grpc", "TCP", Some("kubernetes.io/h2c"), loopback(two))]));
        // A Service without endpoints.
        documents.push(service("nobody", &[("grpc", "TCP", None, loopback(one))]).swap_remove(0));
        let gapi = Gapi::serve(&[
            ("all.yaml", manifest::file(&documents)),
            ("route.yaml", manifest::file(&[calls(&methods("one"))])),
        ]);
        Calls { _server: server, directory, gapi, plain, secure }
    }

    fn call(&self, secure: bool, scenario: &str, arguments: &[&str]) -> Running {
        let roots = self.directory.path().join("roots.pem");
        let mut client = Command::new(python());
        client.arg(script("grpc_client.py"));
        client.arg(loopback(if secure { self.secure } else { self.plain }).to_string());
        client.arg(if secure { roots.as_path() } else { Path::new("-") }).arg(scenario).args(arguments);
        begin(client, Vec::new())
    }
}

/// A route at both listeners.
fn calls(rules: &[Value]) -> Value {
    let mut route = route("GRPCRoute", "calls", "plain", &json!({"hostnames": [HOSTNAME], "rules": rules}));
    route["spec"]["parentRefs"] = json!([{"name": "gate"}]);
    route
}

/// Each method of the service by its name, most of them to `backend`.
fn methods(backend: &str) -> Vec<Value> {
    let known = [
        "Say",
        "Join",
        "Repeat",
        "Talk",
        "Remaining",
        "Sleep",
        "Rest",
        "Endless",
        "HasEnded",
        "Fail",
        "FailLate",
        "Die",
    ];
    let exact = |service: &str, method: &str| json!({"method": {"service": service, "method": method}});
    let all: Vec<Value> = known.iter().map(|method| exact("gapi.test.Echo", method)).collect();
    let rule = |matches: Vec<Value>, backend: &str| {
        let mut rule = to(backend)[0].take();
        rule["matches"] = json!(matches);
        rule
    };
    let mut second = exact("gapi.test.Echo", "Say");
    second["headers"] = json!([{"name": "my-version", "value": "2"}]);
    vec![
        // A rule has room for no more than eight matches.
        rule(all[..8].to_vec(), backend),
        rule(all[8..].to_vec(), backend),
        rule(vec![second], "two"),
        rule(vec![json!({"method": {"service": "gapi.test.Nobody"}})], "nobody"),
        rule(vec![json!({"method": {"service": "gapi.test.Invalid"}})], "missing"),
    ]
}

fn succeeds(running: Running, what: &str) {
    let said = running.finish();
    assert_eq!((said.code, said.text().as_str()), (Some(0), "as expected\n"), "{what}: {}", said.errors);
}

/// Over h2c and over TLS, at the same time.
fn both(scenario: &str) {
    let calls = Calls::start();
    let under_way = [false, true].map(|secure| (secure, calls.call(secure, scenario, &[])));
    for (secure, running) in under_way {
        succeeds(running, if secure { "over TLS" } else { "over h2c" });
    }
}

#[test]
fn one_message_each_way() {
    both("one_message");
}

#[test]
fn many_calls_at_once() {
    both("many_calls");
}

#[test]
fn a_stream_of_the_client() {
    both("client_stream");
}

#[test]
fn a_stream_of_the_server() {
    both("server_stream");
}

#[test]
fn streams_of_both_as_they_come() {
    both("both_stream");
}

#[test]
fn metadata_first_and_last() {
    both("metadata");
}

#[test]
fn every_status_with_its_message() {
    both("statuses");
}

#[test]
fn deadlines_reach_the_server() {
    both("deadlines");
}

#[test]
fn cancels_reach_the_server() {
    both("cancels");
}

#[test]
fn a_silent_call_is_left_alone() {
    both("silence");
}

#[test]
fn what_gapi_itself_answers() {
    both("answers_of_the_gateway");
}

#[test]
fn a_server_that_dies_is_no_end() {
    for secure in [false, true] {
        let calls = Calls::start();
        let directory = calls.directory.path().to_str().expect("ASCII").to_owned();
        succeeds(calls.call(secure, "a_server_that_dies", &[&directory]), "the error is seen");
    }
}

/// Its calls stay where they are; others go where the manifests say now.
#[test]
fn a_call_is_held_over_reloads() {
    let calls = Calls::start();
    for secure in [false, true] {
        let signs = calls.directory.path().join(format!("signs-{secure}"));
        std::fs::create_dir(&signs).expect("the directory is writable");
        let held = calls.call(secure, "held", &[signs.to_str().expect("ASCII")]);
        wait("the call is under way", PATIENCE, || signs.join("held").exists());
        for backend in ["two", "nobody", "one"] {
            calls.gapi.put("route.yaml", manifest::file(&[self::calls(&methods(backend))]));
            let ran = calls.gapi.reload();
            assert_eq!(ran.code, 0, "{}", ran.text);
        }
        write(&signs, "over", "");
        succeeds(held, "the call goes on");
    }
}
