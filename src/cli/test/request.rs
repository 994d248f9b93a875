//! Which requests does a match take? Some of them, made from what the match asks for, the plainest first.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::{
    plan::{MatchPlan, PathPlan, ValuePlan, expression::anchored},
    snapshot::path,
};

use super::example::examples;

/// A label, or a segment of a path, where any will do.
pub const ANY: &str = "gapi-test";
/// Methods that change nothing (RFC 9110, 9.2.1) and are sent without being asked for.
pub const SAFE: [Method; 3] = [Method::GET, Method::HEAD, Method::OPTIONS];

/// Requests to `host` that one match should take, in the order in which they are to be tried. Those of a GRPCRoute
/// (`is_grpc`) are calls without a message, first of names that nobody has.
///
/// # Errors
/// What of the match no example is known for.
pub fn requests(plan: &MatchPlan, host: &str, is_grpc: bool) -> Result<Vec<Request<()>>, String> {
    let paths = paths(&plan.path, is_grpc)?;
    let headers = alternatives(&plan.headers, "header")?;
    let queries = alternatives(&plan.query, "query parameter")?;
    let methods = match &plan.method {
        Some(method) => vec![Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?],
        None if is_grpc => vec![Method::POST],
        None => SAFE.to_vec(),
    };
    let mut requests = Vec::new();
    for round in 0..headers.len().max(queries.len()) {
        let (headers, query) = (&headers[round % headers.len()], &queries[round % queries.len()]);
        for method in &methods {
            requests.extend(paths.iter().filter_map(|path| request(method, host, path, headers, query)));
        }
    }
    if is_grpc {
        requests.iter_mut().for_each(|request| speak_grpc(request.headers_mut()));
    }
    match requests.is_empty() {
        true => Err("no request can have what it asks for".to_owned()),
        false => Ok(requests),
    }
}

/// What makes a request one of gRPC (the gRPC protocol over HTTP/2, "Requests").
fn speak_grpc(fields: &mut HeaderMap) {
    fields.remove(header::ACCEPT);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// Is this the path of a call that no server has, so that nothing is called?
pub fn is_made_up(path: &str) -> bool {
    path.split('/').any(|part| part == ANY)
}

/// The path of a call, and before it the same with made-up names.
fn calls(path: String) -> Vec<String> {
    let names = path.strip_prefix('/').and_then(|names| names.rsplit_once('/'));
    let made_up = names.map(|(service, method)| [format!("/{service}/{ANY}"), format!("/{ANY}/{method}")]);
    made_up.into_iter().flatten().chain([path]).collect()
}

fn paths(plan: &PathPlan, is_grpc: bool) -> Result<Vec<String>, String> {
    Ok(match plan {
        PathPlan::Exact(path) => vec![path::escaped(path)],
        PathPlan::Prefix(service) if is_grpc && !service.is_empty() => {
            vec![format!("{}/{ANY}", path::escaped(service))]
        }
        PathPlan::Prefix(_) if is_grpc => vec![format!("/{ANY}/{ANY}")],
        PathPlan::Prefix(prefix) => {
            let prefix = path::escaped(prefix.trim_end_matches('/'));
            let own = if prefix.is_empty() { "/" } else { &prefix };
            vec![own.to_owned(), format!("{prefix}/"), format!("{prefix}/{ANY}")]
        }
        PathPlan::Regex(expression) => {
            let paths = examples(expression).into_iter().filter(|text| text.starts_with('/'));
            let paths: Vec<String> = match anchored(expression) {
                Ok(check) if is_grpc => paths.flat_map(calls).filter(|path| check.is_match(path)).collect(),
                _ => paths.collect(),
            };
            if paths.is_empty() {
                return Err(format!("no path is known that the expression {expression:?} matches"));
            }
            paths.iter().map(|path| path::escaped(path)).collect()
        }
    })
}

type Pairs = Vec<(String, String)>;

/// Names and values: those that are written, and for expressions the first examples, then the second ones.
fn alternatives(plans: &[ValuePlan], what: &str) -> Result<Vec<Pairs>, String> {
    let values = plans.iter().map(|plan| match plan.regex {
        false => Ok((plan.name.clone(), vec![plan.value.clone()])),
        true => match examples(&plan.value) {
            some if !some.is_empty() => Ok((plan.name.clone(), some)),
            _ => Err(format!("no {what} is known that the expression {:?} matches", plan.value)),
        },
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let rounds = values.iter().map(|(_, values)| values.len()).max().unwrap_or(1);
    let round = |round: usize| values.iter().map(|(name, of)| (name.clone(), of[round % of.len()].clone())).collect();
    Ok((0..rounds).map(round).collect())
}

fn request(method: &Method, host: &str, path: &str, headers: &Pairs, query: &Pairs) -> Option<Request<()>> {
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{}={}", quoted(name), quoted(value))).collect();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.parse::<Uri>().ok()?;
    let own = concat!("gapi-test/", env!("CARGO_PKG_VERSION"));
    let fields = request.headers_mut();
    fields.insert(header::HOST, HeaderValue::from_str(host).ok()?);
    fields.insert(header::USER_AGENT, HeaderValue::from_static(own));
    fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in headers {
        // Blanks around a value are not part of it.
        let value = HeaderValue::from_str(value.trim()).ok()?;
        fields.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    Some(request)
}

/// With everything escaped that is not unreserved (RFC 3986, 2.3).
fn quoted(text: &str) -> String {
    text.bytes().fold(String::new(), |mut quoted, byte| {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => quoted.push(byte.into()),
            false => quoted += &format!("%{byte:02X}"),
        }
        quoted
    })
}

/// Names that fall under both patterns, of a listener and of a route; none where every name does.
pub fn host(listener: Option<&str>, route: Option<&str>) -> Option<String> {
    let narrower = match (listener, route) {
        (Some(listener), Some(route)) => match (listener.starts_with('*'), route.starts_with('*')) {
            (false, _) => listener,
            (true, false) => route,
            (true, true) if listener.len() > route.len() => listener,
            (true, true) => route,
        },
        (one, other) => one.or(other)?,
    };
    Some(example_host(narrower))
}

/// The name itself, or one that falls under the wildcard.
pub fn example_host(pattern: &str) -> String {
    match pattern.strip_prefix('*') {
        Some(suffix) => format!("{ANY}{suffix}"),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, regex: bool, value: &str) -> ValuePlan {
        ValuePlan { name: name.into(), regex, value: value.into() }
    }

    #[test]
    fn a_match_becomes_requests() {
        let plan = MatchPlan {
            path: PathPlan::Prefix("/a b".into()),
            method: None,
            headers: vec![value("version", true, "v[12]"), value("x", false, " 1 ")],
            query: vec![value("a b", false, "c&d")],
            rule: 0,
        };
        let requests = requests(&plan, "a.example:8080", false).expect("there are some");
        let first = &requests[0];
        assert_eq!(first.uri(), "/a%20b?a%20b=c%26d");
        assert_eq!((first.headers()["version"].as_bytes(), first.headers()["x"].as_bytes()), (&b"v1"[..], &b"1"[..]));
        assert_eq!(first.method(), Method::GET);
        assert!(requests.iter().any(|one| one.method() == Method::OPTIONS && one.uri().path() == "/a%20b/gapi-test"));
        let plan = MatchPlan { path: PathPlan::Regex("a+".into()), ..plan };
        assert!(super::requests(&plan, "a", false).is_err_and(|why| why.contains("\"a+\"")));
    }

    #[test]
    fn calls_are_made_up_where_they_can_be() {
        let paths = |path| -> Vec<String> {
            let plan = MatchPlan { path, method: None, headers: Vec::new(), query: Vec::new(), rule: 0 };
            let requests = requests(&plan, "a", true).expect("there are some");
            assert!(requests.iter().all(|one| one.method() == Method::POST && one.headers().contains_key("te")));
            requests.iter().map(|one| one.uri().path().to_owned()).collect()
        };
        assert_eq!(paths(PathPlan::Exact("/a.B/C".into())), ["/a.B/C"]);
        assert_eq!(paths(PathPlan::Prefix("/a.B".into())), ["/a.B/gapi-test"]);
        assert_eq!(paths(PathPlan::Prefix(String::new())), ["/gapi-test/gapi-test"]);
        assert_eq!(paths(PathPlan::Regex("/(?:x|y)/[^/]+".into()))[0], "/x/gapi-test");
        assert_eq!(paths(PathPlan::Regex("/[^/]+/Get".into()))[0], "/gapi-test/Get");
        assert_eq!(paths(PathPlan::Regex("/(?:a[.]B)/(?:C)".into())), ["/a.B/C"]);
        assert!(is_made_up("/gapi-test/Get") && !is_made_up("/a.B/C"));
    }

    #[test]
    fn hosts_fall_under_both_patterns() {
        for (listener, route, want) in [
            (None, None, None),
            (None, Some("a.example"), Some("a.example")),
            (Some("*.example"), Some("a.example"), Some("a.example")),
            (Some("a.example"), Some("*.example"), Some("a.example")),
            (Some("*.example"), Some("*.b.example"), Some("gapi-test.b.example")),
            (Some("*.b.example"), None, Some("gapi-test.b.example")),
        ] {
            assert_eq!(host(listener, route).as_deref(), want, "{listener:?} {route:?}");
        }
    }
}
