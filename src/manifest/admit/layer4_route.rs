//! TCPRoute, TLSRoute and UDPRoute.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::{
    Judge,
    backend_ref::backend_ref,
    http_route::{MAX_RULES, named_rules, parent_refs},
    metadata::NameRule,
    reference::{hostname, section_name},
    status,
};
use crate::manifest::span::{Content, Node};

/// The version in which several rules were allowed, and a TLSRoute without hostnames.
const LOOSE: &str = "v1alpha2";

/// Judges a TCPRoute or UDPRoute.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    document(judge, node, None)
}

/// Judges a TLSRoute.
pub fn tls(judge: &mut Judge, node: &Node) -> Option<Value> {
    let hostnames: fn(&mut Judge, &Node) -> Option<Value> = match is_loose(node) {
        true => |judge, node| judge.list(node, 0..=MAX_HOSTNAMES, hostname),
        false => hostnames,
    };
    document(judge, node, Some(hostnames))
}

fn is_loose(node: &Node) -> bool {
    let version = node.get("apiVersion").and_then(Node::as_str);
    version.and_then(|version| version.rsplit_once('/')).is_some_and(|(_, version)| version == LOOSE)
}

type Rule = fn(&mut Judge, &Node) -> Option<Value>;

fn document(judge: &mut Judge, node: &Node, hostnames: Option<Rule>) -> Option<Value> {
    let loose = is_loose(node);
    let count = 1..=if loose { MAX_RULES } else { 1 };
    judge.document(node, NameRule::Subdomain, |fields| {
        fields.required("spec", |judge, node| {
            judge.object(node, |fields| {
                fields.optional("parentRefs", parent_refs);
                fields.optional("useDefaultGateways", |judge, node| judge.choice(node, &["All", "None"]));
                match hostnames {
                    Some(hostnames) if loose => fields.optional("hostnames", hostnames),
                    Some(hostnames) => fields.required("hostnames", hostnames),
                    None => {}
                }
                fields.required("rules", |judge, node| rules(judge, node, count));
            })
        });
        status::status(fields, &status::ROUTE);
    })
}

const MAX_HOSTNAMES: usize = 1024;

fn hostnames(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 1..=MAX_HOSTNAMES, hostname)?;
    let (Some(names), Content::List(nodes)) = (value.as_array(), &node.content) else { return Some(value) };
    for (index, name) in names.iter().enumerate() {
        if name.as_str().is_some_and(|name| name.parse::<std::net::Ipv4Addr>().is_ok()) {
            judge.at(format_args!("[{index}]"), |judge| {
                let message = "is an IP address, which TLS clients do not send as server name";
                judge.conflict(nodes[index].place, message, "write a DNS name");
            });
        }
    }
    Some(value)
}

fn rules(judge: &mut Judge, node: &Node, count: RangeInclusive<usize>) -> Option<Value> {
    let value = judge.list(node, count, |judge, node| {
        judge.object(node, |fields| {
            fields.optional("name", section_name);
            fields.required("backendRefs", |judge, node| judge.list(node, 1..=16, backend_ref));
        })
    })?;
    named_rules(judge, node, value.as_array()?);
    Some(value)
}
