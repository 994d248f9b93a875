//! Requests sent a second time to a backend whose answer nobody reads.
//!
//! A mirror never slows the request that it copies: a body that it does not take fast enough is given up.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    Worker,
    counter::add,
    forward::Head,
    upload::{Broken, Part, Upload},
};
use crate::snapshot::{Backend, BackendKey, Protocol, Snapshot};
use http_body::Body;

/// Mirrored requests under way in one worker; more are dropped and counted.
const AT_ONCE: usize = 1024;
/// Of a mirror's answer so much is read to keep its connection; of longer ones the connection is dropped.
const READ: usize = 256 << 10;

/// A mirror decided upon: the head as it was at the filter's place.
pub struct Mirror {
    pub backend: BackendKey,
    pub head: Head,
}

/// The writing end of a mirrored body. Dropped before [`Tee::end`], the mirrored body is cut.
pub struct Tee(Rc<RefCell<Queue>>);

/// The reading end.
pub struct TeeReader(Rc<RefCell<Queue>>);

struct Queue {
    parts: VecDeque<Part>,
    size: usize,
    limit: usize,
    state: State,
    reader: Option<Waker>,
}

#[derive(Eq, PartialEq)]
enum State {
    Cut,
    Ended,
    Open,
}

impl Queue {
    fn turn(&mut self, to: State) {
        if self.state == State::Open {
            self.state = to;
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Tee {
    /// At most `limit` bytes wait in it.
    pub fn new(limit: usize) -> (Tee, TeeReader) {
        let queue = Queue { parts: VecDeque::new(), size: 0, limit, state: State::Open, reader: None };
        let queue = Rc::new(RefCell::new(queue));
        (Tee(queue.clone()), TeeReader(queue))
    }

    pub fn put(&self, part: &Part) {
        let mut queue = self.0.borrow_mut();
        if queue.state != State::Open {
            return;
        }
        let size = match part {
            Part::Data(data) => data.len(),
            Part::Trailers(_) => 0,
        };
        // One part is always taken: a limit below its size would let nothing through.
        if !queue.parts.is_empty() && queue.size + size > queue.limit {
            queue.parts.clear();
            return queue.turn(State::Cut);
        }
        queue.size += size;
        queue.parts.push_back(part.clone());
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }

    pub fn end(self) {
        self.0.borrow_mut().turn(State::Ended);
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.0.borrow_mut().turn(State::Cut);
    }
}

impl TeeReader {
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Broken>>> {
        let mut queue = self.0.borrow_mut();
        if let Some(part) = queue.parts.pop_front() {
            if let Part::Data(data) = &part {
                queue.size -= data.len();
            }
            return Poll::Ready(Some(Ok(part)));
        }
        match queue.state {
            State::Cut => Poll::Ready(Some(Err(Broken::default()))),
            State::Ended => Poll::Ready(None),
            State::Open => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for TeeReader {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.parts.clear();
        queue.state = State::Cut;
    }
}

/// Sends `mirrors` on their way and returns what their bodies are to be fed with.
pub fn send(worker: &Rc<Worker>, snapshot: &Snapshot, mirrors: Vec<Mirror>) -> Vec<Tee> {
    let mut tees = Vec::new();
    for mirror in mirrors {
        let Some(backend) = snapshot.backends.get(&*mirror.backend).filter(|_| worker.mirrors.get() < AT_ONCE) else {
            add(&worker.counters.mirrors_dropped);
            continue;
        };
        let upload = match mirror.head.has_body {
            true => {
                let (tee, reader) = Tee::new(worker.settings.max_retry_body);
                tees.push(tee);
                Upload::Mirrored(reader)
            }
            false => Upload::Empty,
        };
        add(&worker.counters.mirrors);
        worker.mirrors.set(worker.mirrors.get() + 1);
        tokio::task::spawn_local(run(worker.clone(), backend.clone(), mirror.head, upload));
    }
    tees
}

async fn run(worker: Rc<Worker>, backend: Arc<Backend>, head: Head, upload: Upload) {
    let sent = tokio::time::timeout(bound(&worker), once(&worker, &backend, head, upload)).await;
    if !matches!(sent, Ok(Some(()))) {
        add(&worker.counters.mirrors_dropped);
    }
    worker.mirrors.set(worker.mirrors.get() - 1);
}

fn bound(worker: &Worker) -> Duration {
    worker.settings.stall_timeout
}

async fn once(worker: &Rc<Worker>, backend: &Backend, head: Head, upload: Upload) -> Option<()> {
    let endpoint = worker.balance.endpoint(backend, |_| false)?;
    let mut lease = worker.upstreams.lease(worker, endpoint, backend.protocol).await.ok()?;
    let request = head.into_request(backend.protocol, upload);
    let (_, mut body) = lease.send(request).await.ok()?.into_parts();
    let mut read = 0;
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(&mut body, cx)).await {
        read += frame.ok()?.data_ref().map_or(0, |data| data.len());
        if read > READ {
            return Some(());
        }
    }
    if body.is_end_stream() || backend.protocol == Protocol::Http1 {
        lease.give_back(worker);
    }
    Some(())
}
