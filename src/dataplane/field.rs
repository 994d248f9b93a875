//! Header fields at the border: hop-by-hop fields go, forwarding fields are set.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

use super::Settings;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Which of the fields that the gateway asks for a message has: one look at each name, where most are absent, instead of
/// a search for each question.
#[derive(Clone, Copy, Default)]
pub struct Present(u8);

impl Present {
    pub const CONNECTION: Present = Present(1);
    pub const CONTENT_LENGTH: Present = Present(2);
    pub const CONTENT_TYPE: Present = Present(128);
    pub const EXPECT: Present = Present(4);
    /// Any other that is meant for one connection only.
    pub const HOP_BY_HOP: Present = Present(8);
    pub const TE: Present = Present(16);
    pub const TRANSFER_ENCODING: Present = Present(32);
    pub const UPGRADE: Present = Present(64);

    pub fn of(headers: &HeaderMap) -> Present {
        Present(headers.keys().fold(0, |seen, name| seen | Present::named(name.as_str()).0))
    }

    fn named(name: &str) -> Present {
        match name {
            "connection" => Present::CONNECTION,
            "content-length" => Present::CONTENT_LENGTH,
            "content-type" => Present::CONTENT_TYPE,
            "expect" => Present::EXPECT,
            "http2-settings" | "keep-alive" | "proxy-connection" => Present::HOP_BY_HOP,
            "te" => Present::TE,
            "transfer-encoding" => Present::TRANSFER_ENCODING,
            "upgrade" => Present::UPGRADE,
            _ => Present::default(),
        }
    }

    pub fn has(self, field: Present) -> bool {
        self.0 & field.0 != 0
    }
}

/// Removes the fields that are meant for one connection only, and those that `Connection` names (RFC 9110, 7.6.1).
///
/// What frames the message and Host stay, whatever `Connection` says.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, present: Present) {
    if present.has(Present::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    if present.has(Present::HOP_BY_HOP) {
        [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS].into_iter().for_each(|name| _ = headers.remove(name));
    }
    if present.has(Present::TE) {
        headers.remove(header::TE);
    }
    if present.has(Present::UPGRADE) {
        headers.remove(header::UPGRADE);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let framing = |name: &HeaderName| {
        [header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TRANSFER_ENCODING].contains(name)
    };
    tokens(headers, header::CONNECTION)
        .filter(|token| !token.eq_ignore_ascii_case("keep-alive") && !token.eq_ignore_ascii_case("close"))
        .filter_map(|token| HeaderName::try_from(token).ok())
        .filter(|name| !framing(name))
        .collect()
}

/// The members of a comma-separated list field.
pub fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Does the list field have this member?
pub fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|member| member.eq_ignore_ascii_case(token))
}

/// May no filter touch this field? What frames a message or is meant for one connection belongs to the gateway.
pub fn is_protected(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
    ]
    .contains(name)
}

/// Leaves in a trailer section what may stand there: nothing that frames or routes a message, or says who sent it
/// (RFC 9110, 6.5.1).
pub fn clean_trailers(trailers: &mut HeaderMap) {
    let misplaced = |name: &HeaderName| is_protected(name) || *name == header::HOST || is_forwarding(name);
    if trailers.keys().any(misplaced) {
        let names: Vec<HeaderName> = trailers.keys().filter(|name| misplaced(name)).cloned().collect();
        for name in names {
            trailers.remove(name);
        }
    }
}

/// Is a trailer section within the bounds of the settings?
pub fn is_within(trailers: &HeaderMap, settings: &Settings) -> bool {
    let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + "\r\n: ".len()).sum();
    trailers.len() <= settings.max_trailer_fields && size <= settings.max_trailers
}

/// What the forwarding fields say of a client: the same for all requests of its connection.
pub struct Client {
    address: HeaderValue,
    trusted: bool,
}

impl Client {
    pub fn new(peer: IpAddr, trusted_proxies: &[IpNet]) -> Client {
        let peer = peer.to_canonical();
        let address = HeaderValue::try_from(peer.to_string()).expect("an address is visible ASCII");
        Client { address, trusted: trusted_proxies.iter().any(|net| net.contains(&peer)) }
    }
}

/// Sets `X-Forwarded-For`, `-Proto`, `-Host` and `X-Request-Id`. What a trusted proxy sent in them is extended or kept;
/// from anybody else every forwarding field is replaced or removed, in whatever spelling.
pub fn set_forwarding(headers: &mut HeaderMap, client: &Client, tls: bool) {
    let named = headers.keys().any(is_forwarding);
    if named && !client.trusted {
        remove_forwarding(headers);
    }
    let proto = HeaderValue::from_static(if tls { "https" } else { "http" });
    let host = headers.get(header::HOST).cloned();
    if named && client.trusted {
        let forwarded_for = extended(headers, &client.address);
        headers.insert(X_FORWARDED_FOR, forwarded_for);
        set_if_absent(headers, X_FORWARDED_PROTO, || proto);
        host.into_iter().for_each(|host| set_if_absent(headers, X_FORWARDED_HOST, || host));
        set_if_absent(headers, X_REQUEST_ID, request_id);
    } else {
        headers.append(X_FORWARDED_FOR, client.address.clone());
        headers.append(X_FORWARDED_PROTO, proto);
        host.into_iter().for_each(|host| _ = headers.append(X_FORWARDED_HOST, host));
        headers.append(X_REQUEST_ID, request_id());
    }
}

/// The identifier that the request goes by, after [`set_forwarding`].
pub fn id(headers: &HeaderMap) -> &str {
    headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn set_if_absent(headers: &mut HeaderMap, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
    headers.entry(name).or_insert_with(value);
}

fn extended(headers: &HeaderMap, address: &HeaderValue) -> HeaderValue {
    let mut list = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR).iter().chain([address]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&list).expect("values joined with commas are a value")
}

fn remove_forwarding(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Backends that turn names into environment variables cannot tell an underscore from a hyphen.
fn is_forwarding(name: &HeaderName) -> bool {
    let reads_as = |text: &str| {
        name.as_str().bytes().zip(text.bytes()).all(|(byte, want)| byte == want || (byte == b'_' && want == b'-'))
    };
    let length = name.as_str().len();
    match name.as_str().as_bytes()[0] {
        b'x' => {
            (length >= "x-forwarded-".len() && reads_as("x-forwarded-"))
                || (length == X_REQUEST_ID.as_str().len() && reads_as(X_REQUEST_ID.as_str()))
        }
        b'f' => *name == FORWARDED,
        _ => false,
    }
}

/// A random UUID (RFC 9562, 5.4).
fn request_id() -> HeaderValue {
    let uuid = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(uuid.hyphenated().encode_lower(&mut text)).expect("visible ASCII is a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).expect("valid"), value.parse().expect("valid"));
        }
        headers
    }

    #[test]
    fn hop_by_hop() {
        let mut fields = headers(&[
            ("connection", "x-secret, Content-Length,HOST"),
            ("connection", "transfer-encoding, keep-alive, not a name"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "a"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("trailer", "x-sum"),
        ]);
        let present = Present::of(&fields);
        strip_hop_by_hop(&mut fields, present);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "trailer", "transfer-encoding"]);
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let client = Client::new("::ffff:192.0.2.7".parse().expect("valid"), &[]);
        let mut fields = headers(&[
            ("host", "a.example"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_proto", "https"),
            ("x-forwarded-prefix", "/admin"),
            ("x-request_id", "1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-request-idx", "kept"),
        ]);
        set_forwarding(&mut fields, &client, false);
        assert_eq!(fields["x-forwarded-for"], "192.0.2.7");
        assert_eq!(fields["x-forwarded-proto"], "http");
        assert_eq!(fields["x-forwarded-host"], "a.example");
        assert_eq!(fields["x-request-id"].len(), 36);
        assert_eq!(fields["x-request-idx"], "kept");
        assert_eq!(fields.len(), 6);
    }

    #[test]
    fn a_trusted_proxy_is_extended() {
        let client = Client::new("10.1.2.3".parse().expect("valid"), &["10.0.0.0/8".parse().expect("valid")]);
        let mut fields = headers(&[
            ("host", "inner"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "192.0.2.8"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "abc"),
        ]);
        set_forwarding(&mut fields, &client, false);
        assert_eq!(fields["x-forwarded-for"], "192.0.2.7, 192.0.2.8, 10.1.2.3");
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["x-forwarded-host"], "inner");
        assert_eq!(fields["x-request-id"], "abc");
    }

    #[test]
    fn trailers() {
        let mut fields = headers(&[
            ("x-sum", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "b"),
            ("x-forwarded-for", "10.0.0.1"),
            ("connection", "close"),
        ]);
        clean_trailers(&mut fields);
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["x-sum"]);
        assert!(is_within(&fields, &Settings::default()));
        assert!(!is_within(&fields, &Settings { max_trailers: 9, ..Settings::default() }));
        assert!(!is_within(&fields, &Settings { max_trailer_fields: 0, ..Settings::default() }));
    }

    #[test]
    fn identifiers_are_uuids() {
        let (one, two) = (request_id(), request_id());
        assert_ne!(one, two);
        let text = one.to_str().expect("ASCII");
        assert_eq!((&text[14..15], text.matches('-').count()), ("4", 4));
        assert!(["8", "9", "a", "b"].contains(&&text[19..20]));
    }
}
