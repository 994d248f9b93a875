//! How a worker ends when a successor takes over its sockets.
//!
//! The successor comes when this process has ended, and connections that are made in between wait for it in the sockets'
//! queues. So that they wait for moments only, new ones are accepted and served for as long as old ones are waited for;
//! then the sockets are let alone, and only what was accepted last is waited for. Datagrams wait in their sockets likewise;
//! those that were taken last have a moment to be answered.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Worker, drain::Connections, pulse::Phase, udp::Datagrams};

/// How long clients that keep an idle connection may send one more request, whose answer says that the connection ends:
/// who sends it while the connection is being closed gets none.
const GRACE: Duration = Duration::from_millis(500);
/// How long a connection that was accepted last may take to send its first byte.
const FIRST_BYTE: Duration = Duration::from_millis(250);
/// How long datagrams that came last may take to be answered. Some never are.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// How long connections of layer 4 that were accepted last may take to their end.
const LAST_RELAYED: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// Has all connections leave within `timeout`; drops `left` when those have gone that were there.
pub async fn part(worker: Rc<Worker>, timeout: Duration, left: Arc<()>) {
    let connections = &worker.connections;
    let newer = connections.ask_all(timeout);
    let dismissal = Instant::now() + GRACE;
    let mut dismissed = false;
    while connections.any_before(newer) {
        if !dismissed && Instant::now() >= dismissal {
            connections.dismiss_before(newer, timeout);
            dismissed = true;
        }
        sleep(LOOK).await;
    }
    drop(left);
}

/// Returns when nobody is connected any more but by upgraded connections, which have no end of their own, by connections of
/// layer 4, most of which have none, after a moment, or to read a last word that has long been said. `open` counts the connections of the sockets that were served last.
pub async fn last_requests(connections: &Connections, open: &[Arc<AtomicUsize>], timeout: Duration) {
    let mut ticks = interval(connections.clock.length());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = interval(LOOK);
    let first_byte = sleep(FIRST_BYTE);
    tokio::pin!(first_byte);
    let mut dismissed = false;
    let start = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => connections.sweep(),
            () = &mut first_byte, if !dismissed => {
                connections.leave_all(timeout);
                dismissed = true;
            }
            _ = looks.tick() => {
                // One that was accepted a moment ago is counted before it is entered.
                let open: usize = open.iter().map(|open| open.load(Relaxed)).sum();
                let lingering = if dismissed { connections.in_phase(Phase::Lingering) } else { 0 };
                let relayed = if start.elapsed() > LAST_RELAYED { connections.in_phase(Phase::Relayed) } else { 0 };
                let ended = connections.in_phase(Phase::Upgraded) + relayed + lingering;
                if connections.count() == ended && open <= ended {
                    return;
                }
            }
        }
    }
}

/// Returns when no client waits for an answer, or it would be too long to wait for.
pub async fn last_answers(datagrams: &Datagrams) {
    let answered = async {
        while datagrams.is_awaited() {
            sleep(LOOK).await;
        }
    };
    _ = timeout(LAST_ANSWERS, answered).await;
}
