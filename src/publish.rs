//! *publish*: from a snapshot to sockets that serve it.
//!
//! Order: new sockets are bound, the snapshot is swapped in, the new sockets are handed to the workers, the old ones are
//! closed, and whoever came over a listener that left is told so. What can fail comes before the swap, and fails for its
//! own socket only. Runs on the control thread, which also frees the snapshots that nobody reads any more.
//!
//! Sockets outlive the process where a service manager keeps them: each goes into its [`store`] when it is bound, comes
//! back in what the next run is started with ([`inherited`]), and is taken out when its address leaves. All sockets that
//! share an address travel, since each has a queue of its own; when there are more of them than workers, some workers
//! serve several. So do those of UDP; their sessions do not: who goes on speaking has a new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    dataplane::{
        AccessLog, AccessLogWriter, Counters, Settings,
        accept::Limits,
        socket,
        ticket::{self, Tickets},
        tls::Tls,
        udp::places::Places,
        worker::{self, Command, Thread},
    },
    finding::{Finding, Severity},
    snapshot::{
        Snapshot,
        cell::{DenyCell, SnapshotCell},
        deny::DenyList,
    },
};

pub mod datagram;
pub mod inherited;
pub mod store;

use datagram::Datagrams;
use inherited::Inherited;
use store::{Store, Transport};

/// What became of each address of the snapshot: bound, or why not.
pub type Published = BTreeMap<SocketAddr, Result<(), String>>;

/// The workers and what they serve.
pub struct DataPlane {
    threads: Vec<Thread>,
    access_log: Option<(AccessLog, AccessLogWriter)>,
    snapshots: SnapshotCell,
    denied: DenyCell,
    current: Arc<Snapshot>,
    /// Published before, and perhaps still read.
    retired: Vec<Arc<Snapshot>>,
    sockets: BTreeMap<SocketAddr, Bound>,
    /// No longer wanted; their queues are being emptied, or some of their connections are still open.
    closing: Vec<(SocketAddr, Bound)>,
    /// What was wanted last and could not be bound.
    failed: BTreeMap<SocketAddr, String>,
    datagrams: Datagrams,
    store: Option<Store>,
    inherited: Inherited,
    tickets: Arc<Tickets>,
    share_out: Option<ShareOut>,
    /// Each worker has it until it has said that it is alive.
    asked: Arc<()>,
}

/// What has the connections of one address handed out to its sockets; else the kernel's hash does.
pub type ShareOut = fn(&[TcpListener]);

/// The sockets of one address, before they are handed over.
struct Sockets {
    listeners: Vec<TcpListener>,
    /// What the store calls those that it keeps.
    names: Vec<String>,
    /// They are a socket unit's.
    passed: bool,
}

/// A bound address.
struct Bound {
    names: Vec<String>,
    passed: bool,
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
/// What is left of the time to drain when those that were connected at its start are waited for no longer: for those that
/// came since. At most a tenth of all of it.
const LAST_REQUESTS: Duration = Duration::from_secs(3);
/// Those who came in a round of leaving that took no longer may be waited for without accepting others. Longer than idle
/// connections have to ask once more.
const SHORT_ROUND: Duration = Duration::from_secs(1);

/// Open connections.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// For each bound address, by worker.
    pub sockets: BTreeMap<SocketAddr, Vec<usize>>,
    /// Over sockets that have been closed.
    pub leaving: usize,
    /// Sessions of UDP for each address of a listener, by worker.
    pub datagram_sockets: BTreeMap<SocketAddr, Vec<usize>>,
    /// Sessions over UDP sockets that close when they have ended.
    pub datagrams_leaving: usize,
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
        DataPlane::succeed(settings, workers, Inherited::default(), None)
    }

    /// The same, as the successor of a run that left `inherited`; what it leaves itself goes into `store`.
    ///
    /// # Errors
    /// Those of [`DataPlane::start`].
    pub fn succeed(
        settings: Arc<Settings>,
        workers: usize,
        mut inherited: Inherited,
        mut store: Option<Store>,
    ) -> io::Result<DataPlane> {
        let descriptors = raise_descriptors();
        let limits = Arc::new(Limits::new(&settings, descriptors));
        let datagrams = Datagrams::new(Places::new(&settings, descriptors, workers.max(1)));
        if let Some(store) = &mut store {
            inherited.kept_names().for_each(|name| store.know(name));
        }
        let tickets = Arc::new(ticket_keys(inherited.tickets.take(), &mut store)?);
        let tls = Arc::new(Tls::new(tickets.clone())?);
        let (snapshots, denied) = (SnapshotCell::new(), DenyCell::new());
        let access_log = settings.access_log.as_deref().map(AccessLog::open).transpose()?;
        let log = access_log.as_ref().map(|(log, _)| log);
        let start = |index| {
            let (snapshots, denied) = (snapshots.reader(), denied.reader());
            worker::start(index, settings.clone(), snapshots, denied, log.cloned(), tls.clone(), limits.clone())
        };
        let threads = (0..workers.max(1)).map(start).collect::<io::Result<_>>()?;
        let current = snapshots.reader().pin();
        let (retired, sockets, closing, failed, asked) = Default::default();
        Ok(DataPlane {
            threads,
            access_log,
            snapshots,
            denied,
            current,
            retired,
            sockets,
            closing,
            failed,
            datagrams,
            store,
            inherited,
            tickets,
            share_out: None,
            asked,
        })
    }

    /// Has the sockets that are bound from now on share out their connections in another way than by the kernel's hash.
    pub fn share_out_by(&mut self, share_out: ShareOut) {
        self.share_out = Some(share_out);
    }

    /// Makes `snapshot` the one in force. A socket whose address is kept is not touched.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) -> Published {
        self.failed.clear();
        let new = snapshot.sockets.keys().copied().filter(|address| !self.sockets.contains_key(address)).collect();
        let bound = self.bind(new);
        let datagrams = self.bind_datagrams(&snapshot);
        self.retired.push(std::mem::replace(&mut self.current, snapshot.clone()));
        self.snapshots.publish(snapshot);
        self.hand_over(bound);
        self.datagrams.hand_over(datagrams, &self.threads);
        self.datagrams.leave(&self.current, &mut self.store);
        let old: Vec<_> =
            self.sockets.keys().copied().filter(|address| !self.current.sockets.contains_key(address)).collect();
        for address in old {
            let Some((address, bound)) = self.sockets.remove_entry(&address) else { continue };
            bound.names.iter().for_each(|name| self.take_out(name));
            self.closing.push((address, bound));
            self.command(|| Command::Unlisten(address));
        }
        self.command(|| Command::Published);
        self.close_useless();
        self.forget();
        self.published()
    }

    /// Tries again to bind what could not be bound: some process may have let go of it.
    pub fn retry_binds(&mut self) -> Published {
        let failed = std::mem::take(&mut self.failed).into_keys().collect();
        let bound = self.bind(failed);
        self.hand_over(bound);
        let datagrams = self.bind_datagrams(&self.current.clone());
        self.datagrams.hand_over(datagrams, &self.threads);
        self.forget();
        self.published()
    }

    /// Are all workers at work? True when each has answered since this was last asked, and asks again.
    pub fn is_alive(&mut self) -> bool {
        let answered = Arc::strong_count(&self.asked) == 1;
        if answered {
            self.command(|| Command::Answer(self.asked.clone()));
        }
        answered && !self.threads.iter().any(|thread| thread.join.is_finished())
    }

    /// Makes new ticket keys where it is time, and has the store keep them.
    pub fn rotate_tickets(&mut self) {
        match self.tickets.rotate(now()) {
            Ok(true) => keep_tickets(&self.tickets, &mut self.store),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "ticket keys stay as they are"),
        }
    }

    /// Sockets of socket units that no listener wants, each a warning.
    pub fn unwanted(&self) -> impl Iterator<Item = Finding> {
        let streams = self.inherited.streams.passed.iter().filter(|(at, _)| !self.sockets.contains_key(at));
        let streams = streams.map(|(at, named)| unwanted(at.to_string(), named, "connects to it waits"));
        let datagrams = self.inherited.datagrams.passed.iter().filter(|(at, _)| !self.datagrams.is_bound(at));
        streams.chain(datagrams.map(|(at, named)| unwanted(format!("{at} (UDP)"), named, "sends to it does so")))
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
            datagrams_leaving: self.datagrams.leaving(),
            retired_snapshots: self.retired.iter().filter(|snapshot| Arc::strong_count(snapshot) > 1).count(),
        }
    }

    /// What each worker has counted.
    pub fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.threads.iter().map(|thread| &*thread.counters)
    }

    /// Puts deny lists in force, on any thread: whoever is on one is served no more, and who is connected leaves.
    pub fn denier(&self) -> impl FnMut(Arc<DenyList>) + Send + 'static {
        let (cell, commands) = (self.denied.clone(), self.threads.iter().map(|thread| thread.commands.clone()));
        let commands: Vec<_> = commands.collect();
        move |list| {
            cell.publish(list);
            // A worker that has gone has panicked, which draining reports.
            commands.iter().for_each(|commands| _ = commands.send(Command::Deny));
        }
    }

    /// Has the access log's file opened anew, after it was renamed.
    pub fn reopen_access_log(&self) {
        if let Some((log, _)) = &self.access_log {
            log.reopen();
        }
    }

    /// Closes every socket once its queue has been accepted, lets requests in flight end within `timeout`, closes the
    /// rest (WebSockets with 1001), and returns when all workers have ended. Blocks its thread.
    ///
    /// Where the sockets stay open for a successor, which is not there before this process has ended, new connections are
    /// served as long as old ones have to be waited for: only then do they have to wait in the sockets' queues.
    pub fn drain(self, timeout: Duration) {
        let start = Instant::now();
        let passed = self.sockets.values().any(|bound| bound.passed) || self.datagrams.any_passed();
        let left_open = self.store.is_some() || passed;
        if left_open {
            self.part(timeout);
        }
        let parted = start.elapsed();
        let (timeout, left_open) = (timeout.saturating_sub(parted), self.store.is_some());
        self.command(|| Command::Drain { timeout, left_open });
        for thread in self.threads {
            if thread.join.join().is_err() {
                tracing::error!("worker panicked");
            }
        }
        tracing::debug!(accepting = ?parted, ending = ?(start.elapsed() - parted), "drained");
        if let Some((log, writer)) = self.access_log {
            writer.finish(log);
        }
    }

    /// Has everyone leave who is connected, in rounds: those who came in one are waited for in the next, until a round is
    /// short, so that whoever came in it should be gone as soon, or there is just time enough for them.
    fn part(&self, timeout: Duration) {
        let start = Instant::now();
        let patience = timeout - LAST_REQUESTS.min(timeout / 10);
        loop {
            let begun = start.elapsed();
            let left = Arc::new(());
            self.command(|| Command::Part { timeout: timeout.saturating_sub(begun), left: left.clone() });
            while Arc::strong_count(&left) > 1 && start.elapsed() < patience {
                thread::sleep(Duration::from_millis(5));
            }
            let short = SHORT_ROUND.max(begun / 4);
            if start.elapsed() >= patience || start.elapsed() - begun <= short {
                return;
            }
        }
    }

    /// What can be bound of `addresses`; the rest becomes `failed`.
    fn bind(&mut self, addresses: BTreeSet<SocketAddr>) -> BTreeMap<SocketAddr, Sockets> {
        let mut bound = BTreeMap::new();
        for address in addresses {
            self.await_closing(address.port());
            let sockets = match self.succeed_to(address) {
                Some(sockets) => Ok(sockets),
                None => {
                    let mut own = self.sockets.keys().chain(bound.keys());
                    let alone = !own.any(|own| own.port() == address.port())
                        && !self.inherited.streams.has_port(address.port());
                    socket::bind(address, self.threads.len(), alone).map(|listeners| Sockets {
                        names: listeners.iter().filter_map(|listener| self.put_in(address, listener)).collect(),
                        listeners,
                        passed: false,
                    })
                }
            };
            match sockets {
                Ok(sockets) => _ = bound.insert(address, sockets),
                Err(message) => _ = self.failed.insert(address, message),
            }
        }
        bound
    }

    /// The sockets of an address that were there before this process, and as many more as there are workers more.
    fn succeed_to(&mut self, address: SocketAddr) -> Option<Sockets> {
        let (mut names, mut listeners): (Vec<_>, Vec<_>) =
            self.inherited.streams.kept.remove(&address).unwrap_or_default().into_iter().unzip();
        let passed = self.inherited.streams.passed.get(&address);
        // Its unit's socket is needed again when the listener comes back after it has left.
        listeners.extend(passed.into_iter().flatten().filter_map(|(_, listener)| listener.try_clone().ok()));
        let first = listeners.first()?.try_clone().ok();
        let passed = passed.is_some();
        while listeners.len() < self.threads.len() {
            let joined = if passed { Err(io::ErrorKind::AddrInUse.into()) } else { socket::join(address) };
            match (joined, &first) {
                (Ok(joined), _) => {
                    names.extend(self.put_in(address, &joined));
                    listeners.push(joined);
                }
                // It cannot be shared out, so its queue is shared.
                (Err(_), Some(first)) => listeners.extend(first.try_clone()),
                (Err(_), None) => break,
            }
        }
        Some(Sockets { listeners, names, passed })
    }

    /// What of UDP can be bound.
    fn bind_datagrams(&mut self, snapshot: &Snapshot) -> BTreeMap<SocketAddr, datagram::Sockets> {
        self.datagrams.bind(snapshot, &self.threads, &mut self.inherited.datagrams, &mut self.store)
    }

    /// Gives a socket to the store.
    fn put_in(&mut self, address: SocketAddr, listener: &TcpListener) -> Option<String> {
        self.store.as_mut().map(|store| store.keep_socket(Transport::Tcp, address, listener))
    }

    fn take_out(&mut self, name: &str) {
        if let Some(store) = &mut self.store {
            store.remove(name);
        }
    }

    /// Closes what the run before left and nothing wants.
    fn close_useless(&mut self) {
        let Inherited { streams, datagrams, useless, .. } = &mut self.inherited;
        let useless: Vec<_> = streams.take_kept().chain(datagrams.take_kept()).chain(useless.drain(..)).collect();
        useless.iter().for_each(|name| self.take_out(name));
    }

    /// Deals the sockets of each address out to the workers.
    fn hand_over(&mut self, bound: BTreeMap<SocketAddr, Sockets>) {
        for (address, Sockets { listeners, names, passed }) in bound {
            let open: Vec<_> = self.threads.iter().map(|_| Arc::<AtomicUsize>::default()).collect();
            let bound = Arc::new(());
            if let Some(share_out) = self.share_out.filter(|_| !passed) {
                // One for each worker; where there are more, from a run with more workers, the rest is left to run dry.
                share_out(&listeners[..listeners.len().min(self.threads.len())]);
            }
            for ((thread, open), listener) in self.threads.iter().zip(&open).cycle().zip(listeners) {
                let command = Command::Listen { address, listener, passed, open: open.clone(), bound: bound.clone() };
                // A worker that has gone has panicked, which draining reports.
                _ = thread.commands.send(command);
            }
            self.sockets.insert(address, Bound { names, passed, open, bound });
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

/// A warning of sockets of a socket unit at an address without a listener.
fn unwanted<S>(address: String, sockets: &[inherited::Named<S>], whoever: &str) -> Finding {
    let name = sockets.first().map_or("", |(name, _)| name);
    Finding {
        severity: Severity::Warning,
        origin: None,
        object: None,
        field: String::new(),
        reason: "SocketNotWanted".to_owned(),
        message: format!(
            "the socket {name} of a socket unit is bound to {address}, where no listener is; whoever {whoever} in vain"
        ),
        remedy: "give a Gateway a listener there, or take the address out of the socket unit".to_owned(),
    }
}

/// The keys of the run before, or new ones.
fn ticket_keys(before: Option<OwnedFd>, store: &mut Option<Store>) -> io::Result<Tickets> {
    if let Some(memory) = before {
        let bytes = store::unseal(&memory, ticket::MAX_BYTES);
        match bytes.map(|bytes| Tickets::from_bytes(&bytes, now())) {
            Ok(Some(tickets)) => {
                store.iter_mut().for_each(|store| store.know(store::TICKETS));
                return Ok(tickets);
            }
            Ok(None) => tracing::warn!("ticket keys of the run before are too old or of another version: not used"),
            Err(error) => tracing::warn!(%error, "ticket keys of the run before are not used"),
        }
        store.iter_mut().for_each(|store| store.remove(store::TICKETS));
    }
    let tickets = Tickets::new(now()).map_err(io::Error::other)?;
    keep_tickets(&tickets, store);
    Ok(tickets)
}

/// Has the store keep these keys instead of what it has.
fn keep_tickets(tickets: &Tickets, store: &mut Option<Store>) {
    let Some(store) = store else { return };
    store.remove(store::TICKETS);
    match store::seal(&tickets.to_bytes()) {
        Ok(memory) => store.keep(store::TICKETS, memory),
        Err(error) => tracing::warn!(%error, "ticket keys end with this run"),
    }
}

/// Seconds of Unix time.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
