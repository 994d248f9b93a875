//! A worker's connections to backends: HTTP/1.1 ones that serve one request at a time, HTTP/2 ones that are shared.
//!
//! Keyed by endpoint and protocol; no lock. A connection that has seen anything out of order is never used again: hyper
//! closes it, or its [`Lease`] is dropped instead of given back.
//!
//! An HTTP/1.1 connection is moved on by whoever waits for its answer, so that a request costs no detour over another
//! task; only one that carries a request's body, or is to be upgraded, gets a task of its own.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    mem::replace,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use foldhash::HashMap;
use http::{Request, Response, header};
use http_body::{Body, Frame};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Mutex};

use super::{
    Settings, Worker,
    backend_stream::BackendStream,
    counter::add,
    interest::{Carried, Executor, Interest},
    layer4::KEEPALIVE,
    outcome::Reason,
    turn::Wire,
    upload::Upload,
};
use crate::snapshot::Protocol;

/// An endpoint that could not be reached is passed over for so long, where there is another.
const PASSED_OVER: Duration = Duration::from_secs(3);
/// Shared connections to one endpoint; beyond them streams wait their turn.
const MAX_SHARED: usize = 16;
/// Servers of gRPC end a connection that is pinged more often than every five minutes without data (their
/// `min_ping_interval_without_data`); TCP finds out sooner who is gone.
const PING_INTERVAL: Duration = Duration::from_secs(330);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What is sent to a backend of HTTP/2 is acknowledged within this time, or the connection is lost.
const ACKNOWLEDGED: Duration = Duration::from_secs(30);

/// All of a worker's backend connections.
#[derive(Default)]
pub struct Upstreams {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
    shared: RefCell<HashMap<SocketAddr, Rc<SharedPool>>>,
    /// Endpoints that could not be reached, and until which tick they are passed over.
    unreachable: RefCell<HashMap<SocketAddr, u32>>,
}

struct Idle {
    connection: Exclusive,
    since: u32,
}

/// An HTTP/1.1 connection.
struct Exclusive {
    sender: http1::SendRequest<Upload>,
    /// None when it has ended, or has a task of its own.
    driven: Option<Box<http1::Connection<TokioIo<BackendStream>, Upload>>>,
}

impl Exclusive {
    /// Moves the connection on; what has happened by then is there to be polled.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // What ends a connection is seen by the request on it.
        if let Some(driven) = &mut self.driven
            && Pin::new(driven).poll(cx).is_ready()
        {
            self.driven = None;
        }
    }

    /// Polls for what comes over the connection, which this task moves on, unless it has a task of its own. This task's
    /// waker is left behind only where nothing came, and nowhere else: it would wake the task that is just running.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        may_have_come: bool,
        mut coming: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.driven.is_none() {
            return coming(cx);
        }
        let quiet = &mut Context::from_waker(Waker::noop());
        if may_have_come {
            self.drive(quiet);
            let came = coming(quiet);
            if came.is_ready() {
                return came;
            }
        }
        self.drive(cx);
        coming(quiet)
    }

    /// May it be used? Nobody was told if the backend closed it, or said something that it was not asked for.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready()
    }

    /// Gives it a task of its own, so that a body flows up even while nobody reads the answer.
    fn detach(&mut self) {
        if let Some(driven) = self.driven.take() {
            tokio::task::spawn_local(async move {
                let _ = driven.with_upgrades().await;
            });
        }
    }
}

#[derive(Default)]
struct SharedPool {
    connections: RefCell<Vec<Rc<Shared>>>,
    /// Held while connecting, so that a burst of requests makes one connection.
    connecting: Mutex<()>,
}

struct Shared {
    sender: http2::SendRequest<Carried>,
    executor: Executor,
    driven: Rc<Driven>,
    active: Cell<usize>,
    last_used: Cell<u32>,
}

/// The half of a shared connection that its task polls.
struct Driven {
    /// Knows how many streams the backend allows at once. Borrowed for no longer than a poll, gone when it has ended.
    connection: RefCell<Option<http2::Connection<TokioIo<BackendStream>, Carried, Executor>>>,
    /// hyper looks at a backend's GOAWAY only when its task is polled.
    task: RefCell<Option<Waker>>,
}

impl Driven {
    fn max_streams(&self) -> usize {
        self.connection.borrow().as_ref().map_or(0, |connection| connection.current_max_send_streams())
    }

    async fn run(self: Rc<Driven>) {
        poll_fn(|cx| {
            self.task.borrow_mut().get_or_insert_with(|| cx.waker().clone());
            let mut connection = self.connection.borrow_mut();
            connection.as_mut().map_or(Poll::Ready(()), |connection| Pin::new(connection).poll(cx).map(|_| ()))
        })
        .await;
        self.task.take();
        // Requests that wait in it come back unsent.
        self.connection.take();
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        !self.sender.is_closed() && self.active.get() < self.driven.max_streams()
    }
}

/// A stream of a shared connection.
struct Stream {
    shared: Rc<Shared>,
    /// In the answer to a request with a body, until it is there.
    interest: Option<Rc<Interest>>,
}

impl Stream {
    fn open(shared: Rc<Shared>) -> Stream {
        shared.active.set(shared.active.get() + 1);
        Stream { shared, interest: None }
    }

    fn send(&mut self, request: Request<Upload>) -> Sending {
        self.interest = (!request.body().is_end_stream()).then(Rc::default);
        let request = request.map(|upload| self.shared.executor.carry(upload, self.interest.clone()));
        let sent = self.shared.sender.clone().try_send_request(request);
        Box::pin(async {
            sent.await.map_err(|mut error| {
                let unsent = error.take_message().map(|request| Box::new(request.map(Carried::into_upload)));
                Unanswered { unsent, reason: reason(error.error()) }
            })
        })
    }

    /// What is left of the request's body has `patience` to be sent.
    fn answered(mut self, patience: Duration) {
        let Some(interest) = self.interest.take().filter(|interest| Rc::strong_count(interest) > 1) else { return };
        let interest = Rc::downgrade(&interest);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(patience).await;
            if let Some(interest) = interest.upgrade() {
                interest.lose();
            }
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.active.set(self.shared.active.get() - 1);
        if let Some(interest) = self.interest.take() {
            interest.lose();
        }
    }
}

/// The use of a connection for one request. Dropped without [`Lease::give_back`], an HTTP/1.1 connection is closed.
pub struct Lease {
    endpoint: SocketAddr,
    /// It has served a request before, so that the backend may be about to close it.
    pub reused: bool,
    kind: Kind,
}

enum Kind {
    Exclusive(Exclusive),
    Shared(Stream),
}

type Sending = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Unanswered>>>>;

/// An attempt that got no answer.
pub struct Unanswered {
    /// The request, where nothing of it was sent.
    pub unsent: Option<Box<Request<Upload>>>,
    pub reason: Reason,
}

impl Upstreams {
    /// A connection to `endpoint`: an idle or shared one, or a new one.
    ///
    /// # Errors
    /// [`Reason::ConnectFailed`] or [`Reason::ConnectTimeout`]: nothing was sent, another endpoint may be tried.
    pub async fn lease(&self, worker: &Worker, endpoint: SocketAddr, protocol: Protocol) -> Result<Lease, Reason> {
        match protocol {
            Protocol::Http1 => match self.take_idle(endpoint) {
                Some(connection) => Ok(Lease { endpoint, reused: true, kind: Kind::Exclusive(connection) }),
                None => {
                    let connection = Box::pin(connect_http1(worker, endpoint)).await?;
                    Ok(Lease { endpoint, reused: false, kind: Kind::Exclusive(connection) })
                }
            },
            Protocol::H2c => Box::pin(self.lease_shared(worker, endpoint)).await,
        }
    }

    fn take_idle(&self, endpoint: SocketAddr) -> Option<Exclusive> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&endpoint)?;
        // The one used last is the least likely to be closed by the backend.
        while let Some(mut idle) = stack.pop() {
            if idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
        None
    }

    async fn lease_shared(&self, worker: &Worker, endpoint: SocketAddr) -> Result<Lease, Reason> {
        let pool = self.shared.borrow_mut().entry(endpoint).or_default().clone();
        let lease = |shared, reused| Lease { endpoint, reused, kind: Kind::Shared(Stream::open(shared)) };
        if let Some(shared) = pool.with_room() {
            return Ok(lease(shared, true));
        }
        let _connecting = pool.connecting.lock().await;
        if let Some(shared) = pool.with_room().or_else(|| pool.at_bound()) {
            return Ok(lease(shared, true));
        }
        let shared = Rc::new(connect_http2(worker, endpoint).await?);
        pool.connections.borrow_mut().push(shared.clone());
        Ok(lease(shared, false))
    }

    fn keep(&self, worker: &Worker, endpoint: SocketAddr, connection: Exclusive) {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(endpoint).or_default();
        if stack.len() >= worker.settings.max_idle_per_endpoint.max(1) {
            stack.remove(0);
        }
        stack.push(Idle { connection, since: worker.clock.now() });
    }

    /// Could `endpoint` not be reached a short while ago?
    pub fn is_passed_over(&self, endpoint: SocketAddr, now: u32) -> bool {
        self.unreachable.borrow().get(&endpoint).is_some_and(|&until| until.wrapping_sub(now) as i32 > 0)
    }

    fn pass_over(&self, endpoint: SocketAddr, until: u32) {
        self.unreachable.borrow_mut().insert(endpoint, until);
    }

    /// Closes what is closed by the backend or has been idle for `idle_ticks`.
    pub fn sweep(&self, now: u32, idle_ticks: u32) {
        let fresh = |since: u32| now.wrapping_sub(since) < idle_ticks;
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|idle| idle.connection.is_ready() && fresh(idle.since));
            !stack.is_empty()
        });
        self.shared.borrow_mut().retain(|_, pool| {
            let mut connections = pool.connections.borrow_mut();
            connections.retain(|shared| {
                if shared.active.get() > 0 {
                    shared.last_used.set(now);
                }
                shared.driven.task.borrow().iter().for_each(Waker::wake_by_ref);
                !shared.sender.is_closed() && (shared.active.get() > 0 || fresh(shared.last_used.get()))
            });
            !connections.is_empty() || Rc::strong_count(pool) > 1
        });
        self.unreachable.borrow_mut().retain(|_, until| until.wrapping_sub(now) as i32 > 0);
    }

    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty() && self.unreachable.borrow().is_empty()
    }
}

impl SharedPool {
    fn with_room(&self) -> Option<Rc<Shared>> {
        self.connections.borrow().iter().find(|shared| shared.has_room()).cloned()
    }

    /// When there may be no more connections: the one with the fewest streams.
    fn at_bound(&self) -> Option<Rc<Shared>> {
        let connections = self.connections.borrow();
        let open = || connections.iter().filter(|shared| !shared.sender.is_closed());
        if open().count() < MAX_SHARED {
            return None;
        }
        open().min_by_key(|shared| shared.active.get()).cloned()
    }
}

impl Lease {
    /// Sends `request`. Dropping the future gives the request up: the connection is closed, or the stream reset.
    pub fn send(&mut self, request: Request<Upload>) -> impl Future<Output = Result<Response<Incoming>, Unanswered>> {
        // Boxed: what holds it is moved more often than it is made.
        let (mut sending, mut connection): (Sending, _) = match &mut self.kind {
            Kind::Exclusive(connection) => {
                if !request.body().is_end_stream() || request.headers().contains_key(header::UPGRADE) {
                    connection.detach();
                }
                let sent = connection.sender.try_send_request(request);
                let sending = async {
                    sent.await.map_err(|mut error| {
                        let unsent = error.take_message().map(Box::new);
                        Unanswered { unsent, reason: reason(error.error()) }
                    })
                };
                (Box::pin(sending), Some(connection))
            }
            Kind::Shared(stream) => (stream.send(request), None),
        };
        let mut sent = false;
        poll_fn(move |cx| match &mut connection {
            Some(connection) => connection.poll(cx, replace(&mut sent, true), |cx| sending.as_mut().poll(cx)),
            None => sending.as_mut().poll(cx),
        })
    }

    /// The next part of the answer's body.
    pub fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = Pin::new(body);
        match &mut self.kind {
            Kind::Exclusive(connection) if connection.driven.is_some() => {
                // Often it came together with what was asked for before.
                match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => connection.poll(cx, true, |cx| body.as_mut().poll_frame(cx)),
                    came => came,
                }
            }
            _ => body.poll_frame(cx),
        }
    }

    /// The answer was read to its end: the connection may serve another request.
    pub fn give_back(self, worker: &Rc<Worker>) {
        let mut connection = match self.kind {
            Kind::Exclusive(connection) => connection,
            Kind::Shared(stream) => return stream.answered(worker.settings.stall_timeout),
        };
        if connection.sender.is_ready() {
            worker.upstreams.keep(worker, self.endpoint, connection);
        } else if !connection.sender.is_closed() {
            // The request's body is still on its way.
            let (worker, endpoint) = (worker.clone(), self.endpoint);
            tokio::task::spawn_local(async move {
                connection.detach();
                let ready = tokio::time::timeout(worker.settings.stall_timeout, connection.sender.ready()).await;
                if let Ok(Ok(())) = ready {
                    worker.upstreams.keep(&worker, endpoint, connection);
                }
            });
        }
    }
}

/// What hyper's error means for the exchange.
fn reason(error: &hyper::Error) -> Reason {
    let refused = |error: &h2::Error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away() && error.is_remote()
    };
    // What h2 itself objects to, an answer in HTTP/1 for one, is no HTTP/2.
    let garbled = |error: &h2::Error| error.is_library() && (error.is_go_away() || error.is_reset());
    if h2_error(error).is_some_and(refused) {
        Reason::Unprocessed
    } else if error.is_parse() || h2_error(error).is_some_and(garbled) {
        Reason::BadAnswer
    } else {
        Reason::BackendClosed
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Connects to an endpoint, which is passed over for a while where that fails.
///
/// # Errors
/// [`Reason::ConnectFailed`], [`Reason::ConnectTimeout`].
pub async fn connect_tcp(worker: &Worker, endpoint: SocketAddr) -> Result<TcpStream, Reason> {
    add(&worker.counters.connects);
    let connected = tokio::time::timeout(worker.settings.connect_timeout, TcpStream::connect(endpoint)).await;
    let failed = match connected {
        Ok(Ok(stream)) => {
            // Without it small writes wait for acknowledgements; where it cannot be set, they do.
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
        Ok(Err(_)) => Reason::ConnectFailed,
        Err(_) => Reason::ConnectTimeout,
    };
    add(&worker.counters.connect_failures);
    worker.upstreams.pass_over(endpoint, worker.clock.now().wrapping_add(worker.clock.ticks(PASSED_OVER)));
    Err(failed)
}

fn wire(stream: TcpStream) -> TokioIo<BackendStream> {
    TokioIo::new(BackendStream::new(Wire::new(stream)))
}

async fn connect_http1(worker: &Worker, endpoint: SocketAddr) -> Result<Exclusive, Reason> {
    let io = wire(connect_tcp(worker, endpoint).await?);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(worker.settings.max_head.max(8 << 10)).max_header_size(worker.settings.max_head);
    let (sender, connection) = builder.handshake(io).await.map_err(|_| Reason::ConnectFailed)?;
    Ok(Exclusive { sender, driven: Some(Box::new(connection)) })
}

async fn connect_http2(worker: &Worker, endpoint: SocketAddr) -> Result<Shared, Reason> {
    let stream = connect_tcp(worker, endpoint).await?;
    let socket = SockRef::from(&stream);
    // Without them the kernel takes longer to see that a backend is gone, and everything else is as it was.
    _ = socket.set_tcp_keepalive(&KEEPALIVE);
    _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGED));
    let io = wire(stream);
    let Settings { h2_stream_window, h2_connection_window, h2_max_header_list, .. } = *worker.settings;
    let executor = Executor::default();
    let (sender, connection) = http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .initial_stream_window_size(h2_stream_window)
        .initial_connection_window_size(h2_connection_window)
        .max_header_list_size(h2_max_header_list)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(io)
        .await
        .map_err(|_| Reason::ConnectFailed)?;
    let driven = Rc::new(Driven { connection: RefCell::new(Some(connection)), task: RefCell::new(None) });
    tokio::task::spawn_local(driven.clone().run());
    Ok(Shared { sender, executor, driven, active: Cell::new(0), last_used: Cell::new(worker.clock.now()) })
}
