//! *publish*: from a snapshot to sockets that serve it.
//!
//! Order: new sockets are bound, the snapshot is swapped in, the new sockets are handed to the workers, the old ones are
//! closed, and whoever came over a listener that left is told so. What can fail comes before the swap, and fails for its
//! own socket only. Runs on the control thread, which also frees the snapshots that nobody reads any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    dataplane::{
        AccessLog, AccessLogWriter, Counters, Settings,
        accept::Limits,
        socket,
        tls::Tls,
        udp::places::Places,
        worker::{self, Command, Thread},
    },
    snapshot::{Snapshot, cell::SnapshotCell},
};

pub mod datagram;

use datagram::Datagrams;

/// What became of each address of the snapshot: bound, or why not.
pub type Published = BTreeMap<SocketAddr, Result<(), String>>;

/// The workers and what they serve.
pub struct DataPlane {
    threads: Vec<Thread>,
    access_log: Option<(AccessLog, AccessLogWriter)>,
    snapshots: SnapshotCell,
    current: Arc<Snapshot>,
    /// Published before, and perhaps still read.
    retired: Vec<Arc<Snapshot>>,
    sockets: BTreeMap<SocketAddr, Bound>,
    /// No longer wanted; their queues are being emptied, or some of their connections are still open.
    closing: Vec<(SocketAddr, Bound)>,
    /// What was wanted last and could not be bound.
    failed: BTreeMap<SocketAddr, String>,
    datagrams: Datagrams,
}

/// A bound address.
struct Bound {
    /// How many of its connections are open, by worker.
    open: Vec<Arc<AtomicUsize>>,
    /// Shared with the workers that have not closed their sockets yet.
    bound: Arc<()>,
}

impl Bound {
    fn is_bound(&self) -> bool {
        Arc::strong_count(&self.bound) > 1
    }

    fn open(&self) -> usize {
        self.open.iter().map(|open| open.load(Relaxed)).sum()
    }
}

/// How long to wait for a socket of one's own to close before its address is bound anew.
const CLOSING: Duration = Duration::from_millis(500);

/// Open connections.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// For each bound address, by worker.
    pub sockets: BTreeMap<SocketAddr, Vec<usize>>,
    /// Over sockets that have been closed.
    pub leaving: usize,
    /// Sessions of UDP for each address of a listener, by worker.
    pub datagram_sockets: BTreeMap<SocketAddr, Vec<usize>>,
    /// Snapshots that something still reads besides the current one.
    pub retired_snapshots: usize,
}

impl DataPlane {
    /// Starts `workers` threads (at least one), which serve nothing yet. Raises the process's bound on open files to
    /// what it may be.
    ///
    /// # Errors
    /// When the access log cannot be opened, or the system gives no thread, no epoll instance or no random bytes.
    pub fn start(settings: Arc<Settings>, workers: usize) -> io::Result<DataPlane> {
        let descriptors = raise_descriptors();
        let limits = Arc::new(Limits::new(&settings, descriptors));
        let datagrams = Datagrams::new(Places::new(&settings, descriptors, workers.max(1)));
        let tls = Arc::new(Tls::new()?);
        let snapshots = SnapshotCell::new();
        let access_log = settings.access_log.as_deref().map(AccessLog::open).transpose()?;
        let log = access_log.as_ref().map(|(log, _)| log);
        let start = |index| {
            worker::start(index, settings.clone(), snapshots.reader(), log.cloned(), tls.clone(), limits.clone())
        };
        let threads = (0..workers.max(1)).map(start).collect::<io::Result<_>>()?;
        let current = snapshots.reader().pin();
        let (retired, sockets, closing, failed) = Default::default();
        Ok(DataPlane { threads, access_log, snapshots, current, retired, sockets, closing, failed, datagrams })
    }

    /// Makes `snapshot` the one in force. A socket whose address is kept is not touched.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) -> Published {
        self.failed.clear();
        let new = snapshot.sockets.keys().copied().filter(|address| !self.sockets.contains_key(address)).collect();
        let bound = self.bind(new);
        let datagrams = self.datagrams.bind(&snapshot, &self.threads);
        self.retired.push(std::mem::replace(&mut self.current, snapshot.clone()));
        self.snapshots.publish(snapshot);
        self.hand_over(bound);
        self.datagrams.hand_over(datagrams, &self.threads);
        self.datagrams.leave(&self.current);
        let old: Vec<_> =
            self.sockets.keys().copied().filter(|address| !self.current.sockets.contains_key(address)).collect();
        for address in old {
            self.closing.extend(self.sockets.remove_entry(&address));
            self.command(|| Command::Unlisten(address));
        }
        self.command(|| Command::Published);
        self.forget();
        self.published()
    }

    /// Tries again to bind what could not be bound: some process may have let go of it.
    pub fn retry_binds(&mut self) -> Published {
        let failed = std::mem::take(&mut self.failed).into_keys().collect();
        let bound = self.bind(failed);
        self.hand_over(bound);
        let datagrams = self.datagrams.bind(&self.current, &self.threads);
        self.datagrams.hand_over(datagrams, &self.threads);
        self.forget();
        self.published()
    }

    /// What became of each address of a UDP listener; tried again by [`DataPlane::retry_binds`] too.
    pub fn published_datagrams(&self) -> Published {
        self.datagrams.published()
    }

    /// Open connections by socket and worker.
    pub fn counts(&self) -> Counts {
        let of_bound = |bound: &Bound| bound.open.iter().map(|open| open.load(Relaxed)).collect();
        Counts {
            sockets: self.sockets.iter().map(|(address, bound)| (*address, of_bound(bound))).collect(),
            leaving: self.closing.iter().map(|(_, bound)| bound.open()).sum(),
            datagram_sockets: self.datagrams.counts(),
            retired_snapshots: self.retired.iter().filter(|snapshot| Arc::strong_count(snapshot) > 1).count(),
        }
    }

    /// What each worker has counted.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.threads.iter().map(|thread| &*thread.counters)
    }

    /// Has the access log's file opened anew, after it was renamed.
    pub fn reopen_access_log(&self) {
        if let Some((log, _)) = &self.access_log {
            log.reopen();
        }
    }

    /// Closes every socket once its queue has been accepted, lets requests in flight end within `timeout`, closes the
    /// rest (WebSockets with 1001), and returns when all workers have ended. Blocks its thread.
    pub fn drain(self, timeout: Duration) {
        self.command(|| Command::Drain(timeout));
        for thread in self.threads {
            if thread.join.join().is_err() {
                tracing::error!("worker panicked");
            }
        }
        if let Some((log, writer)) = self.access_log {
            writer.finish(log);
        }
    }

    /// What can be bound of `addresses`; the rest becomes `failed`.
    fn bind(&mut self, addresses: BTreeSet<SocketAddr>) -> BTreeMap<SocketAddr, Vec<std::net::TcpListener>> {
        let mut bound = BTreeMap::new();
        for address in addresses {
            self.await_closing(address.port());
            let mut own = self.sockets.keys().chain(bound.keys());
            let alone = !own.any(|own| own.port() == address.port());
            match socket::bind(address, self.threads.len(), alone) {
                Ok(listeners) => _ = bound.insert(address, listeners),
                Err(message) => _ = self.failed.insert(address, message),
            }
        }
        bound
    }

    fn hand_over(&mut self, bound: BTreeMap<SocketAddr, Vec<std::net::TcpListener>>) {
        for (address, listeners) in bound {
            let open: Vec<_> = listeners.iter().map(|_| Arc::<AtomicUsize>::default()).collect();
            let bound = Arc::new(());
            for ((thread, listener), open) in self.threads.iter().zip(listeners).zip(&open) {
                let command = Command::Listen { address, listener, open: open.clone(), bound: bound.clone() };
                // A worker that has gone has panicked, which draining reports.
                _ = thread.commands.send(command);
            }
            self.sockets.insert(address, Bound { open, bound });
        }
    }

    /// A port that was given up a moment ago is still bound, and its sockets let nobody in.
    fn await_closing(&self, port: u16) {
        let start = Instant::now();
        let closing = || self.closing.iter().any(|(address, bound)| address.port() == port && bound.is_bound());
        while closing() && start.elapsed() < CLOSING {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn command(&self, command: impl Fn() -> Command) {
        self.threads.iter().for_each(|thread| _ = thread.commands.send(command()));
    }

    /// Frees what nobody has any more.
    fn forget(&mut self) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.closing.retain(|(_, bound)| bound.is_bound() || bound.open() > 0);
    }

    fn published(&self) -> Published {
        let bound = self.sockets.keys().map(|address| (*address, Ok(())));
        let failed = self.failed.iter().map(|(address, message)| (*address, Err(message.clone())));
        bound.chain(failed).collect()
    }
}

/// Raises the soft bound on open files to the hard one and returns it.
fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        maximum.unwrap_or(u64::MAX)
    } else {
        current.unwrap_or(u64::MAX)
    }
}
