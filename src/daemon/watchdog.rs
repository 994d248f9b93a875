//! The service manager's watchdog (`WATCHDOG_USEC`, sd_watchdog_enabled(3)): fed only while the loop turns and every worker
//! has answered since it was fed last, so that a stuck thread ends in a restart.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::tell;

/// How often a sign of life is looked for in the time that the service manager waits for one.
const LOOKS: u32 = 4;

/// The times at which to look for signs of life; none where nobody watches.
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As the environment says.
    pub fn find() -> Watchdog {
        Watchdog::new(sd_notify::watchdog_enabled())
    }

    fn new(patience: Option<Duration>) -> Watchdog {
        Watchdog(patience.filter(|patience| !patience.is_zero()).map(|patience| {
            let mut looks = interval((patience / LOOKS).max(Duration::from_millis(1)));
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            looks
        }))
    }

    /// Returns when it is time to look; pending where nobody watches. Cancel safe.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(looks) => _ = looks.tick().await,
            None => std::future::pending().await,
        }
    }

    /// Feeds it if all are alive.
    pub fn feed(&self, alive: bool) {
        match alive {
            true => tell::alive(),
            false => tracing::warn!("a worker does not answer: the watchdog is not fed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn looks_come_in_time_and_never_without_a_watchdog() {
        let mut watchdog = Watchdog::new(Some(Duration::from_millis(200)));
        let start = std::time::Instant::now();
        for _ in 0..3 {
            watchdog.due().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(100));
        for unwatched in [None, Some(Duration::ZERO)] {
            let mut watchdog = Watchdog::new(unwatched);
            assert!(tokio::time::timeout(Duration::from_millis(100), watchdog.due()).await.is_err());
        }
    }
}
