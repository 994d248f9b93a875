//! EndpointSlice.

use serde_json::Value;

use super::{
    address,
    document::document,
    form::{DOMAIN_NAME, LABEL, QUALIFIED_NAME, SUBDOMAIN},
    service_port::{PROTOCOLS, name},
    structure::{Rule, distinct_names, empty, int32, object_reference, objects, strings, texts},
};
use crate::manifest::{
    admit::{
        Fields, Judge, Reason,
        metadata::{self, NameRule},
        text::LABEL_VALUE,
    },
    span::Node,
};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;

/// Judges an EndpointSlice.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    document(judge, node, NameRule::Subdomain, |fields| {
        fields.required("addressType", |judge, node| judge.choice(node, &["IPv4", "IPv6", "FQDN"]));
        let check = address_rule(fields.text("addressType"));
        fields.optional("endpoints", |judge, node| {
            judge.list(node, 0..=MAX_ENDPOINTS, |judge, node| match node.is_null() {
                true => endpoint(judge, &empty(node.place), check),
                false => endpoint(judge, node, check),
            })
        });
        fields.optional("ports", |judge, node| named(judge, node, MAX_PORTS, port));
    })
}

/// How addresses of a type are judged; those of an unknown type are not.
fn address_rule(address_type: Option<&str>) -> fn(&mut Judge, &Node, &str) {
    match address_type {
        Some("IPv4") => address::ipv4,
        Some("IPv6") => address::canonical_ipv6,
        Some("FQDN") => |judge, node, text| {
            if !(DOMAIN_NAME.holds)(text) {
                let message = format!("{text:?} is not {}", DOMAIN_NAME.name);
                judge.fault(Reason::InvalidValue, node.place, message, format!("write {}", DOMAIN_NAME.remedy));
            }
        },
        _ => |_, _, _| {},
    }
}

fn endpoint(judge: &mut Judge, node: &Node, check: fn(&mut Judge, &Node, &str)) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("addresses", |judge, node| {
            let value = texts(judge, node, MAX_ADDRESSES, check)?;
            if value.as_array().is_some_and(Vec::is_empty) {
                judge.fault(Reason::TooFew, node.place, "an endpoint needs at least one address", "add it");
            }
            Some(value)
        });
        fields.optional("conditions", conditions);
        fields.optional("hostname", |judge, node| judge.form(node, &LABEL));
        fields.optional("targetRef", object_reference);
        dropped(fields, "deprecatedTopology");
        fields.optional("nodeName", |judge, node| judge.form(node, &SUBDOMAIN));
        strings(fields, &["zone"]);
        fields.optional("hints", hints);
    })
}

fn conditions(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for name in ["ready", "serving", "terminating"] {
            fields.optional(name, Judge::boolean);
        }
    })
}

/// A map of strings that version v1 takes no notice of.
fn dropped(fields: &mut Fields, name: &'static str) {
    if let Some(node) = fields.raw(name).filter(|node| !node.is_null()) {
        fields.judge().field(name, |judge| metadata::strings(judge, node, |_, _, _| {}));
    }
}

fn hints(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("forZones", |judge, node| named(judge, node, MAX_HINTS, zone));
        fields.optional("forNodes", |judge, node| named(judge, node, MAX_HINTS, node_name));
    })
}

fn zone(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| fields.defaulted("name", "", |judge, node| judge.form(node, &LABEL_VALUE)))
}

fn node_name(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| fields.required("name", |judge, node| judge.form(node, &SUBDOMAIN)))
}

/// A list of objects, no two of the same name; one without counts as named "".
fn named(judge: &mut Judge, node: &Node, max: usize, item: Rule) -> Option<Value> {
    let value = objects(judge, node, max, item)?;
    distinct_names(judge, node, &value);
    Some(value)
}

/// The server judges no range of `port` here; what is no port cannot be reached.
fn port(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("name", "", name);
        fields.optional("port", int32);
        fields.defaulted("protocol", "TCP", |judge, node| judge.choice(node, &PROTOCOLS));
        fields.optional("appProtocol", |judge, node| judge.form(node, &QUALIFIED_NAME));
    })
}
