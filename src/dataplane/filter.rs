//! The filters of a rule and of a backendRef, in the order written.
//!
//! Filters see a request after its forwarding fields were set, so what a filter sets or removes there is what the
//! backend gets. Fields that frame the message or belong to one connection are not theirs; `Host` can only be set.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::{
    answer,
    body::Body,
    cors::Grant,
    field,
    forward::Head,
    head,
    mirror::Mirror,
    outcome::Reason,
    redirect::{location, modified},
};
use crate::snapshot::{Filter, Headers, Redirect};

/// Where a request came in, as far as filters ask.
pub struct Place {
    /// Length of the prefix that matched.
    pub prefix: usize,
    pub tls: bool,
    /// The listener's port.
    pub port: u16,
}

/// What filters leave behind for later.
#[derive(Default)]
pub struct Effects<'s> {
    pub cors: Option<Grant<'s>>,
    pub mirrors: Vec<Mirror>,
}

/// Applies the filters to a request. Gives an answer where one of them answers by itself.
///
/// # Errors
/// [`Reason::RuleBroken`]: a rewrite or redirect that makes no valid target.
pub fn on_request<'s>(
    filters: &'s [Filter],
    head: &mut Head,
    place: &Place,
    effects: &mut Effects<'s>,
) -> Result<Option<Response<Body>>, Reason> {
    for filter in filters {
        match filter {
            Filter::Cors(cors) => {
                effects.cors = Grant::new(cors, head);
                if let Some(response) = effects.cors.as_ref().and_then(|grant| grant.preflight(head)) {
                    // Its fields are in it already.
                    effects.cors = None;
                    return Ok(Some(response));
                }
            }
            Filter::Mirror { backend: Some(backend), numerator, denominator } => {
                if fastrand::u32(..(*denominator).max(1)) < *numerator {
                    effects.mirrors.push(Mirror { backend: backend.clone(), head: head.clone() });
                }
            }
            Filter::Mirror { backend: None, .. } | Filter::ResponseHeaders(_) => {}
            Filter::Redirect(redirect) => return redirected(redirect, head, place).map(Some),
            Filter::RequestHeaders(headers) => modify(&mut head.headers, headers),
            Filter::Rewrite { hostname, path } => {
                if let Some(hostname) = hostname {
                    head.headers.insert(header::HOST, hostname.clone());
                }
                if let Some(modifier) = path {
                    let path = modified(head.uri.path(), place.prefix, modifier);
                    head.uri = head::joined(&path, head.uri.query()).ok_or(Reason::RuleBroken)?;
                }
            }
        }
    }
    Ok(None)
}

/// Applies the filters to an answer.
pub fn on_answer(filters: &[Filter], headers: &mut HeaderMap) {
    for filter in filters {
        if let Filter::ResponseHeaders(modification) = filter {
            modify(headers, modification);
        }
    }
}

fn redirected(redirect: &Redirect, head: &Head, place: &Place) -> Result<Response<Body>, Reason> {
    let location = location(redirect, head, place).ok_or(Reason::RuleBroken)?;
    let mut response = answer::bare(redirect.status);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn modify(headers: &mut HeaderMap, modification: &Headers) {
    for (name, value) in modification.set.iter().filter(|(name, _)| !field::is_protected(name)) {
        headers.insert(name, value.clone());
    }
    let is_free = |name: &HeaderName| !field::is_protected(name) && *name != header::HOST;
    for (name, value) in modification.add.iter().filter(|(name, _)| is_free(name)) {
        add(headers, name, value);
    }
    for name in modification.remove.iter().filter(|name| is_free(name)) {
        headers.remove(name);
    }
}

/// Appends to the list that the field holds already; `Set-Cookie` is no list (RFC 9110, 5.3).
fn add(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    if *name == header::SET_COOKIE || !headers.contains_key(name) {
        headers.append(name, value.clone());
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(name).iter().chain([value]).map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&parts.join(&b","[..])).expect("values joined with commas are a value");
    headers.insert(name, joined);
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::snapshot::PathModifier;

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    #[test]
    fn modification() {
        let modification = Headers {
            set: [pair("x-set", "new"), pair("content-length", "9"), pair("host", "b")].into(),
            add: [pair("x-add", "3"), pair("x-first", "1"), pair("set-cookie", "b"), pair("host", "c")].into(),
            remove: ["x-gone", "host", "transfer-encoding"].map(HeaderName::from_static).into(),
        };
        let fields = [
            ("host", "a"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("x-set", "1"),
            ("x-set", "2"),
            ("x-add", "1"),
            ("x-add", "2"),
            ("set-cookie", "a"),
            ("x-gone", "1"),
        ];
        let mut headers = Head::new(&Method::GET, "/", &fields).headers;
        modify(&mut headers, &modification);
        let all =
            |name: &str| headers.get_all(name).iter().map(|value| value.to_str().expect("ASCII")).collect::<Vec<_>>();
        assert_eq!(all("host"), ["b"]);
        assert_eq!(all("content-length"), ["1"]);
        assert_eq!(all("transfer-encoding"), ["chunked"]);
        assert_eq!(all("x-set"), ["new"]);
        assert_eq!(all("x-add"), ["1,2,3"]);
        assert_eq!(all("x-first"), ["1"]);
        assert_eq!(all("set-cookie"), ["a", "b"]);
        assert!(all("x-gone").is_empty());
    }

    #[test]
    fn in_the_order_written() {
        let rewrite = Filter::Rewrite {
            hostname: Some(HeaderValue::from_static("inner")),
            path: Some(PathModifier::Prefix("/v2".into())),
        };
        let mirror = || Filter::Mirror { backend: Some("ns/s:80".into()), numerator: 1, denominator: 1 };
        let never = Filter::Mirror { backend: Some("ns/s:80".into()), numerator: 0, denominator: 1 };
        let filters = [mirror(), rewrite, mirror(), never];
        let mut head = Head::new(&Method::GET, "/v1/x?y", &[("host", "outer")]);
        let mut effects = Effects::default();
        let place = Place { prefix: 3, tls: false, port: 80 };
        assert!(matches!(on_request(&filters, &mut head, &place, &mut effects), Ok(None)));
        assert_eq!(
            (head.uri.to_string().as_str(), &head.headers["host"]),
            ("/v2/x?y", &HeaderValue::from_static("inner"))
        );
        let mirrored: Vec<_> = effects.mirrors.iter().map(|mirror| mirror.head.uri.to_string()).collect();
        assert_eq!(mirrored, ["/v1/x?y", "/v2/x?y"]);
    }
}
