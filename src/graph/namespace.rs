//! Namespaces, their labels, and the selectors that name them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{Kind, LabelSelector, LabelSelectorRequirement},
    manifest::Object,
};

/// The label that every namespace has, with its own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespaces that exist, because an object is in them or a Namespace manifest declares them, with their labels.
#[derive(Debug, Default, PartialEq)]
pub struct Namespaces(BTreeMap<String, BTreeMap<String, String>>);

impl Namespaces {
    /// `kinds` are the objects of each kind, sorted by namespace.
    pub(super) fn new(kinds: &BTreeMap<Kind, &[Arc<Object>]>) -> Namespaces {
        let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for mut objects in kinds.values().copied() {
            while let Some(first) = objects.first() {
                let namespace = &first.key.namespace;
                if first.kind == Kind::Namespace {
                    all.insert(first.key.name.to_string(), first.meta.labels.clone());
                } else if !namespace.is_empty() {
                    all.entry(namespace.to_string()).or_default();
                }
                let rest = &objects[1..];
                let is_last = namespace.is_empty() || rest.first().is_some_and(|next| next.key.namespace != *namespace);
                let same = if is_last { 0 } else { rest.partition_point(|next| next.key.namespace == *namespace) };
                objects = &rest[same..];
            }
        }
        for (name, labels) in &mut all {
            labels.insert(NAME_LABEL.into(), name.clone());
        }
        Namespaces(all)
    }

    /// The labels of a namespace; none where it does not exist.
    pub fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.0.get(namespace)
    }
}

/// Do the labels satisfy every requirement of the selector? An empty selector takes everything.
///
/// # Errors
/// What is wrong with the selector: it then selects nothing.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Result<bool, String> {
    let mut all = selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    for requirement in &selector.match_expressions {
        all &= satisfies(requirement, labels)?;
    }
    Ok(all)
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> Result<bool, String> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let value = labels.get(key);
    let found = value.is_some_and(|value| values.contains(value));
    match (operator.as_str(), values.is_empty()) {
        ("In", false) => Ok(found),
        ("NotIn", false) => Ok(!found),
        ("Exists", true) => Ok(value.is_some()),
        ("DoesNotExist", true) => Ok(value.is_none()),
        ("In" | "NotIn", true) => Err(format!("operator {operator} of key {key} needs values")),
        ("Exists" | "DoesNotExist", false) => Err(format!("operator {operator} of key {key} takes no values")),
        _ => Err(format!("operator {operator:?} is unknown; it is In, NotIn, Exists or DoesNotExist")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator() {
        let labels = BTreeMap::from([("team".to_string(), "a".to_string())]);
        let requirement = |key: &str, operator: &str, values: &[&str]| LabelSelector {
            match_expressions: vec![LabelSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: values.iter().map(ToString::to_string).collect(),
            }],
            ..LabelSelector::default()
        };
        for (key, operator, values, want) in [
            ("team", "In", &["a", "b"][..], Some(true)),
            ("team", "In", &["b"], Some(false)),
            ("team", "NotIn", &["b"], Some(true)),
            ("other", "NotIn", &["b"], Some(true)),
            ("team", "Exists", &[], Some(true)),
            ("team", "DoesNotExist", &[], Some(false)),
            ("team", "In", &[], None),
            ("team", "Exists", &["a"], None),
            ("team", "in", &["a"], None),
        ] {
            assert_eq!(selects(&requirement(key, operator, values), &labels).ok(), want, "{key} {operator} {values:?}");
        }
        assert_eq!(selects(&LabelSelector::default(), &labels), Ok(true));
    }
}
