//! When the network is looked at: soon after the kernel says that something changed, and now and then in any case.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Without a word of the kernel: words may be missing, and not every change has one.
const SLOW: Duration = Duration::from_secs(30);
/// While something is not as it should be; and the longest that a change has to wait.
const AGAIN: Duration = Duration::from_secs(1);
/// When changes do not end, the time between two looks is so many times what one takes of the processor.
const PART: u32 = 20;

/// The looks of one thread.
pub struct Looks {
    last: Instant,
    /// What the last one took of the processor.
    took: Duration,
    /// Has the kernel spoken since?
    told: bool,
}

impl Looks {
    pub fn new() -> Looks {
        Looks { last: Instant::now(), took: Duration::ZERO, told: false }
    }

    /// The kernel says that something changed.
    pub fn tell(&mut self) {
        self.told = true;
    }

    /// When to look next. `is_whole` says whether the last attempt at everything succeeded.
    pub fn due(&self, is_whole: bool) -> Instant {
        let gap = match (self.told, is_whole) {
            (true, _) => self.took.saturating_mul(PART).min(AGAIN),
            (false, true) => SLOW,
            (false, false) => AGAIN,
        };
        self.last + gap
    }

    pub fn look(&mut self, look: impl FnOnce()) {
        let before = processor();
        look();
        *self = Looks { last: Instant::now(), took: processor().saturating_sub(before), told: false };
    }
}

/// What this thread has taken of the processor.
fn processor() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_looked_at_soon_and_many_do_not_take_the_processor() {
        let mut looks = Looks::new();
        let start = looks.last;
        assert_eq!((looks.due(true) - start, looks.due(false) - start), (SLOW, AGAIN));
        looks.tell();
        assert_eq!(looks.due(true), start, "at once");
        for (took, gap) in [(10, 200), (40, 800), (5000, 1000)] {
            looks.took = Duration::from_millis(took);
            assert_eq!(looks.due(true) - start, Duration::from_millis(gap), "after one that took {took} ms");
        }
        looks.look(|| {});
        assert_eq!(looks.due(true) - looks.last, SLOW, "told of nothing since");
    }
}
