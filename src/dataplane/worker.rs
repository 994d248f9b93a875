//! A worker: one thread, one single-threaded runtime, its own sockets, its own connections.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    AccessLog, Counters, Settings, Worker,
    accept::{Acceptor, Limits},
    tls::Tls,
    udp::{self, listening::Shared},
};
use crate::snapshot::cell::SnapshotReader;

/// What the control thread asks of a worker.
pub enum Command {
    /// Serve a socket that has been bound.
    Listen {
        address: SocketAddr,
        listener: TcpListener,
        /// Counts its open connections.
        open: Arc<AtomicUsize>,
        /// Held for as long as the socket is bound.
        bound: Arc<()>,
    },
    /// Close a socket, and have its connections leave.
    Unlisten(SocketAddr),
    /// Serve a UDP socket that has been bound. It closes when `shared` says so.
    ListenDatagrams { address: SocketAddr, socket: UdpSocket, shared: Arc<Shared> },
    /// A snapshot was published.
    Published,
    /// Close every socket, let what is under way end within the time, then end.
    Drain(Duration),
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
        let worker = Worker::new(index, settings, snapshots, access_log);
        _ = ready.send(Ok(worker.counters.clone()));
        runtime.block_on(Control { worker, tls, limits, sockets: RefCell::default() }.run(inbox));
    })?;
    let counters = started.blocking_recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
    Ok(Thread { commands, counters, join })
}

/// Runs beside the connections of a worker.
struct Control {
    worker: Rc<Worker>,
    tls: Arc<Tls>,
    limits: Arc<Limits>,
    /// Dropping the sender closes the socket.
    sockets: RefCell<HashMap<SocketAddr, oneshot::Sender<()>>>,
}

impl Control {
    async fn run(&self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut ticks = interval(self.worker.connections.clock.length());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let timeout = loop {
            tokio::select! {
                _ = ticks.tick() => self.worker.connections.sweep(),
                command = inbox.recv() => match command {
                    Some(Command::Drain(timeout)) => break timeout,
                    Some(command) => self.obey(command),
                    None => return,
                },
            }
        };
        self.sockets.take();
        self.worker.connections.leave_all(timeout);
        self.worker.datagrams.stop(&self.worker);
        tokio::select! {
            () = self.emptied() => return,
            () = sleep(timeout) => self.worker.connections.end_all(),
        }
        self.worker.datagrams.end_all(&self.worker);
        // Last words are short; what is left then goes down with the runtime.
        _ = tokio::time::timeout(Duration::from_millis(500), self.emptied()).await;
    }

    fn obey(&self, command: Command) {
        let Worker { connections, settings, snapshots, .. } = &*self.worker;
        match command {
            Command::Listen { address, listener, open, bound } => self.listen(address, listener, open, bound),
            Command::Unlisten(address) => {
                self.sockets.borrow_mut().remove(&address);
                connections.leave_socket(address, settings.listener_drain_timeout);
            }
            Command::ListenDatagrams { address, socket, shared } => udp::listen(&self.worker, address, socket, shared),
            Command::Published => {
                connections.leave_changed(&snapshots.pin(), settings.listener_drain_timeout);
                self.worker.datagrams.see(&self.worker);
            }
            Command::Drain(_) => unreachable!("ends the loop"),
        }
    }

    fn listen(&self, address: SocketAddr, listener: TcpListener, open: Arc<AtomicUsize>, bound: Arc<()>) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%address, %error, "socket not served"),
        };
        let (stop, stopped) = oneshot::channel();
        let (worker, tls, limits) = (self.worker.clone(), self.tls.clone(), self.limits.clone());
        tokio::task::spawn_local(Acceptor { worker, limits, tls, listener, address, open, _bound: bound }.run(stopped));
        self.sockets.borrow_mut().insert(address, stop);
    }

    /// Sweeps until nobody is connected any more.
    async fn emptied(&self) {
        let connections = &self.worker.connections;
        // Connections that were queued are still coming in.
        sleep(super::accept::LAST_CALL).await;
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
