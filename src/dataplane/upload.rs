//! The body of a request on its way to a backend: streamed, and kept for another attempt or a mirror where it is small.

use std::{
    cell::RefCell,
    error::Error,
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    clock::Side,
    exchange::Exchange,
    field,
    mirror::{Tee, TeeReader},
    outcome::Reason,
};

/// The body of one attempt.
pub enum Upload {
    Empty,
    Mirrored(TeeReader),
    /// Another attempt may follow.
    Repeatable {
        source: Rc<RefCell<Repeatable>>,
        attempt: u32,
        next: usize,
    },
    /// This is the only attempt.
    Single(Box<Source>),
}

/// The request's body could not be sent whole. To a backend of HTTP/2 its stream is reset with the code of this error's
/// source, which hyper looks for: CANCEL.
#[derive(Debug)]
pub struct Broken(h2::Error);

impl Default for Broken {
    fn default() -> Self {
        Broken(h2::Reason::CANCEL.into())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body was cut off")
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// A part of a body.
#[derive(Clone)]
pub enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Frame::data(data),
            Part::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// What the client sends. Read once, in step with the backend.
pub struct Source {
    /// Until it is dropped.
    incoming: Option<Incoming>,
    exchange: Rc<Exchange>,
    tees: Vec<Tee>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.exchange.unread.set(self.incoming.take());
    }
}

impl Source {
    pub fn new(incoming: Incoming, exchange: Rc<Exchange>, tees: Vec<Tee>) -> Source {
        Source { incoming: Some(incoming), exchange, tees }
    }

    fn incoming(&self) -> &Incoming {
        self.incoming.as_ref().expect("until it is dropped")
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Broken>>> {
        if let Some(gate) = &*self.exchange.gate.borrow()
            && !ready!(gate.poll(cx.waker()))
        {
            return Poll::Ready(Some(Err(Broken::default())));
        }
        let polled = Pin::new(self.incoming.as_mut().expect("until it is dropped")).poll_frame(cx);
        self.exchange.awaits_client.set(polled.is_pending());
        let part = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.exchange.watch.touch();
                frame.into_data().map(Part::Data).or_else(|frame| frame.into_trailers().map(Part::Trailers))
            }
            // A stream that was reset without an error looks like one that has ended.
            Poll::Ready(None) if self.exchange.version != Version::HTTP_2 || self.incoming().is_end_stream() => {
                self.tees.drain(..).for_each(|tee| tee.end());
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) if is_timeout(&error) => {
                return Poll::Ready(Some(Err(self.broken(Reason::ClientStalled))));
            }
            Poll::Ready(_) => return Poll::Ready(Some(Err(self.broken(Reason::BadBody)))),
            Poll::Pending if self.exchange.watch.is_expired() => {
                return Poll::Ready(Some(Err(self.broken(Reason::ClientStalled))));
            }
            Poll::Pending => {
                self.exchange.watch.wait(Side::Upload, cx.waker());
                return Poll::Pending;
            }
        };
        // Frames of kinds that HTTP does not have yet are skipped.
        let Ok(mut part) = part else { return self.poll_part(cx) };
        match &mut part {
            Part::Data(data) => self.exchange.received.set(self.exchange.received.get() + data.len() as u64),
            Part::Trailers(trailers) if !field::is_within(trailers, &self.exchange.worker.settings) => {
                return Poll::Ready(Some(Err(self.broken(Reason::BadBody))));
            }
            Part::Trailers(trailers) => field::clean_trailers(trailers),
        }
        self.tees.iter().for_each(|tee| tee.put(&part));
        if self.incoming().is_end_stream() {
            self.tees.drain(..).for_each(|tee| tee.end());
        }
        Poll::Ready(Some(Ok(part)))
    }

    fn broken(&mut self, reason: Reason) -> Broken {
        self.exchange.break_upload(reason);
        self.tees.clear();
        Broken::default()
    }
}

/// The connection's own deadline was passed.
fn is_timeout(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// A source whose parts are kept, up to a bound, for another attempt.
pub struct Repeatable {
    source: Source,
    kept: Vec<Part>,
    size: usize,
    limit: usize,
    /// The attempt that may read on; those before it are over.
    attempt: u32,
    whole: bool,
}

impl Repeatable {
    pub fn new(source: Source, limit: usize) -> Rc<RefCell<Repeatable>> {
        let repeatable = Repeatable { source, kept: Vec::new(), size: 0, limit, attempt: 0, whole: false };
        Rc::new(RefCell::new(repeatable))
    }

    /// Is all that was read still there?
    pub fn is_complete(&self) -> bool {
        self.size <= self.limit
    }

    /// The body for another attempt; the one before reads no further.
    pub fn next(this: &Rc<RefCell<Repeatable>>) -> Upload {
        let mut repeatable = this.borrow_mut();
        repeatable.attempt += 1;
        Upload::Repeatable { source: this.clone(), attempt: repeatable.attempt, next: 0 }
    }

    fn poll_part(
        &mut self,
        attempt: u32,
        next: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Part, Broken>>> {
        if attempt != self.attempt {
            return Poll::Ready(Some(Err(Broken::default())));
        }
        if self.is_complete()
            && let Some(part) = self.kept.get(*next)
        {
            *next += 1;
            return Poll::Ready(Some(Ok(part.clone())));
        }
        if self.whole {
            return Poll::Ready(None);
        }
        let part = ready!(self.source.poll_part(cx));
        match &part {
            Some(Ok(part)) => self.keep(part, next),
            Some(Err(_)) => {}
            None => self.whole = true,
        }
        Poll::Ready(part)
    }

    fn keep(&mut self, part: &Part, next: &mut usize) {
        self.size += match part {
            Part::Data(data) => data.len(),
            Part::Trailers(_) => 0,
        };
        if self.is_complete() {
            self.kept.push(part.clone());
            *next += 1;
        } else {
            self.kept = Vec::new();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let part = match &mut *self {
            Upload::Empty => return Poll::Ready(None),
            Upload::Mirrored(reader) => ready!(reader.poll_part(cx)),
            Upload::Repeatable { source, attempt, next } => {
                ready!(source.borrow_mut().poll_part(*attempt, next, cx))
            }
            Upload::Single(source) => ready!(source.poll_part(cx)),
        };
        Poll::Ready(part.map(|part| part.map(Frame::from)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Empty => true,
            Upload::Single(source) => source.incoming().is_end_stream(),
            Upload::Mirrored(_) | Upload::Repeatable { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Empty => SizeHint::with_exact(0),
            Upload::Single(source) => source.incoming().size_hint(),
            Upload::Mirrored(_) | Upload::Repeatable { .. } => SizeHint::default(),
        }
    }
}
