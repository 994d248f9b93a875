//! How are objects written as YAML? So that readers of YAML 1.1 and of YAML 1.2 read the same value.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_yaml::DoubleQuoted;

/// `value` as a YAML document without a `---` line. A string that a reader of either version would take for something
/// else (`yes`, `on`, `0100`, `1e3`, `1:30`, `null`, dates) is quoted; strings of several lines are literal blocks.
pub fn to_yaml(value: &Value) -> String {
    let options = serde_yaml::ser_options! {
        // Literal blocks only: folding makes a sentence hard to search for.
        prefer_block_scalars: true,
        folded_wrap_chars: usize::MAX,
    };
    serde_yaml::to_string_with_options(&Readable(value), options).expect("every JSON value has a YAML form")
}

/// A value whose strings keep to the forms that every reader takes.
struct Readable<'a>(&'a Value);

impl Serialize for Readable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            // libyaml and go-yaml take a tab at the start of a literal block for indentation, and refuse it.
            Value::String(text) if text.trim_start_matches(['\n', ' ']).starts_with('\t') => {
                DoubleQuoted(text).serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Readable)),
            Value::Object(fields) => serializer.collect_map(fields.iter().map(|(key, value)| (key, Readable(value)))),
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        for word in [
            "yes",
            "No",
            "on",
            "OFF",
            "y",
            "N",
            "true",
            "null",
            "~",
            "",
            "0100",
            "0o17",
            "0x1F",
            "1e3",
            "1_000",
            "1:30",
            ".inf",
            ".NaN",
            "-.Inf",
            "2026-11-24",
            "2026-11-24T08:00:00Z",
            "<<",
            "=",
            "- a",
            "a: b",
            "a #b",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            " a",
            "a ",
            "a:",
            "---",
            "...",
            "0b1",
            "+1",
            "1.",
            ".5",
        ] {
            let yaml = to_yaml(&json!({ "a": word, "b": [word] }));
            assert!(yaml.starts_with("a: \"") || yaml.starts_with("a: '"), "{word}: {yaml}");
            assert_eq!(
                serde_yaml::from_str::<Value>(&yaml).expect("reads"),
                json!({ "a": word, "b": [word] }),
                "{yaml}"
            );
        }
    }

    #[test]
    fn objects_look_as_people_write_them() {
        let value = json!({
            "kind": "ConfigMap", "metadata": { "name": "a", "labels": {}, "size": 3, "on": true },
            "items": [{ "a": "x", "b": null }, []], "data": { "text": "one\ntwo\n" },
        });
        assert_eq!(
            to_yaml(&value),
            "kind: ConfigMap\nmetadata:\n  name: a\n  labels: {}\n  size: 3\n  \"on\": true\nitems:\n- a: x\n  b: null\n- []\n\
             data:\n  text: |\n    one\n    two\n"
        );
    }

    #[test]
    fn a_tab_never_begins_a_block() {
        assert_eq!(to_yaml(&json!({ "a": "\n\t<b>\nc\n" })), "a: \"\\n\\t<b>\\nc\\n\"\n");
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<String>(), "[ -~\n\t]{0,12}", "[0-9:._+eExXoObB-]{1,8}", " *[a-z#:\n ]{0,20}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(value in any_value()) {
            let yaml = to_yaml(&value);
            let back: Value = serde_yaml::from_str(&yaml).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
            prop_assert_eq!(back, value, "{}", yaml);
        }
    }
}
