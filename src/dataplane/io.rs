//! A client's bytes on their way to hyper and back: counted, cut at the borders of messages, and ended with a last word.
//!
//! HTTP/1: hyper is given no byte behind the message in hand; what came with it is held back. So a pipelined request
//! waits outside of hyper until its turn, the deadline of a head begins with its own first byte, and bytes that follow an
//! upgrade reach nobody before the 101. HTTP/2 and upgraded streams pass untouched and are only followed.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    accept::Permit,
    frame::{Http2, WebSocket},
    framing::{Bounds, Framing, Refusal},
    parting::{self, Parting},
    pulse::{Farewell, Phase, Pulse},
    transport::Transport,
};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Fields that hyper takes without being told how many: with tables on the stack, where others cost two allocations of
/// 4 KiB and their initialisation for each request.
pub const HYPER_FIELDS: usize = 100;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    Http1,
    Http2,
}

enum Mode {
    Http1(Framing),
    Http2(Box<Http2>),
    /// Upgraded, to WebSocket or to something else.
    Raw(Option<WebSocket>),
}

/// The bytes of one connection. Dropping it closes the connection and gives its [`Permit`] back.
pub struct Io {
    transport: Transport,
    pulse: Arc<Pulse>,
    bounds: Bounds,
    mode: Mode,
    /// Received, and not yet due.
    held: BytesMut,
    /// hyper takes as many fields as the settings allow.
    roomy: bool,
    parting: Parting,
    _permit: Permit,
}

impl Io {
    /// Speaks HTTP/1 until [`Io::sniff`] or [`Io::speak`] says otherwise.
    pub fn new(transport: Transport, pulse: Arc<Pulse>, bounds: Bounds, permit: Permit) -> Io {
        Io {
            transport,
            pulse,
            bounds,
            mode: Mode::Http1(Framing::new()),
            held: BytesMut::new(),
            roomy: false,
            parting: Parting::No,
            _permit: permit,
        }
    }

    /// The protocol that ALPN agreed on.
    pub fn speak(&mut self, protocol: Protocol) {
        self.mode = match protocol {
            Protocol::Http1 => Mode::Http1(Framing::new()),
            Protocol::Http2 => Mode::Http2(Box::default()),
        };
    }

    /// Takes back what hyper was given of a head, for a hyper with larger tables.
    pub fn make_room(&mut self, given: &[u8]) {
        self.held = hold(given, &self.held);
        self.roomy = true;
        self.pulse.want_room(false);
    }

    /// Looks for the preface of HTTP/2 with prior knowledge (RFC 9113, section 3.3). Ends with an error when the client
    /// goes away or is sent away before enough has come.
    pub async fn sniff(&mut self) -> io::Result<Protocol> {
        let protocol = std::future::poll_fn(|cx| self.poll_sniff(cx)).await?;
        if protocol == Protocol::Http2 {
            self.pulse.enter(Phase::Idle);
            self.speak(protocol);
        }
        Ok(protocol)
    }

    fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            let farewell = self.pulse.farewell();
            if farewell.is_some_and(|farewell| farewell != Farewell::Silent || !matches!(self.parting, Parting::No)) {
                return self.poll_farewell(cx).map(Err);
            }
            let mut buffer = [0; 2048];
            let mut buf = ReadBuf::new(&mut buffer);
            if self.transport.poll_read(cx, &mut buf)?.is_pending() {
                return if farewell.is_some() { self.poll_farewell(cx).map(Err) } else { Poll::Pending };
            }
            if buf.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.pulse.set_farewell(None);
            if self.held.is_empty() {
                self.pulse.enter(Phase::Head);
            }
            self.held.extend_from_slice(buf.filled());
            let known = self.held.len().min(HTTP2_PREFACE.len());
            if self.held[..known] != HTTP2_PREFACE[..known] {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            if known == HTTP2_PREFACE.len() {
                return Poll::Ready(Ok(Protocol::Http2));
            }
        }
    }

    /// Reads what is held, else from the client.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return self.transport.poll_read(cx, buf);
        }
        let part = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..part]);
        self.held.advance(part);
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_http1(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pulse.wants_room() {
            return Poll::Pending;
        }
        self.cross_border();
        if self.pulse.body_timed_out() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let start = buf.filled().len();
        if self.poll_bytes(cx, buf)?.is_pending() {
            if self.pulse.phase() == Phase::Message {
                self.pulse.wait_read();
            }
            return Poll::Pending;
        }
        let fresh = &buf.filled()[start..];
        let Mode::Http1(framing) = &mut self.mode else { return Poll::Ready(Ok(())) };
        if fresh.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.pulse.read();
        if self.pulse.phase() == Phase::Idle {
            self.pulse.enter(Phase::Head);
        }
        match framing.take(fresh, &self.bounds) {
            Ok(_) if framing.fields() > HYPER_FIELDS && !self.roomy => {
                self.held = hold(fresh, &self.held);
                buf.set_filled(start);
                *framing = Framing::new();
                self.pulse.want_room(true);
                Poll::Pending
            }
            Ok(taken) => {
                if taken < fresh.len() {
                    self.held = hold(&fresh[taken..], &self.held);
                    buf.set_filled(start + taken);
                }
                self.pulse.part(framing.in_part());
                Poll::Ready(Ok(()))
            }
            Err(Refusal::Body(error)) => {
                buf.set_filled(start);
                *framing = Framing::Lost;
                Poll::Ready(Err(error))
            }
            Err(Refusal::Head(farewell)) => {
                buf.set_filled(start);
                self.pulse.set_farewell(Some(farewell));
                self.poll_farewell(cx).map(Err)
            }
        }
    }

    /// hyper asks for more than the part of the message that it was given: the next part begins.
    fn cross_border(&mut self) {
        let Mode::Http1(framing) = &mut self.mode else { return };
        match framing {
            Framing::HeadEnd(_) if self.pulse.phase() == Phase::Message => {
                *framing = Framing::body(self.pulse.body());
            }
            // hyper does not see the end of the head here: it will judge with what follows.
            Framing::HeadEnd(head) => *framing = Framing::Head(std::mem::take(head)),
            _ => {}
        }
        if let Framing::End = framing {
            *framing = Framing::new();
            self.pulse.enter(Phase::Idle);
        }
    }

    fn poll_http2(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        ready!(self.poll_bytes(cx, buf))?;
        let Mode::Http2(http2) = &mut self.mode else { return Poll::Ready(Ok(())) };
        self.pulse.read();
        if !http2.received(&buf.filled()[start..], &self.pulse.clock) {
            buf.set_filled(start);
            self.pulse.set_farewell(Some(Farewell::Calm));
            return self.poll_farewell(cx).map(Err);
        }
        self.pulse.part(http2.in_part());
        Poll::Ready(Ok(()))
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_bytes(cx, buf);
        match polled {
            Poll::Pending => self.pulse.remember_reader(cx),
            Poll::Ready(_) => self.pulse.read(),
        }
        polled
    }

    fn sent(&mut self, bytes: &[u8]) {
        match &mut self.mode {
            Mode::Http1(_) | Mode::Raw(None) => {}
            Mode::Http2(http2) => http2.sent(bytes),
            Mode::Raw(Some(websocket)) => websocket.sent(bytes),
        }
    }

    /// Says the last word, shuts down, and waits for the client to have read it. The error is what the protocol above
    /// is to see.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Mode::Raw(_) = self.mode {
            self.pulse.remember_reader(cx);
        }
        if let (Parting::No, Some(farewell)) = (&self.parting, self.pulse.farewell()) {
            let word = if self.pulse.waits_for_write() { Vec::new() } else { self.word(farewell) };
            self.parting = Parting::speak(word);
            self.pulse.enter(Phase::Lingering);
        }
        self.parting.poll(&mut self.transport, cx).map(|()| io::ErrorKind::ConnectionAborted.into())
    }

    fn word(&self, farewell: Farewell) -> Vec<u8> {
        let word = match (farewell, &self.mode) {
            (Farewell::BadRequest, _) => return parting::refusal("400 Bad Request"),
            (Farewell::RequestTimeout, _) => return parting::refusal("408 Request Timeout"),
            (Farewell::UriTooLong, _) => return parting::refusal("414 URI Too Long"),
            (Farewell::FieldsTooLarge, _) => return parting::refusal("431 Request Header Fields Too Large"),
            (Farewell::Calm, Mode::Http2(http2)) => http2.calm().map(Vec::from),
            (Farewell::GoingAway, Mode::Raw(Some(websocket))) => websocket.going_away().map(Vec::from),
            _ => None,
        };
        word.unwrap_or_default()
    }

    /// Something that the client has sent was not read: closing now would reset the connection under the answer.
    fn unread(&self) -> bool {
        !self.held.is_empty() || matches!(&self.mode, Mode::Http1(framing) if !framing.settled())
    }

    /// Fails when the connection is over, and follows an upgrade.
    fn check(&mut self) -> io::Result<()> {
        if self.pulse.dead() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.pulse.phase() == Phase::Upgraded && matches!(self.mode, Mode::Http1(_)) {
            self.mode = Mode::Raw(self.pulse.websocket().then(WebSocket::default));
        }
        Ok(())
    }
}

/// `first`, and behind it what was held already.
fn hold(first: &[u8], held: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(first.len() + held.len());
    bytes.extend_from_slice(first);
    bytes.extend_from_slice(held);
    bytes
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check()?;
        if let Some(farewell) = this.pulse.farewell() {
            let idle = matches!(this.parting, Parting::No) && this.pulse.phase() == Phase::Idle;
            if idle && farewell == Farewell::Silent && this.poll_http1(cx, buf)?.is_ready() {
                this.pulse.set_farewell(None);
                return Poll::Ready(Ok(()));
            }
            return this.poll_farewell(cx).map(Err);
        }
        match this.mode {
            Mode::Http1(_) => this.poll_http1(cx, buf),
            Mode::Http2(_) => this.poll_http2(cx, buf),
            Mode::Raw(_) => this.poll_raw(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.check()?;
        if !matches!(this.parting, Parting::No) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let polled = Pin::new(&mut this.transport).poll_write_vectored(cx, bufs);
        match &polled {
            Poll::Pending => this.pulse.wait_write(),
            Poll::Ready(Ok(written)) => {
                this.pulse.written();
                let mut left = *written;
                for buf in bufs {
                    let part = left.min(buf.len());
                    this.sent(&buf[..part]);
                    left -= part;
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Mode::Raw(_) = this.mode {
            return Pin::new(&mut this.transport).poll_shutdown(cx);
        }
        if let Parting::No = this.parting {
            this.parting = Parting::ShuttingDown { patient: this.unread() };
            this.pulse.enter(Phase::Lingering);
        }
        this.parting.poll(&mut this.transport, cx).map(Ok)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.pulse.leave();
    }
}
