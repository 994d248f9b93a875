use serde_json::json;

use super::*;

fn one(text: &str) -> serde_json::Value {
    let mut documents = read(text, &Bounds::default()).unwrap_or_else(|refusal| panic!("{text:?}: {refusal:?}"));
    assert_eq!(documents.len(), 1, "{text:?}");
    let document = documents.remove(0);
    assert_eq!(document.problems, [], "{text:?}");
    document.root.value()
}

fn problem(text: &str) -> String {
    let documents = read(text, &Bounds::default()).unwrap_or_else(|refusal| panic!("{text:?}: {refusal:?}"));
    documents[0].problems.first().unwrap_or_else(|| panic!("{text:?} has no problem")).message.clone()
}

fn refused(text: &str) -> &'static str {
    read(text, &Bounds::default()).expect_err(text).reason
}

#[test]
fn booleans_of_yaml_1_1() {
    assert_eq!(
        one("[y, N, yes, Off, TRUE, tRuE, 'y', nULL, ~, Null]"),
        json!([true, false, true, false, true, "tRuE", "y", "nULL", null, null])
    );
}

#[test]
fn numbers_of_go_yaml() {
    assert_eq!(
        one("[080, 0100, 0o100, 0x50, 0b1010, 8_0, 1_, +80, 80., 80.0, 8e1, 800e-1, !!int \"80\", !!float 80, -0b11]"),
        json!([80, 64, 64, 80, 10, 80, 1, 80, 80, 80, 80, 80, 80, 80, -3])
    );
    assert_eq!(
        one("[80.5, \"80\", 1:20, .5, 1e3, 18446744073709551615]"),
        json!([80.5, "80", "1:20", 0.5, 1000, 18446744073709551615.0])
    );
    assert_eq!(
        one("[12:30:45, 2001-01-01, =, '<<', Infinity, 1e, 0b, 1e999]"),
        json!(["12:30:45", "2001-01-01", "=", "<<", "Infinity", "1e", "0b", "1e999"])
    );
    assert!(problem("a: !!int 80.0").contains("!!int"));
    assert!(problem("a: .inf").contains("JSON"));
}

#[test]
fn tags_and_quotes() {
    assert_eq!(one("[!local 80, !!str 80, ! 80, !!binary aGk=]"), json!(["80", "80", "80", "hi"]));
}

#[test]
fn keys_are_compared_by_type() {
    let duplicates = |text: &str| match &read(text, &Bounds::default()).expect(text)[0].root.content {
        Content::Map(entries) => entries.duplicates.len(),
        _ => 0,
    };
    assert_eq!(duplicates("{1: a, '1': b}"), 0);
    assert_eq!(duplicates("{1: a, 01: b}"), 1);
    assert_eq!(duplicates("{true: a, on: b}"), 1);
    assert_eq!(one("{1.5: a, on: b, 1e6: c, 1e30: d}"), json!({"1.5": "a", "true": "b", "1e+06": "c", "1e+30": "d"}));
    assert!(problem("{null: a}").contains("null"));
    assert!(problem("? [a]\n: b").contains("key"));
}

#[test]
fn merge_keys() {
    assert_eq!(one("x: &b {a: 1, b: 2}\nq: {<<: *b, a: 3}")["q"], json!({"a": 3, "b": 2}));
    assert_eq!(one("x: &b {a: 1}\nz: &c {a: 2, c: 3}\nq: {<<: [*b, *c]}")["q"], json!({"a": 1, "c": 3}));
    assert_eq!(one("q: {!!merge <<: {a: 1}}")["q"], json!({"a": 1}));
    assert_eq!(one("q: {'<<': {a: 1}}")["q"], json!({"<<": {"a": 1}}));
    assert!(problem("x: &b 1\nq: {<<: *b}").contains("merge"));
}

#[test]
fn places_are_those_of_the_text() {
    let documents = read("# c\n---\na: 1\n---\nspec:\n  é: {x: \"1\"}\n", &Bounds::default()).expect("well-formed");
    let node = documents[1].root.get("spec").and_then(|spec| spec.get("é")).and_then(|node| node.get("x"));
    let place = node.expect("there").place;
    assert_eq!((place.line, place.column), (6, 10));
    let Content::Map(entries) = &documents[1].root.content else { panic!("a map") };
    assert_eq!((entries.entries[0].key_place.line, entries.entries[0].key_place.column), (5, 1));
}

#[test]
fn encodings() {
    let little: Vec<u8> = "\u{feff}a: é".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "\u{feff}a: é".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [&little[..], &big[..], "\u{feff}a: é".as_bytes(), "a: é".as_bytes()] {
        assert_eq!(decode(bytes).expect("text"), "a: é");
    }
    assert!(decode(b"a: \xff").is_err());
    assert!(decode(b"a: \x07").is_err());
    assert_eq!(one("a: 1\r\nb: 2\r\n"), one("a: 1\rb: 2\r"));
}

#[test]
fn refusals() {
    assert_eq!(refused("%YAML 1.2\n---\na: b"), "SyntaxError");
    assert_eq!(one("%YAML 1.1\n---\na: b"), json!({"a": "b"}));
    assert_eq!(refused("a: \"\\/\""), "SyntaxError");
    assert_eq!(refused("a: \"\\uD834\\uDD1E\""), "SyntaxError");
    assert_eq!(refused("a: *b"), "SyntaxError");
    assert_eq!(refused("a: &a [*a]"), "SyntaxError");
    assert_eq!(refused("{a: b} {c: d}"), "SyntaxError");
    assert_eq!(one("a: b\n...\n{{{ anything"), json!({"a": "b"}));
    assert_eq!(one("a: [1, 2,]\nb:\tc"), json!({"a": [1, 2], "b": "c"}));
}

#[test]
fn tabs_do_not_indent() {
    assert_eq!(refused("a:\n \tb: c"), "SyntaxError");
    assert_eq!(refused("a: \"b\"\n\t\nc: d"), "SyntaxError");
    assert_eq!(refused("a: b\n\t\nc: d"), "SyntaxError");
    assert_eq!(one("a: b\n  \t\nc: d"), json!({"a": "b", "c": "d"}));
    assert_eq!(one("{\n\t\"a\": 1\n}"), json!({"a": 1}));
    assert_eq!(one("a: [\n  \tb,\n  \tc]\nd: |\n  e\n  \tf\n"), json!({"a": ["b", "c"], "d": "e\n\tf\n"}));
    assert_eq!(one("a:\tb\t# c\nd: 'e\n\t f'"), json!({"a": "b", "d": "e f"}));
}

#[test]
fn bounds_have_names() {
    let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
    assert_eq!(refused(&deep), "TooDeep");
    assert_eq!(refused(&"[".repeat(100_000)), "TooDeep");
    assert_eq!(refused(&"- ".repeat(100_000)), "TooDeep");
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        let before = format!("*a{}", i - 1);
        format!("{text}a{i}: &a{i} [{}]\n", [before.as_str(); 9].join(", "))
    });
    assert!(["TooManyNodes", "TooManyAliases"].contains(&refused(&bomb)));
    let nested = (0..90).fold("[x, x, x, x, x, x, x, x]".to_owned(), |text, i| format!("&a{i} [{text}]"));
    let bounds = Bounds { nodes: 1000, ..Bounds::default() };
    assert_eq!(read(&nested, &bounds).expect_err("each anchor keeps what is in it").reason, "TooManyNodes");
    let bounds = Bounds { documents: 3, nodes: 5, ..Bounds::default() };
    assert_eq!(read("a\n---\nb\n---\nc\n---\nd", &bounds).expect_err("four").reason, "TooManyDocuments");
    assert_eq!(read("[1, 2, 3, 4, 5]", &bounds).expect_err("six").reason, "TooManyNodes");
}

#[test]
fn documents() {
    let count = |text: &str| read(text, &Bounds::default()).expect(text).len();
    assert_eq!(count(""), 0);
    assert_eq!(count("# only\n---\n---\n# comments\n"), 0);
    assert_eq!(count("---\na: 1\n--- # x\nb: 2\n---\n...\n---\nc: |\n  ---\n  x\n"), 3);
}
