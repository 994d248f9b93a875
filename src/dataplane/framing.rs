//! Where an HTTP/1 client's messages begin and end in its bytes, and the bounds on what stands between their parts.
//!
//! hyper parses and judges; this only finds the borders, so that no byte behind a message is given to hyper with it, so
//! that deadlines know what is under way, and so that what hyper does not bound is bounded: blank lines before a
//! request, the request line, chunk-size lines, trailer fields (RFC 9112, sections 2.2, 3 and 7.1).

use std::io;

use super::{
    Settings,
    pulse::{BodyFraming, Farewell},
};

const MAX_BLANK_LINES: u8 = 4;
const MAX_CHUNK_LINE: usize = 256;

/// The bounds that [`Framing`] keeps.
#[derive(Clone, Copy)]
pub struct Bounds {
    head: usize,
    request_line: usize,
    trailers: usize,
    trailer_fields: usize,
}

impl Bounds {
    pub fn new(settings: &Settings) -> Bounds {
        Bounds {
            head: settings.max_head,
            request_line: settings.max_request_line,
            trailers: settings.max_trailers,
            trailer_fields: settings.max_trailer_fields,
        }
    }
}

/// Where in a message the client's bytes are.
pub enum Framing {
    Head(Head),
    /// The head is whole; its meaning is not known yet.
    HeadEnd(Head),
    Length(u64),
    Chunked(Chunked),
    /// The message is whole.
    End,
    /// hyper is about to refuse the bytes: there are no borders any more.
    Lost,
}

/// Why no more of a message is taken.
pub enum Refusal {
    /// In the head: answered by the connection itself.
    Head(Farewell),
    /// In the body: an error for whoever reads it.
    Body(io::Error),
}

impl Framing {
    pub fn new() -> Framing {
        Framing::Head(Head::default())
    }

    /// The body that follows a head.
    pub fn body(framing: BodyFraming) -> Framing {
        match framing {
            BodyFraming::Chunked => Framing::Chunked(Chunked::default()),
            BodyFraming::Length(0) => Framing::End,
            BodyFraming::Length(length) => Framing::Length(length),
        }
    }

    /// Takes the client's next bytes, and says how many of them belong to what is under way.
    pub fn take(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<usize, Refusal> {
        match self {
            Framing::Head(head) => {
                let (taken, whole) = head.take(bytes, bounds).map_err(Refusal::Head)?;
                if whole {
                    *self = Framing::HeadEnd(std::mem::take(head));
                }
                Ok(taken)
            }
            Framing::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Framing::End;
                }
                Ok(taken)
            }
            Framing::Chunked(chunked) => {
                let taken = chunked.take(bytes, bounds).map_err(Refusal::Body)?;
                match chunked.at {
                    At::End => *self = Framing::End,
                    At::Malformed => *self = Framing::Lost,
                    _ => {}
                }
                Ok(taken)
            }
            Framing::HeadEnd(_) | Framing::End | Framing::Lost => Ok(bytes.len()),
        }
    }

    /// Is a chunk-size line or the trailer section under way?
    pub fn in_part(&self) -> bool {
        matches!(self, Framing::Chunked(Chunked { at: At::Size | At::Extension | At::Trailers, line: 1.., .. }))
    }

    /// Fields of the head that has just become whole; of one that hyper refuses maybe more.
    pub fn fields(&self) -> usize {
        if let Framing::HeadEnd(head) = self { head.fields } else { 0 }
    }

    /// Has the client said all that it has begun to say?
    pub fn settled(&self) -> bool {
        match self {
            Framing::Head(head) => head.size == 0,
            Framing::End => true,
            _ => false,
        }
    }
}

impl Default for Framing {
    fn default() -> Self {
        Framing::new()
    }
}

/// A head, up to the blank line.
#[derive(Default)]
pub struct Head {
    size: usize,
    /// Bytes of the current line.
    line: usize,
    last: u8,
    blank_lines: u8,
    request_line_ended: bool,
    /// Lines between the request line and the blank one.
    fields: usize,
}

impl Head {
    fn take(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<(usize, bool), Farewell> {
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &bytes[at..]) {
            let before = if end == 0 { self.last } else { bytes[at + end - 1] };
            let line = self.line + end;
            let blank = line == 0 || (line == 1 && before == b'\r');
            at += end + 1;
            (self.line, self.last) = (0, b'\n');
            match (blank, self.request_line_ended) {
                (true, true) => {
                    self.size += at;
                    return if self.size > bounds.head { Err(Farewell::FieldsTooLarge) } else { Ok((at, true)) };
                }
                (true, false) => {
                    self.blank_lines += 1;
                    if self.blank_lines > MAX_BLANK_LINES {
                        return Err(Farewell::BadRequest);
                    }
                }
                (false, false) if line > bounds.request_line => return Err(Farewell::UriTooLong),
                (false, false) => self.request_line_ended = true,
                (false, true) => self.fields += 1,
            }
        }
        self.line += bytes.len() - at;
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.size += bytes.len();
        if !self.request_line_ended && self.line > bounds.request_line {
            return Err(Farewell::UriTooLong);
        }
        if self.size > bounds.head { Err(Farewell::FieldsTooLarge) } else { Ok((bytes.len(), false)) }
    }
}

/// A chunked body (RFC 9112, section 7.1).
#[derive(Default)]
pub struct Chunked {
    at: At,
    /// Of the chunk: what its size line says, then what is left of it with the line end behind it.
    left: u64,
    /// Bytes of the line, or of the whole trailer section.
    line: usize,
    field: usize,
    fields: usize,
    /// In the trailer section: the byte before was a CR.
    after_cr: bool,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum At {
    #[default]
    Size,
    Extension,
    Data,
    Trailers,
    End,
    Malformed,
}

impl Chunked {
    fn take(&mut self, bytes: &[u8], bounds: &Bounds) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.at {
                At::Size | At::Extension => {
                    self.size_byte(bytes[taken])?;
                    taken += 1;
                }
                At::Data => {
                    let rest = bytes.len() - taken;
                    let data = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                    self.left -= data as u64;
                    taken += data;
                    if self.left == 0 {
                        (self.at, self.line) = (At::Size, 0);
                    }
                }
                At::Trailers => {
                    self.trailer_byte(bytes[taken], bounds)?;
                    taken += 1;
                }
                At::End => break,
                At::Malformed => return Ok(bytes.len()),
            }
        }
        Ok(taken)
    }

    fn size_byte(&mut self, byte: u8) -> io::Result<()> {
        self.line += 1;
        if self.line > MAX_CHUNK_LINE {
            return Err(refused("a chunk-size line is longer than 256 bytes"));
        }
        match (self.at, byte, (byte as char).to_digit(16)) {
            (_, b'\n', _) if self.left == 0 => (self.at, self.line, self.field) = (At::Trailers, 0, 0),
            (_, b'\n', _) => match self.left.checked_add(2) {
                Some(left) => (self.at, self.left) = (At::Data, left),
                None => self.at = At::Malformed,
            },
            (At::Size, _, Some(digit)) => match self.left.checked_mul(16) {
                Some(left) => self.left = left + u64::from(digit),
                None => self.at = At::Malformed,
            },
            _ => self.at = At::Extension,
        }
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8, bounds: &Bounds) -> io::Result<()> {
        self.line += 1;
        if self.line > bounds.trailers {
            return Err(refused("the trailer section is too long"));
        }
        // hyper takes a bare LF for a line end here; another server does not, and would read on into the next request.
        if std::mem::replace(&mut self.after_cr, byte == b'\r') != (byte == b'\n') {
            return Err(refused("a line of the trailer section does not end in CRLF"));
        }
        match byte {
            b'\n' if self.field == 0 => self.at = At::End,
            b'\n' => {
                self.field = 0;
                self.fields += 1;
                if self.fields > bounds.trailer_fields {
                    return Err(refused("the trailer section has too many fields"));
                }
            }
            b'\r' => {}
            _ => self.field += 1,
        }
        Ok(())
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds::new(&Settings::default())
    }

    /// Feeds `input` in pieces of `step` bytes and returns how many belong to the message.
    fn taken(mut framing: Framing, input: &[u8], step: usize) -> Option<usize> {
        let mut taken = 0;
        for piece in input.chunks(step) {
            let part = framing.take(piece, &bounds()).ok()?;
            taken += part;
            if part < piece.len() || matches!(framing, Framing::HeadEnd(_) | Framing::End) {
                return Some(taken);
            }
        }
        None
    }

    #[test]
    fn a_trailer_section_has_no_bare_line_ends() {
        let chunked = || Framing::Chunked(Chunked::default());
        assert_eq!(taken(chunked(), b"0\r\na: b\r\n\r\nGET", 100), Some(11));
        for body in ["0\r\n\nGET", "0\r\na: b\n\r\n", "0\r\na: \rb\r\n\r\n"] {
            for step in 1..body.len() {
                assert_eq!(taken(chunked(), body.as_bytes(), step), None, "{body:?} by {step}");
            }
        }
    }

    #[test]
    fn a_head_ends_at_its_blank_line_however_it_is_cut() {
        for head in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\n\n", "GET / HTTP/1.0\r\n\n"] {
            let input = format!("{head}GET /next");
            for step in 1..input.len() {
                assert_eq!(taken(Framing::new(), input.as_bytes(), step), Some(head.len()), "{head:?} by {step}");
            }
        }
    }

    #[test]
    fn a_chunked_body_ends_behind_its_trailers_however_it_is_cut() {
        for body in
            ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "A;x=y\r\n0123456789\r\n1\r\n\n\r\n0;z\r\na: b\r\nc: d\r\n\r\n"]
        {
            let input = format!("{body}GET /next");
            for step in 1..input.len() {
                let framing = Framing::body(BodyFraming::Chunked);
                assert_eq!(taken(framing, input.as_bytes(), step), Some(body.len()), "{body:?} by {step}");
            }
        }
    }

    #[test]
    fn a_length_is_counted() {
        assert_eq!(taken(Framing::body(BodyFraming::Length(5)), b"hello, next", 3), Some(5));
        assert!(matches!(Framing::body(BodyFraming::Length(0)), Framing::End));
    }

    #[test]
    fn bounds_refuse() {
        let head = |input: String| match Framing::new().take(input.as_bytes(), &bounds()) {
            Err(Refusal::Head(farewell)) => Some(farewell),
            _ => None,
        };
        assert_eq!(head("\r\n".repeat(5)), Some(Farewell::BadRequest));
        assert_eq!(head("\r\n".repeat(4)), None);
        assert_eq!(head(format!("GET /{} HTTP/1.1\r\n", "a".repeat(8 << 10))), Some(Farewell::UriTooLong));
        assert_eq!(head(format!("GET /{}", "a".repeat(8 << 10))), Some(Farewell::UriTooLong));
        assert_eq!(head(format!("GET / HTTP/1.1\r\na: {}", "b".repeat(60 << 10))), Some(Farewell::FieldsTooLarge));
        assert_eq!(head(format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(59 << 10))), None);

        let body = |input: String| Framing::body(BodyFraming::Chunked).take(input.as_bytes(), &bounds()).is_err();
        assert!(body(format!("{}5\r\n", "0".repeat(256))));
        assert!(!body(format!("{}5\r\n", "0".repeat(253))));
        assert!(body(format!("5;{}", "x".repeat(300))));
        assert!(body(format!("0\r\na: {}\r\n", "b".repeat(16 << 10))));
        assert!(body(format!("0\r\n{}", "a: b\r\n".repeat(65))));
        assert!(!body(format!("0\r\n{}\r\n", "a: b\r\n".repeat(64))));
    }
}
