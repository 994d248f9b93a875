//! Regular expressions: those of matches as *resolve* checked them, and those that origins with stars stand for.

use regex::Regex;

pub(super) use crate::plan::expression::anchored;
use crate::plan::expression::build;

/// Builds what an origin with stars matches: each star takes any characters of a host.
pub(super) fn origin(origin: &str) -> Result<Regex, String> {
    let parts: Vec<String> = origin.split('*').map(regex::escape).collect();
    build(&format!(r"\A{}\z", parts.join("[^/]*")))
}
