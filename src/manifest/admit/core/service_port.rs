//! Ports of a Service.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    form::{LABEL, PORT_NAME, QUALIFIED_NAME},
    structure::{choice_or, distinct_names, int32, items, objects, port},
};
use crate::manifest::{
    admit::{Judge, Reason},
    span::{Content, Node},
};

/// The protocols of a port.
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// `spec.ports`.
pub fn ports(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = objects(judge, node, usize::MAX, service_port)?;
    named(judge, node, &value);
    distinct_names(judge, node, &value);
    distinct_ports(judge, node, &value);
    Some(value)
}

fn service_port(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("name", name);
        fields.defaulted("protocol", "TCP", |judge, node| choice_or(judge, node, &PROTOCOLS, "TCP"));
        fields.optional("appProtocol", |judge, node| judge.form(node, &QUALIFIED_NAME));
        fields.required("port", port);
        fields.optional("targetPort", target_port);
        if !fields.has("targetPort") || fields.get("targetPort") == Some(&Value::from(0)) {
            let port = fields.get("port").cloned().unwrap_or_default();
            fields.store("targetPort", port);
        }
        fields.optional("nodePort", int32);
    })
}

/// Name of a port, hostname of an address: a label, or empty as if it were not there.
pub fn name(judge: &mut Judge, node: &Node) -> Option<Value> {
    match judge.text(node)? {
        "" => Some(Value::from("")),
        _ => judge.form(node, &LABEL),
    }
}

/// Several ports are told apart by their names, so each needs one. Also for the ports of Endpoints.
pub fn named(judge: &mut Judge, node: &Node, ports: &Value) {
    let ports = items(node, ports);
    if ports.len() < 2 {
        return;
    }
    for (index, (port, node)) in ports.into_iter().enumerate() {
        if port["name"].as_str().is_none_or(str::is_empty) {
            judge.at(format_args!("[{index}].name"), |judge| {
                let message = "a port needs a name where there are several ports";
                judge.fault(Reason::MissingField, node.place, message, "add name: http");
            });
        }
    }
}

/// No two ports have the same number; protocols count apart.
fn distinct_ports(judge: &mut Judge, node: &Node, ports: &Value) {
    let mut seen = HashSet::new();
    for (index, (port, node)) in items(node, ports).into_iter().enumerate() {
        let Some(number) = port["port"].as_i64() else { continue };
        if !seen.insert((port["protocol"].as_str(), number)) {
            let place = node.get("port").map_or(node.place, |node| node.place);
            let message = format!("another port has the number {number} for the same protocol");
            judge.at(format_args!("[{index}]"), |judge| {
                judge.fault(Reason::DuplicateItem, place, message, "give each its own number");
            });
        }
    }
}

/// No two ports have the same node port, protocols apart; and `none` of them has any, where the Service has none.
pub fn node_ports(judge: &mut Judge, node: &Node, ports: &Value, none: bool) {
    let mut seen = HashSet::new();
    for (index, (port, node)) in items(node, ports).into_iter().enumerate() {
        let Some(number) = port["nodePort"].as_i64().filter(|number| *number != 0) else { continue };
        let place = node.get("nodePort").map_or(node.place, |node| node.place);
        judge.at(format_args!("[{index}].nodePort"), |judge| {
            if none {
                judge.conflict(place, "a Service of type ClusterIP has no node ports", "remove it");
            }
            if !seen.insert((port["protocol"].as_str(), number)) {
                let message = format!("another port has the node port {number} for the same protocol");
                judge.fault(Reason::DuplicateItem, place, message, "give each its own number");
            }
        });
    }
}

/// A number, or the name of a container's port; 0 and the empty name mean the same number as `port`.
fn target_port(judge: &mut Judge, node: &Node) -> Option<Value> {
    match &node.content {
        Content::Int(0) => Some(Value::from(0)),
        Content::Int(_) => port(judge, node),
        Content::String(text) if text.is_empty() => Some(Value::from(0)),
        Content::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let message = format!("{text:?} is neither a number nor a port name");
            judge.fault(Reason::InvalidValue, node.place, message, "remove the quotes");
            Some(Value::from(text.as_str()))
        }
        Content::String(_) => judge.form(node, &PORT_NAME),
        _ => {
            judge.wrong_type(node, "a port number or a port name");
            None
        }
    }
}
