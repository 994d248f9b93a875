//! Regular expressions: those of matches as *resolve* checked them, and those that origins with stars stand for.

use regex::Regex;

pub(super) use crate::plan::expression::anchored;
use crate::plan::expression::build;

/// What a star of an origin takes: any characters of a host, or an IPv6 address; never of a port, since an origin without
/// one means the port of its scheme.
const ANY_HOST: &str = r"(?:[^/:@\[\]]*|\[[0-9a-f:.]+\])";

/// Builds what an origin with stars matches.
pub(super) fn origin(origin: &str) -> Result<Regex, String> {
    let parts: Vec<String> = origin.split('*').map(regex::escape).collect();
    build(&format!(r"\A{}\z", parts.join(ANY_HOST)))
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
