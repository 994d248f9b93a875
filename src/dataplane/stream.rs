//! What of HTTP/2 is counted by stream: whether the client takes what is offered, and how much waits for it.
//!
//! An answer's bytes are counted from when they are read from its backend until they are on their way to the client. At
//! the bound of a connection (`h2_max_send_buffer`) no body of it is read any further; a stream whose client takes
//! nothing for the stall timeout is reset.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use super::{body::Body, pulse::Clock};

/// The open streams of a connection. Empty on HTTP/1.
pub struct Streams {
    open: RefCell<Vec<Rc<Stream>>>,
    /// The stream of the request that hyper is handing to the service; its executor takes it next.
    arriving: RefCell<Option<Rc<Stream>>>,
    meter: Rc<Meter>,
    spoken: Cell<bool>,
}

/// One stream.
#[derive(Default)]
pub struct Stream {
    /// The tick since which the client has been offered bytes that it does not take; 0 when it is not waited for.
    offered: Cell<u32>,
    stalled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    pub fn new(max_waiting: usize) -> Streams {
        let meter = Meter { waiting: Cell::new(0), max: max_waiting, readers: RefCell::default() };
        Streams {
            open: RefCell::default(),
            arriving: RefCell::default(),
            meter: Rc::new(meter),
            spoken: Cell::new(false),
        }
    }

    /// The connection speaks HTTP/2.
    pub fn speak(&self) {
        self.spoken.set(true);
    }

    /// Does the connection speak HTTP/2?
    pub fn spoken(&self) -> bool {
        self.spoken.get()
    }

    /// Opens a stream; true when it is the only one.
    pub fn open(&self) -> (Rc<Stream>, bool) {
        let stream = Rc::<Stream>::default();
        let mut open = self.open.borrow_mut();
        open.push(stream.clone());
        (stream, open.len() == 1)
    }

    /// Opens the stream of a request that the executor is about to be given.
    pub fn arrive(&self) -> (Rc<Stream>, bool) {
        let (stream, first) = self.open();
        *self.arriving.borrow_mut() = Some(stream.clone());
        (stream, first)
    }

    /// The stream of the request that was handed over last.
    pub fn arrived(&self) -> Option<Rc<Stream>> {
        self.arriving.borrow_mut().take()
    }

    /// Closes a stream; true when it was the last one.
    pub fn close(&self, stream: &Rc<Stream>) -> bool {
        let mut open = self.open.borrow_mut();
        open.retain(|one| !Rc::ptr_eq(one, stream));
        open.is_empty()
    }

    /// Ends the streams whose client has taken nothing for more than `allowance` ticks.
    pub fn end_stalled(&self, now: u32, allowance: u32) {
        for stream in &*self.open.borrow() {
            let offered = stream.offered.get();
            if offered != 0 && now.saturating_sub(offered) > allowance {
                stream.stalled.set(true);
                if let Some(waker) = stream.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
    }

    /// Counts the body of an answer on `stream`.
    pub fn offer(&self, body: Body, stream: Rc<Stream>, clock: Arc<Clock>) -> Offered {
        Offered { body, stream, clock, meter: self.meter.clone() }
    }
}

impl Stream {
    /// Remembers whom to wake when the stream has stalled, and says whether it has.
    pub fn stalled(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        self.stalled.get()
    }
}

/// How many bytes wait for the client of one connection.
struct Meter {
    waiting: Cell<usize>,
    max: usize,
    readers: RefCell<Vec<Waker>>,
}

impl Meter {
    fn full(&self) -> bool {
        self.waiting.get() >= self.max
    }

    fn add(&self, bytes: usize) {
        self.waiting.set(self.waiting.get() + bytes);
    }

    fn take(&self, bytes: usize) {
        let was_full = self.full();
        self.waiting.set(self.waiting.get() - bytes);
        if was_full && !self.full() {
            self.readers.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }
}

/// The body of an answer over HTTP/2.
pub struct Offered {
    body: Body,
    stream: Rc<Stream>,
    clock: Arc<Clock>,
    meter: Rc<Meter>,
}

impl http_body::Body for Offered {
    type Data = Waiting;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Waiting>, Self::Error>>> {
        let this = &mut *self;
        if this.meter.full() {
            this.meter.readers.borrow_mut().push(cx.waker().clone());
            if this.stream.offered.get() == 0 {
                this.stream.offered.set(this.clock.now());
            }
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.stream.offered.set(if polled.is_ready() { this.clock.now() } else { 0 });
        polled.map_ok(|frame| frame.map_data(|bytes| Waiting::new(bytes, this.meter.clone())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that wait for the client; counted until they are sent or dropped.
pub struct Waiting {
    bytes: Bytes,
    meter: Rc<Meter>,
}

impl Waiting {
    fn new(bytes: Bytes, meter: Rc<Meter>) -> Waiting {
        meter.add(bytes.len());
        Waiting { bytes, meter }
    }
}

impl Buf for Waiting {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.meter.take(count);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.meter.take(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;
    use crate::dataplane::Settings;

    #[test]
    fn what_waits_is_bounded() {
        let clock = Arc::new(Clock::new(&Settings::default()));
        let streams = Streams::new(100);
        let text = "sixty bytes, and as many again are more than what may wait: ";
        let mut offered: Vec<Offered> =
            (0..3).map(|_| streams.offer(Body::text(text), streams.open().0, clock.clone())).collect();
        let mut cx = Context::from_waker(Waker::noop());
        let mut poll = |offered: &mut Offered| match Pin::new(offered).poll_frame(&mut cx) {
            Poll::Ready(frame) => Some(frame.expect("a frame").expect("whole").into_data().ok().expect("data")),
            Poll::Pending => None,
        };
        let mut first = poll(&mut offered[0]).expect("room");
        let second = poll(&mut offered[1]).expect("room");
        assert!(poll(&mut offered[2]).is_none(), "120 bytes wait");
        first.advance(text.len() / 2);
        drop(second);
        assert_eq!(streams.meter.waiting.get(), text.len() / 2);
        assert!(poll(&mut offered[2]).is_some());
        drop(first);
        assert_eq!(streams.meter.waiting.get(), 0);
    }

    #[test]
    fn a_stream_stalls_when_its_client_takes_nothing() {
        let clock = Arc::new(Clock::new(&Settings::default()));
        let streams = Streams::new(100);
        let (stream, only) = streams.open();
        assert!(only);
        let mut offered = streams.offer(Body::text("text"), stream.clone(), clock.clone());
        let cx = Context::from_waker(Waker::noop());
        let stalled = |ticks: u32| {
            (0..ticks).for_each(|_| _ = clock.advance());
            streams.end_stalled(clock.now(), 10);
            stream.stalled(&cx)
        };
        assert!(!stalled(20), "its backend has not answered");
        let waiting = Pin::new(&mut offered).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(waiting.is_ready());
        assert!(!stalled(10));
        assert!(stalled(1));
        assert!(streams.close(&stream));
    }
}
