//! Role, ClusterRole, RoleBinding and ClusterRoleBinding, and what a rule allows.

use serde::{Deserialize, Serialize};

use super::LabelSelector;

/// The API group of the four kinds.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// A Role or a ClusterRole; its fields stand at the top level of the document.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Role {
    pub rules: Vec<PolicyRule>,
    /// Of a ClusterRole only: its rules are those of the ClusterRoles that the selectors take.
    pub aggregation_rule: Option<AggregationRule>,
}

/// `ClusterRole.aggregationRule`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AggregationRule {
    pub cluster_role_selectors: Vec<LabelSelector>,
}

/// What may be done with what.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    /// Empty: objects of any name.
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// A RoleBinding or a ClusterRoleBinding.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Binding {
    pub role_ref: RoleRef,
    pub subjects: Vec<Subject>,
}

/// `roleRef` of a binding.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleRef {
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    pub kind: String,
    pub name: String,
}

/// `subjects[]` of a binding.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub kind: String,
    pub api_group: String,
    pub name: String,
    pub namespace: String,
}

/// What is asked of the rules: one verb on objects of one resource.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    /// The plural, with `/subresource` where one is meant.
    pub resource: &'a str,
    /// Empty for no object in particular, which a rule with `resourceNames` does not allow.
    pub name: &'a str,
}

impl PolicyRule {
    /// Does the rule allow the action? As the API server's RBAC authoriser decides it.
    pub fn allows(&self, action: &Action) -> bool {
        has(&self.verbs, action.verb)
            && has(&self.api_groups, action.group)
            && self.has_resource(action.resource)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == action.name))
    }

    /// Does the rule allow all of the actions that `other`, a rule of single values, allows?
    pub fn covers(&self, other: &PolicyRule) -> bool {
        let names = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other.resource_names.iter().all(|name| self.resource_names.contains(name)));
        let url = |url: &String| {
            self.non_resource_urls.iter().any(|own| {
                own == url || own.strip_suffix('*').is_some_and(|stem| url.starts_with(stem.trim_end_matches('*')))
            })
        };
        other.verbs.iter().all(|verb| has(&self.verbs, verb))
            && other.api_groups.iter().all(|group| has(&self.api_groups, group))
            && other.resources.iter().all(|resource| self.has_resource(resource))
            && names
            && other.non_resource_urls.iter().all(url)
    }

    /// The same as rules of one verb, one group, one resource and one name each.
    pub fn single(&self) -> impl Iterator<Item = PolicyRule> + '_ {
        let names: Vec<Vec<String>> = match self.resource_names.is_empty() {
            true => vec![Vec::new()],
            false => self.resource_names.iter().map(|name| vec![name.clone()]).collect(),
        };
        let resources = self.api_groups.iter().flat_map(|group| {
            self.resources.iter().map(|resource| (vec![group.clone()], vec![resource.clone()], Vec::new()))
        });
        let urls = self.non_resource_urls.iter().map(|url| (Vec::new(), Vec::new(), vec![url.clone()]));
        let verbs = resources.chain(urls).flat_map(|what| self.verbs.iter().map(move |verb| (verb, what.clone())));
        verbs.flat_map(move |(verb, (api_groups, resources, non_resource_urls))| {
            let rule = PolicyRule {
                verbs: vec![verb.clone()],
                api_groups,
                resources,
                non_resource_urls,
                ..PolicyRule::default()
            };
            // URLs have no names.
            let names = if rule.resources.is_empty() { vec![Vec::new()] } else { names.clone() };
            names.into_iter().map(move |resource_names| PolicyRule { resource_names, ..rule.clone() })
        })
    }

    /// `*` takes every resource and subresource, `*/status` that subresource of every resource.
    fn has_resource(&self, resource: &str) -> bool {
        let any = |subresource: &str| self.resources.iter().any(|own| own.strip_prefix("*/") == Some(subresource));
        has(&self.resources, resource) || resource.split_once('/').is_some_and(|(_, subresource)| any(subresource))
    }
}

/// Is the word in the list, or `*`?
fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|own| own == "*" || own == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(|word| if word == "core" { String::new() } else { word.to_owned() }).collect()
    }

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        PolicyRule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: Vec::new(),
        }
    }

    #[test]
    fn what_a_rule_allows() {
        let action = |verb, group, resource, name| Action { verb, group, resource, name };
        for (rule, action, allowed) in [
            (rule("create", "core", "services", ""), action("create", "", "services", "a"), true),
            (rule("create", "core", "services", ""), action("update", "", "services", "a"), false),
            (rule("create", "core", "services", ""), action("create", "apps", "services", "a"), false),
            (rule("create", "apps", "services", ""), action("create", "", "services", "a"), false),
            (rule("*", "*", "*", ""), action("create", "x", "y", ""), true),
            (rule("*", "*", "*", ""), action("create", "x", "y/status", ""), true),
            (rule("create", "core", "services secrets", ""), action("create", "", "secrets", ""), true),
            (rule("create", "core", "services", "a b"), action("create", "", "services", "b"), true),
            (rule("create", "core", "services", "a b"), action("create", "", "services", "c"), false),
            (rule("create", "core", "services", "a b"), action("create", "", "services", ""), false),
            (rule("get", "core", "*/status", ""), action("get", "", "services/status", ""), true),
            (rule("get", "core", "*/status", ""), action("get", "", "services", ""), false),
            (rule("get", "core", "services", ""), action("get", "", "services/status", ""), false),
            (rule("", "core", "services", ""), action("get", "", "services", ""), false),
        ] {
            assert_eq!(rule.allows(&action), allowed, "{rule:?} {action:?}");
        }
    }

    #[test]
    fn what_a_rule_covers() {
        for (owner, other, covered) in [
            (rule("*", "*", "*", ""), rule("create", "core", "services", ""), true),
            (rule("create", "core", "services", ""), rule("*", "core", "services", ""), false),
            (rule("create", "core", "services", "a"), rule("create", "core", "services", ""), false),
            (rule("create", "core", "services", ""), rule("create", "core", "services", "a"), true),
            (rule("create", "core", "services", "a"), rule("create", "core", "services", "a"), true),
            (rule("create", "core", "services", "a"), rule("create", "core", "services", "b"), false),
            (rule("create", "core", "services", ""), rule("create", "core", "*", ""), false),
            (rule("create", "core", "services", ""), rule("create", "*", "services", ""), false),
        ] {
            assert_eq!(owner.covers(&other), covered, "{owner:?} {other:?}");
        }
        let urls = |urls: &str| PolicyRule { verbs: list("get"), non_resource_urls: list(urls), ..Default::default() };
        assert!(urls("/a/*").covers(&urls("/a/b")) && !urls("/a/*").covers(&urls("/b")));
        assert!(!rule("*", "*", "*", "").covers(&urls("/a")));
    }

    #[test]
    fn single_values() {
        assert_eq!(rule("a b", "c d", "e", "f g").single().count(), 8);
        assert_eq!(rule("a b", "c", "e", "").single().count(), 2);
    }
}
