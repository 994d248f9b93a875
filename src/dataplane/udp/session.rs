//! A session: what one client address says to one address of the machine, the backend that it is said to, and its
//! answers.

use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    net::SocketAddr,
    os::fd::AsFd,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use socket2::{SockAddr, Socket};
use tokio::{io::unix::AsyncFd, task::AbortHandle};

use super::{
    batch::{self, Piece, Unsent, Way, is_refusal},
    bind,
    listening::{Listening, Passage, watch},
    places::Place,
};
use crate::{
    dataplane::{
        Worker,
        accept::by_family,
        access_log::{Line, Taken, milliseconds},
        counter::add_many,
        elsewhere::{Arrived, Endpoints},
        layer4,
        outcome::Reason,
    },
    snapshot::{Backend, ListenerProtocol, Rule, Snapshot, Socket as Listeners},
};

/// Endpoints that are tried for one datagram.
const MAX_ENDPOINTS: usize = 4;

/// Who speaks to which address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

pub struct Session {
    pub key: Key,
    /// The socket that the client's last datagram came over, and that answers go over.
    passage: RefCell<Passage>,
    client: SockAddr,
    taken: Option<Taken>,
    /// Chosen once; without one, what comes is dropped.
    backend: Result<Arc<Backend>, Reason>,
    /// Endpoints that it is not for.
    elsewhere: Option<Endpoints>,
    upstream: RefCell<Option<Upstream>>,
    /// The last endpoint, for the log.
    endpoint: Cell<Option<SocketAddr>>,
    /// What is wrong with the backend just now.
    trouble: Cell<Option<Reason>>,
    /// When a datagram came last, from either side; by [`super::places::Places::now`].
    pub heard: Cell<u64>,
    pub answered: Cell<bool>,
    /// Did the client speak last?
    pub waits: Cell<bool>,
    /// When it ends whatever is said.
    pub ends_by: Cell<u64>,
    received: Cell<u64>,
    sent: Cell<u64>,
    started: Instant,
    ended: Cell<bool>,
    place: Cell<Option<Place>>,
}

/// A socket that is connected to an endpoint, and the task that listens to it.
struct Upstream {
    endpoint: SocketAddr,
    socket: Rc<AsyncFd<Socket>>,
    task: AbortHandle,
}

impl Session {
    pub fn new(worker: &Worker, key: Key, listening: &Rc<Listening>, place: Place, now: u64) -> Rc<Session> {
        let snapshot = worker.snapshots.pin();
        // A socket of a socket unit may take both families.
        let (_, address) = by_family(key.client, listening.address);
        let rule = rule(&snapshot, address);
        let Key { client, local } = key;
        let arrived = Arrived { protocol: ListenerProtocol::Udp, socket: address, client, local };
        let elsewhere = worker.settings.elsewhere.of(&arrived);
        let backend =
            rule.ok_or(Reason::NoRoute).and_then(|rule| layer4::backend(worker, &snapshot, rule, elsewhere.as_ref()));
        Rc::new(Session {
            key,
            passage: RefCell::new(Passage::new(listening.clone(), worker.index)),
            client: key.client.into(),
            taken: rule.map(Taken::by),
            trouble: Cell::new(backend.as_ref().err().copied()),
            backend,
            elsewhere,
            upstream: RefCell::new(None),
            endpoint: Cell::new(None),
            heard: Cell::new(now),
            answered: Cell::new(false),
            waits: Cell::new(true),
            ends_by: Cell::new(u64::MAX),
            received: Cell::new(0),
            sent: Cell::new(0),
            started: Instant::now(),
            ended: Cell::new(false),
            place: Cell::new(Some(place)),
        })
    }

    /// Did it get no backend, so that it stands in the way of one that a new snapshot may have?
    pub fn is_barren(&self) -> bool {
        self.backend.is_err()
    }

    pub fn is_leaving(&self) -> bool {
        self.passage.borrow().listening.shared.is_leaving()
    }

    /// Has the endpoint gone from the snapshot?
    pub fn has_lost_endpoint(&self, snapshot: &Snapshot) -> bool {
        let upstream = self.upstream.borrow();
        let (Some(upstream), Ok(backend)) = (&*upstream, &self.backend) else { return false };
        let now = snapshot.backends.get(&backend.key);
        !now.is_some_and(|now| Arc::ptr_eq(now, backend) || now.endpoints.contains(&upstream.endpoint))
    }

    /// The client speaks.
    pub fn forward(self: &Rc<Session>, worker: &Rc<Worker>, over: &Rc<Listening>, mut pieces: &[Piece<'_>], now: u64) {
        if !Rc::ptr_eq(&self.passage.borrow().listening, over) {
            self.passage.replace(Passage::new(over.clone(), worker.index));
            self.ends_by.set(u64::MAX);
        }
        self.heard.set(now);
        self.waits.set(true);
        self.received.set(self.received.get() + bytes(pieces));
        for _ in 0..MAX_ENDPOINTS {
            let Some(socket) = self.connected(worker, now) else { break };
            let Err(sent) = send(worker, &*socket, Way { to: None, from: None }, pieces) else { return };
            pieces = &pieces[sent..];
            self.pass_over(worker, now);
        }
        drop_all(worker, pieces);
    }

    /// The socket to the endpoint, of another one where the last was not there.
    fn connected(self: &Rc<Session>, worker: &Rc<Worker>, now: u64) -> Option<Rc<AsyncFd<Socket>>> {
        if let Some(upstream) = &*self.upstream.borrow() {
            return Some(upstream.socket.clone());
        }
        let chosen = self.backend.as_ref().ok().filter(|_| !self.ended.get())?;
        // Endpoints may have come since.
        let backend = worker.snapshots.pin().backends.get(&chosen.key).unwrap_or(chosen).clone();
        for _ in 0..MAX_ENDPOINTS {
            let is_elsewhere =
                |endpoint: &SocketAddr| self.elsewhere.as_ref().is_some_and(|others| others.contains(endpoint));
            let avoid = |endpoint| is_elsewhere(&endpoint) || worker.datagrams.is_passed_over(endpoint, now);
            let Some(endpoint) = worker.balance.endpoint(&backend, avoid) else {
                self.trouble.set(Some(Reason::NoEndpoint));
                return None;
            };
            self.endpoint.set(Some(endpoint));
            match bind::connect(endpoint).and_then(watch) {
                Ok(socket) => {
                    let socket = Rc::new(socket);
                    let task = tokio::task::spawn_local(answers(worker.clone(), self.clone(), socket.clone()));
                    let upstream = Upstream { endpoint, socket: socket.clone(), task: task.abort_handle() };
                    self.upstream.replace(Some(upstream));
                    self.trouble.set(None);
                    return Some(socket);
                }
                Err(error) if is_refusal(&error) => worker.datagrams.pass_over(endpoint, now),
                Err(_) => {
                    // Out of file descriptors, mostly: whoever is silent has them for nothing.
                    worker.datagrams.shed(worker, self);
                    return None;
                }
            }
        }
        self.trouble.set(Some(Reason::ConnectFailed));
        None
    }

    /// The endpoint is not there: the next datagram goes to another.
    fn pass_over(&self, worker: &Worker, now: u64) {
        self.trouble.set(Some(Reason::ConnectFailed));
        if let Some(upstream) = self.upstream.take() {
            worker.datagrams.pass_over(upstream.endpoint, now);
            upstream.task.abort();
        }
    }

    /// The backend speaks.
    fn answer(&self, worker: &Worker, pieces: &[Piece<'_>], now: u64) {
        self.heard.set(now);
        self.waits.set(false);
        self.answered.set(true);
        self.trouble.set(None);
        let passage = self.passage.borrow();
        let listening = &passage.listening;
        let from = listening.is_wildcard().then_some(self.key.local.ip());
        if let Err(sent) = send(worker, &listening.socket, Way { to: Some(&self.client), from }, pieces) {
            drop_all(worker, &pieces[sent..]);
        }
        self.sent.set(self.sent.get() + bytes(pieces));
    }

    /// Closes its socket, counts and logs it.
    pub fn end(&self, worker: &Worker, reason: Reason) {
        self.ended.set(true);
        // Its task goes when the worker gets to it; the next one may have the place now.
        self.place.take();
        if let Some(upstream) = self.upstream.take() {
            upstream.task.abort();
        }
        let reason = if reason == Reason::SessionIdle { self.trouble.get().unwrap_or(reason) } else { reason };
        worker.counters.ended(reason, 0);
        let Some(log) = &worker.access_log else { return };
        log.put(&Line {
            taken: self.taken.as_ref(),
            endpoint: self.endpoint.get(),
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            milliseconds: milliseconds(self.started),
            ..Line::new(SystemTime::now(), self.key.client.ip(), "UDP", reason)
        });
    }
}

/// Listens to the backend for as long as the session has this socket.
async fn answers(worker: Rc<Worker>, session: Rc<Session>, socket: Rc<AsyncFd<Socket>>) {
    while let Ok(mut ready) = socket.readable().await {
        let received = {
            let mut batch = worker.datagrams.batch.borrow_mut();
            batch.receive(&*socket).map(|()| {
                let (pieces, count) = batch.pieces();
                session.answer(&worker, &pieces[..count], worker.datagrams.now());
                batch.is_full()
            })
        };
        match received {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => ready.clear_ready(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
            // An ICMP message says that nobody is there.
            Err(_) => return session.pass_over(&worker, worker.datagrams.now()),
        }
    }
}

/// Sends what can be sent now, and drops what cannot.
///
/// # Errors
/// How many pieces came before one whose receiver is not there.
fn send(worker: &Worker, socket: &impl AsFd, way: Way<'_>, mut pieces: &[Piece<'_>]) -> Result<(), usize> {
    let all = pieces.len();
    while let Err(Unsent { sent, error }) = batch::send(socket, way, pieces) {
        let unsent = &pieces[sent..];
        if is_refusal(&error) {
            return Err(all - unsent.len());
        }
        // No room for any, or one that is too long for the way, or that a firewall does not let pass.
        let lost = if error.kind() == ErrorKind::WouldBlock { unsent.len() } else { 1 };
        drop_all(worker, &unsent[..lost]);
        pieces = &unsent[lost..];
    }
    Ok(())
}

pub fn drop_all(worker: &Worker, pieces: &[Piece<'_>]) {
    add_many(&worker.counters.datagrams_dropped, count(pieces));
}

/// How many datagrams they are.
pub fn count(pieces: &[Piece<'_>]) -> u64 {
    pieces.iter().map(Piece::count).sum::<usize>() as u64
}

fn bytes(pieces: &[Piece<'_>]) -> u64 {
    pieces.iter().map(|piece| piece.bytes.len() as u64).sum()
}

fn rule(snapshot: &Snapshot, address: SocketAddr) -> Option<&Rule> {
    let listeners: &Listeners = snapshot.datagram_sockets.get(&address)?;
    listeners.listeners.iter().next()?.stream_rule("")
}
