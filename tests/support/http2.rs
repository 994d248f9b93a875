//! HTTP/2 frames written by hand (RFC 9113), with field blocks of literals (RFC 7541), so that anything can be said.

use std::{net::SocketAddr, time::Duration};

use super::client::{Client, NoAnswer};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// RFC 9113 section 4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("test frames are small");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// RFC 7541 section 6.2.2: literals that are never indexed, names and values as they are, without Huffman coding.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0x10);
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// RFC 7541 sections 5.1 and 5.2.
fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text);
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Answered, and the body to its end.
    Answered { status: u16, body: Vec<u8> },
    /// RST_STREAM with this code, behind this status if one had come.
    Reset { status: Option<u16>, code: u32 },
    /// GOAWAY with this code.
    GoAway(u32),
    /// The connection ended without a word.
    Ended,
    /// Nothing for a while.
    Silent,
}

impl Outcome {
    /// The request was not let in: an error status of the gateway's, or an error of stream or connection.
    pub fn refused(&self) -> bool {
        match self {
            Outcome::Answered { status, .. } => (400..500).contains(status) || *status == 501,
            Outcome::Reset { .. } | Outcome::GoAway(_) | Outcome::Ended => true,
            Outcome::Silent => false,
        }
    }
}

/// A frame that came.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What comes next.
pub enum Next {
    Frame(Frame),
    /// The connection ended.
    Ended,
    /// Nothing in time.
    Silent,
}

/// A connection whose preface is sent.
pub struct Connection {
    client: Client,
    /// The last stream that will be answered, once the peer said that it leaves (GOAWAY without an error).
    pub last_stream: Option<u32>,
}

impl Connection {
    /// With prior knowledge. The peer's encoder is told to use no dynamic table, so that its blocks read alone.
    pub fn open(address: SocketAddr) -> Result<Connection, NoAnswer> {
        Connection::over(Client::connect(address)?)
    }

    pub fn over(mut client: Client) -> Result<Connection, NoAnswer> {
        const HEADER_TABLE_SIZE: [u8; 6] = [0, 1, 0, 0, 0, 0];
        client.send([PREFACE, &frame(SETTINGS, 0, 0, &HEADER_TABLE_SIZE)].concat());
        let mut connection = Connection { client, last_stream: None };
        // The peer's settings come first; its acknowledgement of ours says that its encoder obeys.
        loop {
            match connection.next(Duration::from_secs(5)) {
                Next::Frame(Frame { kind: SETTINGS, flags: ACK, .. }) => return Ok(connection),
                Next::Frame(Frame { kind: SETTINGS, .. }) => {
                    connection.client.send(frame(SETTINGS, ACK, 0, &[]));
                }
                Next::Frame(_) => {}
                _ => return Err(NoAnswer::Garbled("no SETTINGS".into())),
            }
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.client.send(bytes)
    }

    /// How `stream` ends, within `limit` of silence.
    pub fn outcome(&mut self, stream: u32, limit: Duration) -> Outcome {
        let mut status = None;
        let mut body = Vec::new();
        loop {
            let Frame { kind, flags, stream: id, payload } = match self.next(limit) {
                Next::Frame(frame) => frame,
                Next::Ended => return Outcome::Ended,
                Next::Silent => return Outcome::Silent,
            };
            match kind {
                GOAWAY if code(&payload, 4) != 0 => return Outcome::GoAway(code(&payload, 4)),
                GOAWAY => self.last_stream = Some(code(&payload, 0) & 0x7fff_ffff),
                SETTINGS if flags & ACK == 0 => {
                    self.send(frame(SETTINGS, ACK, 0, &[]));
                }
                PING if flags & ACK == 0 => {
                    self.send(frame(PING, ACK, 0, &payload));
                }
                _ if id != stream => {}
                RST_STREAM => return Outcome::Reset { status, code: code(&payload, 0) },
                HEADERS => {
                    // Trailers have no status.
                    status = status_of(&payload).filter(|status| *status >= 200).or(status);
                }
                DATA => body.extend(&payload),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA)
                && id == stream
                && flags & END_STREAM != 0
                && let Some(status) = status
            {
                return Outcome::Answered { status, body };
            }
        }
    }

    /// Does the connection end, whatever is said before?
    pub fn ends(&mut self, limit: Duration) -> bool {
        loop {
            match self.next(limit) {
                Next::Frame(_) => {}
                Next::Ended => return true,
                Next::Silent => return false,
            }
        }
    }

    pub fn next(&mut self, limit: Duration) -> Next {
        loop {
            let received = self.client.received();
            if let [a, b, c, kind, flags, d, e, f, g, ..] = *received {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
                if received.len() >= 9 + length {
                    let payload = self.client.take(9 + length).split_off(9);
                    return Next::Frame(Frame { kind, flags, stream, payload });
                }
            }
            match self.client.receive(limit) {
                None => return Next::Silent,
                Some(0) => return Next::Ended,
                Some(_) => {}
            }
        }
    }
}

fn code(payload: &[u8], at: usize) -> u32 {
    payload.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// `:status`, which comes first: indexed (RFC 7541, appendix A, 8 to 14), or a literal with the name of index 8.
pub fn status_of(block: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // Changes of the table's size may stand before it.
    let skip = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    match block.get(skip..)? {
        [byte @ 0x88..=0x8e, ..] => Some(INDEXED[usize::from(byte - 0x88)]),
        [0x48 | 0x08 | 0x18, 3, digits @ ..] => std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok(),
        [0x48 | 0x08 | 0x18, length, coded @ ..] if length & 0x80 != 0 => {
            huffman_digits(coded.get(..usize::from(length & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits in Huffman coding (RFC 7541, appendix B): 0, 1 and 2 have five bits, the others six.
fn huffman_digits(coded: &[u8]) -> Option<u16> {
    let bits: String = coded.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut rest = bits.as_str();
    let mut number = 0;
    for _ in 0..3 {
        let short = u16::from_str_radix(rest.get(..5)?, 2).ok()?;
        let (digit, length) = match short {
            0..=2 => (short, 5),
            _ => (u16::from_str_radix(rest.get(..6)?, 2).ok()?.checked_sub(0b01_1001)? + 3, 6),
        };
        number = number * 10 + digit;
        rest = &rest[length..];
    }
    Some(number)
}
