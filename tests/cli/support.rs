//! A daemon that knows only its admin socket, and the program.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use gapi::{
    observe::admin,
    status::yaml::to_yaml,
    view::{Request, View},
};
use serde_json::{Value, json};

/// A directory of its own for one test, removed with it.
pub struct RuntimeDir(PathBuf);

impl RuntimeDir {
    pub fn new() -> RuntimeDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gapi-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temporary directory");
        RuntimeDir(path)
    }

    /// With a daemon that answers from `view`, for as long as the tests run.
    pub fn with_daemon(view: View) -> RuntimeDir {
        let dir = RuntimeDir::new();
        let path = dir.0.clone();
        let (ready, started) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let listener = admin::bind(&path).expect("the socket can be bound");
                ready.send(()).expect("the test waits");
                let view = Arc::new(view);
                admin::serve(listener, move |request: Request| {
                    let view = view.clone();
                    async move { view.answer(&request) }
                })
                .await;
            });
        });
        started.recv().expect("the daemon starts");
        dir
    }

    /// Writes `object` as the daemon leaves it behind.
    pub fn write_status(&self, folder: &str, plural: &str, object: &Value) {
        let folder = self.0.join("status").join(folder).join(plural);
        std::fs::create_dir_all(&folder).expect("temporary directory");
        let name = object["metadata"]["name"].as_str().expect("objects have names");
        let (aside, file) = (folder.join(".new"), folder.join(format!("{name}.yaml")));
        std::fs::write(&aside, to_yaml(object)).expect("temporary file");
        std::fs::rename(aside, file).expect("temporary file");
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs `gapi` with these words, separated by blanks.
    pub fn gapi(&self, words: &str) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_gapi"))
            .args(words.split_whitespace())
            .env("GAPI_RUNTIME_DIR", &self.0)
            .output()
            .expect("the program runs");
        Ran::from(output)
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ran { code: output.status.code().expect("it exited"), out: text(output.stdout), err: text(output.stderr) }
    }
}

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// Old enough that every age is the same in years; but for `<unknown>` all ages in a table are this.
pub const CREATED: &str = "2001-01-01T00:00:00Z";

fn metadata(namespace: &str, name: &str) -> Value {
    match namespace {
        "" => json!({ "name": name, "creationTimestamp": CREATED }),
        _ => json!({ "name": name, "namespace": namespace, "creationTimestamp": CREATED }),
    }
}

pub fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": CREATED })
}

pub fn gateway_class() -> Value {
    json!({ "apiVersion": GATEWAY_API, "kind": "GatewayClass", "metadata": metadata("", "gapi"),
        "spec": { "controllerName": "gapi.dev/gateway-controller", "description": "this machine" },
        "status": { "conditions": [condition("Accepted", "True", "Accepted", "")] } })
}

pub fn gateway() -> Value {
    json!({ "apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": metadata("infrastructure", "platform"),
        "spec": { "gatewayClassName": "gapi", "listeners": [
            { "name": "http", "port": 80, "protocol": "HTTP" },
            { "name": "https", "port": 443, "protocol": "HTTPS", "hostname": "a.example" } ] },
        "status": {
            "addresses": [{ "type": "IPAddress", "value": "192.0.2.1" }, { "type": "IPAddress", "value": "2001:db8::1" }],
            "conditions": [condition("Accepted", "True", "Accepted", ""), condition("Programmed", "True", "Programmed", "")],
            "listeners": [
                { "name": "http", "attachedRoutes": 1, "conditions": [
                    condition("Programmed", "True", "Programmed", ""), condition("Conflicted", "False", "NoConflicts", "")] },
                { "name": "https", "attachedRoutes": 0, "conditions": [
                    condition("Programmed", "False", "Invalid", ""),
                    condition("ResolvedRefs", "False", "InvalidCertificateRef", "there is no Secret infrastructure/tls")] } ] } })
}

pub fn service() -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata("echo", "echo-1"),
        "spec": { "clusterIP": "10.0.0.1", "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] } })
}

/// Taken by listener `http`, refused by `https`.
pub fn route() -> Value {
    let parent = |section: &str| json!({ "name": "platform", "namespace": "infrastructure", "sectionName": section });
    let entry = |section: &str, conditions: Value| json!({ "parentRef": parent(section), "controllerName": "gapi.dev/gateway-controller", "conditions": conditions });
    json!({ "apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": metadata("echo", "echo-1"),
        "spec": { "hostnames": ["a.example", "yes"], "parentRefs": [parent("http"), parent("https")], "rules": [
            { "matches": [{ "path": { "type": "PathPrefix", "value": "/v2" },
                "headers": [{ "type": "Exact", "name": "version", "value": "2" }] }],
              "filters": [{ "type": "RequestRedirect", "requestRedirect": { "scheme": "https", "statusCode": 301 } }],
              "backendRefs": [{ "name": "echo-1", "port": 80, "weight": 95 }, { "name": "echo-2", "port": 80, "weight": 5 }] } ] },
        "status": { "parents": [
            { "parentRef": parent("http"), "controllerName": "example.com/other", "conditions": [] },
            entry("http", json!([
                condition("Accepted", "True", "Accepted", ""),
                condition("ResolvedRefs", "False", "BackendNotFound", "there is no Service echo/echo-2")])),
            entry("https", json!([condition("Accepted", "False", "NotAllowedByListeners", "namespace echo is not selected")])) ] } })
}

/// Two addresses, one of them ready.
pub fn endpoint_slice() -> Value {
    let mut slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata("echo", "echo-1-x"),
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 3000, "protocol": "TCP" }],
        "endpoints": [{ "addresses": ["127.0.0.1"] }, { "addresses": ["127.0.0.2"], "conditions": { "ready": false } }] });
    slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "echo-1" });
    slice
}

pub fn secret() -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata("echo", "tls"), "type": "kubernetes.io/tls",
        "data": { "tls.crt": "aHVudGVyMg==", "tls.key": "aHVudGVyMg==" } })
}

/// All of them.
pub fn view() -> View {
    let objects = [route(), gateway(), secret(), gateway_class(), endpoint_slice(), service()];
    View {
        version: "0.1.0".into(),
        pid: 4242,
        started: CREATED.into(),
        config_dir: "/etc/gapi".into(),
        traffic_path: "user space".into(),
        generation: 7,
        last_pass: Some(CREATED.into()),
        objects: objects.into_iter().map(Arc::new).collect(),
        ..View::default()
    }
}
