//! What the service manager is told; nothing where there is none (`NOTIFY_SOCKET` is not set).

use std::time::Duration;

use sd_notify::{NotifyState, notify};

use crate::{finding::Severity, view::View};

/// What ending takes beyond the time to drain.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// READY=1, with one line of truth.
pub fn ready(view: &View) {
    send(&[NotifyState::Ready, NotifyState::Status(&line(view))]);
}

/// One line of truth after a pass.
pub fn status(view: &View) {
    send(&[NotifyState::Status(&line(view))]);
}

/// RELOADING=1, with the time that `Type=notify-reload` wants.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// STOPPING=1, and that it may take as long as `drain`.
pub fn stopping(drain: Duration) {
    let extension = format!("EXTEND_TIMEOUT_USEC={}", (drain + LAST_WORDS).as_micros());
    send(&[NotifyState::Stopping, NotifyState::Custom(&extension), NotifyState::Status("draining")]);
}

/// WATCHDOG=1.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = notify(states) {
        tracing::warn!(%error, "service manager cannot be told");
    }
}

/// `generation 7: serving 2 gateways, 4 listeners, 5 routes on 3 sockets; 1 error, 2 warnings`.
pub fn line(view: &View) -> String {
    let count = |severity| view.findings.iter().filter(|finding| finding.severity == severity).count();
    let bound = view.sockets.iter().filter(|socket| socket.problem.is_none()).count();
    let mut line = format!(
        "generation {}: serving {}, {}, {} on {}",
        view.generation,
        plural(view.counts.gateways.programmed, "gateway"),
        plural(view.counts.listeners.programmed, "listener"),
        plural(view.counts.routes.programmed, "route"),
        plural(bound, "socket"),
    );
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    line += &format!("; {}, {}", plural(errors, "error"), plural(warnings, "warning"));
    if let Some(stale) = &view.stale {
        line += &format!("; {stale}");
    }
    line
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_truth() {
        let mut view = View::default();
        view.counts.gateways.programmed = 1;
        view.counts.listeners.programmed = 3;
        view.counts.routes.programmed = 2;
        view.generation = 7;
        let line = line(&view);
        assert_eq!(line, "generation 7: serving 1 gateway, 3 listeners, 2 routes on 0 sockets; 0 errors, 0 warnings");
    }
}
