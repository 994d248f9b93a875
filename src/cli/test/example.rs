//! Which text matches a regular expression? A short one, made from its syntax.

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::plan::expression::anchored;

/// An example is at most this long, in bytes.
const MAX_LENGTH: usize = 1024;
/// Parts of an expression that are looked at for one example.
const MAX_STEPS: usize = 10_000;
/// Characters that stand for a class that has them, the first one first.
const PREFERRED: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_./~:@,;=+*!$&'() ";

/// A few texts that the whole of `expression` matches, the shortest form first; none where none was found.
pub fn examples(expression: &str) -> Vec<String> {
    let (Ok(hir), Ok(check)) = (regex_syntax::parse(expression), anchored(expression)) else { return Vec::new() };
    let written = [false, true].into_iter().filter_map(|long| {
        let mut example = Example { long, steps: 0, text: String::new() };
        example.write(&hir)?;
        Some(example.text)
    });
    // Paths start with a slash, which an expression such as `.*` leaves open.
    let mut examples: Vec<String> = written.flat_map(|text| [format!("/{text}"), text]).collect();
    examples.retain(|text| check.is_match(text));
    examples.dedup();
    examples.sort_by_key(String::len);
    examples
}

struct Example {
    /// What may be left out is put in once, and of alternatives the longest is taken.
    long: bool,
    steps: usize,
    text: String,
}

impl Example {
    /// Appends what `hir` matches. None where that is too long, or nothing is known that does.
    fn write(&mut self, hir: &Hir) -> Option<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.text.len() > MAX_LENGTH {
            return None;
        }
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Some(()),
            HirKind::Literal(literal) => {
                self.text.push_str(std::str::from_utf8(&literal.0).ok()?);
                Some(())
            }
            HirKind::Class(class) => {
                self.text.push(member(class)?);
                Some(())
            }
            HirKind::Capture(capture) => self.write(&capture.sub),
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.write(part)),
            HirKind::Repetition(repetition) => {
                let wanted = u32::from(self.long).min(repetition.max.unwrap_or(u32::MAX));
                (0..repetition.min.max(wanted)).try_for_each(|_| self.write(&repetition.sub))
            }
            HirKind::Alternation(choices) => self.write_one_of(choices),
        }
    }

    fn write_one_of(&mut self, choices: &[Hir]) -> Option<()> {
        let start = self.text.len();
        let mut best: Option<String> = None;
        for choice in choices {
            let written = self.write(choice);
            let text = self.text.split_off(start);
            let better = |best: &String| if self.long { text.len() > best.len() } else { text.len() < best.len() };
            if written.is_some() && best.as_ref().is_none_or(better) {
                best = Some(text);
            }
        }
        self.text.push_str(&best?);
        Some(())
    }
}

/// A character of the class: a letter where it has one.
fn member(class: &Class) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) => class.iter().map(|range| (range.start().into(), range.end().into())).collect(),
    };
    let has = |c: &char| ranges.iter().any(|(start, end)| (start..=end).contains(&c));
    PREFERRED.chars().find(has).or_else(|| ranges.first().map(|(start, _)| *start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_short_and_match() {
        for (expression, want) in [
            ("/v[0-9]+", "/v0"),
            ("/users/[^/]+/(posts|likes)", "/users/a/posts"),
            ("(?i)/ABC", "/abc"),
            ("/(a{3}|bb)?", "/"),
            ("^/x$", "/x"),
            (r"/\d{4}-\d{2}", "/0000-00"),
            (r"[^a-z]", "0"),
            ("v1.*", "v1"),
            ("", ""),
        ] {
            assert_eq!(examples(expression).first().map(String::as_str), Some(want), "{expression}");
        }
        assert!(examples(".*").contains(&"/".to_owned()));
        assert!(examples("(/a)?(/b)?").contains(&"/a/b".to_owned()));
    }

    #[test]
    fn what_is_too_much_gives_none() {
        for expression in ["a{2000}", "(", r"a\bb", "[a&&b]", "((a{20}){20}){20}"] {
            assert_eq!(examples(expression), [""; 0], "{expression}");
        }
    }
}
