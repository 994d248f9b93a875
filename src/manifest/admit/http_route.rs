//! HTTPRoute.

use serde_json::{Value, json};

use super::{
    Fields, Judge,
    backend_ref::http_backend_ref,
    http_filter::filters,
    http_match::{default_path, http_match},
    metadata::NameRule,
    reference::{self, hostname, section_name},
    status,
    text::{DURATION, HEADER_NAME, duration},
};
use crate::manifest::span::{Content, Node};

/// Judges an HTTPRoute.
pub fn admit(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.document(node, NameRule::Subdomain, |fields| {
        fields.required("spec", spec);
        status::status(fields, &status::ROUTE);
    })
}

fn spec(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("parentRefs", parent_refs);
        fields.optional("useDefaultGateways", |judge, node| judge.choice(node, &["All", "None"]));
        fields.optional("hostnames", |judge, node| judge.list(node, 0..=16, hostname));
        fields.defaulted("rules", json!([{"matches": [{"path": default_path()}]}]), rules);
    })
}

const MAX_PARENTS: usize = 32;

/// `parentRefs`: several references to one parent set the same fields among sectionName and port, and differ in them.
pub fn parent_refs(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 0..=MAX_PARENTS, reference::parent)?;
    let (Some(values), Content::List(nodes)) = (value.as_array(), &node.content) else { return Some(value) };
    let same =
        |one: &Value, other: &Value, fields: &[&str]| fields.iter().all(|field| one.get(field) == other.get(field));
    for (index, parent) in values.iter().enumerate().take(MAX_PARENTS) {
        for (first, earlier) in values[..index].iter().enumerate() {
            if !same(parent, earlier, &["group", "kind", "namespace", "name"]) {
                continue;
            }
            let message = if same(parent, earlier, &["sectionName", "port"]) {
                format!("is the same reference as parentRefs[{first}]")
            } else if ["sectionName", "port"].iter().any(|f| parent.get(f).is_some() != earlier.get(f).is_some()) {
                format!("refers to the parent of parentRefs[{first}] and sets other fields than it")
            } else {
                continue;
            };
            judge.at(format_args!("[{index}]"), |judge| {
                let remedy = "tell references to one parent apart by sectionName in all, or by port in all";
                judge.conflict(nodes[index].place, message, remedy);
            });
        }
    }
    Some(value)
}

/// `rules` of every kind of route.
pub const MAX_RULES: usize = 16;

fn rules(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = judge.list(node, 1..=MAX_RULES, rule)?;
    named_rules(judge, node, value.as_array()?);
    Some(value)
}

/// What holds between the rules of a route: few matches together, and names of their own.
pub fn named_rules(judge: &mut Judge, node: &Node, rules: &[Value]) {
    let matches: usize = rules.iter().map(|rule| rule["matches"].as_array().map_or(0, Vec::len)).sum();
    if matches > 128 {
        let message = format!("all rules together have {matches} matches, at most 128 allowed");
        judge.conflict(node.place, message, "split the route");
    }
    if let Content::List(nodes) = &node.content {
        for (index, rule) in rules.iter().enumerate().take(MAX_RULES) {
            let name = rule.get("name");
            if name.is_some() && rules[..index].iter().any(|earlier| earlier.get("name") == name) {
                judge.at(format_args!("[{index}].name"), |judge| {
                    let place = nodes[index].get("name").unwrap_or(&nodes[index]).place;
                    judge.conflict(place, "another rule has this name", "give it another");
                });
            }
        }
    }
}

fn rule(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("name", section_name);
        fields.defaulted("matches", json!([{"path": default_path()}]), |judge, node| {
            judge.list(node, 0..=64, http_match)
        });
        fields.optional("filters", filters);
        fields.optional("backendRefs", |judge, node| judge.list(node, 0..=16, http_backend_ref));
        fields.optional("timeouts", timeouts);
        fields.optional("retry", retry);
        fields.optional("sessionPersistence", session_persistence);
        redirect_and_backends(fields);
        prefix_replacement(fields);
    })
}

fn redirect_and_backends(fields: &mut Fields) {
    let redirects = fields.items("filters").iter().any(|filter| filter.get("requestRedirect").is_some());
    if redirects && !fields.items("backendRefs").is_empty() {
        let remedy = "remove backendRefs, or the filter";
        fields.conflict("backendRefs", "a rule that redirects has no backends", remedy);
    }
}

/// Replacing a prefix needs the one prefix that was matched.
///
/// The CRD asks so only where *exactly one* filter, and exactly one backendRef with exactly one such filter, replaces.
fn prefix_replacement(fields: &mut Fields) {
    let one_prefix = match fields.items("matches") {
        [only] => only["path"]["type"] == "PathPrefix",
        _ => false,
    };
    if one_prefix {
        return;
    }
    for modifier in ["requestRedirect", "urlRewrite"] {
        let replaces = |filter: &&Value| {
            let path = &filter[modifier]["path"];
            path["type"] == "ReplacePrefixMatch" && path["replacePrefixMatch"].is_string()
        };
        let once = |filters: &[Value]| filters.iter().filter(replaces).count() == 1;
        let backends = fields.items("backendRefs");
        let in_backends =
            backends.iter().filter(|backend| backend["filters"].as_array().is_some_and(|filters| once(filters)));
        let (in_rule, in_backends) = (once(fields.items("filters")), in_backends.count() == 1);
        for (field, found) in [("filters", in_rule), ("backendRefs", in_backends)] {
            if found {
                let message = format!("{modifier} with replacePrefixMatch needs exactly one match, of type PathPrefix");
                fields.conflict(field, message, "write one PathPrefix match, or use ReplaceFullPath");
            }
        }
    }
}

fn timeouts(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for field in ["request", "backendRequest"] {
            fields.optional(field, |judge, node| judge.form(node, &DURATION));
        }
        let milliseconds = |field: &str| fields.text(field).and_then(duration);
        if let (Some(request), Some(backend)) = (milliseconds("request"), milliseconds("backendRequest"))
            && request != 0
            && backend > request
        {
            let remedy = "write at most the request timeout";
            fields.conflict("backendRequest", "backendRequest is longer than request", remedy);
        }
    })
}

fn retry(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields
            .optional("codes", |judge, node| judge.set(node, usize::MAX, |judge, node| judge.integer(node, 400..=599)));
        fields.defaulted("attempts", 1, |judge, node| judge.integer(node, 0..=i64::MAX));
        fields.optional("backoff", |judge, node| judge.form(node, &DURATION));
    })
}

/// `sessionPersistence` of a rule.
pub fn session_persistence(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("type", "Cookie", |judge, node| judge.choice(node, &["Cookie", "Header"]));
        fields.optional("absoluteTimeout", |judge, node| judge.form(node, &DURATION));
        fields.optional("cookie", cookie);
        fields.optional("header", |judge, node| {
            judge.object(node, |fields| fields.required("name", |judge, node| judge.form(node, &HEADER_NAME)))
        });
        session_rules(fields);
    })
}

fn session_rules(fields: &mut Fields) {
    let permanent = fields.get("cookie").is_some_and(|cookie| cookie["lifetimeType"] == "Permanent");
    if permanent && !fields.has("absoluteTimeout") {
        fields.conflict("", "a permanent cookie needs absoluteTimeout", "add absoluteTimeout");
    }
    let Some(written) = fields.text("type").map(str::to_owned) else { return };
    for (name, field) in [("Cookie", "cookie"), ("Header", "header")] {
        match (name == written, fields.has(field)) {
            (true, false) => fields.conflict("", format!("type {name} needs {field}"), format!("add {field}")),
            (false, true) => {
                let remedy = format!("write type: {name}, or remove {field}");
                fields.conflict(field, format!("{field} does not belong to type {written}"), remedy);
            }
            _ => {}
        }
    }
}

fn cookie(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        fields.optional("name", |judge, node| judge.form(node, &HEADER_NAME));
        fields.defaulted("path", "/", |judge, node| judge.sized(node, 0..=1024));
        fields.defaulted("lifetimeType", "Session", |judge, node| judge.choice(node, &["Permanent", "Session"]));
    })
}
