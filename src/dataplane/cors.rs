//! CORS (Fetch standard, section 3.3): preflights answered, answers given their fields.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{answer, body::Body, forward::Head};
use crate::snapshot::{Cors, Names, Origins};

/// What a policy says to the origin of one request.
pub struct Grant<'s> {
    cors: &'s Cors,
    /// The value of `Access-Control-Allow-Origin`, for an origin that is let in.
    origin: Option<HeaderValue>,
}

impl<'s> Grant<'s> {
    /// None for a request without an origin, which CORS has nothing to say to.
    pub fn new(cors: &'s Cors, head: &Head) -> Option<Grant<'s>> {
        let origin = head.headers.get(header::ORIGIN)?;
        let allowed = match &cors.origins {
            Origins::All if cors.allow_credentials => Some(origin.clone()),
            Origins::All => Some(HeaderValue::from_static("*")),
            Origins::Some { .. } => is_let_in(&cors.origins, origin).then(|| origin.clone()),
        };
        Some(Grant { cors, origin: allowed })
    }

    /// The answer to a preflight; none for any other request.
    pub fn preflight(&self, head: &Head) -> Option<Response<Body>> {
        let method = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let method = method.filter(|_| head.method == Method::OPTIONS)?;
        let mut response = answer::bare(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        self.apply(headers);
        if self.origin.is_some() {
            let wanted = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
            self.list(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &self.cors.allow_methods, Some(method));
            self.list(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, &self.cors.allow_headers, wanted);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.cors.max_age.clone());
        }
        Some(response)
    }

    /// Sets the fields of an answer; what the backend says about CORS gives way to the policy.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            headers.remove(name);
        }
        if self.origin.as_ref().is_none_or(|origin| origin != "*") {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.cors.allow_credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        self.list(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.cors.expose_headers, None);
    }

    /// A star is no wildcard for requests with credentials: what was asked for is repeated in its place.
    fn list(&self, headers: &mut HeaderMap, name: HeaderName, names: &Names, wanted: Option<&HeaderValue>) {
        let value = match names {
            Names::None => None,
            Names::Some(value) => Some(value.clone()),
            Names::All if self.cors.allow_credentials => wanted.cloned(),
            Names::All => Some(HeaderValue::from_static("*")),
        };
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// An origin without a port has the well-known one of its scheme.
fn is_let_in(origins: &Origins, origin: &HeaderValue) -> bool {
    let Origins::Some { exact, patterns } = origins else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let origin = origin.to_ascii_lowercase();
    let other = match origin.split_once("://") {
        Some(("http", rest)) => with_or_without(rest, ":80").map(|rest| format!("http://{rest}")),
        Some(("https", rest)) => with_or_without(rest, ":443").map(|rest| format!("https://{rest}")),
        _ => None,
    };
    let listed = |origin: &str| {
        exact.iter().any(|known| **known == *origin) || patterns.iter().any(|pattern| pattern.is_match(origin))
    };
    listed(&origin) || other.is_some_and(|other| listed(&other))
}

/// The same host and port in the other spelling; none where the port is another one.
fn with_or_without(host: &str, port: &str) -> Option<String> {
    match host.strip_suffix(port) {
        Some(bare) => Some(bare.to_string()),
        None if host.rsplit(']').next().is_some_and(|rest| !rest.contains(':')) => Some(host.to_string() + port),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn policy(origins: Origins, allow_credentials: bool, names: fn() -> Names) -> Cors {
        Cors {
            origins,
            allow_credentials,
            allow_methods: names(),
            allow_headers: names(),
            expose_headers: names(),
            max_age: HeaderValue::from_static("5"),
        }
    }

    fn some() -> Origins {
        let pattern = Regex::new(r"^https://.*\.bar\.com$").expect("valid");
        Origins::Some { exact: ["https://www.foo.com".into()].into(), patterns: [pattern].into() }
    }

    fn preflight(cors: &Cors, origin: &str) -> Vec<String> {
        let fields = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-1, x-2"),
        ];
        let head = Head::new(&Method::OPTIONS, "/", &fields);
        let response = Grant::new(cors, &head).and_then(|grant| grant.preflight(&head)).expect("a preflight");
        let field = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("ASCII"));
        let mut fields: Vec<_> = response.headers().iter().map(field).collect();
        fields.sort_unstable();
        fields
    }

    #[test]
    fn preflights() {
        let cors = policy(some(), true, || Names::Some(HeaderValue::from_static("GET, OPTIONS")));
        let all = |origin: &str| {
            vec![
                "access-control-allow-credentials: true".to_string(),
                "access-control-allow-headers: GET, OPTIONS".into(),
                "access-control-allow-methods: GET, OPTIONS".into(),
                format!("access-control-allow-origin: {origin}"),
                "access-control-expose-headers: GET, OPTIONS".into(),
                "access-control-max-age: 5".into(),
                "vary: Origin".into(),
            ]
        };
        for origin in ["https://www.foo.com", "https://WWW.foo.com:443", "https://xpto.www.bar.com"] {
            assert_eq!(preflight(&cors, origin), all(origin));
        }
        for origin in ["https://foobar.com", "http://www.foo.com", "https://www.foo.com:444", "https://bar.com", "null"]
        {
            assert_eq!(preflight(&cors, origin), ["vary: Origin"], "{origin}");
        }
    }

    #[test]
    fn stars() {
        let with = preflight(&policy(Origins::All, true, || Names::All), "https://a.com");
        assert_eq!(
            with,
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: x-1, x-2",
                "access-control-allow-methods: PUT",
                "access-control-allow-origin: https://a.com",
                "access-control-max-age: 5",
                "vary: Origin"
            ]
        );
        let without = preflight(&policy(Origins::All, false, || Names::All), "https://a.com");
        assert_eq!(
            without,
            [
                "access-control-allow-headers: *",
                "access-control-allow-methods: *",
                "access-control-allow-origin: *",
                "access-control-expose-headers: *",
                "access-control-max-age: 5"
            ]
        );
    }

    #[test]
    fn other_requests() {
        let cors = policy(some(), false, || Names::None);
        assert!(Grant::new(&cors, &Head::new(&Method::GET, "/", &[])).is_none());
        let head =
            Head::new(&Method::GET, "/", &[("origin", "https://no.com"), ("access-control-request-method", "GET")]);
        let grant = Grant::new(&cors, &head).expect("it has an origin");
        assert!(grant.preflight(&head).is_none());
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        grant.apply(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [header::VARY]);
    }
}
