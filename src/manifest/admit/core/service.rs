//! Service.

use serde_json::{Value, json};

use super::{
    address,
    document::{document, generation},
    form::{EXTERNAL_NAME, QUALIFIED_NAME},
    service_address::{cluster_addresses, headless},
    service_port,
    structure::{always, choice_or, condition, int32, objects, strings, texts},
};
use crate::manifest::{
    admit::{
        Fields, Judge, Reason,
        metadata::{NameRule, labels},
    },
    span::Node,
};

const TYPES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];

/// How long a client sticks to an endpoint, in seconds: default and most.
const AFFINITY_SECONDS: (i64, i64) = (10_800, 86_400);

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

/// Judges a Service.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::Label, |fields| {
        always(fields, "spec", spec);
        fields.optional("status", status);
        topology(fields.judge(), node);
        let spec = fields.get("spec").cloned().unwrap_or_default();
        source_ranges(fields.judge(), node, &spec);
    })
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "ClusterIP", |judge, node| choice_or(judge, node, &TYPES, "ClusterIP"));
        fields.optional("selector", labels);
        fields.optional("ports", service_port::ports);
        cluster_addresses(fields);
        ports_of_type(fields, node.get("ports"));
        fields.optional("externalIPs", |judge, node| texts(judge, node, usize::MAX, address::external));
        external_name(fields);
        affinity(fields);
        load_balancer(fields);
        policies(fields);
        fields.optional("publishNotReadyAddresses", Judge::boolean);
        fields.optional("trafficDistribution", |judge, node| judge.choice(node, &DISTRIBUTIONS));
    })
}

fn is(fields: &Fields, type_: &str) -> bool {
    fields.text("type") == Some(type_)
}

/// Which ports and addresses each type of Service has.
fn ports_of_type(fields: &mut Fields, written: Option<&Node>) {
    if fields.items("ports").is_empty() && !headless(fields) && !is(fields, "ExternalName") {
        fields.missing("ports");
    }
    let (none, ports) = (is(fields, "ClusterIP"), fields.get("ports").cloned().unwrap_or_default());
    if let Some(node) = written {
        fields.judge().field("ports", |judge| service_port::node_ports(judge, node, &ports, none));
    }
    if headless(fields) && (is(fields, "NodePort") || is(fields, "LoadBalancer")) {
        fields.conflict(
            "clusterIP",
            "a headless Service has no load balancer and no node ports",
            "remove clusterIP: None",
        );
    }
}

fn external_name(fields: &mut Fields) {
    match is(fields, "ExternalName") {
        true => {
            fields.required("externalName", |judge, node| judge.form(node, &EXTERNAL_NAME));
        }
        false => fields.optional("externalName", Judge::string),
    }
}

/// `sessionAffinityConfig` is dropped without affinity, and filled in with it.
fn affinity(fields: &mut Fields) {
    fields.defaulted("sessionAffinity", "None", |judge, node| choice_or(judge, node, &["ClientIP", "None"], "None"));
    let sticky = fields.text("sessionAffinity") == Some("ClientIP");
    let max = if sticky { 1..=AFFINITY_SECONDS.1 } else { super::structure::INT32 };
    let Some(node) = fields.raw("sessionAffinityConfig").filter(|node| !node.is_null()) else {
        if sticky {
            fields.store("sessionAffinityConfig", json!({ "clientIP": { "timeoutSeconds": AFFINITY_SECONDS.0 } }));
        }
        return;
    };
    let judged = fields.judge().field("sessionAffinityConfig", |judge| {
        judge.object(node, |fields| {
            fields.optional("clientIP", |judge, node| {
                judge.object(node, |fields| {
                    fields.optional("timeoutSeconds", |judge, node| judge.integer(node, max.clone()));
                })
            });
        })
    });
    if sticky {
        let written = judged.and_then(|config| config["clientIP"]["timeoutSeconds"].as_i64());
        let seconds = written.unwrap_or(AFFINITY_SECONDS.0);
        fields.store("sessionAffinityConfig", json!({ "clientIP": { "timeoutSeconds": seconds } }));
    }
}

fn load_balancer(fields: &mut Fields) {
    let balanced = is(fields, "LoadBalancer");
    strings(fields, &["loadBalancerIP"]);
    fields.optional("loadBalancerSourceRanges", |judge, node| texts(judge, node, usize::MAX, address::cidr));
    fields.optional("allocateLoadBalancerNodePorts", Judge::boolean);
    fields.optional("loadBalancerClass", |judge, node| match balanced {
        true => judge.form(node, &QUALIFIED_NAME),
        false => judge.string(node),
    });
    if balanced && !fields.has("allocateLoadBalancerNodePorts") {
        fields.store("allocateLoadBalancerNodePorts", Value::from(true));
    }
    let ranges = !fields.items("loadBalancerSourceRanges").is_empty();
    for (name, there) in [
        ("loadBalancerSourceRanges", ranges),
        ("allocateLoadBalancerNodePorts", fields.has("allocateLoadBalancerNodePorts")),
        ("loadBalancerClass", fields.has("loadBalancerClass")),
    ] {
        if there && !balanced {
            fields.conflict(
                name,
                "only a Service of type LoadBalancer has it",
                "remove it, or write type: LoadBalancer",
            );
        }
    }
}

/// The traffic policies, and the port where a load balancer asks for the health of this node.
fn policies(fields: &mut Fields) {
    fields.optional("externalTrafficPolicy", |judge, node| choice_or(judge, node, &POLICIES, ""));
    let outside = is(fields, "LoadBalancer")
        || is(fields, "NodePort")
        || is(fields, "ClusterIP") && !fields.items("externalIPs").is_empty();
    let written = fields.text("externalTrafficPolicy").is_some_and(|policy| !policy.is_empty());
    if outside && !written {
        fields.store("externalTrafficPolicy", Value::from("Cluster"));
    }
    if !outside && written {
        let remedy = "remove it, or write type: LoadBalancer, type: NodePort or externalIPs";
        fields.conflict("externalTrafficPolicy", "the Service is not reachable from outside", remedy);
    }
    fields.optional("internalTrafficPolicy", |judge, node| judge.choice(node, &POLICIES));
    if !fields.has("internalTrafficPolicy") && !is(fields, "ExternalName") {
        fields.store("internalTrafficPolicy", Value::from("Cluster"));
    }
    health_check(fields);
}

fn health_check(fields: &mut Fields) {
    fields.optional("healthCheckNodePort", int32);
    let asked = is(fields, "LoadBalancer") && fields.text("externalTrafficPolicy") == Some("Local");
    match fields.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0) {
        0 => {}
        _ if !asked => {
            let message = "only a LoadBalancer with externalTrafficPolicy: Local has a health check port";
            fields.conflict("healthCheckNodePort", message, "remove it");
        }
        1..=65535 => {}
        number => {
            let place = fields.place_of("healthCheckNodePort");
            fields.judge().field("healthCheckNodePort", |judge| {
                judge.fault(Reason::InvalidValue, place, format!("{number} is out of range"), "write 1 to 65535");
            });
        }
    }
}

/// An annotation with its node.
fn annotation<'n>(document: &'n Node, key: &str) -> Option<(&'n Node, &'n str)> {
    let node = document.get("metadata")?.get("annotations")?.get(key)?;
    Some((node, node.as_str()?))
}

fn annotation_fault(judge: &mut Judge, key: &str, node: &Node, message: &str, remedy: &str) {
    judge.fault_at(Reason::InvalidValue, format!("metadata.annotations[{key}]"), node.place, message, remedy);
}

/// The old and the new annotation of one thing say the same.
fn topology(judge: &mut Judge, document: &Node) {
    let (hints, mode) = (annotation(document, TOPOLOGY_HINTS), annotation(document, TOPOLOGY_MODE));
    if let (Some((_, hints)), Some((node, mode))) = (hints, mode)
        && hints != mode
    {
        let message = format!("says something else than {TOPOLOGY_HINTS}");
        annotation_fault(judge, TOPOLOGY_MODE, node, &message, "remove the older one, topology-aware-hints");
    }
}

/// The annotation that came before `spec.loadBalancerSourceRanges`; judged where that field is empty.
fn source_ranges(judge: &mut Judge, document: &Node, spec: &Value) {
    let Some((node, ranges)) = annotation(document, SOURCE_RANGES) else { return };
    if spec["loadBalancerSourceRanges"].as_array().is_some_and(|ranges| !ranges.is_empty()) {
        return;
    }
    if spec["type"] != "LoadBalancer" {
        annotation_fault(judge, SOURCE_RANGES, node, "only a Service of type LoadBalancer has it", "remove it");
    }
    if !ranges.trim().is_empty() && !ranges.split(',').all(|range| address::is_cidr(range.trim())) {
        let remedy = "write them with commas between: 10.0.0.0/8,192.168.0.0/16";
        annotation_fault(judge, SOURCE_RANGES, node, "is not a list of address ranges", remedy);
    }
}

fn status(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("loadBalancer", |judge, node| {
            judge.object(node, |fields| {
                fields.optional("ingress", |judge, node| objects(judge, node, usize::MAX, ingress));
            })
        });
        fields.optional("conditions", |judge, node| {
            objects(judge, node, usize::MAX, |judge, node| condition(judge, node, true))
        });
    })
}

fn ingress(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        strings(fields, &["ip", "hostname", "ipMode"]);
        fields.optional("ports", |judge, node| {
            objects(judge, node, usize::MAX, |judge, node| {
                judge.object(node, |fields| {
                    fields.optional("port", int32);
                    strings(fields, &["protocol", "error"]);
                })
            })
        });
    })
}
