//! Gateway.

use serde_json::{Value, json};

use super::{
    Fields, Judge, Reason,
    listener::listeners,
    metadata::NameRule,
    reference::{self, object_name, port},
    status,
    text::{ADDRESS_TYPE, LABEL_VALUE, dns_names, ip_address, label_name, wildcard_hostname},
    written,
};
use crate::manifest::span::{Content, Entry, Node};

/// Judges a Gateway.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::Subdomain, |fields| {
        fields.required("spec", spec);
        status::status(fields, &status::GATEWAY);
    })
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("gatewayClassName", object_name);
        fields.required("listeners", listeners);
        fields.optional("addresses", addresses);
        fields.optional("infrastructure", infrastructure);
        fields.optional("allowedListeners", allowed_listeners);
        fields.optional("tls", tls);
        fields.optional("defaultScope", |judge, node| judge.choice(node, &["All", "None"]));
    })
}

const MAX_ADDRESSES: usize = 16;

fn addresses(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=MAX_ADDRESSES, address)?;
    let seen = |index: usize| value.as_array().is_some_and(|items| same_address(&items[index], &items[..index]));
    if let Content::List(items) = &node.content {
        for (index, item) in items.iter().enumerate().take(MAX_ADDRESSES).filter(|(index, _)| seen(*index)) {
            judge.at(format_args!("[{index}]"), |judge| {
                judge.conflict(item.place, "this address stands twice in the list", "keep one of them");
            });
        }
    }
    Some(value)
}

/// Values of type IPAddress and Hostname are compared as text: `::1` and `0:0:0:0:0:0:0:1` differ.
fn same_address(address: &Value, others: &[Value]) -> bool {
    matches!(address["type"].as_str(), Some("IPAddress" | "Hostname"))
        && address["value"].is_string()
        && others.iter().any(|other| other["type"] == address["type"] && other["value"] == address["value"])
}

fn address(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "IPAddress", |judge, node| judge.form(node, &ADDRESS_TYPE));
        fields.optional("value", |judge, node| judge.sized(node, 0..=253));
        fields.optional("routability", routability);
        address_value(fields);
    })
}

fn address_value(fields: &mut Fields) {
    let (Some(kind), Some(text)) = (fields.text("type"), fields.text("value")) else { return };
    match kind {
        "IPAddress" if !ip_address(text) => {
            let (place, message) = (fields.place_of("value"), format!("{text:?} is not an IP address"));
            fields.judge().field("value", |judge| {
                judge.fault(
                    Reason::InvalidValue,
                    place,
                    message,
                    "write an IPv4 or IPv6 address, or leave value out for any; for names use type: Hostname",
                );
            });
        }
        "Hostname" if !wildcard_hostname(text) => {
            fields.conflict("value", format!("{text:?} is not a hostname"), "write a lower-case DNS name");
        }
        _ => {}
    }
}

fn routability(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.sized(node, 0..=253)?;
    let text = node.as_str().unwrap_or_default();
    let domain = text.split('/').next().unwrap_or_default();
    let prefixed = !text.contains('\n')
        && text.split_once('/').is_some_and(|(_, path)| !path.is_empty())
        && domain.len() <= 253
        && dns_names(domain)
        && domain != "k8s.io"
        && !domain.ends_with(".k8s.io");
    if !(text.is_empty() || text == "Cluster" || prefixed) {
        let message = format!("{} is not a routability", written(node));
        judge.conflict(node.place, message, "write Cluster, or a domain of the implementation, '/' and a path");
    }
    Some(value)
}

fn infrastructure(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("labels", |judge, node| {
            judge.map_of(node, 8, |judge, entry| {
                key_form(judge, entry);
                judge.form(&entry.node, &LABEL_VALUE)
            })
        });
        fields.optional("annotations", |judge, node| {
            judge.map_of(node, 16, |judge, entry| {
                key_form(judge, entry);
                judge.sized(&entry.node, 0..=4096)
            })
        });
        fields.optional("parametersRef", reference::local);
    })
}

/// The key of a label or annotation: a name of up to 63 characters, perhaps after a domain of up to 252 and a slash.
fn key_form(judge: &mut Judge, entry: &Entry) {
    let key = entry.key.as_str();
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_holds = prefix.is_none_or(|prefix| prefix.len() < 253 && dns_names(prefix));
    if !(prefix_holds && name.len() <= 63 && label_name(name)) {
        judge.conflict(
            entry.key_place,
            "the key is not a name with an optional domain before it",
            "write at most 63 letters, digits, '-', '_' and '.', perhaps after a lower-case domain and '/'",
        );
    }
}

fn allowed_listeners(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("namespaces", json!({"from": "None"}), |judge, node| {
            judge.object(node, |fields| {
                let from = |judge: &mut Judge, node: &Node| judge.choice(node, &["All", "Selector", "Same", "None"]);
                fields.defaulted("from", "None", from);
                fields.optional("selector", reference::label_selector);
            })
        });
    })
}

fn tls(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("backend", |judge, node| {
            judge.object(node, |fields| fields.optional("clientCertificateRef", reference::secret))
        });
        fields.optional("frontend", frontend);
    })
}

fn frontend(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("default", frontend_config);
        fields.optional("perPort", |judge, node| {
            let value = judge.list(node, 0..=64, port_config)?;
            judge.unique(node, &value, "port");
            Some(value)
        });
    })
}

fn port_config(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("port", port);
        fields.required("tls", frontend_config);
    })
}

fn frontend_config(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| fields.optional("validation", validation))
}

fn validation(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.required("caCertificateRefs", |judge, node| judge.list(node, 1..=16, ca_certificate_ref));
        let modes = |judge: &mut Judge, node: &Node| judge.choice(node, &["AllowValidOnly", "AllowInsecureFallback"]);
        fields.defaulted("mode", "AllowValidOnly", modes);
    })
}

fn ca_certificate_ref(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = reference::object(judge, node)?;
    let bundle = value["group"] == "certificates.k8s.io" && value["kind"] == "ClusterTrustBundle";
    if bundle && value["namespace"].is_string() {
        judge.conflict(node.place, "a ClusterTrustBundle is in no namespace", "remove namespace");
    }
    Some(value)
}
