//! Bytes both ways between a client and a backend, whatever they mean.
//!
//! Each direction holds at most one buffer, and only while the other side takes no more: an idle connection holds none,
//! and who does not read is not read for. The end of a direction is passed on as such, so that either side may go on
//! talking alone.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::turn::Wire;

/// Bytes of a buffer: a ClientHello of the largest size fits.
pub const BUFFER: usize = 64 << 10;
/// Buffers that a worker keeps for the next who wants one.
const SPARE: usize = 16;

/// A worker's buffers that nobody uses.
#[derive(Default)]
pub struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER])
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARE && buffer.len() == BUFFER {
            spare.push(buffer);
        }
    }
}

/// One of the two who talk.
pub trait Side: AsyncRead + AsyncWrite + Unpin {
    /// Has the connection broken, though nobody reads from it just now?
    fn is_broken(&self) -> bool;
}

impl Side for TcpStream {
    fn is_broken(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }
}

impl Side for TlsStream<Wire> {
    fn is_broken(&self) -> bool {
        self.get_ref().0.with(TcpStream::is_broken)
    }
}

/// How a relay ended other than by both sides being done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// The client's connection broke.
    Client,
    Backend,
    /// The gateway wants it to end.
    Gateway,
}

/// What went over it, and who wants to know.
pub struct Meter<'a> {
    /// From the client.
    pub received: &'a Cell<u64>,
    /// To the client.
    pub sent: &'a Cell<u64>,
    /// Called whenever bytes have moved.
    pub moved: &'a dyn Fn(),
    /// Whether it is to end at once; the task is woken when that changes.
    pub ended: &'a dyn Fn(&Context<'_>) -> bool,
}

/// Carries bytes both ways until both sides are done. `first` has been read from the client already.
///
/// # Errors
/// Which side broke the connection; the other one is to be told by a reset.
pub async fn relay<C, B>(
    client: &mut C,
    backend: &mut B,
    first: Vec<u8>,
    buffers: &Buffers,
    meter: Meter<'_>,
) -> Result<(), Cut>
where
    C: Side,
    B: Side,
{
    meter.received.set(first.len() as u64);
    let mut up = Direction {
        end: first.len(),
        buffer: Some(first).filter(|first| !first.is_empty()),
        ..Direction::new(buffers)
    };
    let mut down = Direction::new(buffers);
    poll_fn(|cx| {
        if (meter.ended)(cx) {
            return Poll::Ready(Err(Cut::Gateway));
        }
        let before = (meter.received.get(), meter.sent.get(), up.start, down.start);
        let sent = down.poll(cx, backend, client, meter.sent);
        let received = up.poll(cx, client, backend, meter.received);
        if before != (meter.received.get(), meter.sent.get(), up.start, down.start) {
            (meter.moved)();
        } else if up.is_blocked() && client.is_broken() {
            return Poll::Ready(Err(Cut::Client));
        } else if down.is_blocked() && backend.is_broken() {
            return Poll::Ready(Err(Cut::Backend));
        }
        match (received, sent) {
            (Poll::Ready(Err(End::From)), _) | (_, Poll::Ready(Err(End::To))) => Poll::Ready(Err(Cut::Client)),
            (Poll::Ready(Err(End::To)), _) | (_, Poll::Ready(Err(End::From))) => Poll::Ready(Err(Cut::Backend)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Which end of a direction failed.
enum End {
    From,
    To,
}

/// One direction.
struct Direction<'a> {
    buffers: &'a Buffers,
    /// There while bytes wait in it.
    buffer: Option<Vec<u8>>,
    start: usize,
    end: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    /// All is written; the end has not been passed on.
    Ending,
    Ended,
}

impl<'a> Direction<'a> {
    fn new(buffers: &'a Buffers) -> Direction<'a> {
        Direction { buffers, buffer: None, start: 0, end: 0, state: State::Open }
    }

    /// Moves what can be moved; ready when the end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        count: &Cell<u64>,
    ) -> Poll<Result<(), End>> {
        loop {
            if let Some(buffer) = &self.buffer {
                while self.start < self.end {
                    match ready!(Pin::new(&mut *to).poll_write(cx, &buffer[self.start..self.end])) {
                        Ok(0) | Err(_) => return Poll::Ready(Err(End::To)),
                        Ok(written) => self.start += written,
                    }
                }
                self.put_away();
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    // What is at rest in a TLS stream goes out with its end.
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| End::To)?;
                    self.state = State::Ended;
                    continue;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            let mut buffer = self.buffers.take();
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut *from).poll_read(cx, &mut read);
            let length = read.filled().len();
            match polled {
                Poll::Ready(Ok(())) if length > 0 => {
                    count.set(count.get() + length as u64);
                    (self.buffer, self.start, self.end) = (Some(buffer), 0, length);
                    continue;
                }
                Poll::Ready(Ok(())) => self.state = State::Ending,
                // The end of TLS without its alert: many clients leave so.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.state = State::Ending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::From)),
                Poll::Pending => {
                    self.buffers.give(buffer);
                    // Records of TLS that are written but not sent would wait for the next byte.
                    return match Pin::new(&mut *to).poll_flush(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Err(End::To)),
                        _ => Poll::Pending,
                    };
                }
            }
            self.buffers.give(buffer);
        }
    }

    /// Do bytes wait for somebody who takes none? Then nothing is read that would tell of a break either.
    fn is_blocked(&self) -> bool {
        self.buffer.is_some()
    }

    fn put_away(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.buffers.give(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    impl Side for DuplexStream {
        fn is_broken(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself_and_what_came_first_goes_first() {
        let (mut near_client, mut client) = duplex(8);
        let (mut near_backend, mut backend) = duplex(8);
        let (received, sent) = (Cell::new(0), Cell::new(0));
        let buffers = Buffers::default();
        let meter = Meter { received: &received, sent: &sent, moved: &|| (), ended: &|_| false };
        let relayed = relay(&mut near_client, &mut near_backend, b"hel".to_vec(), &buffers, meter);
        let talk = async {
            let mut told = String::new();
            let ask = async {
                client.write_all(b"lo, who is there?").await.expect("taken");
                client.shutdown().await.expect("ended");
            };
            let ((), read) = tokio::join!(ask, backend.read_to_string(&mut told));
            read.expect("text");
            let mut answer = String::new();
            let say = async {
                backend.write_all(b"nobody, and still it answers").await.expect("half open");
                drop(backend);
            };
            let ((), read) = tokio::join!(say, client.read_to_string(&mut answer));
            read.expect("text");
            (told, answer)
        };
        let (relayed, (told, answer)) = tokio::join!(relayed, talk);
        assert_eq!((relayed, told.as_str()), (Ok(()), "hello, who is there?"));
        assert_eq!(answer, "nobody, and still it answers");
        assert_eq!((received.get(), sent.get()), (20, 28));
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_read_for() {
        let (mut near_client, mut client) = duplex(4 * BUFFER);
        let (mut near_backend, _backend) = duplex(16);
        let (received, sent) = (Cell::new(0), Cell::new(0));
        let (buffers, ending) = (Buffers::default(), Cell::new(false));
        let meter = Meter { received: &received, sent: &sent, moved: &|| (), ended: &|_| ending.get() };
        client.write_all(&vec![7; 3 * BUFFER]).await.expect("room");
        let mut relayed = Box::pin(relay(&mut near_client, &mut near_backend, Vec::new(), &buffers, meter));
        for _ in 0..10 {
            assert!(futures_poll(relayed.as_mut()).is_pending());
        }
        assert_eq!(received.get(), BUFFER as u64);
        ending.set(true);
        assert_eq!(relayed.await, Err(Cut::Gateway));
    }

    fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(std::task::Waker::noop()))
    }
}
