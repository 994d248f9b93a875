//! The pages of roles and bindings, and rules as kubectl prints them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::Page;
use crate::{
    api::rbac::{PolicyRule, Role},
    cli::table::Table,
    view::{list, text},
};

pub(super) fn describe_role(page: &mut Page, object: &Value) {
    let role = Role::deserialize(object).unwrap_or_default();
    if role.aggregation_rule.is_some() {
        let selectors = list(object, "/aggregationRule/clusterRoleSelectors").iter().map(Value::to_string);
        return page.section("Aggregates ClusterRoles with labels", &selectors.collect::<Vec<_>>());
    }
    page.table("PolicyRule", rules(role.rules.iter()));
}

pub(super) fn describe_binding(page: &mut Page, object: &Value) {
    page.section(
        "Role",
        &["Kind", "Name"].map(|name| {
            format!("{:<7}{}", format!("{name}:"), text(object, &format!("/roleRef/{}", name.to_lowercase())))
        }),
    );
    let mut subjects = Table::new(["KIND", "NAME", "NAMESPACE"]);
    for subject in list(object, "/subjects") {
        subjects.row(["/kind", "/name", "/namespace"].map(|pointer| text(subject, pointer).to_owned()));
    }
    page.table("Subjects", subjects);
}

/// More than this nobody reads.
const MOST: usize = 100_000;

/// One line for each resource, with all its verbs.
pub fn rules<'a>(rules: impl Iterator<Item = &'a PolicyRule>) -> Table {
    let mut lines: BTreeMap<(String, Vec<String>, Vec<String>), BTreeSet<String>> = BTreeMap::new();
    for single in rules.flat_map(PolicyRule::single).take(MOST) {
        let resource = single.resources.first().map_or(String::new(), |resource| {
            let (resource, rest) =
                resource.split_once('/').map_or((resource.as_str(), ""), |(head, rest)| (head, rest));
            let group = single.api_groups.first().filter(|group| !group.is_empty());
            let group = group.map_or(String::new(), |group| format!(".{group}"));
            format!("{resource}{group}{}{rest}", if rest.is_empty() { "" } else { "/" })
        });
        lines.entry((resource, single.non_resource_urls, single.resource_names)).or_default().extend(single.verbs);
    }
    let mut table = Table::new(["Resources", "Non-Resource URLs", "Resource Names", "Verbs"]);
    let words = |list: &[String]| format!("[{}]", list.join(" "));
    for ((resource, urls, names), verbs) in lines {
        let verbs: Vec<String> = verbs.into_iter().collect();
        table.row([resource, words(&urls), words(&names), words(&verbs)]);
    }
    table
}
