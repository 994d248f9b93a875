//! The sends of a worker's turn: the short messages that its tasks write go out when every task that was due has run.
//!
//! A send wakes its receiver. Where many connections are ready at once, sends in between let the receiver wake, serve one
//! message, sleep, and be woken again by the next; sent in one go, they wake it once. On one machine the wakings are most
//! of what a send costs.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    mem::take,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
};

/// What is longer is sent at once, after what waits.
const SHORT: usize = 8 << 10;
/// A turn ends early when so much waits: bounds on memory, and on how long a message waits for others.
const MAX_BYTES: usize = 64 << 10;
const MAX_SENDS: usize = 32;

thread_local! {
    static TURN: RefCell<Turn> = RefCell::default();
}

/// What waits for the end of the turn.
#[derive(Default)]
struct Turn {
    /// Where nobody ends turns, nothing waits.
    ender: Option<Waker>,
    sends: Vec<(Arc<Mutex<Ends>>, usize)>,
    /// Of all sends, one behind the other.
    bytes: Vec<u8>,
}

impl Turn {
    fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_BYTES || self.sends.len() >= MAX_SENDS
    }

    fn queue(&mut self, ends: &Arc<Mutex<Ends>>, bufs: &[IoSlice<'_>], length: usize) -> bool {
        let Some(ender) = &self.ender else { return false };
        match self.sends.last_mut() {
            Some((last, queued)) if Arc::ptr_eq(last, ends) => *queued += length,
            last => {
                if last.is_none() {
                    // It runs after all tasks that are due already.
                    ender.wake_by_ref();
                }
                self.sends.push((ends.clone(), length));
            }
        }
        bufs.iter().for_each(|buf| self.bytes.extend_from_slice(buf));
        true
    }
}

/// Ends the turns of this thread for as long as it is polled, by a task of its own.
pub async fn end_turns() {
    let _last = LastTurn;
    poll_fn(|cx| {
        TURN.with_borrow_mut(|turn| turn.ender = Some(cx.waker().clone()));
        send_all();
        Poll::Pending
    })
    .await
}

struct LastTurn;

impl Drop for LastTurn {
    fn drop(&mut self) {
        TURN.with_borrow_mut(|turn| turn.ender = None);
        send_all();
    }
}

fn send_all() {
    let (mut sends, mut bytes, last) =
        TURN.with_borrow_mut(|turn| (take(&mut turn.sends), take(&mut turn.bytes), turn.ender.is_none()));
    let mut left = &bytes[..];
    for (ends, length) in sends.drain(..) {
        let (due, behind) = left.split_at(length);
        left = behind;
        let rest = lock(&ends).send(due);
        if let Some(rest) = rest.filter(|_| !last) {
            let task = tokio::task::spawn_local(send_rest(ends.clone())).abort_handle();
            lock(&ends).rest = Some(Box::new(Rest { bytes: rest.to_vec(), task, owner: None }));
        }
    }
    bytes.clear();
    // Sending queues nothing, so they are only put back for the next turn.
    TURN.with_borrow_mut(|turn| (turn.sends, turn.bytes) = (sends, bytes));
}

async fn send_rest(ends: Arc<Mutex<Ends>>) {
    poll_fn(|cx| lock(&ends).poll_rest(cx)).await;
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A TCP connection whose short writes wait for the end of the turn. Dropped, it is closed after what waits.
///
/// Atomic only because hyper asks for `Send` where a connection may be upgraded.
pub struct Wire(Arc<Mutex<Ends>>);

impl Wire {
    /// Gives `look` the connection, to set what a socket has to set.
    pub fn with<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        look(&lock(&self.0).stream)
    }
}

struct Ends {
    stream: TcpStream,
    /// Why a send failed: told at the next write.
    failed: Option<io::Error>,
    rest: Option<Box<Rest>>,
    /// Nobody will write or read any more.
    left: bool,
}

/// What the receiver had no room for. Until it has gone out, writing waits.
struct Rest {
    bytes: Vec<u8>,
    task: AbortHandle,
    owner: Option<Waker>,
}

impl Ends {
    /// Sends at the end of a turn. Gives what is left where the receiver takes no more now.
    fn send<'a>(&mut self, due: &'a [u8]) -> Option<&'a [u8]> {
        if let Some(rest) = &mut self.rest {
            rest.bytes.extend_from_slice(due);
            return None;
        }
        let sent = match self.stream.try_write(due) {
            _ if self.failed.is_some() => return None,
            Ok(sent) => sent,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => {
                self.failed = Some(error);
                return None;
            }
        };
        (sent < due.len() && !self.left).then(|| &due[sent..])
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(()) };
        let mut at = 0;
        while at < rest.bytes.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &rest.bytes[at..]) {
                Poll::Ready(Ok(sent @ 1..)) => at += sent,
                Poll::Ready(Ok(0)) => {
                    self.failed = Some(io::ErrorKind::WriteZero.into());
                    break;
                }
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                Poll::Pending => {
                    rest.bytes.drain(..at);
                    return Poll::Pending;
                }
            }
        }
        if let Some(owner) = rest.owner.take() {
            owner.wake();
        }
        self.rest = None;
        Poll::Ready(())
    }

    /// Ready when there is room for another write.
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        match &mut self.rest {
            Some(rest) => {
                rest.owner = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        Wire(Arc::new(Mutex::new(Ends { stream, failed: None, rest: None, left: false })))
    }

    /// Leaves a short message for the end of the turn; false where it is to be sent at once.
    fn queue(&self, bufs: &[IoSlice<'_>]) -> bool {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if length > SHORT {
            return false;
        }
        if TURN.with_borrow(Turn::is_full) {
            send_all();
        }
        TURN.with_borrow_mut(|turn| turn.queue(&self.0, bufs, length))
    }

    /// Sends what waits, if any of it is to go over this connection.
    fn end_turn(&self) {
        if TURN.with_borrow(|turn| turn.sends.iter().any(|(ends, _)| Arc::ptr_eq(ends, &self.0))) {
            send_all();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(lock(&self.0).poll_room(cx))?;
        if self.queue(bufs) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        self.end_turn();
        let mut ends = lock(&self.0);
        ready!(ends.poll_room(cx))?;
        match bufs {
            [only] => Pin::new(&mut ends.stream).poll_write(cx, only),
            bufs => Pin::new(&mut ends.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What waits for the end of the turn is as good as sent.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_room(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_turn();
        let mut ends = lock(&self.0);
        ready!(ends.poll_room(cx))?;
        Pin::new(&mut ends.stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut ends = lock(&self.0);
        ends.left = true;
        if let Some(rest) = ends.rest.take() {
            rest.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::yield_now,
        time::timeout,
    };

    use super::*;

    /// Runs on a thread whose turns are ended, with a wire and its far end.
    fn turning<F: Future<Output = ()>>(test: impl FnOnce(Wire, TcpStream) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        runtime.expect("an epoll instance").block_on(async {
            tokio::task::spawn_local(end_turns());
            yield_now().await;
            let (wire, far) = pair().await;
            timeout(Duration::from_secs(60), test(wire, far)).await.expect("it ends");
        });
    }

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let far = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        (Wire::new(listener.accept().await.expect("accepted").0), far)
    }

    /// Writes `buf` in one poll, as long as there is room.
    fn write_now(wire: &mut Wire, buf: &[u8]) -> Option<usize> {
        let cx = &mut Context::from_waker(Waker::noop());
        match Pin::new(wire).poll_write(cx, buf) {
            Poll::Ready(written) => Some(written.expect("open")),
            Poll::Pending => None,
        }
    }

    /// How much has arrived.
    fn arrived(far: &TcpStream) -> usize {
        socket2::SockRef::from(far).peek(&mut [std::mem::MaybeUninit::uninit(); 64]).unwrap_or(0)
    }

    #[test]
    fn a_short_write_waits_for_the_end_of_the_turn() {
        turning(|mut wire, mut far| async move {
            assert_eq!(write_now(&mut wire, b"one"), Some(3));
            assert_eq!(write_now(&mut wire, b"two"), Some(3));
            assert_eq!(arrived(&far), 0);
            let mut got = [0; 6];
            far.read_exact(&mut got).await.expect("sent");
            assert_eq!(&got, b"onetwo");
        });
    }

    #[test]
    fn a_long_write_goes_after_what_waits() {
        turning(|mut wire, mut far| async move {
            let long = vec![b'l'; SHORT + 1];
            assert_eq!(write_now(&mut wire, b"short"), Some(5));
            assert_eq!(write_now(&mut wire, &long), Some(long.len()));
            assert_eq!(write_now(&mut wire, b"end"), Some(3));
            let mut got = vec![0; 5 + long.len() + 3];
            far.read_exact(&mut got).await.expect("sent");
            assert_eq!(got, [b"short", &long[..], b"end"].concat());
        });
    }

    #[test]
    fn nothing_is_lost_when_the_wire_is_dropped() {
        turning(|mut wire, mut far| async move {
            assert_eq!(write_now(&mut wire, b"last word"), Some(9));
            drop(wire);
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.expect("an orderly end");
            assert_eq!(got, b"last word");
        });
    }

    #[test]
    fn what_waits_goes_before_the_end() {
        turning(|mut wire, mut far| async move {
            assert_eq!(write_now(&mut wire, b"last word"), Some(9));
            wire.shutdown().await.expect("open");
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.expect("an orderly end");
            assert_eq!(got, b"last word");
        });
    }

    #[test]
    fn a_receiver_without_room_is_waited_for() {
        turning(|mut wire, mut far| async move {
            let part: Vec<u8> = (0..SHORT).map(|at| (at % 251) as u8).collect();
            let mut sent = 0;
            // Each turn takes another one until the receiver has no more room.
            while write_now(&mut wire, &part).is_some() {
                sent += 1;
                yield_now().await;
                yield_now().await;
            }
            assert!(Pin::new(&mut wire).poll_flush(&mut Context::from_waker(Waker::noop())).is_pending());
            let reader = tokio::task::spawn_local(async move {
                let mut got = Vec::new();
                far.read_to_end(&mut got).await.expect("an orderly end");
                got
            });
            // Whoever waits is woken.
            wire.write_all(&part).await.expect("open");
            wire.flush().await.expect("open");
            wire.shutdown().await.expect("open");
            assert!(reader.await.expect("it has not panicked") == part.repeat(sent + 1));
        });
    }

    #[test]
    fn a_failure_is_told_at_the_next_write() {
        turning(|mut wire, far| async move {
            socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).expect("open");
            drop(far);
            let mut told = Ok(());
            while told.is_ok() {
                told = wire.write_all(b"to nobody").await;
                yield_now().await;
            }
        });
    }

    #[test]
    fn a_wire_that_is_dropped_waits_for_nobody() {
        turning(|mut wire, far| async move {
            while write_now(&mut wire, &[0; SHORT]).is_some() {
                yield_now().await;
                yield_now().await;
            }
            let ends = Arc::downgrade(&wire.0);
            drop(wire);
            while ends.strong_count() > 0 {
                yield_now().await;
            }
            drop(far);
        });
    }

    #[test]
    fn many_connections_in_one_turn() {
        turning(|wire, far| async move {
            let mut pairs = vec![(wire, far)];
            for _ in 0..MAX_SENDS + 10 {
                pairs.push(pair().await);
            }
            for (number, (wire, _)) in pairs.iter_mut().enumerate() {
                assert_eq!(write_now(wire, &number.to_ne_bytes()), Some(8));
            }
            for (number, (_, far)) in pairs.iter_mut().enumerate() {
                let mut got = [0; 8];
                far.read_exact(&mut got).await.expect("sent");
                assert_eq!(usize::from_ne_bytes(got), number);
            }
        });
    }

    #[tokio::test(flavor = "current_thread")]
    async fn without_turns_it_is_sent_at_once() {
        let (mut wire, far) = pair().await;
        assert_eq!(write_now(&mut wire, b"now"), Some(3));
        assert_eq!(arrived(&far), 3);
    }
}
