//! A strict reader of HTTP/1.1 messages (RFC 9112): what two readers could take differently is an error here.

/// A message as it stood on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The request line or status line.
    pub start: String,
    /// In their order, names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// What the bytes so far hold.
#[derive(Debug)]
pub enum Read {
    /// A message, and how many bytes it took.
    Whole(Message, usize),
    /// A valid beginning.
    Part,
}

impl Message {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Of an answer; 0 for what is none.
    pub fn status(&self) -> u16 {
        self.target().parse().unwrap_or(0)
    }
}

/// Reads a request from the start of `bytes`.
pub fn request(bytes: &[u8]) -> Result<Read, String> {
    let Some((mut message, length)) = head(bytes)? else { return Ok(Read::Part) };
    check_request_line(&message.start)?;
    match message.all("host")[..] {
        [host] if !host.is_empty() && !host.contains([' ', ',', '@', '/', '\\']) => {}
        ref hosts => return Err(format!("Host is {hosts:?}")),
    }
    let rest = &bytes[length..];
    match framing(&message)? {
        Framing::Chunked => finish_chunked(message, rest, length),
        Framing::Length(body) => Ok(finish_length(message, rest, length, body)),
        Framing::None => {
            message.body.clear();
            Ok(Read::Whole(message, length))
        }
    }
}

/// Reads an answer from the start of `bytes`. `ended`: no more will come.
pub fn answer(bytes: &[u8], method: &str, ended: bool) -> Result<Read, String> {
    let Some((mut message, length)) = head(bytes)? else { return Ok(Read::Part) };
    check_status_line(&message.start)?;
    let rest = &bytes[length..];
    let status = message.status();
    // RFC 9112 section 6.3, items 1 and 2.
    if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) || (method == "CONNECT" && status / 100 == 2) {
        return Ok(Read::Whole(message, length));
    }
    match framing(&message)? {
        Framing::Chunked => finish_chunked(message, rest, length),
        Framing::Length(body) => Ok(finish_length(message, rest, length, body)),
        Framing::None if ended => {
            message.body = rest.to_vec();
            Ok(Read::Whole(message, bytes.len()))
        }
        Framing::None => Ok(Read::Part),
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// RFC 9112 section 6.3, with every doubt an error.
fn framing(message: &Message) -> Result<Framing, String> {
    match (&message.all("transfer-encoding")[..], &message.all("content-length")[..]) {
        ([], []) => Ok(Framing::None),
        (["chunked"], []) => Ok(Framing::Chunked),
        ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            length.parse().map(Framing::Length).map_err(|_| format!("Content-Length {length}"))
        }
        (encodings, lengths) => Err(format!("Transfer-Encoding {encodings:?} and Content-Length {lengths:?}")),
    }
}

fn finish_length(mut message: Message, rest: &[u8], head: usize, body: usize) -> Read {
    match rest.get(..body) {
        Some(bytes) => {
            message.body = bytes.to_vec();
            Read::Whole(message, head + body)
        }
        None => Read::Part,
    }
}

/// RFC 9112 section 7.1: sizes without extensions, CRLF everywhere, no framing fields in trailers.
fn finish_chunked(mut message: Message, rest: &[u8], head: usize) -> Result<Read, String> {
    let mut at = 0;
    loop {
        let Some(line) = line(&rest[at..])? else { return Ok(Read::Part) };
        if line.is_empty() || line.len() > 16 || !line.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("chunk size {line:?}"));
        }
        let size = usize::from_str_radix(line, 16).map_err(|_| format!("chunk size {line:?}"))?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        let Some(data) = rest[at..].get(..size) else { return Ok(Read::Part) };
        message.body.extend_from_slice(data);
        at += size;
        match rest.get(at..at + 2) {
            None if b"\r\n".starts_with(&rest[at..]) => return Ok(Read::Part),
            Some(b"\r\n") => at += 2,
            other => return Err(format!("{other:?} behind a chunk")),
        }
    }
    loop {
        let Some(line) = line(&rest[at..])? else { return Ok(Read::Part) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Read::Whole(message, head + at));
        }
        let (name, value) = field(line)?;
        if matches!(name.as_str(), "content-length" | "transfer-encoding" | "host" | "trailer") {
            return Err(format!("{name} in a trailer"));
        }
        message.trailers.push((name, value));
    }
}

/// The head and its length, once it is whole.
fn head(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let mut message = Message::default();
    let Some(start) = line(bytes)? else { return Ok(None) };
    message.start = start.to_owned();
    let mut at = start.len() + 2;
    loop {
        let Some(line) = line(&bytes[at..])? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((message, at)));
        }
        message.fields.push(field(line)?);
    }
}

/// Up to CRLF, without it. Bare CR, bare LF, control bytes and what is not UTF-8 are errors.
fn line(bytes: &[u8]) -> Result<Option<&str>, String> {
    let Some(end) = bytes.iter().position(|&b| b == b'\r' || b == b'\n') else {
        return check_line(bytes).map(|_| None);
    };
    let line = check_line(&bytes[..end])?;
    match &bytes[end..] {
        [b'\r', b'\n', ..] => Ok(Some(line)),
        [b'\r'] => Ok(None),
        _ => Err(format!("bare CR or LF behind {line:?}")),
    }
}

fn check_line(bytes: &[u8]) -> Result<&str, String> {
    match bytes.iter().find(|&&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        Some(byte) => Err(format!("byte {byte:#04x} in {:?}", String::from_utf8_lossy(bytes))),
        None => std::str::from_utf8(bytes).map_err(|_| format!("not UTF-8: {:?}", String::from_utf8_lossy(bytes))),
    }
}

/// RFC 9112 section 5: no space before the colon, no folding.
fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("field name {name:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

/// RFC 9110 section 5.6.2.
fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn check_request_line(line: &str) -> Result<(), String> {
    let [method, target, "HTTP/1.1"] = line.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("request line {line:?}"));
    };
    let path = target.starts_with('/') && !target.contains(['\\', '#', '\t']) && target.is_ascii();
    if method.is_empty() || !method.bytes().all(token) || !(path || (method == "OPTIONS" && target == "*")) {
        return Err(format!("request line {line:?}"));
    }
    Ok(())
}

fn check_status_line(line: &str) -> Result<(), String> {
    // HTTP/1.0 is what a client of HTTP/1.0 may get; who cares which it is looks at `start`.
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3));
    match status {
        Some(code)
            if code.bytes().all(|b| b.is_ascii_digit()) && matches!(line.as_bytes().get(12), None | Some(b' ')) =>
        {
            Ok(())
        }
        _ => Err(format!("status line {line:?}")),
    }
}
