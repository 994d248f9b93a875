//! Regular expressions of matches: the syntax of the `regex` crate, anchored at both ends, bounded in size.
//!
//! *resolve* uses this to say which do not compile, *compile* to build them: what one accepts the other can build.

use regex::{Regex, RegexBuilder};

/// Bound on a compiled expression, in bytes: linear-time matching stays cheap, and a manifest cannot take the memory.
pub const MAX_SIZE: usize = 1 << 20;

/// The expression, made to match the whole value.
///
/// # Errors
/// Why it does not compile, on one line.
pub fn anchored(expression: &str) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build();
    // Built as written first: `a)(b` must not become valid by what is put around it.
    build(expression).and_then(|_| build(&format!("^(?:{expression})$"))).map_err(|error| reason(&error))
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
