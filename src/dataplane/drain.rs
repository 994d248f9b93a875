//! Who is connected to a worker, how long each may go on, and how they are asked to leave.
//!
//! The deadlines of DESIGN section 6 are kept here, by one sweep over all connections of a worker at each tick of its
//! clock; leaving (a listener that went or changed its TLS, SIGTERM) goes the same way.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    Settings,
    pulse::{Clock, Farewell, Phase, Pulse},
    stream::Streams,
    tunnel::Tunnels,
};
use crate::snapshot::Snapshot;

/// How long the last word waits to be read.
const LINGER: Duration = Duration::from_secs(2);

/// Ticks after which a still connection between client and backend looks whether it has broken.
const LOOK: u32 = 16;

/// Every deadline, in ticks.
struct Allowances {
    handshake: u32,
    head: u32,
    idle: u32,
    stall: u32,
    upgrade: u32,
    relayed: u32,
    linger: u32,
}

/// The connections of one worker.
pub struct Connections {
    pub clock: Arc<Clock>,
    allowances: Allowances,
    next: Cell<u64>,
    live: RefCell<HashMap<u64, Rc<Handle>>>,
    /// Holds of whoever still comes in.
    all_leaving: Cell<Option<Leaving>>,
}

/// What the worker holds of a connection.
pub struct Handle {
    id: u64,
    /// The bound address.
    socket: SocketAddr,
    client: IpAddr,
    pub pulse: Arc<Pulse>,
    pub streams: Streams,
    /// The listener whose certificate was presented, and its digest.
    tls: OnceCell<(Arc<str>, u64)>,
    tunnels: Rc<Tunnels>,
    leaving: Cell<Option<Leaving>>,
    /// It came when all were leaving.
    late: bool,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// That a connection is to go.
#[derive(Clone, Copy)]
struct Leaving {
    /// Also when nothing is under way, without waiting for the next request.
    idle_too: bool,
    /// The tick at which it is closed whatever is under way.
    by: u32,
}

impl Connections {
    pub fn new(settings: &Settings) -> Connections {
        let clock = Arc::new(Clock::new(settings));
        let allowances = Allowances {
            handshake: clock.ticks(settings.tls_handshake_timeout),
            head: clock.ticks(settings.head_timeout),
            idle: clock.ticks(settings.client_idle_timeout),
            stall: clock.ticks(settings.stall_timeout),
            upgrade: clock.ticks(settings.upgrade_idle_timeout),
            relayed: clock.ticks(settings.tcp_idle_timeout),
            linger: clock.ticks(LINGER),
        };
        Connections { clock, allowances, next: Cell::new(0), live: RefCell::default(), all_leaving: Cell::new(None) }
    }

    /// Enters a connection of `client` that was accepted on `socket`. It stays entered until [`Connections::remove`], or
    /// until its `Io` is dropped.
    pub fn add(
        &self,
        socket: SocketAddr,
        client: IpAddr,
        pulse: Arc<Pulse>,
        max_waiting: usize,
        tunnels: Rc<Tunnels>,
    ) -> Rc<Handle> {
        let id = self.next.get();
        self.next.set(id + 1);
        let handle = Rc::new(Handle {
            id,
            socket,
            client,
            pulse,
            streams: Streams::new(max_waiting),
            tls: OnceCell::new(),
            tunnels,
            leaving: Cell::new(self.all_leaving.get()),
            late: self.all_leaving.get().is_some(),
            closed: Cell::new(false),
            waker: RefCell::new(None),
        });
        self.live.borrow_mut().insert(id, handle.clone());
        handle
    }

    pub fn remove(&self, handle: &Handle) {
        self.live.borrow_mut().remove(&handle.id);
    }

    /// How many are connected, upgraded ones included.
    pub fn count(&self) -> usize {
        let mut live = self.live.borrow_mut();
        live.retain(|_, handle| !handle.pulse.gone());
        live.len()
    }

    /// Moves the clock on by a tick and ends what has outlived its deadline.
    pub fn sweep(&self) {
        let now = self.clock.advance();
        let mut live = self.live.borrow_mut();
        live.retain(|_, handle| !handle.pulse.gone());
        live.values().for_each(|handle| handle.keep_deadlines(&self.allowances, now));
    }

    /// Asks all connections to leave within `timeout`.
    pub fn leave_all(&self, timeout: Duration) {
        let leaving = self.leave(timeout, true, |_| true);
        self.all_leaving.set(Some(leaving));
    }

    /// The same but for connections on which nothing is under way: they may ask once more. Returns a bound on the ids of
    /// all that there are.
    pub fn ask_all(&self, timeout: Duration) -> u64 {
        let leaving = self.leave(timeout, false, |_| true);
        self.all_leaving.set(Some(leaving));
        self.next.get()
    }

    /// Ends connections on which nothing is under way, with ids below a bound; the others when their request has ended.
    pub fn dismiss_before(&self, bound: u64, timeout: Duration) {
        self.leave(timeout, true, |handle| handle.id < bound);
    }

    /// Is anyone still connected whose id is below a bound?
    pub fn any_before(&self, bound: u64) -> bool {
        self.live.borrow().values().any(|handle| handle.id < bound && !handle.pulse.gone())
    }

    /// How many are connected that are doing this.
    pub fn in_phase(&self, phase: Phase) -> usize {
        let live = self.live.borrow();
        live.values().filter(|handle| handle.pulse.phase() == phase && !handle.pulse.gone()).count()
    }

    /// Asks the connections of a socket that is closing to leave within `timeout`.
    pub fn leave_socket(&self, socket: SocketAddr, timeout: Duration) {
        self.leave(timeout, false, |handle| handle.socket == socket);
    }

    /// Asks those to leave whose listener has gone from `snapshot` or has changed its TLS.
    pub fn leave_changed(&self, snapshot: &Snapshot, timeout: Duration) {
        self.live.borrow().values().for_each(|handle| self.check(handle, snapshot, timeout));
    }

    /// The same for one connection, whose handshake may have begun before `snapshot` came.
    pub fn check(&self, handle: &Handle, snapshot: &Snapshot, timeout: Duration) {
        if handle.changed(snapshot) {
            handle.leave(self.leaving(timeout, false));
        }
        self.check_tunnels(&handle.tunnels, handle.socket, snapshot, timeout);
    }

    /// The same for the upgraded streams of a connection, which need not leave with it nor it with them.
    pub fn check_tunnels(&self, tunnels: &Tunnels, socket: SocketAddr, snapshot: &Snapshot, timeout: Duration) {
        let socket = snapshot.sockets.get(&socket);
        let has = |key: &str| socket.is_some_and(|socket| socket.listeners.iter().any(|one| *one.key == *key));
        tunnels.leave(self.leaving(timeout, false).by, |listener| !has(listener));
    }

    fn leave(&self, timeout: Duration, idle_too: bool, which: impl Fn(&Handle) -> bool) -> Leaving {
        let leaving = self.leaving(timeout, idle_too);
        self.live.borrow().values().filter(|handle| which(handle)).for_each(|handle| handle.leave(leaving));
        leaving
    }

    fn leaving(&self, timeout: Duration, idle_too: bool) -> Leaving {
        // The tick that is under way does not count.
        let by = self.clock.now().saturating_add(self.clock.ticks(timeout)).saturating_add(1);
        Leaving { idle_too, by }
    }

    /// Ends every connection now; WebSockets with 1001.
    pub fn end_all(&self) {
        self.live.borrow().values().for_each(|handle| handle.end());
    }

    /// Ends the connections of those clients now; WebSockets with 1001.
    pub fn end_where(&self, is_unwanted: impl Fn(IpAddr) -> bool) {
        self.live.borrow().values().filter(|handle| is_unwanted(handle.client)).for_each(|handle| handle.end());
    }

    /// Makes room: closes up to `count` connections on which nothing has been under way for longest.
    pub fn shed(&self, count: usize) {
        let live = self.live.borrow();
        let mut idle: Vec<&Rc<Handle>> =
            live.values().filter(|handle| handle.pulse.phase() == Phase::Idle && handle.pulse.elapsed() > 0).collect();
        idle.sort_by_key(|handle| std::cmp::Reverse(handle.pulse.elapsed()));
        idle.into_iter().take(count).for_each(|handle| handle.dismiss());
    }
}

impl Handle {
    /// What the handshake agreed on.
    pub fn presented(&self, listener: Arc<str>, digest: u64) {
        _ = self.tls.set((listener, digest));
    }

    /// Remembers whom to wake when something is asked of the connection.
    pub fn attend(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
    }

    /// Runs `future` unless the connection is closed meanwhile.
    pub async fn unless_closed<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            self.attend(cx);
            if self.closed() {
                return Poll::Ready(None);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Is the connection to be dropped as it is?
    pub fn closed(&self) -> bool {
        self.closed.get()
    }

    /// Is the client to be told that this connection ends?
    pub fn leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// Did it come when all were leaving? It is then told no sooner than it has asked for something.
    pub fn came_late(&self) -> bool {
        self.late && self.pulse.phase() != Phase::Leaving
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
        self.pulse.wake_reader();
    }

    fn close(&self) {
        self.closed.set(true);
        self.pulse.kill();
        self.wake();
    }

    fn say(&self, farewell: Farewell) {
        self.pulse.set_farewell(Some(farewell));
        self.wake();
    }

    fn leave(&self, mut leaving: Leaving) {
        if let Some(earlier) = self.leaving.get() {
            leaving = Leaving { idle_too: leaving.idle_too || earlier.idle_too, by: leaving.by.min(earlier.by) };
        }
        self.leaving.set(Some(leaving));
        if leaving.idle_too && self.pulse.phase() == Phase::Idle {
            self.dismiss();
        } else {
            self.wake();
        }
    }

    /// Ends a connection on which nothing is under way, in its protocol's own manner.
    fn dismiss(&self) {
        if !self.streams.spoken() {
            return self.say(Farewell::Silent);
        }
        if self.leaving.get().is_none() {
            self.leaving.set(Some(Leaving { idle_too: true, by: u32::MAX }));
        }
        self.pulse.enter(Phase::Leaving);
        self.wake();
    }

    fn end(&self) {
        match self.pulse.phase() {
            Phase::Upgraded if self.pulse.websocket() => self.say(Farewell::GoingAway),
            Phase::Upgraded => self.say(Farewell::Silent),
            Phase::Lingering => {}
            Phase::Streams if self.tunnels.part_all() => {}
            _ => self.close(),
        }
    }

    fn changed(&self, snapshot: &Snapshot) -> bool {
        let Some(socket) = snapshot.sockets.get(&self.socket) else { return true };
        match self.tls.get() {
            None => socket.tls && self.pulse.phase() != Phase::Handshake,
            Some((key, digest)) => {
                !socket.tls || !socket.listeners.iter().any(|one| one.key == *key && one.tls_digest == *digest)
            }
        }
    }

    fn keep_deadlines(&self, allowances: &Allowances, now: u32) {
        let pulse = &self.pulse;
        let phase = pulse.phase();
        let outlived = |ticks| pulse.elapsed() > ticks;
        if phase == Phase::Lingering {
            if outlived(allowances.linger) {
                self.close();
            }
            return;
        }
        if pulse.farewell_elapsed() > 1 {
            // It could not be said.
            return self.close();
        }
        if self.leaving.get().is_some_and(|leaving| now >= leaving.by) {
            return self.end();
        }
        match phase {
            Phase::Handshake if outlived(allowances.handshake) => self.close(),
            Phase::Idle if outlived(allowances.idle) || (self.is_to_go_when_idle() && outlived(0)) => self.dismiss(),
            Phase::Head if outlived(allowances.head) => self.say(Farewell::RequestTimeout),
            Phase::Message => self.keep_message_deadlines(allowances),
            Phase::Streams => {
                self.streams.end_stalled(now, allowances.stall);
                self.tunnels.part_due(now);
            }
            Phase::Leaving if outlived(allowances.head) => self.close(),
            Phase::Relayed if outlived(allowances.relayed) => self.close(),
            Phase::Relayed if pulse.elapsed() % LOOK == LOOK - 1 => self.wake(),
            Phase::Upgraded if outlived(allowances.upgrade) || self.tunnels.any_due(now) => self.end(),
            _ => {}
        }
        let headers_late = self.streams.spoken() && pulse.part_elapsed() > allowances.head;
        if headers_late && matches!(phase, Phase::Idle | Phase::Streams) {
            self.say(Farewell::Calm);
        }
    }

    fn is_to_go_when_idle(&self) -> bool {
        self.leaving.get().is_some_and(|leaving| leaving.idle_too)
    }

    fn keep_message_deadlines(&self, allowances: &Allowances) {
        let pulse = &self.pulse;
        // Whoever reads the body has the same deadline, and a better answer: this one comes behind it.
        let patience = if pulse.waits_for_write() { 0 } else { allowances.head };
        let stalled = pulse.waits_for_client() && pulse.elapsed() > allowances.stall.saturating_add(patience);
        let late = pulse.part_elapsed() > allowances.head;
        if pulse.body_timed_out() {
            // Whoever serves it had its time to answer.
            if pulse.elapsed() > allowances.head {
                self.close();
            }
        } else if stalled && pulse.waits_for_write() {
            self.close();
        } else if stalled || late {
            pulse.time_out_body();
            self.wake();
        }
    }
}
