//! Hostnames of listeners and routes: which intersect, which is more specific.
//!
//! `None` stands for every name; `*.example.com` for every name with at least one label before `.example.com`.

use std::cmp::Reverse;

/// Is there a name that falls under both?
pub fn intersect(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (None, None) => a == b,
        (Some(suffix), None) => under(b, suffix),
        (None, Some(suffix)) => under(a, suffix),
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
    }
}

/// Is every name under `b` also under `a`?
pub fn covers(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(a), Some(b)) => match (a.strip_prefix('*'), b.strip_prefix('*')) {
            (None, _) => a == b,
            (Some(suffix), None) => under(b, suffix),
            (Some(suffix), Some(other)) => other.ends_with(suffix),
        },
    }
}

fn under(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

/// Sorts the most specific first: exact names, then wildcards from the one with the most labels (and characters), then
/// the one that takes everything. Names of equal rank sort alphabetically.
pub fn specificity(hostname: Option<&str>) -> (u8, Reverse<usize>, Reverse<usize>, &str) {
    match hostname {
        None => (2, Reverse(0), Reverse(0), ""),
        Some(name) if name.starts_with('*') => (1, Reverse(name.matches('.').count()), Reverse(name.len()), name),
        Some(name) => (0, Reverse(0), Reverse(name.len()), name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_take_names_below_them_and_not_themselves() {
        for (a, b, want) in [
            (Some("a.example.com"), Some("a.example.com"), true),
            (Some("*.example.com"), Some("a.example.com"), true),
            (Some("*.example.com"), Some("b.a.example.com"), true),
            (Some("*.example.com"), Some("example.com"), false),
            (Some("*.example.com"), Some("aexample.com"), false),
            (Some("*.example.com"), Some("*.a.example.com"), true),
            (Some("*.example.com"), Some("*.example.org"), false),
            (None, Some("example.org"), true),
            (None, None, true),
        ] {
            assert_eq!(intersect(a, b), want, "{a:?} {b:?}");
            assert_eq!(intersect(b, a), want, "{b:?} {a:?}");
        }
        assert!(covers(Some("*.example.com"), Some("*.a.example.com")));
        assert!(!covers(Some("*.a.example.com"), Some("*.example.com")));
        assert!(!covers(Some("*.a.example.com"), None));
    }

    #[test]
    fn exact_before_wildcard_before_none() {
        let mut names =
            [None, Some("*.example.com"), Some("example.com"), Some("*.a.example.com"), Some("a.example.com")];
        names.sort_by_key(|name| specificity(*name));
        let want = [Some("a.example.com"), Some("example.com"), Some("*.a.example.com"), Some("*.example.com"), None];
        assert_eq!(names, want);
    }
}
