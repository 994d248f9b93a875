//! What a worker counts. One writer, the worker; read from other threads without disturbing it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::outcome::Reason;

/// The counters of one worker, alone on their cache lines.
#[repr(align(128))]
pub struct Counters {
    reasons: [AtomicU64; Reason::ALL.len()],
    /// By the first digit of the status; 0 for exchanges that got no answer.
    statuses: [AtomicU64; 6],
    pub connects: AtomicU64,
    pub connect_failures: AtomicU64,
    pub retries: AtomicU64,
    pub mirrors: AtomicU64,
    /// Mirrored requests given up: too many at once, no endpoint, too slow for the body.
    pub mirrors_dropped: AtomicU64,
    /// Datagrams that were not passed on: no backend, or no room.
    pub datagrams_dropped: AtomicU64,
    /// Connections and datagrams of clients on the deny list.
    pub denied_connections: AtomicU64,
    pub denied_datagrams: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        let zero = || AtomicU64::new(0);
        Counters {
            reasons: std::array::from_fn(|_| zero()),
            statuses: Default::default(),
            connects: zero(),
            connect_failures: zero(),
            retries: zero(),
            mirrors: zero(),
            mirrors_dropped: zero(),
            datagrams_dropped: zero(),
            denied_connections: zero(),
            denied_datagrams: zero(),
        }
    }
}

impl Counters {
    pub(super) fn ended(&self, reason: Reason, status: u16) {
        add(&self.reasons[reason as usize]);
        add(&self.statuses[usize::from(status / 100).min(5)]);
    }

    /// Exchanges that ended for `reason`.
    pub fn reason(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize].load(Relaxed)
    }

    /// Exchanges answered with a status of `class` hundred.
    pub fn status(&self, class: usize) -> u64 {
        self.statuses.get(class).map_or(0, |count| count.load(Relaxed))
    }
}

/// Plain addition: there is one writer.
pub(super) fn add(counter: &AtomicU64) {
    add_many(counter, 1);
}

pub(super) fn add_many(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}
