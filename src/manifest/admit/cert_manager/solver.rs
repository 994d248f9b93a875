//! Solvers of an ACME issuer: which challenge, for which names.

use serde_json::Value;

use super::{any_map, dns01::dns01, duration, string_map, strings};
use crate::manifest::{
    admit::{Fields, Judge, reference, text::dns_names},
    span::Node,
};

/// `spec.acme.solvers[]`.
pub fn solver(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("dns01", dns01);
        fields.optional("http01", http01);
        fields.optional("selector", selector);
        fields.optional("tlsALPN01", |judge, node| judge.object(node, |_| {}));
        fields.optional("waitInsteadOfSelfCheck", duration);
        one_of(fields, &["http01", "dns01", "tlsALPN01"], "the solver");
    })
}

/// The webhook asks for exactly one of `names`.
pub fn one_of(fields: &mut Fields, names: &[&'static str], whose: &str) {
    let written: Vec<&str> = names.iter().copied().filter(|name| fields.has(name)).collect();
    match written.as_slice() {
        [] => fields.conflict("", format!("{whose} is of no type"), format!("write one of: {}", names.join(", "))),
        [_] => {}
        [_, second, ..] => {
            fields.conflict(second, format!("{} stand side by side", written.join(", ")), "keep one of them");
        }
    }
}

fn selector(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("dnsNames", strings);
        fields.optional("dnsZones", strings);
        fields.optional("matchLabels", string_map);
    })
}

fn http01(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("gatewayHTTPRoute", |judge, node| {
            judge.object(node, |fields| {
                fields.optional("labels", string_map);
                fields.optional("parentRefs", |judge, node| judge.list(node, 0..=usize::MAX, reference::parent));
                fields.optional("podTemplate", any_map);
                fields.optional("serviceType", Judge::string);
                service_type(fields);
            })
        });
        fields.optional("ingress", |judge, node| {
            judge.object(node, |fields| {
                for name in ["class", "ingressClassName", "name"] {
                    fields.optional(name, Judge::string);
                }
                fields.optional("ingressTemplate", any_map);
                fields.optional("podTemplate", any_map);
                fields.optional("serviceType", Judge::string);
                service_type(fields);
                ingress(fields);
            })
        });
        one_of(fields, &["gatewayHTTPRoute", "ingress"], "http01");
    })
}

fn service_type(fields: &mut Fields) {
    if !matches!(fields.text("serviceType").unwrap_or_default(), "" | "ClusterIP" | "NodePort") {
        fields.conflict("serviceType", "is no type for a solver's Service", "write ClusterIP or NodePort");
    }
}

fn ingress(fields: &mut Fields) {
    let named = fields.text("name").is_some_and(|name| !name.is_empty());
    let count = [fields.has("class"), fields.has("ingressClassName"), named].iter().filter(|there| **there).count();
    if count > 1 {
        fields.conflict("", "more than one of class, ingressClassName and name is there", "keep one of them");
    }
    if fields.text("ingressClassName").is_some_and(|name| !dns_names(name) || name.len() > 253) {
        fields.conflict("ingressClassName", "is not a name", "write lower-case letters, digits, '-' and '.'");
    }
}
