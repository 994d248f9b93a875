//! What was received, as JSON: the fields of the Gateway API's echo-basic, and those that the article's echo server has.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Request, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

/// So much of a body is repeated in the answer, where it is text.
const SHOWN_BODY: usize = 4 << 10;

/// Reads the request to its end, keeping no more of it than is shown.
pub(super) async fn report(request: Request<Incoming>, name: &str) -> Result<String, hyper::Error> {
    let (head, mut body) = request.into_parts();
    let (mut length, mut shown, mut trailers) = (0u64, Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                shown.extend_from_slice(&data[..data.len().min(SHOWN_BODY - shown.len())]);
            }
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let query = head.uri.query().unwrap_or("");
    let authority = head.uri.authority().map(ToString::to_string);
    let host = head.headers.get(header::HOST).map(|host| lossy(host.as_bytes())).or(authority);
    let report = json!({
        "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
        "host": host.unwrap_or_default(),
        "method": head.method.as_str(),
        "proto": protocol(head.version),
        "headers": fields(&head.headers),
        "request": {
            "query": all_query_values(query),
            "body": body_words(length, shown.into()),
            "trailers": fields(&trailers),
        },
        "environment": { "HOSTNAME": name },
    });
    let mut text = serde_json::to_string_pretty(&report).expect("a value is JSON");
    text.push('\n');
    Ok(text)
}

/// `length`, and `text` where it is short and text.
fn body_words(length: u64, shown: Bytes) -> Value {
    match std::str::from_utf8(&shown) {
        Ok(text) if length == shown.len() as u64 && length > 0 => json!({ "length": length, "text": text }),
        _ => json!({ "length": length }),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Every value of every field but Host, with names as echo-basic writes them: `X-Request-Id`.
fn fields(headers: &HeaderMap) -> Value {
    let mut fields = Map::new();
    for name in headers.keys().filter(|name| *name != header::HOST) {
        let values: Vec<String> = headers.get_all(name).iter().map(|value| lossy(value.as_bytes())).collect();
        fields.insert(canonical(name.as_str()), values.into());
    }
    Value::Object(fields)
}

/// The first letter and each behind a hyphen in upper case.
fn canonical(name: &str) -> String {
    let mut upper = true;
    let letter = |c: char| {
        let written = if upper { c.to_ascii_uppercase() } else { c };
        upper = c == '-';
        written
    };
    name.chars().map(letter).collect()
}

fn all_query_values(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in query_pairs(query) {
        values.entry(name).or_default().push(value);
    }
    values
}

/// Every value of a query parameter.
pub(super) fn query_values(query: &str, name: &str) -> Vec<String> {
    query_pairs(query).filter(|(key, _)| key == name).map(|(_, value)| value).collect()
}

fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Percent-encoding and `+` undone; what is no encoding stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[index], hex(index + 1), hex(index + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                index += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        index += 1;
    }
    lossy(&decoded)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        assert_eq!(query_values("a=1&b=x%20y%2&a=%C3%A4+b&&c", "a"), ["1", "ä b"]);
        assert_eq!(query_values("a=1&b=x%20y%2&a=2&&c", "b"), ["x y%2"]);
        assert_eq!(query_values("c", "c"), [""]);
    }

    #[test]
    fn names_are_as_echo_basic_writes_them() {
        assert_eq!(canonical("x-request-id"), "X-Request-Id");
    }
}
