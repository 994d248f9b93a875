//! A worker: one thread, one single-threaded runtime, its own sockets, its own connections.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    thread,
    time::Duration,
};

use socket2::Socket;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    AccessLog, Counters, Settings, Worker,
    accept::{Acceptor, Limits, Stop},
    succession,
    tls::Tls,
    turn,
    udp::{self, listening::Shared},
};
use crate::snapshot::cell::{DenyReader, SnapshotReader};

/// What the control thread asks of a worker.
pub enum Command {
    /// Serve a socket that has been bound: one of several, perhaps, of that address.
    Listen {
        address: SocketAddr,
        listener: TcpListener,
        /// It is another's (a socket unit's) and goes on listening when this process does not.
        passed: bool,
        /// Counts its open connections.
        open: Arc<AtomicUsize>,
        /// Held for as long as the socket is bound.
        bound: Arc<()>,
    },
    /// Close the sockets of an address, and have their connections leave.
    Unlisten(SocketAddr),
    /// Serve a UDP socket that has been bound. It closes when `shared` says so.
    ListenDatagrams { address: SocketAddr, socket: Arc<Socket>, shared: Arc<Shared> },
    /// A snapshot was published.
    Published,
    /// A deny list was published: whoever is on it leaves at once.
    Deny,
    /// Have all connections leave within the time, and whoever still comes. What is `left` is dropped when all have gone
    /// who were there.
    Part { timeout: Duration, left: Arc<()> },
    /// Close every socket, or leave them open for a successor, let what is under way end within the time, then end.
    Drain { timeout: Duration, left_open: bool },
    /// Drop it, as a sign of life.
    Answer(Arc<()>),
}

/// A running worker. Its thread ends when drained, or when this is dropped.
pub struct Thread {
    pub commands: mpsc::UnboundedSender<Command>,
    pub counters: Arc<Counters>,
    pub join: thread::JoinHandle<()>,
}

/// Starts a worker's thread.
///
/// # Errors
/// When the system gives no thread, or no epoll instance.
pub fn start(
    index: usize,
    settings: Arc<Settings>,
    snapshots: SnapshotReader,
    denied: DenyReader,
    access_log: Option<AccessLog>,
    tls: Arc<Tls>,
    limits: Arc<Limits>,
) -> io::Result<Thread> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (ready, started) = oneshot::channel();
    let join = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                _ = ready.send(Err(error));
                return;
            }
        };
        let worker = Worker::new(index, settings, snapshots, denied, access_log);
        _ = ready.send(Ok(worker.counters.clone()));
        runtime.block_on(Control { worker, tls, limits, sockets: RefCell::default() }.run(inbox));
    })?;
    let counters = started.blocking_recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
    Ok(Thread { commands, counters, join })
}

/// A socket that is served.
struct Listening {
    stop: oneshot::Sender<Stop>,
    passed: bool,
    open: Arc<AtomicUsize>,
}

impl Listening {
    fn stop(self, left_open: bool) {
        _ = self.stop.send(if left_open || self.passed { Stop::LeaveOpen } else { Stop::Close });
    }
}

/// Runs beside the connections of a worker.
struct Control {
    worker: Rc<Worker>,
    tls: Arc<Tls>,
    limits: Arc<Limits>,
    sockets: RefCell<HashMap<SocketAddr, Vec<Listening>>>,
}

impl Control {
    async fn run(&self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        tokio::task::spawn_local(turn::end_turns());
        let mut ticks = interval(self.worker.connections.clock.length());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (timeout, left_open) = loop {
            tokio::select! {
                _ = ticks.tick() => self.worker.connections.sweep(),
                command = inbox.recv() => match command {
                    Some(Command::Drain { timeout, left_open }) => break (timeout, left_open),
                    Some(command) => self.obey(command),
                    None => return,
                },
            }
        };
        let sockets: Vec<Listening> = self.sockets.take().into_values().flatten().collect();
        let open: Vec<_> = sockets.iter().map(|socket| socket.open.clone()).collect();
        sockets.into_iter().for_each(|socket| socket.stop(left_open));
        let connections = &self.worker.connections;
        self.worker.datagrams.stop(&self.worker);
        tokio::select! {
            () = self.succeeded(&open, timeout), if left_open => connections.end_all(),
            () = self.drained(timeout), if !left_open => return,
            () = sleep(timeout) => connections.end_all(),
        }
        self.worker.datagrams.end_all(&self.worker);
        // Last words are short; what is left then goes down with the runtime.
        _ = tokio::time::timeout(Duration::from_millis(500), self.emptied()).await;
    }

    /// Lets the last requests end, and datagrams that have just come be answered.
    async fn succeeded(&self, open: &[Arc<AtomicUsize>], timeout: Duration) {
        let requests = succession::last_requests(&self.worker.connections, open, timeout);
        tokio::join!(requests, succession::last_answers(&self.worker.datagrams));
    }

    /// Has everyone leave at once, and whoever is still in a queue.
    async fn drained(&self, timeout: Duration) {
        self.worker.connections.leave_all(timeout);
        // Connections that were queued are still coming in.
        sleep(super::accept::LAST_CALL).await;
        self.emptied().await;
    }

    fn obey(&self, command: Command) {
        let Worker { connections, settings, snapshots, .. } = &*self.worker;
        match command {
            Command::Listen { address, listener, passed, open, bound } => {
                self.listen(address, listener, passed, open, bound);
            }
            Command::Unlisten(address) => {
                let sockets = self.sockets.borrow_mut().remove(&address).unwrap_or_default();
                sockets.into_iter().for_each(|socket| socket.stop(false));
                connections.leave_socket(address, settings.listener_drain_timeout);
            }
            Command::ListenDatagrams { address, socket, shared } => udp::listen(&self.worker, address, socket, shared),
            Command::Published => {
                connections.leave_changed(&snapshots.pin(), settings.listener_drain_timeout);
                self.worker.datagrams.see(&self.worker);
            }
            Command::Deny => {
                let denied = self.worker.denied.pin();
                connections.end_where(|client| denied.contains(client));
                self.worker.datagrams.end_of(&self.worker, |client| denied.contains(client));
            }
            Command::Part { timeout, left } => {
                tokio::task::spawn_local(succession::part(self.worker.clone(), timeout, left));
            }
            Command::Answer(asked) => drop(asked),
            Command::Drain { .. } => unreachable!("ends the loop"),
        }
    }

    fn listen(&self, address: SocketAddr, listener: TcpListener, passed: bool, open: Arc<AtomicUsize>, bound: Arc<()>) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%address, %error, "socket not served"),
        };
        let (stop, stopped) = oneshot::channel();
        let (worker, tls, limits) = (self.worker.clone(), self.tls.clone(), self.limits.clone());
        let acceptor = Acceptor { worker, limits, tls, listener, address, open: open.clone(), _bound: bound };
        tokio::task::spawn_local(acceptor.run(stopped));
        self.sockets.borrow_mut().entry(address).or_default().push(Listening { stop, passed, open });
    }

    /// Sweeps until nobody is connected any more.
    async fn emptied(&self) {
        let connections = &self.worker.connections;
        let mut ticks = interval(connections.clock.length());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(Duration::from_millis(10));
        loop {
            tokio::select! {
                _ = ticks.tick() => connections.sweep(),
                _ = looks.tick() => if connections.count() == 0 && self.worker.datagrams.count() == 0 { return },
            }
        }
    }
}
