//! The frames of HTTP/2 and WebSocket, as far as a connection must know where one ends and what a client sends too
//! many of (RFC 9113, sections 4.1 and 10.5; RFC 6455, section 5.2).
//!
//! h2 parses and judges; what is counted here is what it answers without a bound over time.

use std::time::Duration;

use super::pulse::Clock;

const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a header of nine bytes says.
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Follows the frames of one direction of an HTTP/2 connection.
struct Frames {
    preface: usize,
    header: [u8; HEADER],
    have: usize,
    payload: usize,
}

impl Frames {
    fn new(preface: usize) -> Frames {
        Frames { preface, header: [0; HEADER], have: 0, payload: 0 }
    }

    /// Takes the next bytes and calls `each` with the header of every frame that begins in them.
    fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = (self.preface + self.payload).min(bytes.len());
            if skipped > 0 {
                bytes = &bytes[skipped..];
                let preface = self.preface.min(skipped);
                self.preface -= preface;
                self.payload -= skipped - preface;
                continue;
            }
            let part = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == HEADER {
                let [a, b, c, kind, flags, stream @ ..] = self.header;
                self.have = 0;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                each(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff });
            }
        }
    }

    fn at_border(&self) -> bool {
        self.preface + self.have + self.payload == 0
    }
}

/// How long what a client sends is counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Resets of streams in a [`WINDOW`], in one direction: rapid reset (CVE-2023-44487), made you reset (CVE-2025-8671).
const MAX_RESETS: u32 = 1000;
/// SETTINGS, PING, PRIORITY, WINDOW_UPDATE and unknown frames in a [`WINDOW`] ...
const MAX_CONTROL: u32 = 1000;
/// ... and as many more for each frame that a client may well answer so.
const CONTROL_FOR_EACH: u32 = 8;

/// What a client of HTTP/2 asks of the connection itself.
pub struct Http2 {
    incoming: Frames,
    outgoing: Frames,
    last_stream: u32,
    block_open: bool,
    header_kind: u8,
    window: u32,
    resets: u32,
    provoked_resets: u32,
    control: u32,
    credit: u32,
}

impl Http2 {
    pub fn new() -> Http2 {
        Http2 {
            incoming: Frames::new(PREFACE),
            outgoing: Frames::new(0),
            last_stream: 0,
            block_open: false,
            header_kind: 0,
            window: 0,
            resets: 0,
            provoked_resets: 0,
            control: 0,
            credit: 0,
        }
    }

    /// Takes the client's next bytes; false when it has gone too far.
    pub fn received(&mut self, bytes: &[u8], clock: &Clock) -> bool {
        self.turn(clock);
        let Http2 { incoming, last_stream, block_open, header_kind, resets, control, credit, .. } = self;
        incoming.take(bytes, |Frame { kind, flags, stream }| {
            *header_kind = kind;
            match kind {
                DATA => {}
                HEADERS | CONTINUATION => {
                    *block_open = flags & END_HEADERS == 0;
                    *last_stream = stream.max(*last_stream);
                    *credit += u32::from(kind == HEADERS) * CONTROL_FOR_EACH;
                }
                RST_STREAM => *resets += 1,
                SETTINGS | PING if flags & ACK != 0 => {}
                _ => *control += 1,
            }
        });
        self.within_bounds()
    }

    /// Takes what is sent to the client.
    pub fn sent(&mut self, bytes: &[u8]) {
        let Http2 { outgoing, provoked_resets, credit, .. } = self;
        outgoing.take(bytes, |frame| match frame.kind {
            DATA | WINDOW_UPDATE => *credit += CONTROL_FOR_EACH,
            RST_STREAM => *provoked_resets += 1,
            _ => {}
        });
    }

    fn turn(&mut self, clock: &Clock) {
        let now = clock.now();
        if now.saturating_sub(self.window) >= clock.ticks(WINDOW) {
            self.window = now;
            (self.resets, self.provoked_resets, self.control, self.credit) = (0, 0, 0, 0);
        }
    }

    fn within_bounds(&self) -> bool {
        self.resets <= MAX_RESETS
            && self.provoked_resets <= MAX_RESETS
            && self.control <= MAX_CONTROL.saturating_add(self.credit)
    }

    /// Is the preface or a header block under way?
    pub fn in_part(&self) -> bool {
        let header_block = matches!(self.header_kind, HEADERS | CONTINUATION);
        self.block_open
            || (header_block && self.incoming.payload > 0)
            || (1..PREFACE).contains(&self.incoming.preface)
            || self.incoming.have > 0
    }

    /// GOAWAY with ENHANCE_YOUR_CALM, where a frame may begin now.
    pub fn calm(&self) -> Option<[u8; 17]> {
        const ENHANCE_YOUR_CALM: u8 = 11;
        let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
        frame[9..13].copy_from_slice(&self.last_stream.to_be_bytes());
        self.outgoing.at_border().then_some(frame)
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Http2::new()
    }
}

/// Follows the frames that a WebSocket's backend sends.
#[derive(Default)]
pub struct WebSocket {
    header: [u8; 14],
    have: usize,
    payload: u64,
    closed: bool,
}

impl WebSocket {
    /// Takes what is sent to the client.
    pub fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            if self.payload > 0 {
                let part = usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload -= part as u64;
                bytes = &bytes[part..];
                continue;
            }
            self.header[self.have] = byte;
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_length() {
                self.closed |= self.header[0] & 0x0f == 8;
                self.payload = self.length();
                self.have = 0;
            }
        }
    }

    fn header_length(&self) -> usize {
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn length(&self) -> u64 {
        match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        }
    }

    /// A close frame with 1001 (going away), where a frame may begin now and none has been sent.
    pub fn going_away(&self) -> Option<[u8; 4]> {
        (self.have == 0 && self.payload == 0 && !self.closed).then_some([0x88, 2, 0x03, 0xe9])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Settings;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn a_header_block_is_under_way_until_it_ends() {
        let clock = Clock::new(&Settings::default());
        let mut http2 = Http2::new();
        assert!(!http2.in_part());
        http2.received(b"PRI * ", &clock);
        assert!(http2.in_part());
        http2.received(b"HTTP/2.0\r\n\r\nSM\r\n\r\n", &clock);
        assert!(!http2.in_part());
        let headers = frame(HEADERS, 0, 5, b"abc");
        http2.received(&headers[..10], &clock);
        assert!(http2.in_part());
        http2.received(&headers[10..], &clock);
        assert!(http2.in_part(), "END_HEADERS is missing");
        http2.received(&frame(CONTINUATION, END_HEADERS, 5, b"d"), &clock);
        assert!(!http2.in_part());
        assert_eq!(http2.calm().expect("nothing was sent")[9..13], [0, 0, 0, 5]);
        http2.sent(&frame(DATA, 0, 5, b"data")[..11]);
        assert!(http2.calm().is_none(), "in the middle of a frame");
    }

    #[test]
    fn floods_are_counted() {
        let clock = Clock::new(&Settings::default());
        for (kind, bound) in [(PING, MAX_CONTROL), (SETTINGS, MAX_CONTROL), (2, MAX_CONTROL), (RST_STREAM, MAX_RESETS)]
        {
            let mut http2 = Http2::new();
            http2.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &clock);
            let one = frame(kind, 0, 1, &[0; 8]);
            assert!((0..bound).all(|_| http2.received(&one, &clock)), "{kind}");
            assert!(!http2.received(&one, &clock), "{kind}");
            (0..clock.ticks(WINDOW)).for_each(|_| _ = clock.advance());
            assert!(http2.received(&one, &clock), "{kind} in the next window");
        }
    }

    #[test]
    fn a_close_frame_goes_between_frames_only() {
        let mut websocket = WebSocket::default();
        assert!(websocket.going_away().is_some());
        websocket.sent(&[0x82, 126, 1]);
        assert!(websocket.going_away().is_none());
        websocket.sent(&[0]);
        websocket.sent(&[7; 255]);
        assert!(websocket.going_away().is_none());
        websocket.sent(&[7]);
        assert!(websocket.going_away().is_some());
        websocket.sent(&[0x88, 2, 3, 0xe8]);
        assert!(websocket.going_away().is_none());
    }
}
