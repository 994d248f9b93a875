//! Manifests as JSON, which is YAML too.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::certificate::Pair;

/// Several documents in one file.
pub fn file(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("---\n{document:#}\n")).collect()
}

pub fn gateway(name: &str, listeners: &[Value]) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"gatewayClassName": "gapi", "listeners": listeners},
    })
}

pub fn http(name: &str, port: u16) -> Value {
    json!({"name": name, "protocol": "HTTP", "port": port})
}

/// A listener of TCP, TLS or UDP.
pub fn listener(name: &str, protocol: &str, port: u16) -> Value {
    json!({"name": name, "protocol": protocol, "port": port})
}

/// For all names, or for one.
pub fn https(name: &str, port: u16, hostname: Option<&str>, secret: &str) -> Value {
    let mut listener = json!({
        "name": name, "protocol": "HTTPS", "port": port,
        "tls": {"certificateRefs": [{"name": secret}]},
    });
    if let Some(hostname) = hostname {
        listener["hostname"] = json!(hostname);
    }
    listener
}

pub fn secret(name: &str, pair: &Pair) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key},
    })
}

/// A Service with port 80, and a slice for each endpoint, since endpoints of one slice share their ports.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> Vec<Value> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let slices = endpoints.iter().enumerate().map(|(index, endpoint)| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-{index}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": if endpoint.is_ipv4() { "IPv4" } else { "IPv6" },
            "ports": [{"name": "http", "port": endpoint.port()}],
            "endpoints": [{"addresses": [endpoint.ip().to_string()]}],
        })
    });
    std::iter::once(service).chain(slices).collect()
}

/// All of `rules` for these hostnames (none: all) at `gateway`.
pub fn route(name: &str, gateway: &str, hostnames: &[&str], rules: &[Value]) -> Value {
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"parentRefs": [{"name": gateway}], "rules": rules},
    });
    if !hostnames.is_empty() {
        route["spec"]["hostnames"] = json!(hostnames);
    }
    route
}

/// A TCPRoute or UDPRoute of one listener to one Service.
pub fn layer4_route(kind: &str, name: &str, gateway: &str, section: &str, service: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "parentRefs": [{"name": gateway, "sectionName": section}],
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        },
    })
}

/// The same as [`service`], for UDP.
pub fn udp_service(name: &str, endpoints: &[SocketAddr]) -> Vec<Value> {
    let mut documents = service(name, endpoints);
    for document in &mut documents {
        let ports = if document["kind"] == "Service" { &mut document["spec"]["ports"] } else { &mut document["ports"] };
        ports[0]["protocol"] = json!("UDP");
    }
    documents
}

/// A path prefix to a Service.
pub fn prefix(path: &str, service: &str) -> Value {
    json!({
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"name": service, "port": 80}],
    })
}

/// One HTTP listener, one route for everything, one backend.
pub fn simple(port: u16, backend: SocketAddr) -> String {
    let mut documents =
        vec![gateway("gate", &[http("http", port)]), route("all", "gate", &[], &[prefix("/", "backend")])];
    documents.extend(service("backend", &[backend]));
    file(&documents)
}
