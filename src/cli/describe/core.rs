//! The pages of core kinds, and which endpoints a port of a Service has.

use std::sync::Arc;

use serde_json::Value;

use super::{Page, pairs, plain};
use crate::{
    api::Kind,
    cli::column::{Row, columns, host_port, number},
    view::{Description, kind_of, list, service_of, text},
};

pub(super) fn describe_service(page: &mut Page, description: &Description) {
    let service = &description.object;
    let row = Row { now: page.now, wide: true };
    for (name, header) in [("Type", "TYPE"), ("IP", "CLUSTER-IP"), ("External", "EXTERNAL-IP"), ("Ports", "PORT(S)")] {
        let column = columns(Kind::Service).iter().find(|column| column.header == header).expect("a column of Service");
        page.field(name, (column.cell)(service, row));
    }
    if description.partial {
        return;
    }
    let endpoints = list(service, "/spec/ports").iter().map(|port| {
        let endpoints = endpoints_of(service, number(port, "/port"), protocol(port), &description.related);
        format!("{}   {endpoints}", service_port(port))
    });
    page.section("Endpoints", &endpoints.collect::<Vec<_>>());
}

pub(super) fn describe_endpoints(page: &mut Page, object: &Value) {
    match kind_of(object) {
        Some(Kind::EndpointSlice) => {
            page.field("Service", service_of(object));
            page.field("Addresses", text(object, "/addressType"));
            let ports = list(object, "/ports").iter().map(port_words);
            page.section("Ports", &ports.collect::<Vec<_>>());
            let endpoints = list(object, "/endpoints").iter().flat_map(|endpoint| {
                let ready = if is_ready(endpoint) { "" } else { " (not ready)" };
                list(endpoint, "/addresses").iter().map(move |address| format!("{}{ready}", plain(address)))
            });
            page.section("Endpoints", &endpoints.collect::<Vec<_>>());
        }
        _ => {
            let subsets = list(object, "/subsets").iter().flat_map(|subset| {
                let ports: Vec<String> = list(subset, "/ports").iter().map(port_words).collect();
                let line = move |address: &Value, ready: &str| {
                    format!("{} ({}){ready}", text(address, "/ip"), ports.join(", "))
                };
                let ready = list(subset, "/addresses").iter().map(|address| line(address, ""));
                let others = list(subset, "/notReadyAddresses").iter().map(|address| line(address, " (not ready)"));
                ready.chain(others).collect::<Vec<_>>()
            });
            page.section("Endpoints", &subsets.collect::<Vec<_>>());
        }
    }
}

/// The keys with the size of each value; the values of a Secret never come here.
pub(super) fn describe_data(page: &mut Page, object: &Value) {
    if kind_of(object) == Some(Kind::Secret) {
        page.field("Type", text(object, "/type"));
        let data = [pairs(object, "/data", ": "), pairs(object, "/stringData", ": ")].concat();
        return page.section("Data", &data);
    }
    let data = object.get("data").and_then(Value::as_object).into_iter().flatten();
    let line = |(key, value): (&String, &Value)| format!("{key}: {} bytes", value.as_str().map_or(0, str::len));
    page.section("Data", &data.map(line).collect::<Vec<_>>());
}

pub(super) fn describe_grant(page: &mut Page, grant: &Value) {
    let kind = |one: &Value| match text(one, "/group") {
        "" => text(one, "/kind").to_owned(),
        group => format!("{}.{group}", text(one, "/kind")),
    };
    let from = list(grant, "/spec/from").iter().map(|from| format!("{} in {}", kind(from), text(from, "/namespace")));
    page.section("From", &from.collect::<Vec<_>>());
    let to = list(grant, "/spec/to").iter().map(|to| match text(to, "/name") {
        "" => format!("every {}", kind(to)),
        name => format!("{} {name}", kind(to)),
    });
    page.section("To", &to.collect::<Vec<_>>());
}

fn port_words(port: &Value) -> String {
    let name = port.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let number = port.get("port").and_then(Value::as_u64).map_or("*".to_owned(), |port| port.to_string());
    let number = if protocol(port) == "TCP" { number } else { format!("{number}/{}", protocol(port)) };
    name.map_or(number.clone(), |name| format!("{name} {number}"))
}

/// `protocol` of a port, which is TCP where nothing is written.
fn protocol(port: &Value) -> &str {
    match text(port, "/protocol") {
        "" => "TCP",
        written => written,
    }
}

/// A port of a Service: `80`, `53/UDP`.
fn service_port(port: &Value) -> String {
    let number = number(port, "/port");
    if protocol(port) == "TCP" { number.to_string() } else { format!("{number}/{}", protocol(port)) }
}

/// The ready endpoints of a port of `service` for this protocol (`TCP`, `UDP`) in words, or why there is none.
pub(super) fn endpoints_of(service: &Value, port: u64, transport: &str, related: &[Arc<Value>]) -> String {
    let ports = list(service, "/spec/ports");
    let is_external = text(service, "/spec/type") == "ExternalName";
    let found = ports.iter().find(|candidate| number(candidate, "/port") == port && protocol(candidate) == transport);
    if is_external && (found.is_some() || ports.is_empty()) {
        return format!("{} (by its name)", host_port(text(service, "/spec/externalName"), port));
    }
    let Some(found) = found else {
        let known: Vec<String> = ports.iter().map(service_port).collect();
        let port = if transport == "TCP" { port.to_string() } else { format!("{port}/{transport}") };
        return format!(
            "the Service has no port {port}; it has {}",
            if known.is_empty() { "none".into() } else { known.join(", ") }
        );
    };
    let belongs = |other: &&Arc<Value>| {
        matches!(kind_of(other), Some(Kind::EndpointSlice | Kind::Endpoints))
            && text(other, "/metadata/namespace") == text(service, "/metadata/namespace")
            && service_of(other) == text(service, "/metadata/name")
    };
    let mut ready: Vec<String> = related
        .iter()
        .filter(belongs)
        .flat_map(|other| ready_endpoints(other, text(found, "/name"), transport))
        .collect();
    ready.sort();
    ready.dedup();
    if ready.is_empty() { "no ready endpoint".to_owned() } else { ready.join(", ") }
}

/// The ready endpoints of an EndpointSlice or Endpoints at the port of that name and protocol.
fn ready_endpoints(object: &Value, port_name: &str, transport: &str) -> Vec<String> {
    let port_of = |holder: &Value| {
        let ports = list(holder, "/ports").iter();
        let own = ports.filter(|port| text(port, "/name") == port_name && protocol(port) == transport);
        own.map(|port| number(port, "/port")).next()
    };
    match kind_of(object) {
        Some(Kind::EndpointSlice) => {
            let Some(port) = port_of(object) else { return Vec::new() };
            let ready = list(object, "/endpoints").iter().filter(|endpoint| is_ready(endpoint));
            let addresses = ready.flat_map(|endpoint| list(endpoint, "/addresses"));
            addresses.filter_map(Value::as_str).map(|address| host_port(address, port)).collect()
        }
        _ => {
            let of_subset = |subset: &Value| -> Vec<String> {
                let Some(port) = port_of(subset) else { return Vec::new() };
                list(subset, "/addresses").iter().map(|address| host_port(text(address, "/ip"), port)).collect()
            };
            list(object, "/subsets").iter().flat_map(of_subset).collect()
        }
    }
}

fn is_ready(endpoint: &Value) -> bool {
    endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true)
}
