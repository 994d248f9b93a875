//! Endpoints: the older and shorter form of EndpointSlice.

use serde_json::Value;

use super::{
    address,
    form::{LABEL, QUALIFIED_NAME, SUBDOMAIN},
    service_port::{PROTOCOLS, name},
    structure::{choice_or, object_reference, objects, port},
};
use crate::manifest::{
    admit::{Fields, Judge, Reason, metadata::NameRule},
    span::Node,
};

/// Judges an Endpoints object.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::Subdomain, |fields| {
        fields.optional("subsets", |judge, node| objects(judge, node, usize::MAX, subset));
    })
}

fn subset(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for name in ["addresses", "notReadyAddresses"] {
            fields.optional(name, |judge, node| objects(judge, node, usize::MAX, endpoint));
        }
        fields.optional("ports", |judge, node| objects(judge, node, usize::MAX, endpoint_port));
        if fields.items("addresses").is_empty() && fields.items("notReadyAddresses").is_empty() {
            let place = fields.place();
            let message = "a subset needs addresses or notReadyAddresses";
            fields.judge().fault(Reason::MissingField, place, message, "add an address: - ip: 10.1.2.3");
        }
        named(fields);
    })
}

fn endpoint(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("ip", |judge, node| {
            let text = judge.text(node)?;
            address::endpoint(judge, node, text);
            Some(Value::from(text))
        });
        fields.optional("hostname", |judge, node| name(judge, node));
        fields.optional("nodeName", |judge, node| judge.form(node, &SUBDOMAIN));
        fields.optional("targetRef", object_reference);
    })
}

fn endpoint_port(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("name", |judge, node| name(judge, node));
        fields.required("port", port);
        fields.defaulted("protocol", "TCP", |judge, node| choice_or(judge, node, &PROTOCOLS, "TCP"));
        fields.optional("appProtocol", |judge, node| judge.form(node, &QUALIFIED_NAME));
    })
}

/// Several ports of a list are told apart by their names; so each needs one. Also for a Service.
pub fn named(fields: &mut Fields) {
    let place = fields.place_of("ports");
    let ports = fields.items("ports");
    if ports.len() < 2 {
        return;
    }
    let nameless = |(_, port): &(usize, &Value)| port["name"].as_str().is_none_or(str::is_empty);
    let nameless: Vec<usize> = ports.iter().enumerate().filter(nameless).map(|(index, _)| index).collect();
    for index in nameless {
        let message = "a port needs a name where there are several ports";
        fields.judge().field("ports", |judge| {
            judge.at(format_args!("[{index}].name"), |judge| {
                judge.fault(Reason::MissingField, place, message, format!("add one: {}", LABEL.remedy));
            });
        });
    }
}
