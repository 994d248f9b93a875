//! One coarse clock for all the deadlines of a worker, instead of a timer for each request.
//!
//! Every exchange has a slot that says when a byte last moved. The worker's housekeeping advances the clock and wakes
//! what has been still for too long. Cost: a store for each frame of a body.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
    time::Duration,
};

/// Who waits in a [`Watch`].
#[derive(Clone, Copy)]
pub enum Side {
    /// The request, then its answer's body.
    Answer,
    /// The request's body.
    Upload,
}

#[derive(Default)]
struct Slot {
    last: Cell<u32>,
    /// In ticks; 0 for a free slot.
    limit: Cell<u32>,
    expired: Cell<bool>,
    waiting: [RefCell<Option<Waker>>; 2],
}

/// Time in ticks, and the slots of what is under way.
pub struct Clock {
    tick: Duration,
    now: Cell<u32>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
}

impl Clock {
    /// A clock that is fine enough for a deadline of `shortest`: an eighth of it, at most a second.
    pub fn new(shortest: Duration) -> Clock {
        let tick = (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        Clock { tick, now: Cell::new(0), slots: RefCell::default(), free: RefCell::default() }
    }

    pub fn tick(&self) -> Duration {
        self.tick
    }

    /// Ticks since the start, while anything was under way.
    pub fn now(&self) -> u32 {
        self.now.get()
    }

    /// A duration in ticks, rounded up.
    pub fn ticks(&self, duration: Duration) -> u32 {
        u32::try_from(duration.as_millis().div_ceil(self.tick.as_millis())).unwrap_or(u32::MAX).max(1)
    }

    /// Is nothing under way?
    pub fn is_idle(&self) -> bool {
        self.free.borrow().len() == self.slots.borrow().len()
    }

    /// One tick later: wakes what expired with it.
    pub fn advance(&self) {
        let now = self.now.get().wrapping_add(1);
        self.now.set(now);
        let mut woken = Vec::new();
        for slot in self.slots.borrow().iter() {
            let still = now.wrapping_sub(slot.last.get());
            if slot.limit.get() != 0 && still > slot.limit.get() && !slot.expired.replace(true) {
                woken.extend(slot.waiting.iter().filter_map(|waker| waker.borrow_mut().take()));
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

/// The slot of one exchange.
pub struct Watch {
    clock: Rc<Clock>,
    slot: u32,
}

impl Watch {
    /// Expires when it is not touched for `limit`.
    pub fn new(clock: &Rc<Clock>, limit: Duration) -> Watch {
        let slot = clock.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut slots = clock.slots.borrow_mut();
            slots.push(Slot::default());
            u32::try_from(slots.len() - 1).expect("fewer exchanges than 2^32")
        });
        let watch = Watch { clock: clock.clone(), slot };
        watch.with(|slot| {
            slot.expired.set(false);
            slot.last.set(clock.now());
            slot.limit.set(clock.ticks(limit));
        });
        watch
    }

    fn with<T>(&self, read: impl FnOnce(&Slot) -> T) -> T {
        read(&self.clock.slots.borrow()[self.slot as usize])
    }

    /// A byte moved.
    pub fn touch(&self) {
        self.with(|slot| slot.last.set(self.clock.now()));
    }

    /// Another limit from here on.
    pub fn limit(&self, limit: Duration) {
        self.touch();
        self.with(|slot| slot.limit.set(self.clock.ticks(limit)));
    }

    pub fn is_expired(&self) -> bool {
        self.with(|slot| slot.expired.get())
    }

    /// `waker` is woken when it expires.
    pub fn wait(&self, side: Side, waker: &Waker) {
        self.with(|slot| {
            let mut waiting = slot.waiting[side as usize].borrow_mut();
            match &*waiting {
                Some(known) if known.will_wake(waker) => {}
                _ => *waiting = Some(waker.clone()),
            }
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let wakers = self.with(|slot| {
            slot.limit.set(0);
            slot.waiting.each_ref().map(|waker| waker.borrow_mut().take())
        });
        drop(wakers);
        self.clock.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_unless_touched() {
        let clock = Rc::new(Clock::new(Duration::from_secs(80)));
        let watch = || Watch::new(&clock, Duration::from_secs(3));
        let (still, busy) = (watch(), watch());
        for _ in 0..4 {
            assert!(!still.is_expired());
            busy.touch();
            clock.advance();
        }
        assert!(still.is_expired() && !busy.is_expired());
        drop(still);
        assert!(!watch().is_expired(), "a slot is used again afresh");
        assert!(!clock.is_idle());
        drop(busy);
        assert!(clock.is_idle());
    }
}
