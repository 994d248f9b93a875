//! Ports of a Service.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    form::{LABEL, PORT_NAME, QUALIFIED_NAME},
    structure::{choice_or, int32, port},
};
use crate::manifest::{
    admit::{Fields, Judge, Reason},
    span::{Content, Node},
};

/// The protocols of a port.
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// One of `spec.ports`.
pub fn service_port(judge: &mut Judge, node: &Node) -> Option<Value> {
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

/// No two ports have the same name, number or node port; numbers count apart by protocol.
pub fn distinct(fields: &mut Fields) {
    let mut seen = HashSet::new();
    let mut again = Vec::new();
    for (index, port) in fields.items("ports").iter().enumerate() {
        let protocol = port["protocol"].as_str();
        let name = port["name"].as_str().filter(|name| !name.is_empty()).map(|name| ("name", Some(name), 0));
        let number = port["port"].as_i64().map(|number| ("port", protocol, number));
        let node_port = port["nodePort"].as_i64().filter(|number| *number != 0).map(|n| ("nodePort", protocol, n));
        let repeated = [name, number, node_port].into_iter().flatten().filter(|key| !seen.insert(*key));
        again.extend(repeated.map(|(field, _, _)| (index, field)));
    }
    let place = fields.place_of("ports");
    for (index, field) in again {
        let message = match field {
            "name" => "another port has this name",
            _ => "another port has this number and protocol",
        };
        fields.judge().field("ports", |judge| {
            judge.at(format_args!("[{index}].{field}"), |judge| {
                judge.fault(Reason::DuplicateItem, place, message, "give each its own");
            });
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
