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

/// What a star of an origin takes: any characters of a host, or an IPv6 address; never of a port, since an origin without
/// one means the port of its scheme.
const ANY_HOST: &str = r"(?:[^/:@\[\]]*|\[[0-9a-f:.]+\])";

/// Builds what an origin with stars matches.
pub(super) fn origin(origin: &str) -> Result<Regex, String> {
    let parts: Vec<String> = origin.split('*').map(regex::escape).collect();
    build(&format!(r"\A{}\z", parts.join(ANY_HOST)))
}

fn build(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).dfa_size_limit(SIZE_LIMIT).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes when compiled"),
        error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn the_star_of_an_origin_takes_no_port() {
        for (pattern, taken, refused) in [
            (
                "https://*",
                &["https://a.b", "https://[::1]"][..],
                &["https://a.b:8443", "https://u@a", "http://a.b"][..],
            ),
            (
                "https://*.b.c",
                &["https://a.b.c", "https://x.a.b.c"],
                &["https://b.c", "https://x:1.b.c", "https://x/.b.c"],
            ),
            ("http://*:8080", &["http://a:8080", "http://[::1]:8080"], &["http://a", "http://a:80"]),
        ] {
            let expression = origin(pattern).expect("valid");
            assert!(taken.iter().all(|origin| expression.is_match(origin)), "{pattern}");
            assert!(!refused.iter().any(|origin| expression.is_match(origin)), "{pattern}");
        }
    }
}
