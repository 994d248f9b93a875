//! Listeners of a Gateway.

use serde_json::{Value, json};

use super::{
    Fields, Judge, http_filter,
    reference::{self, group, hostname, kind, port, section_name},
    text::PROTOCOL,
};
use crate::{
    api::GATEWAY_GROUP,
    manifest::span::{Content, Node},
};

const MAX_LISTENERS: usize = 64;

/// `spec.listeners`: names are unique, and so are port, protocol and hostname together.
pub fn listeners(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 1..=MAX_LISTENERS, listener)?;
    judge.unique(node, &value, "name");
    if let (Some(values), Content::List(nodes)) = (value.as_array(), &node.content) {
        for (index, listener) in values.iter().enumerate().take(MAX_LISTENERS) {
            if let Some(first) = values[..index].iter().position(|earlier| same_socket(earlier, listener)) {
                let message = format!("has the port, protocol and hostname of listeners[{first}]");
                judge.at(format_args!("[{index}]"), |judge| {
                    judge.conflict(nodes[index].place, message, "change one of the three");
                });
            }
        }
    }
    Some(value)
}

fn same_socket(one: &Value, other: &Value) -> bool {
    ["port", "protocol", "hostname"].iter().all(|field| one.get(field) == other.get(field))
}

fn listener(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("name", section_name);
        fields.optional("hostname", hostname);
        fields.required("port", port);
        fields.required("protocol", |judge, node| judge.form(node, &PROTOCOL));
        fields.optional("tls", tls);
        fields.defaulted("allowedRoutes", json!({"namespaces": {"from": "Same"}}), allowed_routes);
        fields.optional("filters", filters);
        protocol_rules(fields);
    })
}

/// What each protocol asks of `tls`, `hostname` and `filters`; other protocols are free.
fn protocol_rules(fields: &mut Fields) {
    let protocol = fields.text("protocol").unwrap_or_default().to_owned();
    let mode = fields.get("tls").and_then(|tls| tls["mode"].as_str()).unwrap_or_default().to_owned();
    if fields.has("tls") && matches!(protocol.as_str(), "HTTP" | "TCP" | "UDP") {
        fields.conflict(
            "tls",
            format!("protocol {protocol} has no tls"),
            "remove tls, or write protocol: HTTPS or TLS",
        );
    }
    if protocol == "HTTPS" && fields.has("tls") && mode != "Terminate" {
        fields.conflict(
            "tls",
            format!("protocol HTTPS ends TLS here, mode {mode} does not"),
            "write mode: Terminate, or protocol: TLS with a TLSRoute",
        );
    }
    if protocol == "TLS" && !fields.has("tls") {
        fields.conflict("", "protocol TLS needs tls with a mode", "add tls with mode: Terminate or Passthrough");
    }
    if fields.has("hostname") && matches!(protocol.as_str(), "TCP" | "UDP") {
        fields.conflict("hostname", format!("protocol {protocol} knows no hostname"), "remove hostname");
    }
    if fields.has("filters") && !matches!(protocol.as_str(), "HTTP" | "HTTPS") {
        fields.conflict("filters", "only protocols HTTP and HTTPS have filters", "remove filters");
    }
}

fn tls(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("mode", "Terminate", |judge, node| judge.choice(node, &["Terminate", "Passthrough"]));
        fields.optional("certificateRefs", |judge, node| judge.list(node, 0..=64, reference::secret));
        fields.optional("options", |judge, node| {
            judge.map_of(node, 16, |judge, entry| judge.sized(&entry.node, 0..=4096))
        });
        let options = fields.get("options").and_then(Value::as_object).is_some_and(|options| !options.is_empty());
        if fields.text("mode") == Some("Terminate") && fields.items("certificateRefs").is_empty() && !options {
            fields.conflict("", "mode Terminate needs a certificate", "add certificateRefs, or options");
        }
    })
}

fn allowed_routes(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("namespaces", json!({"from": "Same"}), namespaces);
        fields.optional("kinds", |judge, node| judge.list(node, 0..=8, route_kind));
    })
}

fn namespaces(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("from", "Same", |judge, node| judge.choice(node, &["All", "Selector", "Same"]));
        fields.optional("selector", reference::label_selector);
    })
}

fn route_kind(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("group", GATEWAY_GROUP, group);
        fields.required("kind", kind);
    })
}

fn filters(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("requests", |judge, node| judge.list(node, 0..=16, http_filter::listener_filter));
    })
}
