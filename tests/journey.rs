//! What somebody who knows the Gateway API from a cluster does first, with manifests as they are written for clusters:
//! `v1beta1`, a class of another name, namespaces, annotations for the generated Service. Each step is one that a person
//! takes, with the words that they see.

mod support;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;
use support::{Authority, Backend, Client, Gapi, Reply, free_port, gapi::Start, gapi::run, loopback};

const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: GatewayClass
metadata:
  name: cilium
spec:
  controllerName: gapi.dev/gateway-controller
";

fn gateway(port: u16, secure: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: Gateway
metadata:
  name: platform
  namespace: infrastructure
spec:
  gatewayClassName: cilium
  infrastructure:
    annotations:
      example.com/load-balancer: internal
    labels:
      team: platform
  listeners:
    - name: http
      port: {port}
      protocol: HTTP
      allowedRoutes:
        namespaces:
          from: Selector
          selector:
            matchExpressions:
              - {{key: kubernetes.io/metadata.name, operator: In, values: [observability, flux-system]}}
    - name: https
      port: {secure}
      protocol: HTTPS
      hostname: dash.example.com
      tls:
        mode: Terminate
        certificateRefs:
          - {{kind: Secret, name: dash-tls}}
      allowedRoutes:
        namespaces:
          from: All
"
    )
}

fn route(namespace: &str, name: &str, section: &str, rules: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata:
  name: {name}
  namespace: {namespace}
spec:
  parentRefs:
    - {{name: platform, namespace: infrastructure, sectionName: {section}}}
  rules:
{rules}
"
    )
}

fn service(namespace: &str, name: &str, port: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  type: ClusterIP
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: v1
kind: Endpoints
metadata: {{name: {name}, namespace: {namespace}}}
subsets:
  - addresses: [{{ip: 127.0.0.1}}]
    ports: [{{name: http, port: {port}}}]
"
    )
}

/// Says its name and what it got.
fn backend(name: &'static str) -> Backend {
    Backend::start(move |request, _| {
        let fields: Vec<String> = request.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        Reply::ok(&format!("{name}\n{}", fields.join("\n")))
    })
}

struct Journey {
    gapi: Gapi,
    authority: Authority,
    port: u16,
    secure: u16,
    one: Backend,
    two: Backend,
}

impl Journey {
    fn start() -> Journey {
        let (port, secure) = (free_port(), free_port());
        let (one, two) = (backend("one"), backend("two"));
        let authority = Authority::new();
        let pair = authority.sign(&["dash.example.com"]);
        let indented = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: dash-tls, namespace: infrastructure}}\n\
            type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
            indented(&pair.certificate),
            indented(&pair.key)
        );
        let gapi = Start::new()
            .file("infrastructure/class.yaml", CLASS)
            .file("infrastructure/gateway.yaml", gateway(port, secure))
            .file("infrastructure/secret.yaml", secret)
            // What lies beside manifests in a repository is none of gapi's business.
            .file("infrastructure/kustomization.yaml", "resources: [class.yaml, gateway.yaml]\n")
            .file(
                "infrastructure/deployment.yaml",
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {}\n",
            )
            .file("observability/one.yaml", service("observability", "one", one.address.port()))
            .file("observability/two.yaml", service("observability", "two", two.address.port()))
            .serve();
        Journey { gapi, authority, port, secure, one, two }
    }

    fn put(&self, name: &str, text: String) {
        self.gapi.put(name, text);
        let ran = self.gapi.reload();
        assert_eq!(ran.code, 0, "{}", ran.text);
    }

    /// Status and body of a request with these fields.
    fn ask(&self, target: &str, fields: &str) -> (u16, String) {
        let mut client = Client::connect(loopback(self.port)).expect("the gateway listens");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: www.example.com\r\n{fields}\r\n"));
        let answer = client.answer("GET").expect("there is an answer");
        (answer.status(), answer.text())
    }

    /// The rows of `gapi get`, by their first column.
    fn rows(&self, words: &[&str]) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
        let ran = self.gapi.ask(words);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.text);
        let mut lines = ran.text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let heading = lines.next().unwrap_or_default();
        (heading, lines.filter(|row| !row.is_empty()).map(|row| (row[0].clone(), row)).collect())
    }

    fn json(&self, words: &[&str]) -> Value {
        let ran = self.gapi.ask(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&ran.text).unwrap_or_else(|error| panic!("{words:?}: {error}: {}", ran.text))
    }
}

#[test]
fn classes_gateways_and_services() {
    let journey = Journey::start();
    let (heading, classes) = journey.rows(&["get", "gatewayclasses"]);
    assert_eq!(heading, ["NAME", "CONTROLLER", "ACCEPTED", "AGE"]);
    for class in ["gapi", "cilium"] {
        assert_eq!(classes[class][1..3], ["gapi.dev/gateway-controller", "True"], "{class}");
    }

    let (heading, gateways) = journey.rows(&["get", "gateway", "-n", "infrastructure"]);
    assert_eq!(heading, ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]);
    assert_eq!(gateways["platform"][1..4], ["cilium", "127.0.0.1", "True"]);

    let (heading, services) = journey.rows(&["get", "svc", "-n", "infrastructure"]);
    assert_eq!(heading, ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    let row = &services["gapi-platform"];
    assert_eq!((row[1].as_str(), row[3].as_str()), ("LoadBalancer", "127.0.0.1"));
    assert!(row[4].contains(&journey.port.to_string()), "{row:?}");
    let service = journey.json(&["get", "service", "gapi-platform", "-n", "infrastructure"]);
    assert_eq!(service["metadata"]["annotations"]["example.com/load-balancer"], "internal", "{service:#}");
    assert_eq!(service["metadata"]["labels"]["team"], "platform");
    assert_eq!(service["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"], "platform");

    // Status is written in the version of the manifest.
    let gateway = journey.json(&["get", "gateway", "platform", "-n", "infrastructure"]);
    assert_eq!(gateway["apiVersion"], "gateway.networking.k8s.io/v1beta1");
}

#[test]
fn routes_by_path_and_header() {
    let journey = Journey::start();
    let all = "    - backendRefs: [{name: one, port: 80}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", all));
    assert!(journey.ask("/", "").1.starts_with("one\n"));

    let by_path =
        "    - matches: [{path: {type: PathPrefix, value: /two}}]\n      backendRefs: [{name: two, port: 80}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", &format!("{all}{by_path}")));
    assert!(journey.ask("/two/x", "").1.starts_with("two\n"));
    assert!(journey.ask("/twofold", "").1.starts_with("one\n"));

    let by_header =
        "    - matches: [{headers: [{name: version, value: '2'}]}]\n      backendRefs: [{name: two, port: 80}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", &format!("{all}{by_header}")));
    assert!(journey.ask("/", "Version: 2\r\n").1.starts_with("two\n"));
    assert!(journey.ask("/", "Version: 1\r\n").1.starts_with("one\n"));

    // A route is taken away with its file.
    journey.gapi.take("observability/route.yaml");
    assert_eq!(journey.gapi.reload().code, 0);
    assert_eq!(journey.ask("/", "").0, 404);
    assert_eq!(journey.gapi.ask(&["get", "httproute", "main", "-n", "observability"]).code, 1);
}

#[test]
fn https_and_the_redirect_to_it() {
    let journey = Journey::start();
    let config = journey.authority.client(&["http/1.1"]);
    let all = "    - backendRefs: [{name: one, port: 80}]\n";
    let redirect = "    - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "https", all));
    journey.put("observability/redirect.yaml", route("observability", "redirect", "http", redirect));

    let mut client =
        Client::tls(loopback(journey.secure), "dash.example.com", &config).expect("the handshake succeeds");
    let answer = client.get("dash.example.com", "/").expect("there is an answer");
    assert!(answer.status() == 200 && answer.text().starts_with("one\n"), "{answer:?}");

    let mut client = Client::connect(loopback(journey.port)).expect("the gateway listens");
    let answer = client.get("dash.example.com", "/login?x=1").expect("there is an answer");
    // Without a port of its own in the filter, the redirect is to the scheme's (HTTPRequestRedirectFilter.port).
    assert_eq!((answer.status(), answer.message.field("location")), (301, Some("https://dash.example.com/login?x=1")));
}

/// The site's certificate reaches the client through the gateway, which has none for it. The kinds are in the versions of
/// the time.
#[test]
fn tls_from_end_to_end() {
    let journey = Journey::start();
    let site = Authority::new();
    let server = site.server(&["echo.example.com"]);
    let backend = Backend::raw(move |stream, _, _| {
        let Ok(session) = ServerConnection::new(server.clone()) else { return };
        let mut stream = StreamOwned::new(session, stream);
        let mut head = [0; 1024];
        // A client that goes away is missed by the other side of the test.
        let _ = stream.read(&mut head).and_then(|_| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nthe pod")?;
            stream.conn.send_close_notify();
            stream.flush()
        });
    });
    let port = free_port();
    let gateway = format!(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: Gateway
metadata:
  name: echo
  namespace: echo
spec:
  gatewayClassName: cilium
  listeners:
    - name: tls
      hostname: echo.example.com
      port: {port}
      protocol: TLS
      tls:
        mode: Passthrough
      allowedRoutes:
        namespaces:
          from: Same
"
    );
    let route = "
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata:
  name: echo
  namespace: echo
spec:
  parentRefs:
    - name: echo
  hostnames:
    - echo.example.com
  rules:
    - backendRefs:
        - name: echo-1-echo-server
          port: 80
";
    journey.put("echo/gateway.yaml", gateway);
    journey.put("echo/service.yaml", service("echo", "echo-1-echo-server", backend.address.port()));
    journey.put("echo/route.yaml", route.into());

    let ask = |authority: &Authority, name: &str| {
        Client::tls(loopback(port), name, &authority.client(&[])).and_then(|mut client| client.get(name, "/"))
    };
    let answer = ask(&site, "echo.example.com").expect("the site's own certificate is shown");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "the pod"));
    assert!(ask(&journey.authority, "echo.example.com").is_err(), "no certificate of the gateway's is shown");
    assert!(ask(&site, "other.example.com").is_err(), "a name that no listener has");

    let (heading, routes) = journey.rows(&["get", "tlsroute", "-n", "echo"]);
    assert_eq!(heading, ["NAME", "AGE"]);
    assert!(routes.contains_key("echo"), "{routes:?}");
    let route = journey.json(&["get", "tlsroute", "echo", "-n", "echo"]);
    assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1alpha2");
    for condition in route["status"]["parents"][0]["conditions"].as_array().expect("there are conditions") {
        assert_eq!(condition["status"], "True", "{condition}");
    }
    // The name of the other site ends at the gateway as before.
    assert_eq!(journey.ask("/", "").0, 404);
}

/// What could not work on the cluster: one route for both listeners sends HTTPS to HTTPS for ever. It is said beforehand.
#[test]
fn a_redirect_that_takes_its_own_target() {
    let journey = Journey::start();
    let redirect = "    - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]\n";
    let both = route("observability", "redirect", "http", redirect).replace(", sectionName: http", "");
    journey.gapi.put("observability/redirect.yaml", both);
    let config = journey.gapi.config();
    let checked = run(["check", config.to_str().expect("the path is ASCII")]);
    assert_eq!(checked.code, 0, "a warning, no error: {}", checked.text);
    for word in ["warning", "redirect", "https", "sectionName"] {
        assert!(checked.text.contains(word), "{word} is not in:\n{}", checked.text);
    }
    assert_eq!(run(["check", "--strict", config.to_str().expect("the path is ASCII")]).code, 1);
}

#[test]
fn tenants() {
    let journey = Journey::start();
    let all = "    - backendRefs: [{name: one, port: 80}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", all));
    assert_eq!(journey.ask("/", "").0, 200);

    let stranger =
        route("strangers", "main", "http", all) + "---" + &service("strangers", "one", journey.two.address.port());
    journey.put("strangers/route.yaml", stranger);
    let described = journey.gapi.ask(&["describe", "httproute", "main", "-n", "strangers"]);
    assert!(described.code == 0 && described.text.contains("NotAllowedByListeners"), "{}", described.text);
    let status = journey.json(&["get", "httproute", "main", "-n", "strangers"]);
    let condition = &status["status"]["parents"][0]["conditions"].as_array().expect("there are conditions").clone();
    let accepted = condition.iter().find(|condition| condition["type"] == "Accepted").expect("Accepted is there");
    assert_eq!((&accepted["status"], &accepted["reason"]), (&"False".into(), &"NotAllowedByListeners".into()));
    // The other tenant does not notice.
    assert!(journey.ask("/", "").1.starts_with("one\n"));

    // A backend of another namespace needs its agreement.
    let across = "    - backendRefs: [{name: one, namespace: strangers, port: 80}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", across));
    assert_eq!(journey.ask("/", "").0, 500);
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n\
        metadata: {name: allow, namespace: strangers}\nspec:\n  \
        from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: observability}]\n  \
        to: [{group: '', kind: Service}]\n";
    journey.put("strangers/grant.yaml", grant.into());
    assert!(journey.ask("/", "").1.starts_with("two\n"));
}

#[test]
fn shares_and_fields() {
    let journey = Journey::start();
    let split = "    - backendRefs: [{name: one, port: 80, weight: 95}, {name: two, port: 80, weight: 5}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", split));
    let two = (0..400).filter(|_| journey.ask("/", "").1.starts_with("two\n")).count();
    // 20 of 400; the bounds are more than four standard deviations away.
    assert!((2..=40).contains(&two), "{two} of 400");

    let fields = "    - filters:
        - type: RequestHeaderModifier
          requestHeaderModifier:
            add: [{name: my-added, value: new}]
            set: [{name: my-set, value: mine}]
            remove: [my-removed]
      backendRefs: [{name: one, port: 80}]\n";
    journey.put("observability/route.yaml", route("observability", "main", "http", fields));
    let (_, got) = journey.ask("/", "My-Set: yours\r\nMy-Removed: old\r\n");
    assert!(got.contains("\nmy-added: new") && got.contains("\nmy-set: mine"), "{got}");
    assert!(!got.contains("yours") && !got.contains("my-removed"), "{got}");
    assert!(!journey.one.messages().is_empty());
}
