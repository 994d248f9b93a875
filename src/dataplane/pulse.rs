//! The signs of life of one connection, by which its deadlines are kept.
//!
//! No connection has a timer. Each worker has one coarse [`Clock`]; a connection notes the tick at which something
//! happened, and the worker's sweep (see [`super::drain`]) compares. On the request path this costs a few plain loads
//! and stores.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::Duration,
};

use super::Settings;

/// A worker's time, counted in ticks from 1. Only the worker's sweep moves it.
pub struct Clock {
    ticks: AtomicU32,
    length: Duration,
}

impl Clock {
    /// A tick is an eighth of the shortest deadline, between 5 ms and a second: no deadline is missed by more than a
    /// quarter.
    pub fn new(settings: &Settings) -> Clock {
        let shortest = [
            settings.head_timeout,
            settings.client_idle_timeout,
            settings.tls_handshake_timeout,
            settings.stall_timeout,
            settings.upgrade_idle_timeout,
            settings.listener_drain_timeout,
        ]
        .into_iter()
        .min()
        .expect("the list is not empty");
        let length = (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
        Clock { ticks: AtomicU32::new(1), length }
    }

    /// The length of a tick.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The current tick; never 0.
    pub fn now(&self) -> u32 {
        self.ticks.load(Relaxed)
    }

    /// Moves on by one tick.
    pub fn advance(&self) -> u32 {
        self.ticks.fetch_add(1, Relaxed) + 1
    }

    /// How many ticks `duration` takes, rounded up: at least one.
    pub fn ticks(&self, duration: Duration) -> u32 {
        let ticks = duration.as_nanos().div_ceil(self.length.as_nanos());
        u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
    }
}

/// What a connection is doing, which says the deadline that it is under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Phase {
    /// The TLS handshake is under way.
    Handshake,
    /// Nothing is under way; since the last message ended.
    Idle,
    /// Part of an HTTP/1 head has come; since its first byte.
    Head,
    /// A request is being served; since the last byte in either direction.
    Message,
    /// HTTP/2 streams are open; since the first of them.
    Streams,
    /// HTTP/2: GOAWAY was sent to an idle connection.
    Leaving,
    /// A WebSocket or another upgraded stream; since the last byte.
    Upgraded,
    /// A connection of TCP or TLS between client and backend; since the last byte.
    Relayed,
    /// The last word was said; what the client still sends is thrown away.
    Lingering,
}

impl Phase {
    const ALL: [Phase; 9] = [
        Phase::Handshake,
        Phase::Idle,
        Phase::Head,
        Phase::Message,
        Phase::Streams,
        Phase::Leaving,
        Phase::Upgraded,
        Phase::Relayed,
        Phase::Lingering,
    ];
}

/// How a connection is ended from outside of the protocol library.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Farewell {
    /// 400, HTTP/1.
    BadRequest = 1,
    /// 408, HTTP/1.
    RequestTimeout,
    /// 414, HTTP/1.
    UriTooLong,
    /// 431, HTTP/1.
    FieldsTooLarge,
    /// GOAWAY with ENHANCE_YOUR_CALM, HTTP/2.
    Calm,
    /// Close frame with 1001, WebSocket.
    GoingAway,
    /// Without a word, unless a request is just arriving.
    Silent,
}

impl Farewell {
    const ALL: [Farewell; 7] = [
        Farewell::BadRequest,
        Farewell::RequestTimeout,
        Farewell::UriTooLong,
        Farewell::FieldsTooLarge,
        Farewell::Calm,
        Farewell::GoingAway,
        Farewell::Silent,
    ];
}

/// How the body of the request in hand is framed, by its head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyFraming {
    Length(u64),
    Chunked,
}

/// In [`Pulse::body`], what no Content-Length is (hyper takes none so large).
const CHUNKED: u64 = u64::MAX;
const READ: u8 = 1;
const WRITE: u8 = 2;

/// Shared by a connection's [`super::io::Io`], its driver and the sweep, all of one thread; atomic only because hyper
/// asks for `Send` where a connection may be upgraded.
pub struct Pulse {
    pub clock: Arc<Clock>,
    phase: AtomicU8,
    since: AtomicU32,
    part: AtomicU32,
    waits: AtomicU8,
    body: AtomicU64,
    body_timed_out: AtomicBool,
    farewell: AtomicU8,
    farewell_since: AtomicU32,
    websocket: AtomicBool,
    wants_room: AtomicBool,
    dead: AtomicBool,
    gone: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Pulse {
    /// Starts in `phase`, now.
    pub fn new(clock: Arc<Clock>, phase: Phase) -> Pulse {
        let since = AtomicU32::new(clock.now());
        Pulse {
            clock,
            phase: AtomicU8::new(phase as u8),
            since,
            part: AtomicU32::new(0),
            waits: AtomicU8::new(0),
            body: AtomicU64::new(0),
            body_timed_out: AtomicBool::new(false),
            farewell: AtomicU8::new(0),
            farewell_since: AtomicU32::new(0),
            websocket: AtomicBool::new(false),
            wants_room: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            reader: Mutex::new(None),
        }
    }

    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// Begins `phase`, now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(self.clock.now(), Relaxed);
        self.waits.store(0, Relaxed);
    }

    /// Ticks since the phase began, or since the last byte.
    pub fn elapsed(&self) -> u32 {
        self.clock.now().saturating_sub(self.since.load(Relaxed))
    }

    /// A request of HTTP/1 begins to be served.
    pub fn message(&self, body: BodyFraming, websocket: bool) {
        self.enter(Phase::Message);
        self.websocket.store(websocket, Relaxed);
        self.body
            .store(if let BodyFraming::Length(length) = body { length.min(CHUNKED - 1) } else { CHUNKED }, Relaxed);
    }

    /// How the body of the request in hand is framed.
    pub fn body(&self) -> BodyFraming {
        match self.body.load(Relaxed) {
            CHUNKED => BodyFraming::Chunked,
            length => BodyFraming::Length(length),
        }
    }

    /// Bytes came from the client.
    pub fn read(&self) {
        self.progress(READ);
    }

    /// Bytes went to the client.
    pub fn written(&self) {
        self.progress(WRITE);
    }

    fn progress(&self, direction: u8) {
        self.waits.store(self.waits.load(Relaxed) & !direction, Relaxed);
        if matches!(self.phase(), Phase::Message | Phase::Upgraded | Phase::Relayed) {
            self.since.store(self.clock.now(), Relaxed);
        }
    }

    /// Bytes of a body are wanted and the client sends none.
    pub fn wait_read(&self) {
        self.waits.store(self.waits.load(Relaxed) | READ, Relaxed);
    }

    /// Bytes are to be sent and the client takes none.
    pub fn wait_write(&self) {
        self.waits.store(self.waits.load(Relaxed) | WRITE, Relaxed);
    }

    /// Is it the client that is waited for? Otherwise it is a backend, which has deadlines of its own.
    pub fn waits_for_client(&self) -> bool {
        self.waits.load(Relaxed) != 0
    }

    pub fn waits_for_write(&self) -> bool {
        self.waits.load(Relaxed) & WRITE != 0
    }

    /// Says whether a part with a deadline of its own is under way: a chunk-size line, a trailer section, an HTTP/2
    /// header block.
    pub fn part(&self, under_way: bool) {
        if !under_way {
            self.part.store(0, Relaxed);
        } else if self.part.load(Relaxed) == 0 {
            self.part.store(self.clock.now(), Relaxed);
        }
    }

    /// Ticks since such a part began; 0 when there is none.
    pub fn part_elapsed(&self) -> u32 {
        match self.part.load(Relaxed) {
            0 => 0,
            since => self.clock.now().saturating_sub(since),
        }
    }

    /// The rest of the request's body is given up: whoever reads it gets an error and may still answer.
    pub fn time_out_body(&self) {
        self.body_timed_out.store(true, Relaxed);
        self.part(false);
        self.enter(Phase::Message);
    }

    pub fn body_timed_out(&self) -> bool {
        self.body_timed_out.load(Relaxed)
    }

    pub fn farewell(&self) -> Option<Farewell> {
        match self.farewell.load(Relaxed) {
            0 => None,
            number => Some(Farewell::ALL[usize::from(number) - 1]),
        }
    }

    /// The first farewell stands; [`Farewell::Silent`] may be taken back by `None`.
    pub fn set_farewell(&self, farewell: Option<Farewell>) {
        match (self.farewell(), farewell) {
            (None, Some(farewell)) => {
                self.farewell_since.store(self.clock.now(), Relaxed);
                self.farewell.store(farewell as u8, Relaxed);
            }
            (Some(Farewell::Silent), None) => self.farewell.store(0, Relaxed),
            _ => {}
        }
    }

    /// Ticks since a farewell was asked for; 0 when none was.
    pub fn farewell_elapsed(&self) -> u32 {
        match self.farewell() {
            None => 0,
            Some(_) => self.clock.now().saturating_sub(self.farewell_since.load(Relaxed)),
        }
    }

    /// Was the upgrade one to WebSocket?
    pub fn websocket(&self) -> bool {
        self.websocket.load(Relaxed)
    }

    /// A head has come that hyper's own tables are too small for: nothing more is read until there are larger ones.
    pub fn want_room(&self, wanted: bool) {
        self.wants_room.store(wanted, Relaxed);
    }

    pub fn wants_room(&self) -> bool {
        self.wants_room.load(Relaxed)
    }

    /// Every later read and write fails.
    pub fn kill(&self) {
        self.dead.store(true, Relaxed);
        self.wake_reader();
    }

    pub fn dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// The connection's `Io` has been dropped.
    pub fn leave(&self) {
        self.gone.store(true, Relaxed);
    }

    pub fn gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Remembers who reads an upgraded connection.
    pub fn remember_reader(&self, cx: &Context<'_>) {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        match &*reader {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *reader = Some(cx.waker().clone()),
        }
    }

    /// Lets the reader of an upgraded connection look again.
    pub fn wake_reader(&self) {
        if let Some(waker) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}
