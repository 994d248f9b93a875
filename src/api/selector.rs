//! Which labels does a label selector take?

use std::collections::BTreeMap;

use super::{LabelSelector, LabelSelectorRequirement};

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
