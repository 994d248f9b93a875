//! Requests of HTTP/2 that a gateway has to translate or refuse: RFC 9113 sections 8 and 10.3, and the ways to smuggle by
//! way of the translation to HTTP/1.1: H2.CL, H2.TE, and fields that carry line ends.

use crate::support::{
    Message,
    http2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PADDED, PING, PRIORITY, PUSH_PROMISE,
        RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
    },
};

/// One case. Stream 1 is the one that counts.
pub struct Case {
    pub name: &'static str,
    pub rule: &'static str,
    pub bytes: Vec<u8>,
    pub expected: Expected,
}

#[derive(Debug)]
pub enum Expected {
    /// Nothing whole reaches the backend; the stream or the connection ends in an error, or the answer is a 4xx.
    Refused,
    /// The backend sees this request, and the answer is 200.
    Served { start: &'static str, body: &'static str, fields: Vec<(&'static str, &'static str)> },
    /// Either.
    Any { start: &'static str, body: &'static str },
}

impl Case {
    pub fn admits(&self, outcome: &Outcome, messages: &[Message]) -> bool {
        let served = |start: &str, body: &str, fields: &[(&str, &str)]| {
            let [message] = messages else { return false };
            matches!(outcome, Outcome::Answered { status: 200, .. })
                && message.start == start
                && message.body == body.as_bytes()
                && fields.iter().all(|(name, value)| message.all(name) == [*value])
        };
        let refused = outcome.refused() && messages.is_empty();
        match &self.expected {
            Expected::Refused => refused,
            Expected::Served { start, body, fields } => served(start, body, fields),
            Expected::Any { start, body } => refused || served(start, body, &[]),
        }
    }
}

type Field<'a> = (&'a [u8], &'a [u8]);

const METHOD: &[u8] = b":method";
const SCHEME: &[u8] = b":scheme";
const PATH: &[u8] = b":path";
const AUTHORITY: &[u8] = b":authority";

fn pseudo<'a>(method: &'a [u8], path: &'a [u8]) -> Vec<Field<'a>> {
    vec![(METHOD, method), (SCHEME, b"http"), (AUTHORITY, b"a.test"), (PATH, path)]
}

/// HEADERS that hold the whole field block.
fn headers(flags: u8, stream: u32, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

pub fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(END_STREAM, stream, &pseudo(b"GET", path.as_bytes()))
}

/// A GET with more fields.
fn get_with(fields: &[Field<'_>]) -> Vec<u8> {
    headers(END_STREAM, 1, &[&pseudo(b"GET", b"/a"), fields].concat())
}

/// A POST with more fields and a body in one frame.
fn post_with(fields: &[Field<'_>], body: &[u8]) -> Vec<u8> {
    [headers(0, 1, &[&pseudo(b"POST", b"/a"), fields].concat()), frame(DATA, END_STREAM, 1, body)].concat()
}

/// A GET of exactly these fields.
fn exactly(fields: &[Field<'_>]) -> Vec<u8> {
    headers(END_STREAM, 1, fields)
}

fn refused(name: &'static str, rule: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, rule, bytes, expected: Expected::Refused }
}

fn served(name: &'static str, rule: &'static str, bytes: Vec<u8>, start: &'static str, body: &'static str) -> Case {
    Case { name, rule, bytes, expected: Expected::Served { start, body, fields: Vec::new() } }
}

fn any(name: &'static str, rule: &'static str, bytes: Vec<u8>, start: &'static str, body: &'static str) -> Case {
    Case { name, rule, bytes, expected: Expected::Any { start, body } }
}

impl Case {
    fn with(mut self, name: &'static str, value: &'static str) -> Case {
        if let Expected::Served { fields, .. } = &mut self.expected {
            fields.push((name, value));
        }
        self
    }
}

const GET_A: &str = "GET /a HTTP/1.1";
const POST_A: &str = "POST /a HTTP/1.1";
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

pub fn cases() -> Vec<Case> {
    [well_formed(), lengths(), codings(), injections(), pseudo_fields(), fields(), frames()]
        .into_iter()
        .flatten()
        .collect()
}

fn well_formed() -> Vec<Case> {
    let chunks = [
        headers(0, 1, &pseudo(b"POST", b"/a")),
        frame(DATA, 0, 1, b"hel"),
        frame(DATA, 0, 1, b""),
        frame(DATA, END_STREAM, 1, b"lo"),
    ];
    let padded = [headers(0, 1, &pseudo(b"POST", b"/a")), frame(DATA, END_STREAM | PADDED, 1, b"\x03hello\0\0\0")];
    let trailers = [
        headers(0, 1, &pseudo(b"POST", b"/a")),
        frame(DATA, 0, 1, b"hello"),
        headers(END_STREAM, 1, &[(b"x-sum", b"5")]),
    ];
    let whole = block(&pseudo(b"GET", b"/a"));
    let continued = [
        frame(HEADERS, END_STREAM, 1, &whole[..10]),
        frame(CONTINUATION, 0, 1, &whole[10..20]),
        frame(CONTINUATION, END_HEADERS, 1, &whole[20..]),
    ];
    let unknown = [frame(0x42, 0xff, 0, b"hello"), get(1, "/a")];
    vec![
        served("plain GET", "RFC 9113 8.3.1", get(1, "/a"), GET_A, "").with("host", "a.test"),
        served("a body without a length", "RFC 9113 8.1", chunks.concat(), POST_A, "hello"),
        served(
            "a body with its length",
            "RFC 9113 8.1.1",
            post_with(&[(b"content-length", b"5")], b"hello"),
            POST_A,
            "hello",
        ),
        served("a padded body", "RFC 9113 6.1", padded.concat(), POST_A, "hello"),
        served("trailers", "RFC 9113 8.1", trailers.concat(), POST_A, "hello"),
        served("a field block in three frames", "RFC 9113 6.10", continued.concat(), GET_A, ""),
        served("a frame of an unknown kind", "RFC 9113 5.5", unknown.concat(), GET_A, ""),
        served("cookie crumbs", "RFC 9113 8.2.3", get_with(&[(b"cookie", b"a=1"), (b"cookie", b"b=2")]), GET_A, "")
            .with("cookie", "a=1; b=2"),
        served("te: trailers", "RFC 9113 8.2.2", get_with(&[(b"te", b"trailers")]), GET_A, ""),
        served("host that agrees", "RFC 9113 8.3.1", get_with(&[(b"host", b"a.test")]), GET_A, "")
            .with("host", "a.test"),
        served(
            "a request in a body of its length",
            "RFC 9113 8.1.1",
            post_with(&[(b"content-length", b"40")], SMUGGLED),
            POST_A,
            "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        served(
            "a request in a body without a length",
            "RFC 9113 8.1",
            post_with(&[], SMUGGLED),
            POST_A,
            "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        any(
            "a body with GET and no length",
            "RFC 9110 9.3.1",
            [headers(0, 1, &pseudo(b"GET", b"/a")), frame(DATA, END_STREAM, 1, b"hello")].concat(),
            GET_A,
            "hello",
        ),
        any(
            "a request in a body with GET and no length",
            "RFC 9110 9.3.1",
            [headers(0, 1, &pseudo(b"GET", b"/a")), frame(DATA, END_STREAM, 1, SMUGGLED)].concat(),
            GET_A,
            "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
    ]
}

/// H2.CL: a length that the frames contradict.
fn lengths() -> Vec<Case> {
    let rule = "RFC 9113 8.1.1";
    let length = |value: &'static [u8]| -> Field<'static> { (b"content-length", value) };
    let trailers = [
        headers(0, 1, &[&pseudo(b"POST", b"/a")[..], &[length(b"50")]].concat()),
        frame(DATA, 0, 1, b"hello"),
        headers(END_STREAM, 1, &[(b"x-sum", b"5")]),
    ];
    vec![
        refused("H2.CL: a length of zero before a request", rule, post_with(&[length(b"0")], SMUGGLED)),
        refused("H2.CL: a length shorter than the body", rule, post_with(&[length(b"3")], b"hello")),
        refused("H2.CL: a length longer than the body", rule, post_with(&[length(b"50")], b"hello")),
        refused(
            "H2.CL: a length and no body",
            rule,
            headers(END_STREAM, 1, &[&pseudo(b"POST", b"/a")[..], &[length(b"5")]].concat()),
        ),
        refused("H2.CL: a length longer than the body, with trailers", rule, trailers.concat()),
        refused("H2.CL: two lengths", rule, post_with(&[length(b"5"), length(b"0")], b"hello")),
        refused("H2.CL: two lengths the other way", rule, post_with(&[length(b"0"), length(b"5")], b"hello")),
        any("H2.CL: two equal lengths", rule, post_with(&[length(b"5"), length(b"5")], b"hello"), POST_A, "hello"),
        refused("H2.CL: lengths in a list", rule, post_with(&[length(b"5, 0")], b"hello")),
        refused("H2.CL: a length with a plus", "RFC 9110 8.6", post_with(&[length(b"+5")], b"hello")),
        refused("H2.CL: a negative length", "RFC 9110 8.6", post_with(&[length(b"-5")], b"hello")),
        refused("H2.CL: a length in hexadecimal", "RFC 9110 8.6", post_with(&[length(b"0x5")], b"hello")),
        refused("H2.CL: a length that is no number", "RFC 9110 8.6", post_with(&[length(b"five")], b"hello")),
        refused("H2.CL: an empty length", "RFC 9110 8.6", post_with(&[length(b"")], b"hello")),
        refused("H2.CL: a length with line ends", "RFC 9113 8.2.1", post_with(&[length(b"5\r\nX-A: b")], b"hello")),
    ]
}

/// H2.TE: codings that HTTP/2 does not have.
fn codings() -> Vec<Case> {
    let rule = "RFC 9113 8.2.2";
    vec![
        refused(
            "H2.TE: chunked",
            rule,
            post_with(
                &[(b"transfer-encoding", b"chunked")],
                b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
            ),
        ),
        refused(
            "H2.TE: chunked beside a length",
            rule,
            post_with(&[(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], b"0\r\n\r\n"),
        ),
        refused("H2.TE: identity", rule, post_with(&[(b"transfer-encoding", b"identity")], b"hello")),
        refused(
            "H2.TE: in trailers",
            rule,
            [
                headers(0, 1, &pseudo(b"POST", b"/a")),
                frame(DATA, 0, 1, b"hello"),
                headers(END_STREAM, 1, &[(b"transfer-encoding", b"chunked")]),
            ]
            .concat(),
        ),
        refused("connection", rule, get_with(&[(b"connection", b"close")])),
        refused(
            "connection that names a length",
            rule,
            post_with(&[(b"connection", b"content-length"), (b"content-length", b"5")], b"hello"),
        ),
        refused("keep-alive", rule, get_with(&[(b"keep-alive", b"timeout=5")])),
        refused("proxy-connection", rule, get_with(&[(b"proxy-connection", b"keep-alive")])),
        refused("upgrade", rule, get_with(&[(b"upgrade", b"websocket")])),
        refused("te: gzip", rule, get_with(&[(b"te", b"gzip")])),
    ]
}

/// Line ends and what else would mean something in HTTP/1.1.
fn injections() -> Vec<Case> {
    let rule = "RFC 9113 8.2.1";
    let pseudo_rule = "RFC 9113 8.3.1";
    vec![
        refused("injection: CRLF in a value", rule, get_with(&[(b"x-a", b"b\r\nx-injected: c")])),
        refused(
            "injection: a request in a value",
            rule,
            get_with(&[(b"x-a", b"b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")]),
        ),
        refused("injection: LF in a value", rule, get_with(&[(b"x-a", b"b\nx-injected: c")])),
        refused("injection: CR in a value", rule, get_with(&[(b"x-a", b"b\rx-injected: c")])),
        refused("injection: NUL in a value", rule, get_with(&[(b"x-a", b"b\0c")])),
        refused("injection: CRLF in a name", rule, get_with(&[(b"x-a: b\r\nx-injected", b"c")])),
        refused("injection: a colon in a name", rule, get_with(&[(b"x-a: b", b"c")])),
        refused(
            "injection: a length by a colon in a name",
            rule,
            post_with(&[(b"content-length: 0\r\nx-a", b"b")], SMUGGLED),
        ),
        refused(
            "injection: a coding by a line end in a value",
            rule,
            post_with(
                &[(b"x-a", b"b\r\ntransfer-encoding: chunked")],
                b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
            ),
        ),
        refused("injection: a space in a name", rule, get_with(&[(b"x a", b"b")])),
        refused("injection: NUL in a name", rule, get_with(&[(b"x\0a", b"b")])),
        refused("injection: DEL in a name", rule, get_with(&[(b"x\x7fa", b"b")])),
        refused("injection: bytes above 127 in a name", rule, get_with(&[(b"x\xc3\xa9", b"b")])),
        refused("injection: capitals in a name", rule, get_with(&[(b"X-A", b"b")])),
        refused("injection: an empty name", rule, get_with(&[(b"", b"b")])),
        refused("injection: CRLF in :path", pseudo_rule, exactly(&pseudo(b"GET", b"/a HTTP/1.1\r\nx-injected: b"))),
        refused(
            "injection: a request in :path",
            pseudo_rule,
            exactly(&pseudo(b"GET", b"/a HTTP/1.1\r\nHost: a.test\r\n\r\nGET /smuggled")),
        ),
        refused("injection: a space in :path", pseudo_rule, exactly(&pseudo(b"GET", b"/smuggled HTTP/1.1 /a"))),
        refused("injection: a tab in :path", pseudo_rule, exactly(&pseudo(b"GET", b"/a\tb"))),
        refused("injection: NUL in :path", pseudo_rule, exactly(&pseudo(b"GET", b"/a\0b"))),
        refused("injection: a backslash in :path", "DESIGN 6.9", exactly(&pseudo(b"GET", b"/a\\b"))),
        any("injection: a fragment in :path", pseudo_rule, exactly(&pseudo(b"GET", b"/a#b")), GET_A, ""),
        refused(
            "injection: CRLF in :method",
            pseudo_rule,
            exactly(&pseudo(b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\nGET", b"/a")),
        ),
        refused("injection: a space in :method", pseudo_rule, exactly(&pseudo(b"GET /smuggled HTTP/1.1", b"/a"))),
        refused(
            "injection: CRLF in :authority",
            pseudo_rule,
            exactly(&[(METHOD, b"GET"), (SCHEME, b"http"), (AUTHORITY, b"a.test\r\nx-injected: b"), (PATH, b"/a")]),
        ),
        refused(
            "injection: a space in :authority",
            pseudo_rule,
            exactly(&[(METHOD, b"GET"), (SCHEME, b"http"), (AUTHORITY, b"a.test b.test"), (PATH, b"/a")]),
        ),
        refused(
            "injection: a path in :authority",
            pseudo_rule,
            exactly(&[(METHOD, b"GET"), (SCHEME, b"http"), (AUTHORITY, b"a.test/smuggled"), (PATH, b"/a")]),
        ),
        refused(
            "injection: a list in :authority",
            pseudo_rule,
            exactly(&[(METHOD, b"GET"), (SCHEME, b"http"), (AUTHORITY, b"a.test,b.test"), (PATH, b"/a")]),
        ),
        refused(
            "injection: userinfo in :authority",
            pseudo_rule,
            exactly(&[(METHOD, b"GET"), (SCHEME, b"http"), (AUTHORITY, b"user@a.test"), (PATH, b"/a")]),
        ),
        refused(
            "injection: a port that is no number in :authority",
            pseudo_rule,
            exactly(&[(METHOD, b"GET"), (SCHEME, b"http"), (AUTHORITY, b"a.test:http"), (PATH, b"/a")]),
        ),
        refused(
            "injection: CRLF in :scheme",
            pseudo_rule,
            exactly(&[
                (METHOD, b"GET"),
                (SCHEME, b"http://a.test/smuggled HTTP/1.1\r\nx: y"),
                (AUTHORITY, b"a.test"),
                (PATH, b"/a"),
            ]),
        ),
        refused(
            "injection: CRLF in a trailer",
            rule,
            [
                headers(0, 1, &pseudo(b"POST", b"/a")),
                frame(DATA, 0, 1, b"hello"),
                headers(END_STREAM, 1, &[(b"x-sum", b"5\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")]),
            ]
            .concat(),
        ),
    ]
}

/// RFC 9113 section 8.3.
fn pseudo_fields() -> Vec<Case> {
    let rule = "RFC 9113 8.3.1";
    let a: Field<'static> = (AUTHORITY, b"a.test");
    let (method, scheme, path): (Field<'static>, Field<'static>, Field<'static>) =
        ((METHOD, b"GET"), (SCHEME, b"http"), (PATH, b"/a"));
    vec![
        refused("no :method", rule, exactly(&[scheme, a, path])),
        refused("no :scheme", rule, exactly(&[method, a, path])),
        refused("no :path", rule, exactly(&[method, scheme, a])),
        refused("an empty :path", rule, exactly(&[method, scheme, a, (PATH, b"")])),
        refused("a :path without a slash", rule, exactly(&[method, scheme, a, (PATH, b"a")])),
        refused("a :path of an absolute form", rule, exactly(&[method, scheme, a, (PATH, b"http://b.test/a")])),
        refused("a star with GET", rule, exactly(&[method, scheme, a, (PATH, b"*")])),
        refused(":path twice", rule, exactly(&[method, scheme, a, path, (PATH, b"/b")])),
        refused(":method twice", rule, exactly(&[method, (METHOD, b"POST"), scheme, a, path])),
        refused(":authority twice", rule, exactly(&[method, scheme, a, (AUTHORITY, b"b.test"), path])),
        refused("an unknown pseudo-field", "RFC 9113 8.3", exactly(&[method, scheme, a, path, (b":smuggled", b"b")])),
        refused(":status in a request", "RFC 9113 8.3", exactly(&[method, scheme, a, path, (b":status", b"200")])),
        refused("a pseudo-field behind a field", "RFC 9113 8.3", exactly(&[method, scheme, a, (b"x-a", b"b"), path])),
        refused("no :authority and no host", rule, exactly(&[method, scheme, path])),
        refused("an empty :authority", rule, exactly(&[method, scheme, (AUTHORITY, b""), path])),
        served("host for :authority", rule, exactly(&[method, scheme, path, (b"host", b"b.test")]), GET_A, "")
            .with("host", "b.test"),
        any(
            "host that differs from :authority",
            rule,
            exactly(&[method, scheme, a, path, (b"host", b"b.test")]),
            GET_A,
            "",
        ),
        refused(
            "two hosts that differ",
            "RFC 9110 7.2",
            exactly(&[method, scheme, path, (b"host", b"a.test"), (b"host", b"b.test")]),
        ),
        refused("CONNECT", "RFC 9113 8.5", headers(END_STREAM, 1, &[(METHOD, b"CONNECT"), (AUTHORITY, b"a.test:443")])),
        refused("CONNECT with :path", "RFC 9113 8.5", headers(END_STREAM, 1, &[(METHOD, b"CONNECT"), scheme, a, path])),
        // The h2 crate leaves the pseudo-field out without a word, so the message that goes on has one reading.
        any(
            "a pseudo-field in trailers",
            "RFC 9113 8.1",
            [
                headers(0, 1, &pseudo(b"POST", b"/a")),
                frame(DATA, 0, 1, b"hello"),
                headers(END_STREAM, 1, &[(PATH, b"/smuggled")]),
            ]
            .concat(),
            POST_A,
            "hello",
        ),
        served("dot segments in :path are resolved", "DESIGN 6.9", get(1, "/b/../a"), GET_A, ""),
        refused("a :path that climbs above the root", "DESIGN 6.9", get(1, "/../a")),
    ]
}

fn fields() -> Vec<Case> {
    let long = vec![b'a'; 100_000];
    let many: Vec<Field<'static>> = vec![(b"x-many", b"a"); 200];
    let oversize = block(&[&pseudo(b"GET", b"/a")[..], &[(b"x-long", &long)]].concat());
    let mut split = vec![frame(HEADERS, END_STREAM, 1, &oversize[..16_000])];
    split.extend(oversize[16_000..].chunks(16_000).map(|part| frame(CONTINUATION, 0, 1, part)));
    split.push(frame(CONTINUATION, END_HEADERS, 1, b""));
    vec![
        refused("a field list beyond its bound", "RFC 9113 10.5.1", split.concat()),
        refused("too many fields", "RFC 9113 10.5.1", get_with(&many)),
    ]
}

/// RFC 9113 sections 5 and 6: what is wrong with the frames themselves.
fn frames() -> Vec<Case> {
    let post = headers(0, 1, &pseudo(b"POST", b"/a"));
    let part = block(&pseudo(b"GET", b"/a"));
    let after = |bytes: &[u8]| [post.as_slice(), bytes].concat();
    vec![
        refused("DATA on stream 0", "RFC 9113 6.1", after(&frame(DATA, 0, 0, b"hello"))),
        refused("HEADERS on stream 0", "RFC 9113 6.2", headers(END_STREAM, 0, &pseudo(b"GET", b"/a"))),
        refused(
            "HEADERS on a stream of the server's",
            "RFC 9113 5.1.1",
            headers(END_STREAM, 2, &pseudo(b"GET", b"/a")),
        ),
        refused("DATA on a stream that is not open", "RFC 9113 5.1", frame(DATA, END_STREAM, 1, b"hello")),
        refused(
            "DATA between HEADERS and CONTINUATION",
            "RFC 9113 6.10",
            [frame(HEADERS, 0, 1, &part[..9]), frame(DATA, END_STREAM, 1, b"hello")].concat(),
        ),
        refused(
            "another stream between HEADERS and CONTINUATION",
            "RFC 9113 6.10",
            [frame(HEADERS, 0, 1, &part[..9]), get(3, "/smuggled")].concat(),
        ),
        refused("CONTINUATION without HEADERS", "RFC 9113 6.10", frame(CONTINUATION, END_HEADERS, 1, &part)),
        refused(
            "a frame beyond the agreed size",
            "RFC 9113 4.2",
            after(&frame(DATA, END_STREAM, 1, &vec![b'a'; 20_000])),
        ),
        refused(
            "padding longer than the frame",
            "RFC 9113 6.1",
            after(&frame(DATA, END_STREAM | PADDED, 1, b"\xffhello")),
        ),
        refused("PING of seven bytes", "RFC 9113 6.7", after(&frame(PING, 0, 0, b"1234567"))),
        refused("SETTINGS of five bytes", "RFC 9113 6.5", after(&frame(SETTINGS, 0, 0, b"12345"))),
        refused("SETTINGS on a stream", "RFC 9113 6.5", after(&frame(SETTINGS, 0, 1, b""))),
        refused("a window update of zero", "RFC 9113 6.9", after(&frame(WINDOW_UPDATE, 0, 1, &[0; 4]))),
        refused(
            "a window update of zero for the connection",
            "RFC 9113 6.9",
            after(&frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ),
        refused(
            "a window beyond its bound",
            "RFC 9113 6.9.1",
            after(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ),
        refused("RST_STREAM of a stream that is not open", "RFC 9113 6.4", frame(RST_STREAM, 0, 1, &[0; 4])),
        refused("PRIORITY of four bytes", "RFC 9113 6.3", after(&frame(PRIORITY, 0, 1, &[0; 4]))),
        refused(
            "PUSH_PROMISE from a client",
            "RFC 9113 6.6",
            after(&frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ),
        refused(
            "a field block that is no HPACK",
            "RFC 9113 4.3",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        refused(
            "an index that no table has",
            "RFC 7541 2.3.3",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x80 | 100]),
        ),
        refused(
            "HEADERS without END_STREAM behind a body",
            "RFC 9113 8.1",
            [
                post.clone(),
                frame(DATA, 0, 1, b"hello"),
                headers(0, 1, &[(b"x-sum", b"5")]),
                frame(DATA, END_STREAM, 1, b"hello"),
            ]
            .concat(),
        ),
    ]
}
