//! Regular expressions of matches: the syntax of the `regex` crate, anchored at both ends, bounded in size.
//!
//! *resolve* uses this to say which do not compile, *compile* to build them: what one accepts the other can build.

use std::{collections::BTreeSet, sync::Arc};

use regex::{Regex, RegexBuilder};

/// Bound on a compiled expression, in bytes: linear-time matching stays cheap, and a manifest cannot take the memory.
pub const MAX_SIZE: usize = 256 << 10;

/// The expression, made to match the whole value.
///
/// # Errors
/// Why it does not compile, on one line.
pub fn anchored(expression: &str) -> Result<Regex, String> {
    // Built as written first: `a)(b` must not become valid by what is put around it.
    build(expression)?;
    build(&format!("^(?:{expression})$"))
}

/// Builds an expression as it is, within the bound.
///
/// # Errors
/// Why it does not compile, on one line.
pub fn build(expression: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(expression).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build();
    built.map_err(|error| reason(&error))
}

/// Checks expressions, each once: those that compiled in the pass before are believed.
pub struct Expressions<'a> {
    before: &'a BTreeSet<Arc<str>>,
    good: BTreeSet<Arc<str>>,
}

impl<'a> Expressions<'a> {
    /// `before` are expressions that are known to compile.
    pub fn new(before: &'a BTreeSet<Arc<str>>) -> Expressions<'a> {
        Expressions { before, good: BTreeSet::new() }
    }

    /// # Errors
    /// Why it does not compile, on one line.
    pub fn check(&mut self, expression: &str) -> Result<(), String> {
        if self.good.contains(expression) {
            return Ok(());
        }
        let known = self.before.get(expression).cloned();
        let good = known.map_or_else(|| anchored(expression).map(|_| expression.into()), Ok)?;
        self.good.insert(good);
        Ok(())
    }

    /// Those that were asked for and compile.
    pub fn into_good(self) -> BTreeSet<Arc<str>> {
        self.good
    }
}

fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
        // The crate draws the expression with carets on several lines; the last one says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_the_whole_value() {
        let expression = anchored("/a|/b").unwrap();
        assert!(expression.is_match("/a") && expression.is_match("/b"));
        assert!(!expression.is_match("/ab") && !expression.is_match("x/b"));
    }

    #[test]
    fn errors_are_one_line() {
        assert_eq!(anchored("(").unwrap_err(), "unclosed group");
        assert_eq!(anchored("a)(b").unwrap_err(), "unopened group");
        assert!(anchored("(?=a)").unwrap_err().contains("look-around"));
        assert!(anchored("((a{100}){100}){100}").unwrap_err().contains("bytes"));
    }
}
