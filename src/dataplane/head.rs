//! The checks of a request's head that hyper leaves to the gateway, and its canonical host and target.

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version, header,
    request::Parts,
    uri::{self, PathAndQuery},
};

use super::{Settings, outcome::Reason};
use crate::snapshot::path;

/// The host that a request is for: the target's authority, or Host (RFC 9112, 3.2).
pub struct Authority {
    /// As it is forwarded.
    value: HeaderValue,
    /// Where `value` has capitals or a dot at the end.
    folded: Option<Box<str>>,
    name_length: usize,
    /// It is not the value of the one Host that the head has.
    differs_from_host: bool,
}

impl Authority {
    /// In lower case, without a port.
    pub fn name(&self) -> &str {
        self.folded.as_deref().unwrap_or_else(|| &self.text()[..self.name_length])
    }

    fn text(&self) -> &str {
        self.value.to_str().expect("checked when it was parsed")
    }

    fn parse(value: HeaderValue) -> Result<Authority, Reason> {
        let text = value.to_str().map_err(|_| Reason::BadHost)?;
        let name_length = host_length(text).ok_or(Reason::BadHost)?;
        let name = &text[..name_length];
        let plain = name.strip_suffix('.').unwrap_or(name);
        if plain.is_empty() || name_length > 255 {
            return Err(Reason::BadHost);
        }
        let fold = plain.len() < name.len() || name.bytes().any(|byte| byte.is_ascii_uppercase());
        let folded = fold.then(|| plain.to_ascii_lowercase().into());
        // An empty port says no more than none (RFC 3986, 6.2.3).
        let (value, differs_from_host) = match text.strip_suffix(':') {
            Some(text) => (HeaderValue::from_str(text).map_err(|_| Reason::BadHost)?, true),
            None => (value, false),
        };
        Ok(Authority { value, folded, name_length, differs_from_host })
    }
}

/// The length of the name in `uri-host [ ":" port ]`; none where it is not well-formed. Stricter than RFC 3986: of its
/// characters only those that stand in the names of hosts.
fn host_length(text: &str) -> Option<usize> {
    let (length, rest) = match text.strip_prefix('[') {
        Some(literal) => {
            let end = literal.find(']')?;
            literal[..end].parse::<std::net::Ipv6Addr>().ok()?;
            (end + 2, &literal[end + 1..])
        }
        None => {
            let length = memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len());
            let mut before = b'.';
            for byte in text[..length].bytes() {
                let valid = match byte {
                    // No empty label.
                    b'.' => before != b'.',
                    byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'),
                };
                if !valid {
                    return None;
                }
                before = byte;
            }
            (length, &text[length..])
        }
    };
    let valid_port = match rest.strip_prefix(':') {
        Some(port) => port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    };
    valid_port.then_some(length)
}

/// Checks the head and brings it into the form in which it is matched and forwarded: `uri` in origin-form with the
/// canonical path, exactly one Host. `OPTIONS *` keeps its asterisk.
pub fn check(parts: &mut Parts, settings: &Settings) -> Result<Authority, Reason> {
    check_framing(parts)?;
    if parts.method == Method::CONNECT {
        return Err(Reason::MethodNotServed);
    }
    let authority = authority(parts)?;
    check_length(parts, settings)?;
    parts.uri = target(parts, settings.keep_repeated_slashes)?;
    if authority.differs_from_host {
        parts.headers.insert(header::HOST, authority.value.clone());
    }
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    Ok(authority)
}

/// hyper refuses what is plainly wrong; what it lets through is ambiguous (RFC 9112, 6.1; RFC 9113, 8.1.1 and 8.2.1).
fn check_framing(parts: &Parts) -> Result<(), Reason> {
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        (Some(coding), None) if is_foreign_coding(coding) => return Err(Reason::CodingNotServed),
        _ => return Err(Reason::BadFraming),
    }
    if parts.version != Version::HTTP_2 {
        return Ok(());
    }
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).into_iter();
    let malformed = |length: &HeaderValue| length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit);
    if lengths.next().is_some_and(malformed) || lengths.next().is_some() {
        return Err(Reason::BadFraming);
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| blank(value.as_bytes().first()) || blank(value.as_bytes().last());
    if parts.headers.values().any(padded) {
        return Err(Reason::BadFields);
    }
    Ok(())
}

/// A well-formed list with a coding besides chunked, which comes last and once: understood, but not served.
fn is_foreign_coding(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let mut codings = text.rsplit(',').map(str::trim);
    let chunked = |coding: &str| coding.eq_ignore_ascii_case("chunked");
    codings.next().is_some_and(chunked)
        && codings.clone().next().is_some()
        && codings
            .all(|coding| !chunked(coding) && !coding.is_empty() && coding.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn authority(parts: &Parts) -> Result<Authority, Reason> {
    let mut hosts = parts.headers.get_all(header::HOST).into_iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Reason::BadHost);
    }
    let target = parts.uri.authority().map(uri::Authority::as_str);
    let target = match (target, host) {
        (None, None) => return Err(Reason::BadHost),
        (None, Some(host)) => return Authority::parse(host.clone()),
        // RFC 9113, 8.3.1: a Host that differs from :authority makes the request malformed.
        (Some(target), Some(host)) if parts.version == Version::HTTP_2 && host != target => {
            return Err(Reason::BadHost);
        }
        // RFC 9112, 3.2.2: Host is there, and the target's authority is taken instead.
        (Some(_), None) if parts.version != Version::HTTP_2 => return Err(Reason::BadHost),
        (Some(target), host) => {
            if let Some(host) = host {
                Authority::parse(host.clone())?;
            }
            HeaderValue::from_str(target).map_err(|_| Reason::BadHost)?
        }
    };
    Ok(Authority { differs_from_host: true, ..Authority::parse(target)? })
}

fn check_length(parts: &Parts, settings: &Settings) -> Result<(), Reason> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = parts.method.as_str().len() + target + "  HTTP/1.1\r\n".len();
    if line > settings.max_request_line { Err(Reason::TargetTooLong) } else { Ok(()) }
}

fn target(parts: &Parts, keep_slashes: bool) -> Result<Uri, Reason> {
    let uri = &parts.uri;
    if uri.path() == "*" && parts.method == Method::OPTIONS {
        return Ok(Uri::from_static("*"));
    }
    let web = |scheme: &uri::Scheme| *scheme == uri::Scheme::HTTP || *scheme == uri::Scheme::HTTPS;
    if !uri.scheme().is_none_or(web) || uri.scheme().is_none() && uri.authority().is_some() {
        return Err(Reason::BadTarget);
    }
    let (path, query) = (uri.path(), uri.query());
    if query.is_some_and(|query| query.bytes().any(|byte| byte <= b' ' || byte >= 0x7f)) {
        return Err(Reason::BadTarget);
    }
    let canonical = path::canonical(path, keep_slashes).map_err(|_| Reason::BadTarget)?;
    let origin_form = uri.authority().is_none();
    match (&canonical, uri.path_and_query()) {
        (std::borrow::Cow::Borrowed(_), Some(_)) if origin_form => Ok(uri.clone()),
        (std::borrow::Cow::Borrowed(_), Some(target)) if target.as_str().starts_with('/') => {
            Ok(Uri::from(target.clone()))
        }
        _ => joined(&canonical, query).ok_or(Reason::BadTarget),
    }
}

/// `path?query` in origin-form; none where that is no target.
pub fn joined(path: &str, query: Option<&str>) -> Option<Uri> {
    let target = match query {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    target.ok().filter(|target| target.as_str().starts_with('/')).map(Uri::from)
}

/// Crumbs of HTTP/2 are one field in HTTP/1 (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("values joined are a value");
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("hyper would take it").into_parts().0
    }

    fn checked(version: Version, target: &str, fields: &[(&str, &str)]) -> Result<(String, String, String), Reason> {
        let mut parts = parts(version, "GET", target, fields);
        let authority = check(&mut parts, &Settings::default())?;
        let hosts: Vec<_> = parts.headers.get_all("host").iter().map(|host| host.to_str().expect("ASCII")).collect();
        Ok((authority.name().into(), hosts.join("|"), parts.uri.to_string()))
    }

    #[test]
    fn hosts() {
        let of =
            |host: &str| checked(Version::HTTP_11, "/", &[("host", host)]).map(|(name, value, _)| name + " " + &value);
        for (host, want) in [
            ("a.example", "a.example a.example"),
            ("A.Example:8080", "a.example A.Example:8080"),
            ("a.example.", "a.example a.example."),
            ("a.example:", "a.example a.example"),
            ("192.0.2.1:1", "192.0.2.1 192.0.2.1:1"),
            ("[::1]:80", "[::1] [::1]:80"),
            ("[::1]", "[::1] [::1]"),
            ("a_b~c-d", "a_b~c-d a_b~c-d"),
        ] {
            assert_eq!(of(host).as_deref(), Ok(want), "{host}");
        }
        for host in [
            "", " ", ":80", ".", "u@a", "a b", "a,b", "a/b", "a:x", "a:99999", "a:1:2", "a:-1", "[::1", "[::1]x",
            "[x]", "a..b", ".a", "a%20", "::1", "a:80:",
        ] {
            assert_eq!(of(host), Err(Reason::BadHost), "{host}");
        }
    }

    #[test]
    fn one_host() {
        let h1 = |target, fields: &[(&str, &str)]| checked(Version::HTTP_11, target, fields);
        assert_eq!(h1("/", &[]), Err(Reason::BadHost));
        assert_eq!(h1("/", &[("host", "a"), ("host", "a")]), Err(Reason::BadHost));
        assert_eq!(h1("http://a/x?y", &[]), Err(Reason::BadHost));
        assert_eq!(h1("http://a/x?y", &[("host", "u@b")]), Err(Reason::BadHost));
        assert_eq!(h1("http://u@a/", &[("host", "a")]), Err(Reason::BadHost));
        let want = ("a".into(), "a:80".into(), "/x?y".into());
        assert_eq!(h1("http://a:80/x?y", &[("host", "b")]), Ok(want));
        let want = ("a".into(), "a".into(), "/?y".into());
        assert_eq!(h1("http://a?y", &[("host", "a")]), Ok(want));
        let h2 = |target, fields: &[(&str, &str)]| checked(Version::HTTP_2, target, fields);
        assert_eq!(h2("http://a/", &[("host", "b")]), Err(Reason::BadHost));
        assert_eq!(h2("http://u@a/", &[]), Err(Reason::BadHost));
        assert_eq!(h2("/", &[]), Err(Reason::BadHost));
        assert!(h2("http://a/", &[("host", "a")]).is_ok() && h2("/", &[("host", "a")]).is_ok());
    }

    #[test]
    fn targets() {
        let of = |target| checked(Version::HTTP_11, target, &[("host", "a")]).map(|(_, _, target)| target);
        for (target, want) in [
            ("/a?b=%zz&c=\\", "/a?b=%zz&c=\\"),
            ("/a?", "/a?"),
            ("/%61/../b?c=../d", "/b?c=../d"),
            ("//x//y", "/x/y"),
            ("http://a/%7Eb/", "/~b/"),
        ] {
            assert_eq!(of(target).as_deref(), Ok(want), "{target}");
        }
        for target in ["*", "/a\\b", "/\u{e9}", "/?\u{e9}", "/..", "/%", "a:80", "ftp://a/"] {
            assert_eq!(of(target), Err(Reason::BadTarget), "{target}");
        }
        let long = "/".to_string() + &"a".repeat(8 << 10);
        assert_eq!(of(&long), Err(Reason::TargetTooLong));
    }

    #[test]
    fn framing() {
        let h1 = |fields: &[(&str, &str)]| check_framing(&parts(Version::HTTP_11, "POST", "/", fields));
        assert_eq!(h1(&[("transfer-encoding", "Chunked")]), Ok(()));
        for coding in ["gzip, chunked", "deflate,chunked"] {
            assert_eq!(h1(&[("transfer-encoding", coding)]), Err(Reason::CodingNotServed), "{coding}");
        }
        for coding in ["chunked, chunked", ", chunked", "chunked,", "xchunked", "chunked;q=1", "\u{b}chunked", "gzip"] {
            if let Ok(value) = HeaderValue::from_str(coding) {
                let mut parts = parts(Version::HTTP_11, "POST", "/", &[]);
                parts.headers.insert(header::TRANSFER_ENCODING, value);
                assert_eq!(check_framing(&parts), Err(Reason::BadFraming), "{coding}");
            }
        }
        let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(h1(&twice), Err(Reason::BadFraming));
        let h2 = |fields: &[(&str, &str)]| check_framing(&parts(Version::HTTP_2, "POST", "http://a/", fields));
        assert_eq!(h2(&[("content-length", "3")]), Ok(()));
        assert_eq!(h2(&[("content-length", "3"), ("content-length", "3")]), Err(Reason::BadFraming));
        assert_eq!(h2(&[("content-length", "+3")]), Err(Reason::BadFraming));
        assert_eq!(h2(&[("x", " y")]), Err(Reason::BadFields));
    }

    #[test]
    fn cookies() {
        let mut parts = parts(Version::HTTP_2, "GET", "http://a/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert!(check(&mut parts, &Settings::default()).is_ok());
        assert_eq!(parts.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
