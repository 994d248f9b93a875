//! Redirects and rewrites: new paths by the prefix that matched, and the `Location` of a redirect.

use http::{HeaderValue, header};

use super::{filter::Place, forward::Head};
use crate::snapshot::{PathModifier, Redirect};

/// The path that `modifier` makes of the canonical `path`, of which a rule's prefix took the first `prefix` bytes.
pub fn modified(path: &str, prefix: usize, modifier: &PathModifier) -> String {
    let new = match modifier {
        PathModifier::Full(full) => full.to_string(),
        PathModifier::Prefix(replacement) => {
            let rest = &path[prefix..];
            // A replacement of `/` must not double the slash that the rest begins with.
            replacement.trim_end_matches('/').to_string() + rest
        }
    };
    if new.starts_with('/') { new } else { format!("/{new}") }
}

/// The `Location` of a redirect; none where the configured parts make no URI.
pub fn location(redirect: &Redirect, head: &Head, place: &Place) -> Option<HeaderValue> {
    let own_scheme = if place.tls { "https" } else { "http" };
    let scheme = redirect.scheme.as_deref().unwrap_or(own_scheme);
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = redirect.hostname.as_deref().unwrap_or_else(|| without_port(host));
    let well_known = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let implied = if redirect.scheme.is_some() { well_known.unwrap_or(place.port) } else { place.port };
    let port = redirect.port.unwrap_or(implied);
    let path = match &redirect.path {
        Some(modifier) => modified(head.uri.path(), place.prefix, modifier),
        None => head.uri.path().to_string(),
    };
    let mut location = format!("{scheme}://{name}");
    if Some(port) != well_known {
        location += &format!(":{port}");
    }
    location += &path;
    if let Some(query) = head.uri.query() {
        location = location + "?" + query;
    }
    HeaderValue::try_from(location).ok()
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn prefixes() {
        // The table of the API: HTTPPathModifier.replacePrefixMatch.
        for (path, prefix, replacement, want) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "", "/xyz", "/xyz/bar"),
            ("/", "", "/xyz", "/xyz/"),
        ] {
            assert_eq!(modified(path, prefix.len(), &PathModifier::Prefix(replacement.into())), want, "{path}");
        }
        assert_eq!(modified("/a/b", 2, &PathModifier::Full("/c".into())), "/c");
        assert_eq!(modified("/a/b", 2, &PathModifier::Full("".into())), "/");
    }

    #[test]
    fn ports() {
        let of = |tls, listener, scheme: Option<&str>, port| {
            let redirect = Redirect {
                scheme: scheme.map(Into::into),
                hostname: None,
                path: None,
                port,
                status: StatusCode::FOUND,
            };
            let head = Head::new(&http::Method::GET, "/p?q", &[("host", "a.example:99")]);
            let place = Place { prefix: 0, tls, port: listener };
            location(&redirect, &head, &place).expect("a location").to_str().expect("ASCII").to_string()
        };
        assert_eq!(of(false, 80, None, None), "http://a.example/p?q");
        assert_eq!(of(false, 8080, None, None), "http://a.example:8080/p?q");
        assert_eq!(of(false, 8080, None, Some(80)), "http://a.example/p?q");
        assert_eq!(of(false, 80, None, Some(8080)), "http://a.example:8080/p?q");
        assert_eq!(of(false, 8080, Some("https"), None), "https://a.example/p?q");
        assert_eq!(of(false, 80, Some("https"), Some(8443)), "https://a.example:8443/p?q");
        assert_eq!(of(true, 443, None, None), "https://a.example/p?q");
        assert_eq!(of(true, 8443, Some("http"), None), "http://a.example/p?q");
        assert_eq!(of(true, 443, None, Some(80)), "https://a.example:80/p?q");
    }
}
