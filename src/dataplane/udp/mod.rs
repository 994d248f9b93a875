//! Datagrams of UDP listeners: sessions of clients with backends.
//!
//! A worker has sockets of its own for each bound address, mostly one, and the kernel always gives a client's datagrams to
//! the same one. What a client address says to one address of the machine is a session: its backend is chosen once, by the
//! snapshot in force, and it ends when nobody has spoken for a while. Nothing waits here: what cannot be sent at once is
//! dropped, as on any way that datagrams take.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use socket2::Socket;
use tokio::task::AbortHandle;

use super::{Worker, counter::add_many, outcome::Reason};

mod batch;
pub mod bind;
mod control;
pub mod listening;
pub mod places;
mod session;

use batch::{Batch, MESSAGES, Message, Piece};
use listening::{Listening, Shared};
use places::Places;
use session::{Key, Session};

/// For how long an endpoint that was not there is passed over.
const PASSED_OVER: Duration = Duration::from_secs(3);
/// How many sessions are found at once that may have to go.
const VICTIMS: usize = 64;
/// Sessions beyond the bound that wait for another worker to make room; from there on each ends its own.
const PATIENCE: usize = 16;
/// How many go when there are no more file descriptors.
const SHED: usize = 16;
/// When the worker ends: how long a client that spoke last waits for an answer, and for another after one.
const AWAITED: Duration = Duration::from_secs(5);
const ANSWERED: Duration = Duration::from_millis(200);
/// How often sessions are looked at then.
const STOPPING: Duration = Duration::from_millis(20);

/// What a worker has of UDP.
#[derive(Default)]
pub struct Datagrams {
    places: OnceCell<Arc<Places>>,
    /// Borrowed between a call that receives and those that send, never over a wait.
    batch: RefCell<Batch>,
    sockets: RefCell<Vec<(Rc<Listening>, AbortHandle)>>,
    /// Keys come from clients.
    sessions: RefCell<HashMap<Key, Rc<Session>>>,
    /// Those that were silent for longest when they were looked for last, the longest first.
    victims: RefCell<VecDeque<(u64, Key)>>,
    /// Endpoints that were not there, and until when they are passed over.
    passed_over: RefCell<HashMap<SocketAddr, u64>>,
    stopping: Cell<bool>,
}

/// Serves a socket that has been bound.
pub fn listen(worker: &Rc<Worker>, address: SocketAddr, socket: Arc<Socket>, shared: Arc<Shared>) {
    let datagrams = &worker.datagrams;
    if datagrams.places.set(shared.places.clone()).is_ok() {
        tokio::task::spawn_local(keep_time(worker.clone()));
        tokio::task::spawn_local(make_room_for_others(worker.clone()));
    }
    let listening = match Listening::new(address, socket, shared) {
        Ok(listening) => listening,
        Err(error) => return tracing::error!(%address, %error, "UDP socket not served"),
    };
    let task = tokio::task::spawn_local(receive(worker.clone(), listening.clone()));
    datagrams.sockets.borrow_mut().push((listening, task.abort_handle()));
}

async fn receive(worker: Rc<Worker>, listening: Rc<Listening>) {
    while let Ok(mut ready) = listening.socket.readable().await {
        let received = {
            let mut batch = worker.datagrams.batch.borrow_mut();
            let received = batch.receive(&listening.socket);
            received.map(|()| {
                take(&worker, &listening, &batch);
                batch.is_full()
            })
        };
        match received {
            Ok(false) => ready.clear_ready(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
            // Others have their turn; an error is gone when it has been told.
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Gives what was received to its sessions, what one client said in a row at once.
fn take(worker: &Rc<Worker>, listening: &Rc<Listening>, batch: &Batch) {
    let now = worker.datagrams.now();
    let mut row = [Piece::EMPTY; MESSAGES];
    let mut length = 0;
    let mut of: Option<Key> = None;
    let denied = worker.denied.pin();
    let forward = |key: Option<Key>, row: &[Piece<'_>]| {
        if key.is_some_and(|key| denied.contains(key.client.ip())) {
            return add_many(&worker.counters.denied_datagrams, session::count(row));
        }
        let session = key.and_then(|key| session(worker, listening, key, now));
        match session {
            Some(session) => session.forward(worker, listening, row, now),
            None => session::drop_all(worker, row),
        }
    };
    for Message { from, local, piece } in batch.messages() {
        let local = local.map_or(listening.address, |ip| SocketAddr::new(ip, listening.address.port()));
        let key = Key { client: from, local };
        if of != Some(key) {
            forward(of, &row[..length]);
            (of, length) = (Some(key), 0);
        }
        row[length] = piece;
        length += 1;
    }
    forward(of, &row[..length]);
}

/// The session of a client, a new one unless the listener is leaving.
fn session(worker: &Rc<Worker>, listening: &Rc<Listening>, key: Key, now: u64) -> Option<Rc<Session>> {
    let datagrams = &worker.datagrams;
    let known = datagrams.sessions.borrow().get(&key).cloned();
    if known.is_some() || listening.shared.is_leaving() {
        return known;
    }
    let place = listening.shared.places.take(worker.index, now);
    let session = Session::new(worker, key, listening, place, now);
    datagrams.sessions.borrow_mut().insert(key, session.clone());
    datagrams.make_room(worker);
    Some(session)
}

/// Ends sessions when their time has come, and closes sockets.
async fn keep_time(worker: Rc<Worker>) {
    let settings = &worker.settings;
    let shortest = settings.udp_idle_timeout.min(settings.udp_stream_timeout).min(settings.listener_drain_timeout);
    let tick = (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        tokio::time::sleep(if worker.datagrams.stopping.get() { STOPPING } else { tick }).await;
        worker.datagrams.sweep(&worker);
    }
}

async fn make_room_for_others(worker: Rc<Worker>) {
    let places = worker.datagrams.places.get().expect("set when the first socket came").clone();
    loop {
        places.asked(worker.index).await;
        worker.datagrams.make_room(&worker);
    }
}

impl Datagrams {
    /// Sessions that have not ended.
    pub fn count(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// A snapshot was published: sessions whose listener or endpoint has gone get their time to end, those that it may
    /// have a backend for begin anew.
    pub fn see(&self, worker: &Worker) {
        let by = self.now().saturating_add(micros(worker.settings.listener_drain_timeout));
        let snapshot = worker.snapshots.pin();
        self.end_where(worker, |session| session.is_barren().then_some(Reason::SessionIdle));
        for session in self.sessions.borrow().values() {
            let is_to_end = session.is_leaving() || session.has_lost_endpoint(&snapshot);
            session.ends_by.set(if is_to_end { session.ends_by.get().min(by) } else { u64::MAX });
        }
        self.close();
    }

    /// Takes no more datagrams of clients; sessions have the time to give the answers that are on their way.
    pub fn stop(&self, worker: &Rc<Worker>) {
        self.stopping.set(true);
        for (_, receiving) in std::mem::take(&mut *self.sockets.borrow_mut()) {
            receiving.abort();
        }
        if self.places.get().is_some() {
            tokio::task::spawn_local(keep_time(worker.clone()));
        }
    }

    /// Does a client wait for an answer that may still come?
    pub fn is_awaited(&self) -> bool {
        let now = self.now();
        let is_awaited =
            |session: &Rc<Session>| session.waits.get() && now.saturating_sub(session.heard.get()) <= micros(AWAITED);
        self.sessions.borrow().values().any(is_awaited)
    }

    /// Ends every session now.
    pub fn end_all(&self, worker: &Worker) {
        self.end_where(worker, |_| Some(Reason::GatewayEnded));
    }

    /// Ends the sessions of those clients.
    pub fn end_of(&self, worker: &Worker, is_unwanted: impl Fn(IpAddr) -> bool) {
        self.end_where(worker, |session| is_unwanted(session.key.client.ip()).then_some(Reason::GatewayEnded));
    }

    fn now(&self) -> u64 {
        self.places.get().map_or(0, |places| places.now())
    }

    fn sweep(&self, worker: &Worker) {
        let now = self.now();
        let (idle, stream) = (micros(worker.settings.udp_idle_timeout), micros(worker.settings.udp_stream_timeout));
        self.end_where(worker, |session| {
            let silent = now.saturating_sub(session.heard.get());
            let quiet = micros(if session.waits.get() { AWAITED } else { ANSWERED });
            match () {
                () if silent > if session.answered.get() { stream } else { idle } => Some(Reason::SessionIdle),
                () if now >= session.ends_by.get() => Some(Reason::GatewayEnded),
                () if self.stopping.get() && silent > quiet => Some(Reason::GatewayEnded),
                () => None,
            }
        });
        self.passed_over.borrow_mut().retain(|_, until| *until > now);
        self.close();
    }

    /// Closes sockets that have left.
    fn close(&self) {
        self.sockets.borrow_mut().retain(|(listening, receiving)| {
            let stays = !listening.shared.is_to_close();
            if !stays {
                receiving.abort();
            }
            stays
        });
    }

    fn end_where(&self, worker: &Worker, why: impl Fn(&Session) -> Option<Reason>) {
        self.sessions.borrow_mut().retain(|_, session| match why(session) {
            Some(reason) => {
                session.end(worker, reason);
                false
            }
            None => true,
        });
    }

    /// Ends the session that was silent for longest of all, here or at another worker, for as long as there are too many.
    fn make_room(&self, worker: &Worker) {
        let Some(places) = self.places.get() else { return };
        while places.over() > 0 {
            let victim = self.victim();
            let chosen = places.longest_silent(worker.index, victim.map(|(since, _)| since));
            if chosen != worker.index {
                places.ask(chosen);
                if places.over() <= PATIENCE {
                    return;
                }
            }
            let Some((_, key)) = victim else { return };
            self.evict(worker, key);
        }
    }

    /// Ends a few sessions that were silent for longest, but not `but`.
    fn shed(&self, worker: &Worker, but: &Session) {
        for _ in 0..SHED {
            match self.victim() {
                Some((_, key)) if key != but.key => self.evict(worker, key),
                _ => return,
            }
        }
    }

    fn evict(&self, worker: &Worker, key: Key) {
        if let Some(session) = self.sessions.borrow_mut().remove(&key) {
            session.end(worker, Reason::SessionEvicted);
        }
    }

    /// The session that was silent for longest, and since when.
    fn victim(&self) -> Option<(u64, Key)> {
        let sessions = self.sessions.borrow();
        let mut victims = self.victims.borrow_mut();
        loop {
            while let Some(&(since, key)) = victims.front() {
                // Whoever was not found then, or has spoken since, was heard of later.
                if sessions.get(&key).is_some_and(|session| session.heard.get() == since) {
                    return Some((since, key));
                }
                victims.pop_front();
            }
            if sessions.is_empty() {
                return None;
            }
            let mut all: Vec<(u64, Key)> = sessions.iter().map(|(key, session)| (session.heard.get(), *key)).collect();
            if all.len() > VICTIMS {
                all.select_nth_unstable_by_key(VICTIMS, |(since, _)| *since);
                all.truncate(VICTIMS);
            }
            all.sort_unstable_by_key(|(since, _)| *since);
            victims.extend(all);
        }
    }

    fn is_passed_over(&self, endpoint: SocketAddr, now: u64) -> bool {
        self.passed_over.borrow().get(&endpoint).is_some_and(|until| *until > now)
    }

    fn pass_over(&self, endpoint: SocketAddr, now: u64) {
        self.passed_over.borrow_mut().insert(endpoint, now.saturating_add(micros(PASSED_OVER)));
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
