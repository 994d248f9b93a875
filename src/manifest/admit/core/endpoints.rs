//! Endpoints: the older and shorter form of EndpointSlice.

use serde_json::Value;

use super::{
    address,
    document::{document, generation},
    form::{QUALIFIED_NAME, SUBDOMAIN},
    service_port::{PROTOCOLS, name, named},
    structure::{choice_or, object_reference, objects, port},
};
use crate::manifest::{
    admit::{Judge, Reason, metadata::NameRule},
    span::Node,
};

/// Judges an Endpoints object.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::Subdomain, |fields| {
        fields.optional("subsets", |judge, node| objects(judge, node, usize::MAX, subset));
    })
}

fn subset(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for name in ["addresses", "notReadyAddresses"] {
            fields.optional(name, |judge, node| objects(judge, node, usize::MAX, endpoint));
        }
        fields.optional("ports", ports);
        if fields.items("addresses").is_empty() && fields.items("notReadyAddresses").is_empty() {
            let place = fields.place();
            let message = "a subset needs addresses or notReadyAddresses";
            fields.judge().fault(Reason::MissingField, place, message, "add an address: - ip: 10.1.2.3");
        }
    })
}

fn endpoint(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("ip", |judge, node| {
            let text = judge.text(node)?;
            address::endpoint(judge, node, text);
            Some(Value::from(text))
        });
        fields.optional("hostname", name);
        fields.optional("nodeName", |judge, node| judge.form(node, &SUBDOMAIN));
        fields.optional("targetRef", object_reference);
    })
}

fn ports(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = objects(judge, node, usize::MAX, endpoint_port)?;
    named(judge, node, &value);
    Some(value)
}

fn endpoint_port(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("name", name);
        fields.required("port", port);
        fields.defaulted("protocol", "TCP", |judge, node| choice_or(judge, node, &PROTOCOLS, "TCP"));
        fields.optional("appProtocol", |judge, node| judge.form(node, &QUALIFIED_NAME));
    })
}
