//! RoleBinding and ClusterRoleBinding.

use serde_json::Value;

use crate::{
    api::rbac::RBAC_GROUP,
    manifest::{
        admit::{
            Fields, Judge, Reason,
            core::{
                document::{document, generation},
                form::SUBDOMAIN,
                structure::{always, objects, strings},
            },
            metadata::{NameRule, path_segment},
            written,
        },
        span::{Content, Node},
    },
};

/// Judges a RoleBinding.
pub fn role_binding(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::PathSegment, |fields| {
        fields.optional("subjects", |judge, node| objects(judge, node, usize::MAX, subject));
        always(fields, "roleRef", |judge, node| role_ref(judge, node, &["Role", "ClusterRole"]));
    })
}

/// Judges a ClusterRoleBinding.
pub fn cluster_role_binding(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::ClusterScopedPathSegment, |fields| {
        fields.optional("subjects", |judge, node| objects(judge, node, usize::MAX, subject_of_cluster));
        always(fields, "roleRef", |judge, node| role_ref(judge, node, &["ClusterRole"]));
    })
}

fn role_ref(judge: &mut Judge, node: &Node, kinds: &[&str]) -> Option<Value> {
    judge.object(node, |fields| {
        fields.defaulted("apiGroup", RBAC_GROUP, |judge, node| match judge.text(node)? {
            "" => Some(Value::from(RBAC_GROUP)),
            _ => judge.choice(node, &[RBAC_GROUP]),
        });
        fields.optional("kind", |judge, node| judge.choice(node, kinds));
        fields.optional("name", Judge::string);
        if !fields.has("kind") {
            fields.missing("kind");
        }
        name(fields, path_segment, "a role's name");
    })
}

fn subject(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| subject_fields(fields))
}

fn subject_of_cluster(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        subject_fields(fields);
        if fields.text("kind") == Some("ServiceAccount") && fields.text("namespace").unwrap_or_default().is_empty() {
            fields.missing("namespace");
        }
    })
}

fn subject_fields(fields: &mut Fields) {
    fields.optional("kind", |judge, node| judge.choice(node, &["User", "Group", "ServiceAccount"]));
    strings(fields, &["name", "apiGroup", "namespace"]);
    if !fields.has("kind") {
        fields.missing("kind");
    }
    let account = fields.text("kind") == Some("ServiceAccount");
    let group = if account { "" } else { RBAC_GROUP };
    match fields.text("apiGroup").unwrap_or_default() {
        "" => fields.store("apiGroup", Value::from(group)),
        written if written == group || !matches!(fields.text("kind"), Some("User" | "Group" | "ServiceAccount")) => {}
        _ => {
            let place = fields.place_of("apiGroup");
            fields.judge().field("apiGroup", |judge| {
                let remedy = format!("write {group:?}, or remove the field");
                judge.fault(Reason::UnsupportedValue, place, "is not the group of such a subject", remedy);
            });
        }
    }
    match account {
        true => name(fields, SUBDOMAIN.holds, "a service account's name"),
        false => name(fields, |_| true, ""),
    }
}

/// A name that was judged to be text must be there and be one.
fn name(fields: &mut Fields, holds: impl Fn(&str) -> bool, what: &str) {
    let place = fields.place_of("name");
    let Some(text) = fields.text("name").filter(|text| !text.is_empty()) else {
        // A value of another type is a fault of its own.
        if fields.get("name").is_none_or(Value::is_string) {
            fields.missing("name");
        }
        return;
    };
    if text.len() > 253 && what.starts_with("a service") || !holds(text) {
        let shown = written(&Node { content: Content::String(text.to_owned()), place });
        fields.judge().field("name", |judge| {
            judge.fault(Reason::InvalidValue, place, format!("{shown} is not {what}"), "");
        });
    }
}
