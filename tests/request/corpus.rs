//! Requests that two parsers may read differently. Whatever is sent, a byte-exact backend sees nothing of it or one
//! unambiguous message, and no client gets the answer to a request that it did not send.
//!
//! The families are those of the literature on request smuggling, and RFC 9112 sections 2 to 7 and 11.2. Each request
//! asks for `/first`; what a confused parser would take for another one asks for `/smuggled`; behind both comes an
//! honest one for `/marker`.

use std::io::Read;

use crate::harness::{Client, Config, Gateway, Seen, backend, has_more, text};

const MARKER: &str = "GET /marker HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Reads one message as strictly as RFC 9112 can be read.
///
/// # Errors
/// What is wrong with it.
fn strict(client: &mut Client) -> Result<String, String> {
    let head = client.until("\r\n\r\n");
    let bare = |text: &str| text.replace("\r\n", "").contains(['\r', '\n']);
    if bare(&head) {
        return Err(format!("a bare line end in {head:?}"));
    }
    let mut lines = head.trim_end_matches("\r\n").split("\r\n");
    let line = lines.next().unwrap_or_default();
    let [_, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("the request line {line:?}"));
    };
    let mut fields = Vec::new();
    for field in lines {
        let (name, value) = field.split_once(": ").ok_or_else(|| format!("the field {field:?}"))?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) || value.trim() != value {
            return Err(format!("the field {field:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.to_string()));
    }
    let of = |wanted: &str| {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    if of("host").len() != 1 {
        return Err(format!("hosts {:?}", of("host")));
    }
    match (&of("content-length")[..], &of("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length: usize =
                length.parse().ok().filter(|_| digits).ok_or_else(|| format!("the length {length:?}"))?;
            let mut body = vec![0; length];
            client.0.read_exact(&mut body).map_err(|error| format!("{error} in the body"))?;
        }
        ([], ["chunked"]) => chunks(client)?,
        framing => return Err(format!("the framing {framing:?}")),
    }
    Ok(target.to_string())
}

fn chunks(client: &mut Client) -> Result<(), String> {
    loop {
        let line = client.until("\r\n");
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| format!("the chunk size {line:?}"))?;
        if size == 0 {
            break;
        }
        let mut chunk = vec![0; size + 2];
        client.0.read_exact(&mut chunk).map_err(|error| format!("{error} in a chunk"))?;
        if !chunk.ends_with(b"\r\n") {
            return Err(format!("the end of a chunk {:?}", text(&chunk)));
        }
    }
    while client.until("\r\n") != "\r\n" {}
    Ok(())
}

/// A gateway before a backend that reads strictly and answers with the target.
fn start() -> (Gateway, Seen) {
    let seen = Seen::default();
    let record = seen.clone();
    let endpoint = backend(move |mut client, _| {
        while has_more(&mut client) {
            // A body that ends early is none that was seen.
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| strict(&mut client)));
            let Ok(read) = read else { break };
            let target = read.clone().unwrap_or_default();
            record.put(read.unwrap_or_else(|fault| format!("malformed: {fault}")));
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
        }
    });
    (Config::to(endpoint).start(), seen)
}

/// Sends `request` and the marker, and holds what is seen on both sides to the rule.
fn hold(gateway: &Gateway, seen: &Seen, request: &[u8], refused: bool) {
    let shown = text(request);
    let mut client = gateway.connect();
    client.send([request, MARKER.as_bytes()].concat());
    client.finish();
    let answers = client.rest();
    let served = std::mem::take(&mut *seen.all());
    assert!(served.iter().all(|target| target == "/first" || target == "/marker"), "{shown:?} reached as {served:?}");
    assert!(
        served.len() <= 2 && served.first().is_none_or(|target| target == "/first"),
        "{shown:?} reached as {served:?}"
    );
    assert!(!answers.contains("/smuggled"), "{shown:?} gave {answers}");
    let statuses: Vec<&str> = answers.match_indices("HTTP/1.").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    if refused {
        assert!(served.is_empty(), "{shown:?} reached as {served:?}");
        assert!(
            statuses.len() == 1 && (statuses[0].starts_with('4') || statuses[0].starts_with('5')),
            "{shown:?} gave {answers}"
        );
    } else {
        assert!(statuses.len() <= 2 && !statuses.is_empty(), "{shown:?} gave {answers}");
    }
    if answers.ends_with("/marker") {
        assert_eq!(served, ["/first", "/marker"], "{shown:?} gave {answers}");
    }
}

fn all_refused(requests: impl IntoIterator<Item = String>) {
    let (gateway, seen) = start();
    for request in requests {
        hold(&gateway, &seen, request.as_bytes(), true);
    }
}

fn all_safe(requests: impl IntoIterator<Item = String>) {
    let (gateway, seen) = start();
    for request in requests {
        hold(&gateway, &seen, request.as_bytes(), false);
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

#[test]
fn te_te() {
    // Whatever is not exactly `chunked` once.
    let codings = [
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "gzip, chunked",
        ", chunked",
        "chunked,",
        "chunked;foo=bar",
        "\"chunked\"",
        "chunked\u{b}",
        "chunked-",
        "chunked, gzip",
        "CHUNKED, chunked",
        "identity",
        "gzip",
        "compress, chunked",
        "cow",
        "chunked chunked",
        "x chunked",
        "0",
    ];
    all_refused(
        codings.map(|coding| post(&format!("Transfer-Encoding: {coding}\r\n"), &format!("0\r\n\r\n{SMUGGLED}"))),
    );
    let fields = [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: x\r\n Transfer-Encoding: chunked\r\n",
        "X: x\rTransfer-Encoding: chunked\r\n",
        "Transfer\u{1}-Encoding: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
    ];
    all_refused(fields.map(|fields| post(fields, &format!("0\r\n\r\n{SMUGGLED}"))));
}

#[test]
fn cl_te_and_te_cl() {
    let lengths = ["0", "5", "6", "44", "1000"];
    let both = lengths.into_iter().flat_map(|length| {
        [
            post(
                &format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
            post(
                &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                &format!("0\r\n\r\n{SMUGGLED}"),
            ),
            post(
                &format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
                &format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
            ),
        ]
    });
    let (gateway, seen) = start();
    for request in both {
        let mut client = gateway.connect();
        client.send(&request);
        let answers = client.rest();
        let served = std::mem::take(&mut *seen.all());
        assert!(served.is_empty() || served == ["/first"], "{request:?} reached as {served:?}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{request:?} gave {answers}");
    }
}

#[test]
fn cl_cl() {
    let lengths = [
        "+5",
        "-5",
        "5 5",
        "5, 5",
        "5,6",
        "0x5",
        "5;q=1",
        "5.0",
        "",
        " ",
        "a",
        "99999999999999999999999",
        "٥",
        "1e1",
        "5_0",
    ];
    all_refused(lengths.map(|length| post(&format!("Content-Length: {length}\r\n"), &format!("abcde{SMUGGLED}"))));
    all_refused([
        post("Content-Length: 5\r\nContent-Length: 6\r\n", &format!("abcde{SMUGGLED}")),
        post("Content-Length: 0\r\nContent-Length: 5\r\n", &format!("abcde{SMUGGLED}")),
        post("Content-Length : 5\r\n", "abcde"),
        post("Content-Length\t: 5\r\n", "abcde"),
        post("Content-Length: 5\r\n Content-Length: 6\r\n", "abcde"),
    ]);
    all_safe([post("Content-Length: 5\r\nContent-Length: 5\r\n", "abcde"), post("Content-Length: 005\r\n", "abcde")]);
}

#[test]
fn cl_0() {
    // A body where none is expected belongs to its request.
    all_safe(["GET", "HEAD", "OPTIONS", "DELETE", "PUT"].map(|method| {
        format!("{method} /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len())
    }));
    all_safe(["GET", "DELETE", "PATCH"].map(|method| {
        format!(
            "{method} /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
            SMUGGLED.len()
        )
    }));
}

#[test]
fn chunks_that_are_none() {
    let bodies = [
        "zz\r\n",
        "-1\r\n",
        "+5\r\nabcde\r\n0\r\n\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        " 5\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcdeXX\r\n0\r\n\r\n",
        "5\r\nabcde0\r\n\r\n",
        "5\nabcde\n0\n\n",
        "5\rabcde\r0\r\r",
        "5\r\nabcde\n0\r\n\r\n",
        "5\r\nabcde\r0\r\n\r\n",
        "fffffffffffffffff\r\nabcde",
        "10000000000000005\r\nabcde\r\n0\r\n\r\n",
        "5 5\r\nabcde\r\n0\r\n\r\n",
        "\r\n5\r\nabcde\r\n0\r\n\r\n",
        "5;a\nb\r\nabcde\r\n0\r\n\r\n",
        "5;a\rb\r\nabcde\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "٥\r\nabcde\r\n0\r\n\r\n",
    ];
    all_refused(bodies.map(|body| post("Transfer-Encoding: chunked\r\n", &format!("{body}{SMUGGLED}"))));
    let bodies = [
        "5;a=b\r\nabcde\r\n0\r\n\r\n",
        "05\r\nabcde\r\n000\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX: y\r\n\r\n",
        "5;a=\"b;c\"\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\r\nContent-Length: 3\r\nHost: b\r\nTransfer-Encoding: x\r\n\r\n",
    ];
    all_safe(bodies.map(|body| post("Transfer-Encoding: chunked\r\nTrailer: x\r\n", body)));
}

#[test]
fn heads_that_are_none() {
    all_refused(
        [
            "GET /first HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nX y: a\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
            "GET /first HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a?b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a#b\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\\b\r\n\r\n",
            "GET /first HTTP/1.1\r\n\r\n",
            "GET http://a@b/first HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /first HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET /first HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /first HTTP/1.1 x\r\nHost: a\r\n\r\n",
            "GET /first  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /first x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/first\tHTTP/1.1\r\nHost: a\r\n\r\n",
            "GET first HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T\u{1} /first HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /first\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /first%00 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /first\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /../first HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /first HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        ]
        .map(String::from),
    );
    all_safe(
        [
            "GET /first HTTP/1.1\nHost: a\n\n",
            "\r\nGET /first HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nConnection: content-length, host, transfer-encoding\r\nContent-Length: 3\r\n\r\nabc",
            "GET /first HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
            "GET /first HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\n\r\n",
            "GET /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            "GET http://a/first HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET //first HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
        .map(String::from),
    );
}

#[test]
fn a_message_cut_anywhere_is_none() {
    let (gateway, seen) = start();
    let whole = post("Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\n\r\n");
    for end in (1..whole.len()).step_by(3) {
        let mut client = gateway.connect();
        client.send(&whole[..end]);
        client.finish();
        let answer = client.rest();
        assert!(!answer.contains(" 200 ") && seen.all().is_empty(), "cut at {end}: {answer}");
    }
}

/// Sends one HTTP/2 request with exactly these fields, and waits until the gateway has said something of its stream or
/// closed the connection.
fn send_h2(gateway: &Gateway, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal that is not indexed, its strings as they are (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte of length");
            block.push(text.len() as u8);
            block.extend_from_slice(text);
        }
    }
    let end_stream = u8::from(body.is_none());
    let mut client = gateway.connect();
    client.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat());
    client.send(frame(1, 4 | end_stream, 1, &block));
    if let Some(body) = body {
        client.send(frame(0, 1, 1, body));
    }
    let mut head = [0; 9];
    while client.0.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if client.0.read_exact(&mut payload).is_err() || head[3] == 7 || (head[8] == 1 && [1, 3].contains(&head[3])) {
            break;
        }
    }
}

#[test]
fn from_http2_to_http1() {
    let (gateway, seen) = start();
    let pseudo: [(&[u8], &[u8]); 4] =
        [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/first")];
    let with = |extra: &[(&'static [u8], &'static [u8])]| [&pseudo[..], extra].concat();
    let body = b"abc".as_slice();
    send_h2(&gateway, &with(&[(b"content-length", b"3")]), Some(body));
    assert_eq!(std::mem::take(&mut *seen.all()), ["/first"], "the frames are right");
    for (name, value) in [
        (&b"content-length"[..], &b"0"[..]),
        (b"content-length", b"2"),
        (b"content-length", b"4"),
        (b"content-length", b"+3"),
        (b"content-length", b"3, 3"),
        (b"content-length", b""),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"Transfer-Encoding", b"chunked"),
        (b"transfer-encoding: chunked\r\nx", b"y"),
        (b"connection", b"close"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"host", b"b"),
        (b"host", b"a\r\nHost: b"),
        (b"x", b"y\r\nTransfer-Encoding: chunked"),
        (b"x", b"y\nZ: z"),
        (b"x", b"y\0z"),
        (b"x", b" y"),
        (b"x", b"y\t"),
        (b"x y", b"z"),
        (b"x:y", b"z"),
        (b":x", b"z"),
        (b"", b"z"),
        (b"X", b"z"),
        (b":path", b"/smuggled"),
        (b":method", b"GET"),
        (b":authority", b"b"),
        (b":status", b"200"),
    ] {
        send_h2(&gateway, &with(&[(name, value)]), Some(body));
        assert!(seen.all().is_empty(), "{:?}: {:?} reached as {:?}", text(name), text(value), seen.all());
    }
    for (place, values) in [
        (0, &["GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "G T", "", "POST\0", "CONNECT"][..]),
        (1, &["", "javascript", "http://a/\r\n", "ht tp"]),
        (2, &["", "a b", "a\r\nX: y", "u@a", "a,b", "a:x", "a/b", "a:1:2", "[::1"]),
        (
            3,
            &[
                "",
                "first",
                "/first HTTP/1.1\r\nHost: b\r\n\r\nGET /smuggled",
                "/fi rst",
                "/fi\trst",
                "/first\0",
                "/..",
                "/fi\\rst",
                "http://b/first",
                "*",
            ],
        ),
    ] {
        for value in values {
            let mut fields = pseudo;
            fields[place].1 = value.as_bytes();
            send_h2(&gateway, &fields, Some(body));
            assert!(seen.all().is_empty(), "{value:?} reached as {:?}", seen.all());
        }
        let mut fields = pseudo.to_vec();
        fields.remove(place);
        send_h2(&gateway, &fields, Some(body));
        assert!(seen.all().is_empty(), "without {:?} reached as {:?}", text(pseudo[place].0), seen.all());
    }
}
