//! Which columns has a kind, and what stands in them? Those that the CRDs' printer columns and the API server give
//! kubectl; with `-o wide` also ours.

use jiff::Timestamp;
use serde_json::Value;

use super::age;
use crate::{
    api::{
        Kind,
        condition::{ROUTE_IN_KERNEL, ROUTE_IN_KERNEL_AND_USER_SPACE, ROUTE_IN_USER_SPACE},
    },
    view::{list, parent_refs, parent_target, text},
};

/// A column of a kind's table.
pub struct Column {
    pub header: &'static str,
    /// Printed only with `-o wide`.
    pub wide: bool,
    pub cell: fn(&Value, Row) -> String,
}

/// What a cell depends on besides the object.
#[derive(Clone, Copy)]
pub struct Row {
    pub now: Timestamp,
    /// Cells that are cut short otherwise are whole.
    pub wide: bool,
}

const fn column(header: &'static str, cell: fn(&Value, Row) -> String) -> Column {
    Column { header, wide: false, cell }
}

const fn wide(header: &'static str, cell: fn(&Value, Row) -> String) -> Column {
    Column { header, wide: true, cell }
}

const AGE: Column = column("AGE", |object, row| age::age(text(object, "/metadata/creationTimestamp"), row.now));

/// The columns behind NAME.
pub fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Certificate => {
            const {
                &[
                    column("READY", |certificate, _| condition(certificate, "Ready").to_owned()),
                    column("SECRET", |certificate, _| text(certificate, "/spec/secretName").to_owned()),
                    wide("ISSUER", |certificate, _| text(certificate, "/spec/issuerRef/name").to_owned()),
                    wide("STATUS", |certificate, _| ready_message(certificate).to_owned()),
                    wide("EXPIRATION", |certificate, _| text(certificate, "/status/notAfter").to_owned()),
                    AGE,
                ]
            }
        }
        Kind::Issuer | Kind::ClusterIssuer => {
            const {
                &[
                    column("READY", |issuer, _| condition(issuer, "Ready").to_owned()),
                    wide("STATUS", |issuer, _| ready_message(issuer).to_owned()),
                    AGE,
                ]
            }
        }
        Kind::GatewayClass => {
            const {
                &[
                    column("CONTROLLER", |class, _| text(class, "/spec/controllerName").to_owned()),
                    column("ACCEPTED", |class, _| condition(class, "Accepted").to_owned()),
                    AGE,
                    wide("DESCRIPTION", |class, _| text(class, "/spec/description").to_owned()),
                ]
            }
        }
        Kind::Gateway => {
            const {
                &[
                    column("CLASS", |gateway, _| text(gateway, "/spec/gatewayClassName").to_owned()),
                    column("ADDRESS", |gateway, row| addresses(gateway, row.wide)),
                    column("PROGRAMMED", |gateway, _| condition(gateway, "Programmed").to_owned()),
                    AGE,
                    wide("LISTENERS", |gateway, _| listeners(gateway)),
                    wide("ROUTES", |gateway, _| attached_routes(gateway)),
                ]
            }
        }
        Kind::GrpcRoute | Kind::HttpRoute => {
            const {
                &[
                    column("HOSTNAMES", |route, _| hostnames(route)),
                    AGE,
                    wide("PARENTS", |route, _| parents(route)),
                    wide("ACCEPTED", |route, _| accepted(route)),
                ]
            }
        }
        Kind::TlsRoute => {
            const { &[AGE, wide("PARENTS", |route, _| parents(route)), wide("ACCEPTED", |route, _| accepted(route))] }
        }
        Kind::TcpRoute | Kind::UdpRoute => {
            const {
                &[
                    AGE,
                    wide("PARENTS", |route, _| parents(route)),
                    wide("ACCEPTED", |route, _| accepted(route)),
                    wide("PATH", |route, _| path(route)),
                ]
            }
        }
        Kind::Service => {
            const {
                &[
                    column("TYPE", |service, _| service_type(service).to_owned()),
                    column("CLUSTER-IP", |service, _| or_none(cluster_ip(service))),
                    column("EXTERNAL-IP", |service, row| external_ip(service, row.wide)),
                    column("PORT(S)", |service, _| service_ports(service)),
                    AGE,
                    wide("SELECTOR", |service, _| selector(service)),
                ]
            }
        }
        Kind::EndpointSlice => {
            const {
                &[
                    column("ADDRESSTYPE", |slice, _| text(slice, "/addressType").to_owned()),
                    column("PORTS", |slice, _| three(slice_ports(slice), "<unset>")),
                    column("ENDPOINTS", |slice, _| three(slice_addresses(slice), "<unset>")),
                    AGE,
                ]
            }
        }
        Kind::Endpoints => {
            const { &[column("ENDPOINTS", |endpoints, _| three(subset_addresses(endpoints), "<none>")), AGE] }
        }
        Kind::Secret => {
            const {
                &[
                    column("TYPE", |secret, _| secret_type(secret).to_owned()),
                    column("DATA", |secret, _| keys(secret, &["data", "stringData"]).to_string()),
                    AGE,
                ]
            }
        }
        Kind::ConfigMap => const { &[column("DATA", |map, _| keys(map, &["data", "binaryData"]).to_string()), AGE] },
        Kind::Namespace => const { &[column("STATUS", |namespace, _| phase(namespace).to_owned()), AGE] },
        Kind::ReferenceGrant => const { &[AGE] },
        Kind::Role | Kind::ClusterRole => {
            const { &[column("CREATED AT", |role, _| text(role, "/metadata/creationTimestamp").to_owned())] }
        }
        Kind::RoleBinding | Kind::ClusterRoleBinding => {
            const {
                &[
                    column("ROLE", |binding, _| role_ref(binding)),
                    AGE,
                    wide("USERS", |binding, _| subjects(binding, "User")),
                    wide("GROUPS", |binding, _| subjects(binding, "Group")),
                    wide("SERVICEACCOUNTS", |binding, _| subjects(binding, "ServiceAccount")),
                ]
            }
        }
    }
}

/// The status of a condition; empty where there is none.
pub fn condition<'a>(object: &'a Value, type_: &str) -> &'a str {
    let conditions = list(object, "/status/conditions");
    conditions
        .iter()
        .find(|condition| text(condition, "/type") == type_)
        .map_or("", |condition| text(condition, "/status"))
}

/// The message of condition Ready.
fn ready_message(object: &Value) -> &str {
    let conditions = list(object, "/status/conditions");
    let ready = conditions.iter().find(|condition| text(condition, "/type") == "Ready");
    ready.map_or("", |ready| text(ready, "/message"))
}

/// kubectl prints the first address alone.
fn addresses(gateway: &Value, all: bool) -> String {
    let values = list(gateway, "/status/addresses").iter().map(|address| text(address, "/value"));
    let shown: Vec<&str> = values.take(if all { usize::MAX } else { 1 }).collect();
    shown.join(",")
}

fn listeners(gateway: &Value) -> String {
    let listeners = list(gateway, "/spec/listeners").iter();
    let names = listeners.map(|listener| format!("{}:{}", text(listener, "/name"), number(listener, "/port")));
    names.collect::<Vec<_>>().join(",")
}

fn attached_routes(gateway: &Value) -> String {
    list(gateway, "/status/listeners")
        .iter()
        .map(|listener| number(listener, "/attachedRoutes"))
        .sum::<u64>()
        .to_string()
}

/// As kubectl prints an array: JSON without spaces.
fn hostnames(route: &Value) -> String {
    match route.pointer("/spec/hostnames") {
        Some(Value::Array(names)) if !names.is_empty() => Value::from(names.clone()).to_string(),
        _ => String::new(),
    }
}

/// `namespace/name` or `name`, each with `/section` or `:port` where the route names one.
fn parents(route: &Value) -> String {
    let own = text(route, "/metadata/namespace");
    let parent = |parent: &Value| {
        let (_, _, namespace, name) = parent_target(parent, route);
        let mut shown = if namespace == own { name.to_owned() } else { format!("{namespace}/{name}") };
        if let Some(section) = parent.get("sectionName").and_then(Value::as_str) {
            shown += &format!("/{section}");
        }
        if let Some(port) = parent.get("port").and_then(Value::as_u64) {
            shown += &format!(":{port}");
        }
        shown
    };
    list(route, "/spec/parentRefs").iter().map(parent).collect::<Vec<_>>().join(",")
}

/// `True`; of several parents `1/2`; where none took the route, why: `False (NotAllowedByListeners)`.
fn accepted(route: &Value) -> String {
    let verdicts: Vec<Option<&Value>> =
        parent_refs(route).map(|(entry, _)| entry.and_then(accepted_condition)).collect();
    let taken = verdicts.iter().flatten().filter(|condition| text(condition, "/status") == "True").count();
    let refusal = verdicts.iter().flatten().find(|condition| text(condition, "/status") != "True");
    match (taken, verdicts.len()) {
        (0, _) => refusal.map_or(String::new(), |condition| {
            format!("{} ({})", text(condition, "/status"), text(condition, "/reason"))
        }),
        (taken, all) if taken == all => "True".to_owned(),
        (taken, all) => format!("{taken}/{all}"),
    }
}

/// Condition Accepted of an entry of `status.parents`.
pub fn accepted_condition(entry: &Value) -> Option<&Value> {
    list(entry, "/conditions").iter().find(|condition| text(condition, "/type") == "Accepted")
}

/// `kernel`, `user` or `kernel+user`: which way its traffic takes at its parents; empty where that is not known.
fn path(route: &Value) -> String {
    let entries = parent_refs(route).filter_map(|(entry, _)| entry);
    let reasons: Vec<&str> = entries.filter_map(path_condition).map(|condition| text(condition, "/reason")).collect();
    let both = ROUTE_IN_KERNEL_AND_USER_SPACE.name;
    let ways = [("kernel", ROUTE_IN_KERNEL.name), ("user", ROUTE_IN_USER_SPACE.name)];
    let taken = ways.iter().filter(|(_, alone)| reasons.iter().any(|reason| [*alone, both].contains(reason)));
    taken.map(|(way, _)| *way).collect::<Vec<_>>().join("+")
}

/// Condition `gapi.dev/KernelPath` of an entry of `status.parents`.
pub fn path_condition(entry: &Value) -> Option<&Value> {
    list(entry, "/conditions").iter().find(|condition| text(condition, "/type") == ROUTE_IN_KERNEL.condition)
}

fn service_type(service: &Value) -> &str {
    or(text(service, "/spec/type"), "ClusterIP")
}

fn cluster_ip(service: &Value) -> &str {
    let first = list(service, "/spec/clusterIPs").first().and_then(Value::as_str);
    first.unwrap_or(text(service, "/spec/clusterIP"))
}

/// Width at which kubectl cuts the addresses of a load balancer.
const LOAD_BALANCER_WIDTH: usize = 16;

fn external_ip(service: &Value, wide: bool) -> String {
    let written: Vec<&str> = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match service_type(service) {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let balancer = load_balancer(service, wide);
            let all: Vec<&str> =
                Some(balancer.as_str()).filter(|shown| !shown.is_empty()).into_iter().chain(written).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => or_none(&written.join(",")),
    }
}

fn load_balancer(service: &Value, wide: bool) -> String {
    let ingress = list(service, "/status/loadBalancer/ingress").iter();
    let names = ingress.map(|ingress| or(text(ingress, "/ip"), text(ingress, "/hostname")));
    let shown = names.collect::<Vec<_>>().join(",");
    match shown.char_indices().nth(LOAD_BALANCER_WIDTH - 3) {
        Some((cut, _)) if !wide && shown.chars().count() > LOAD_BALANCER_WIDTH => format!("{}...", &shown[..cut]),
        _ => shown,
    }
}

fn service_ports(service: &Value) -> String {
    let port = |port: &Value| {
        let protocol = or(text(port, "/protocol"), "TCP");
        match number(port, "/nodePort") {
            0 => format!("{}/{protocol}", number(port, "/port")),
            node => format!("{}:{node}/{protocol}", number(port, "/port")),
        }
    };
    or_none(&list(service, "/spec/ports").iter().map(port).collect::<Vec<_>>().join(","))
}

fn selector(service: &Value) -> String {
    let labels = service.pointer("/spec/selector").and_then(Value::as_object).into_iter().flatten();
    let mut labels: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    labels.sort();
    or_none(&labels.join(","))
}

fn slice_ports(slice: &Value) -> Vec<String> {
    let port = |port: &Value| match (port.get("port").and_then(Value::as_u64), port.get("name")) {
        (Some(number), _) => number.to_string(),
        (None, Some(Value::String(name))) => name.clone(),
        _ => "*".to_owned(),
    };
    list(slice, "/ports").iter().map(port).collect()
}

fn slice_addresses(slice: &Value) -> Vec<String> {
    let endpoints = list(slice, "/endpoints").iter();
    endpoints.flat_map(|endpoint| list(endpoint, "/addresses")).filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subset_addresses(endpoints: &Value) -> Vec<String> {
    let of_subset = |subset: &Value| -> Vec<String> {
        let addresses = || list(subset, "/addresses").iter().map(|address| text(address, "/ip"));
        match list(subset, "/ports") {
            [] => addresses().map(str::to_owned).collect(),
            ports => {
                ports.iter().flat_map(|port| addresses().map(move |ip| host_port(ip, number(port, "/port")))).collect()
            }
        }
    };
    list(endpoints, "/subsets").iter().flat_map(of_subset).collect()
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`.
pub fn host_port(host: &str, port: u64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The first three, and how many more there are.
fn three(items: Vec<String>, none: &str) -> String {
    match items.len() {
        0 => none.to_owned(),
        1..=3 => items.join(","),
        all => format!("{} + {} more...", items[..3].join(","), all - 3),
    }
}

fn secret_type(secret: &Value) -> &str {
    or(text(secret, "/type"), "Opaque")
}

/// How many different keys the maps have together.
fn keys(object: &Value, fields: &[&str]) -> usize {
    let maps = fields.iter().filter_map(|field| object.get(field)?.as_object());
    let mut keys: Vec<&String> = maps.flat_map(|map| map.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.len()
}

/// `Role/name`, `ClusterRole/name`.
fn role_ref(binding: &Value) -> String {
    format!("{}/{}", text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"))
}

/// The subjects of a kind; service accounts with their namespace.
fn subjects(binding: &Value, kind: &str) -> String {
    let subjects = list(binding, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
    let name = |subject: &Value| match kind {
        "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
        _ => text(subject, "/name").to_owned(),
    };
    subjects.map(name).collect::<Vec<_>>().join(", ")
}

fn phase(namespace: &Value) -> &str {
    or(text(namespace, "/status/phase"), "Active")
}

/// A number at a JSON pointer; 0 where there is none.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn or_none(text: &str) -> String {
    or(text, "<none>").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The cells behind NAME, but AGE.
    fn cells(kind: Kind, wide: bool, object: Value) -> Vec<String> {
        let row = Row { now: Timestamp::UNIX_EPOCH, wide };
        let shown = columns(kind).iter().filter(|column| (wide || !column.wide) && column.header != "AGE");
        shown.map(|column| (column.cell)(&object, row)).collect()
    }

    #[test]
    fn services() {
        let service =
            |spec: Value, status: Value| cells(Kind::Service, false, json!({ "spec": spec, "status": status }));
        assert_eq!(
            service(
                json!({ "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }, { "port": 53, "protocol": "UDP", "nodePort": 30053 }] }),
                json!({})
            ),
            ["ClusterIP", "10.0.0.1", "<none>", "80/TCP,53:30053/UDP"]
        );
        assert_eq!(service(json!({ "clusterIP": "None" }), json!({})), ["ClusterIP", "None", "<none>", "<none>"]);
        assert_eq!(
            service(json!({ "type": "ExternalName", "externalName": "a.example" }), json!({})),
            ["ExternalName", "<none>", "a.example", "<none>"]
        );
        let ports = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
        assert_eq!(service(ports.clone(), json!({})), ["LoadBalancer", "<none>", "<pending>", "80/TCP"]);
        let two = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.100" }, { "ip": "192.0.2.101" }] } });
        assert_eq!(service(ports, two)[2], "192.0.2.100,1...");
    }

    #[test]
    fn long_lists_are_cut() {
        let endpoint = |address: &str| json!({ "addresses": [address] });
        let slice = json!({ "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }],
            "endpoints": [endpoint("10.0.0.1"), endpoint("10.0.0.2"), endpoint("10.0.0.3"), endpoint("10.0.0.4")] });
        assert_eq!(cells(Kind::EndpointSlice, false, slice), ["IPv4", "80", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."]);
        let endpoints =
            json!({ "subsets": [{ "addresses": [{ "ip": "10.0.0.1" }, { "ip": "::1" }], "ports": [{ "port": 80 }] }] });
        assert_eq!(cells(Kind::Endpoints, false, endpoints), ["10.0.0.1:80,[::1]:80"]);
        assert_eq!(cells(Kind::Endpoints, false, json!({})), ["<none>"]);
    }

    #[test]
    fn routes() {
        let parent = |name: &str| json!({ "name": name, "sectionName": "http" });
        let entry = |name: &str, status: &str| {
            json!({ "parentRef": { "name": name, "namespace": "a", "sectionName": "http", "kind": "Gateway" }, "controllerName": "gapi.dev/gateway-controller",
            "conditions": [{ "type": "Accepted", "status": status, "reason": "NoMatchingParent" }] })
        };
        let route = |entries: Value| {
            cells(
                Kind::HttpRoute,
                true,
                json!({
                "metadata": { "name": "r", "namespace": "a" },
                "spec": { "hostnames": ["a.example", "b.example"], "parentRefs": [parent("x"), parent("y")] },
                "status": { "parents": entries } }),
            )
        };
        assert_eq!(
            route(json!([entry("x", "True"), entry("y", "True")])),
            [r#"["a.example","b.example"]"#, "x/http,y/http", "True"]
        );
        assert_eq!(route(json!([entry("x", "True"), entry("y", "False")]))[2], "1/2");
        assert_eq!(route(json!([entry("x", "False")]))[2], "False (NoMatchingParent)");
        assert_eq!(route(json!([]))[2], "");
        assert_eq!(cells(Kind::HttpRoute, false, json!({ "spec": {} })), [""]);
    }

    #[test]
    fn paths_of_all_parents_together() {
        let path = |reasons: &[&str]| {
            let parent = |i: usize| json!({ "name": format!("gateway-{i}") });
            let entry = |(i, reason): (usize, &&str)| {
                json!({ "parentRef": parent(i), "controllerName": "gapi.dev/gateway-controller",
                    "conditions": [{ "type": "Accepted", "status": "True" }, { "type": "gapi.dev/KernelPath", "reason": reason }] })
            };
            let parents: Vec<Value> = (0..reasons.len()).map(parent).collect();
            let entries: Vec<Value> = reasons.iter().enumerate().map(entry).collect();
            let route = json!({ "metadata": { "name": "r", "namespace": "a" },
                "spec": { "parentRefs": parents }, "status": { "parents": entries } });
            assert_eq!(cells(Kind::TlsRoute, true, route.clone()).len(), 2);
            cells(Kind::UdpRoute, true, route).pop().expect("it has columns")
        };
        assert_eq!(path(&["Kernel", "Kernel"]), "kernel");
        assert_eq!(path(&["UserSpace"]), "user");
        assert_eq!(path(&["KernelAndUserSpace"]), "kernel+user");
        assert_eq!(path(&["UserSpace", "Kernel"]), "kernel+user");
        assert_eq!(path(&[]), "");
    }

    #[test]
    fn secrets_count_each_key_once() {
        let secret = json!({ "data": { "a": "", "b": "" }, "stringData": { "b": "", "c": "" } });
        assert_eq!(cells(Kind::Secret, false, secret), ["Opaque", "3"]);
    }
}
