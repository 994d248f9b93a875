//! Reads the corpus: cases of a name, a rule, admissible outcomes and bytes.

use std::time::Duration;

/// One case.
pub struct Case {
    pub name: String,
    pub rule: String,
    /// Lines behind `>`.
    pub outcomes: Vec<String>,
    pub steps: Vec<Step>,
}

/// What is done on the wire, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// No more will be sent.
    End,
}

impl Case {
    /// All that is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        sent.collect::<Vec<_>>().concat()
    }
}

pub fn read(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, rule) = line.split_once(" | ").unwrap_or_else(|| panic!("a case begins with its name: {line}"));
        let mut case = Case { name: name.into(), rule: rule.into(), outcomes: Vec::new(), steps: Vec::new() };
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            match line.strip_prefix("> ") {
                Some(outcome) => case.outcomes.push(outcome.to_owned()),
                None => case.steps.extend(steps(line)),
            }
        }
        assert!(!case.outcomes.is_empty() && !case.steps.is_empty(), "{name}: outcomes and bytes are needed");
        cases.push(case);
    }
    cases
}

/// Resolves the notation that the corpus explains.
pub fn steps(line: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        let Some(escape) = rest.strip_prefix('\\') else {
            bytes.extend(character.to_string().as_bytes());
            rest = &rest[character.len_utf8()..];
            continue;
        };
        rest = &escape[1..];
        match escape.as_bytes()[0] {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b's' => bytes.push(b' '),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("\\x has two digits"));
                rest = &rest[2..];
            }
            b'{' => {
                let (word, after) = rest.split_once('}').expect("\\{ ends in }");
                rest = after;
                match word {
                    "wait" | "end" => {
                        steps.push(Step::Send(std::mem::take(&mut bytes)));
                        steps.push(if word == "end" { Step::End } else { Step::Wait(Duration::from_millis(50)) });
                    }
                    _ => bytes.extend(repeated(word)),
                }
            }
            other => panic!("\\{} is no escape: {line}", char::from(other)),
        }
    }
    steps.push(Step::Send(bytes));
    steps.retain(|step| *step != Step::Send(Vec::new()));
    steps
}

/// `N*text`.
fn repeated(word: &str) -> Vec<u8> {
    let (count, text) = word.split_once('*').expect("a repetition has a star");
    let Some(Step::Send(once)) = steps(text).into_iter().next() else { panic!("nothing to repeat in {word}") };
    once.repeat(count.parse().expect("a repetition has a count"))
}
