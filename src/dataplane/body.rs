//! The body of an answer on its way to the client.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::Version;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::{clock::Side, exchange::Exchange, field, forward::Timer, outcome::Reason, upstream::Lease};

/// What a client gets after the head. An error cuts the message visibly: the connection is closed, or the stream reset.
pub struct Body(Kind);

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every body is a backend's, and a box would cost each an allocation"
)]
enum Kind {
    Backend(Download),
    /// Nothing is sent, but the head says how long it would be (304).
    Claimed(u64),
    Empty,
    Text(Option<Bytes>),
}

/// The answer ended before it was whole. To a client of HTTP/2 its stream is reset with the code of this error's source,
/// which hyper looks for.
#[derive(Debug)]
pub struct Cut(h2::Error);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was cut off")
    }
}

impl Error for Cut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Body {
    pub fn empty() -> Body {
        Body(Kind::Empty)
    }

    pub fn text(text: &'static str) -> Body {
        Body(Kind::Text(Some(Bytes::from_static(text.as_bytes()))))
    }

    pub fn bytes(bytes: Bytes) -> Body {
        Body(Kind::Text(Some(bytes)))
    }

    /// No body, under a head that states the length of one.
    pub fn claimed(length: u64) -> Body {
        Body(Kind::Claimed(length))
    }

    pub(super) fn backend(download: Download) -> Body {
        Body(Kind::Backend(download))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.0 {
            Kind::Backend(download) => download.poll_frame(cx),
            Kind::Claimed(_) | Kind::Empty => Poll::Ready(None),
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Backend(download) => download.is_whole(),
            Kind::Claimed(_) => false,
            Kind::Empty => true,
            Kind::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Backend(download) => download.size_hint(),
            Kind::Claimed(length) => SizeHint::with_exact(*length),
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

/// A backend's body. Gives the connection back when the body is whole.
pub(super) struct Download {
    incoming: Incoming,
    /// Of the backend.
    version: Version,
    /// Read ahead, to see a broken beginning before the head is sent.
    first: Option<Frame<Bytes>>,
    ended: bool,
    /// It was cut off; a stream of the client's is reset with this code.
    cut_off: Option<h2::Reason>,
    lease: Option<Lease>,
    /// The timeout of the rule, which covers the whole answer.
    timer: Option<Timer>,
    exchange: Rc<Exchange>,
}

impl Download {
    pub fn new(
        incoming: Incoming,
        version: Version,
        lease: Lease,
        timer: Option<Timer>,
        exchange: Rc<Exchange>,
    ) -> Download {
        Download { incoming, version, first: None, ended: false, cut_off: None, lease: Some(lease), timer, exchange }
    }

    /// Looks at what has arrived of the body without waiting for more.
    ///
    /// # Errors
    /// [`Reason::BadAnswer`]: the body is broken from its beginning, while there is still time to say so.
    pub fn look(&mut self) -> Result<(), Reason> {
        match self.poll_incoming(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => self.first = Some(frame),
            Poll::Ready(Some(Err(_))) => return Err(Reason::BadAnswer),
            Poll::Ready(None) if self.is_cut() => return Err(Reason::BadAnswer),
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => {}
        }
        Ok(())
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Without a lease the body has ended.
        self.lease.as_mut().map_or(Poll::Ready(None), |lease| lease.poll_frame(&mut self.incoming, cx))
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        self.incoming.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead))
    }

    fn is_whole(&self) -> bool {
        self.ended || (self.first.is_none() && self.incoming.is_end_stream())
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(code) = self.cut_off {
            return Poll::Ready(Some(Err(Cut(code.into()))));
        }
        if self.ended {
            self.release();
            return Poll::Ready(None);
        }
        if let Some(timer) = &mut self.timer
            && let Poll::Ready(reason) = timer.poll(cx)
        {
            return self.cut(reason, cx);
        }
        let frame = match self.first.take() {
            Some(frame) => Some(Ok(frame)),
            None => match self.poll_incoming(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.poll_stalled(cx));
                    return self.cut(Reason::BackendStalled, cx);
                }
            },
        };
        match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    if !field::is_within(trailers, &self.exchange.worker.settings) {
                        return self.cut(Reason::AnswerCut, cx);
                    }
                    field::clean_trailers(trailers);
                    self.exchange.note_grpc(trailers);
                }
                if let Some(data) = frame.data_ref() {
                    self.exchange.sent.set(self.exchange.sent.get() + data.len() as u64);
                }
                self.exchange.watch.touch();
                if self.incoming.is_end_stream() || frame.is_trailers() {
                    self.ended = true;
                    self.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let polled = self.cut(Reason::AnswerCut, cx);
                self.cut_off = passed_on(&error).or(self.cut_off);
                polled
            }
            None if self.is_cut() => self.cut(Reason::AnswerCut, cx),
            None => {
                self.ended = true;
                self.release();
                Poll::Ready(None)
            }
        }
    }

    /// Was there no proper end? hyper takes a stream that was reset without an error for one that has ended.
    fn is_cut(&self) -> bool {
        self.version == Version::HTTP_2 && !self.incoming.is_end_stream()
    }

    /// Ready when nothing has moved for too long.
    fn poll_stalled(&self, cx: &Context<'_>) -> Poll<()> {
        if self.exchange.watch.is_expired() {
            return Poll::Ready(());
        }
        self.exchange.watch.wait(Side::Answer, cx.waker());
        Poll::Pending
    }

    /// The error comes at the next poll: hyper sends what it was given before only when it has to wait for more.
    fn cut<T>(&mut self, reason: Reason, cx: &Context<'_>) -> Poll<T> {
        self.exchange.fail(reason);
        self.lease = None;
        let deadline = matches!(reason, Reason::DeadlinePassed | Reason::RequestTimeout | Reason::BackendTimeout);
        self.cut_off = Some(if deadline { h2::Reason::CANCEL } else { h2::Reason::INTERNAL_ERROR });
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The answer is whole: the connection may serve another request.
    fn release(&mut self) {
        self.exchange.answered();
        if let Some(lease) = self.lease.take() {
            lease.give_back(&self.exchange.worker);
        }
    }
}

/// The code of a backend's reset that means the same to the client: to gRPC a cancellation, or that it asks too much. Any
/// other is about the connection to the backend.
fn passed_on(error: &hyper::Error) -> Option<h2::Reason> {
    let code = error.source()?.downcast_ref::<h2::Error>()?.reason()?;
    [h2::Reason::CANCEL, h2::Reason::ENHANCE_YOUR_CALM].contains(&code).then_some(code)
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.is_whole() {
            self.release();
        } else if self.lease.is_some() {
            self.exchange.fail(Reason::ClientGone);
        }
        self.exchange.end_upload();
    }
}
