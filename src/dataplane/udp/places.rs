//! How many sessions there may be, over all workers, and which one has to go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::Notify;

use crate::dataplane::Settings;

/// Shared by all workers.
pub struct Places {
    max: usize,
    taken: AtomicUsize,
    start: Instant,
    workers: Box<[Seat]>,
}

/// What a worker tells the others.
struct Seat {
    /// No session of its was heard of last before this time; `u64::MAX` when it has none.
    silent_since: AtomicU64,
    /// That it may have to make room.
    asked: Notify,
}

impl Places {
    /// `descriptors` is the process's bound on open files: sessions take one each, and half of them at most.
    pub fn new(settings: &Settings, descriptors: u64, workers: usize) -> Arc<Places> {
        let by_descriptors = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
        let seat = |_| Seat { silent_since: AtomicU64::new(u64::MAX), asked: Notify::new() };
        Arc::new(Places {
            max: settings.max_udp_sessions.min(by_descriptors).max(1),
            taken: AtomicUsize::new(0),
            start: Instant::now(),
            workers: (0..workers).map(seat).collect(),
        })
    }

    /// Microseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A place for a session, beyond the bound too: somebody has to leave then.
    pub fn take(self: &Arc<Places>, worker: usize, now: u64) -> Place {
        self.taken.fetch_add(1, Relaxed);
        self.workers[worker].silent_since.fetch_min(now, Relaxed);
        Place(self.clone())
    }

    /// How many sessions there are beyond the bound.
    pub fn over(&self) -> usize {
        self.taken.load(Relaxed).saturating_sub(self.max)
    }

    /// The worker whose session was silent for longest, where what the others have said still holds.
    pub fn longest_silent(&self, worker: usize, since: Option<u64>) -> usize {
        self.workers[worker].silent_since.store(since.unwrap_or(u64::MAX), Relaxed);
        let silent = |(_, seat): &(usize, &Seat)| seat.silent_since.load(Relaxed);
        self.workers.iter().enumerate().min_by_key(silent).map_or(worker, |(index, _)| index)
    }

    pub fn ask(&self, worker: usize) {
        self.workers[worker].asked.notify_one();
    }

    pub async fn asked(&self, worker: usize) {
        self.workers[worker].asked.notified().await;
    }
}

/// A session's place, given back when dropped.
pub struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}
