//! Role, ClusterRole, RoleBinding and ClusterRoleBinding. Like the core kinds they are read into Go structures and judged
//! by functions of the server.

use serde_json::Value;

use super::{
    Fields, Judge, Reason,
    core::{
        document::{document, generation},
        structure::{objects, texts},
    },
    metadata::NameRule,
};
use crate::manifest::span::Node;

pub mod binding;
pub mod selector;

/// Judges a Role.
pub fn role(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::PathSegment, |fields| {
        fields.optional("rules", |judge, node| objects(judge, node, usize::MAX, rule_of_namespace));
    })
}

/// Judges a ClusterRole.
pub fn cluster_role(judge: &mut Judge, node: &Node) -> Option<Value> {
    generation(judge, node);
    document(judge, node, NameRule::ClusterScopedPathSegment, |fields| {
        fields.optional("rules", |judge, node| objects(judge, node, usize::MAX, rule));
        fields.optional("aggregationRule", |judge, node| {
            judge.object(node, |fields| {
                fields.optional("clusterRoleSelectors", |judge, node| {
                    objects(judge, node, usize::MAX, selector::label_selector)
                });
                needed(fields, "clusterRoleSelectors", "an aggregationRule");
            })
        });
    })
}

fn rule_of_namespace(judge: &mut Judge, node: &Node) -> Option<Value> {
    let value = rule(judge, node)?;
    if let Some(urls) = node.get("nonResourceURLs").filter(|_| has_items(&value, "nonResourceURLs")) {
        judge.field("nonResourceURLs", |judge| {
            let message = "URLs that are no resources belong to no namespace";
            judge.fault(Reason::InvalidValue, urls.place, message, "remove them, or write a ClusterRole");
        });
    }
    Some(value)
}

/// `PolicyRule`.
fn rule(judge: &mut Judge, node: &Node) -> Option<Value> {
    judge.object(node, |fields| {
        for name in ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"] {
            fields.optional(name, |judge, node| texts(judge, node, usize::MAX, |_, _, _| {}));
        }
        needed(fields, "verbs", "a rule");
        if fields.items("nonResourceURLs").is_empty() {
            needed(fields, "apiGroups", "a rule for resources");
            needed(fields, "resources", "a rule for resources");
        } else if ["apiGroups", "resources", "resourceNames"].iter().any(|name| !fields.items(name).is_empty()) {
            let place = fields.place_of("nonResourceURLs");
            fields.judge().field("nonResourceURLs", |judge| {
                let message = "a rule is for resources or for URLs that are none, not for both";
                judge.fault(Reason::InvalidValue, place, message, "make it two rules");
            });
        }
    })
}

/// The list `name`, which was judged before, must not be empty.
fn needed(fields: &mut Fields, name: &'static str, whose: &str) {
    if fields.items(name).is_empty() && !fields.get(name).is_some_and(|value| value.is_null()) {
        let place = fields.place_of(name);
        let remedy = match name {
            "apiGroups" => "write apiGroups: [\"\"] for core kinds, [\"*\"] for all",
            "clusterRoleSelectors" => "add one, or remove the aggregationRule",
            _ => "add one; \"*\" means all",
        };
        fields.judge().field(name, |judge| {
            judge.fault(Reason::MissingField, place, format!("{whose} needs at least one"), remedy);
        });
    }
}

fn has_items(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_array).is_some_and(|items| !items.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::{
        api::Kind,
        manifest::{
            admit::judge,
            span::{Bounds, read},
        },
    };

    fn judged(kind: Kind, rest: &str) -> (serde_json::Value, Vec<String>) {
        let head = format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: 'system:a'}}\n");
        let documents = read(&(head + rest), &Bounds::default()).expect("the test's text is YAML");
        let (value, faults) = judge(kind, &documents[0].root);
        (value, faults.into_iter().map(|fault| fault.field).collect())
    }

    #[test]
    fn rules_need_their_lists() {
        let fields = |kind, rest| judged(kind, rest).1;
        assert_eq!(
            fields(Kind::Role, "rules: [{}, null]"),
            ["rules[0].verbs", "rules[0].apiGroups", "rules[0].resources"]
                .iter()
                .chain(&["rules[1].verbs", "rules[1].apiGroups", "rules[1].resources"])
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        );
        assert_eq!(fields(Kind::Role, ""), [""; 0]);
        let urls = "rules: [{verbs: [get], nonResourceURLs: [/a]}]";
        assert_eq!(fields(Kind::Role, urls), ["rules[0].nonResourceURLs"]);
        assert_eq!(fields(Kind::ClusterRole, urls), [""; 0]);
        assert_eq!(fields(Kind::ClusterRole, "aggregationRule: {}"), ["aggregationRule.clusterRoleSelectors"]);
    }

    #[test]
    fn bindings_name_a_role_and_subjects() {
        let (value, faults) = judged(
            Kind::RoleBinding,
            "roleRef: {kind: Role, name: r}\nsubjects: [{kind: User, name: alice}, {kind: ServiceAccount, name: s}]",
        );
        assert_eq!(faults, [""; 0]);
        assert_eq!(value["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(value["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
        let fields = |kind, rest| judged(kind, rest).1;
        assert_eq!(fields(Kind::RoleBinding, ""), ["roleRef.kind", "roleRef.name"]);
        let role = "roleRef: {kind: Role, name: r}";
        assert_eq!(fields(Kind::ClusterRoleBinding, role), ["roleRef.kind"]);
        let subjects =
            "roleRef: {kind: ClusterRole, name: r}\nsubjects: [{kind: user, name: a}, {kind: ServiceAccount, name: s}]";
        assert_eq!(fields(Kind::ClusterRoleBinding, subjects), ["subjects[0].kind", "subjects[1].namespace"]);
    }
}
