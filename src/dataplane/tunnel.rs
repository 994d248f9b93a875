//! Upgraded streams: bytes both ways until both sides are done, nothing has moved for the upgrade idle timeout, or the
//! gateway parts with them.
//!
//! A WebSocket over HTTP/1 has the connection to itself, whose `Io` says the last word. One over HTTP/2 shares it: the
//! last word stands in the stream, behind what the backend has sent.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::Version;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{clock::Side, exchange::Exchange, frame::WebSocket};

/// The upgraded streams of a connection: at most one on HTTP/1.
#[derive(Default)]
pub struct Tunnels(RefCell<Vec<Rc<Tunnel>>>);

impl Tunnels {
    pub fn enter(&self, tunnel: Rc<Tunnel>) {
        let mut tunnels = self.0.borrow_mut();
        tunnels.retain(|tunnel| Rc::strong_count(tunnel) > 1);
        tunnels.push(tunnel);
    }

    /// Has those leave by `tick` whose listener is `gone`.
    pub fn leave(&self, tick: u32, gone: impl Fn(&str) -> bool) {
        self.0.borrow().iter().filter(|tunnel| gone(&tunnel.listener)).for_each(|tunnel| tunnel.leave(tick));
    }

    pub fn any_due(&self, now: u32) -> bool {
        self.0.borrow().iter().any(|tunnel| tunnel.is_due(now))
    }

    /// Parts with those that are due.
    pub fn part_due(&self, now: u32) {
        self.0.borrow().iter().filter(|tunnel| tunnel.is_due(now)).for_each(|tunnel| _ = tunnel.part());
    }

    /// Parts with all of them; false when that was done before, or there are none.
    pub fn part_all(&self) -> bool {
        self.0.borrow().iter().filter(|tunnel| Rc::strong_count(tunnel) > 1 && tunnel.part()).count() > 0
    }
}

/// What the connection holds of an upgraded stream.
pub struct Tunnel {
    /// Key of the listener that the request came over.
    listener: Arc<str>,
    /// The tick at which it is parted with; 0 when it may stay.
    by: Cell<u32>,
    parting: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Tunnel {
    pub fn new(listener: Arc<str>) -> Rc<Tunnel> {
        Rc::new(Tunnel { listener, by: Cell::new(0), parting: Cell::new(false), waker: RefCell::new(None) })
    }

    /// Has it parted with at `tick`, or earlier where that was said before.
    fn leave(&self, tick: u32) {
        let by = self.by.get();
        self.by.set(if by == 0 { tick } else { by.min(tick) });
    }

    fn is_due(&self, now: u32) -> bool {
        self.by.get() != 0 && now >= self.by.get()
    }

    /// Parts with it; false when that was done before.
    fn part(&self) -> bool {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        !self.parting.replace(true)
    }

    /// Is it to end? Otherwise whoever asks is woken when it is.
    fn parting(&self, cx: &Context<'_>) -> bool {
        if !self.parting.get() {
            let mut waker = self.waker.borrow_mut();
            match &*waker {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
        }
        self.parting.get()
    }
}

/// Carries bytes both ways until it is over.
pub async fn run(exchange: Rc<Exchange>, client: OnUpgrade, backend: OnUpgrade, tunnel: Rc<Tunnel>) {
    let shared = (exchange.version == Version::HTTP_2).then(|| tunnel.clone());
    let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
    exchange.watch.limit(exchange.worker.settings.upgrade_idle_timeout);
    let end = |io, side| End {
        io: TokioIo::new(io),
        exchange: exchange.clone(),
        side,
        shared: shared.clone(),
        frames: WebSocket::default(),
        parted: false,
    };
    let mut client = end(client, Side::Upload);
    let mut backend = end(backend, Side::Answer);
    if tokio::io::copy_bidirectional(&mut client, &mut backend).await.is_ok() {
        exchange.answered();
    }
}

/// One end of a tunnel: what is read from it counts as movement.
struct End {
    io: TokioIo<Upgraded>,
    exchange: Rc<Exchange>,
    side: Side,
    /// Where the connection is not the tunnel's alone.
    shared: Option<Rc<Tunnel>>,
    /// What the backend has sent over a shared connection.
    frames: WebSocket,
    parted: bool,
}

impl End {
    fn parting(&self, cx: &Context<'_>) -> bool {
        let Some(tunnel) = &self.shared else { return false };
        if self.exchange.watch.is_expired() {
            tunnel.part();
        }
        tunnel.parting(cx)
    }

    /// The stream ends here; for the client with a close frame.
    fn part(&mut self, buf: &mut ReadBuf<'_>) {
        if let (Side::Answer, false, Some(word)) = (self.side, self.parted, self.frames.going_away()) {
            buf.put_slice(&word);
        }
        self.parted = true;
    }

    fn count(&mut self, fresh: &[u8]) {
        let count = match self.side {
            Side::Answer => &self.exchange.sent,
            Side::Upload => &self.exchange.received,
        };
        count.set(count.get() + fresh.len() as u64);
        if let (Side::Answer, Some(_)) = (self.side, &self.shared) {
            self.frames.sent(fresh);
        }
        self.exchange.watch.touch();
    }
}

impl AsyncRead for End {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.parting(cx) {
            self.part(buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            self.count(&buf.filled()[before..]);
            return Poll::Ready(read);
        }
        if self.exchange.watch.is_expired() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.exchange.watch.wait(self.side, cx.waker());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
