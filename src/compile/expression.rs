//! Regular expressions, bounded in size.

use regex::{Regex, RegexBuilder};

/// Bytes that one expression may take, and its lazily built automaton.
const SIZE_LIMIT: usize = 256 << 10;

/// Builds `pattern` so that it matches a whole value only.
///
/// # Errors
/// Why it cannot be built.
pub(super) fn anchored(pattern: &str) -> Result<Regex, String> {
    // First by itself: `a)|(b` is balanced only within the group.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

/// Builds what an origin with stars matches: each star takes any characters of a host.
pub(super) fn origin(origin: &str) -> Result<Regex, String> {
    let parts: Vec<String> = origin.split('*').map(regex::escape).collect();
    build(&format!(r"\A{}\z", parts.join("[^/]*")))
}

fn build(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes when compiled"),
        error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })
}
