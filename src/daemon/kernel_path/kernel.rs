//! The programs, kept on a thread of their own: the kernel may take its time, and user space serves meanwhile.

use std::{
    fs,
    path::Path as FilePath,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::sync::watch;

use super::Told;
use crate::{
    cli::run::RunOptions,
    daemon::{look::Looks, pins::pins},
    dataplane::elsewhere::{Arrived, Elsewhere},
    kernel::{
        PINS, Path, Settings, change, is_left,
        left::Left,
        maps::Protocol,
        reachable,
        select::Selected,
        statistics::{ServiceLine, Statistics},
    },
    snapshot::{ListenerProtocol, Snapshot},
    status::path::{Paths, Way},
    view::{KernelEndpoint, KernelListener, KernelView},
};

/// Entries whose time is over are removed so often.
const SWEEP: Duration = Duration::from_secs(5);
/// Whoever asks waits for the answer so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long may it take to load what is required.
const LOADING: Duration = Duration::from_secs(30);

/// The thread's end of a channel.
pub struct Kernel {
    thread: Sender<Word>,
    left: Arc<Left>,
}

/// What the thread is told.
enum Word {
    /// Load now; the answer is why not.
    Load(SyncSender<Result<(), String>>),
    Publish(Arc<Snapshot>),
    /// Interfaces, addresses or routes are others.
    Changed,
    /// Say when all before this is done.
    Settle(SyncSender<()>),
    Tell(SyncSender<(String, Option<KernelView>)>),
}

impl Kernel {
    /// Starts the thread; with `required` the programs are loaded when this returns.
    ///
    /// # Errors
    /// They cannot be loaded, or the system gives no thread.
    pub fn start(options: &RunOptions, required: bool, paths: watch::Sender<Told>) -> anyhow::Result<Kernel> {
        let (tell, told) = channel();
        let left = Arc::<Left>::default();
        let keeper = Keeper::new(options, left.clone(), paths);
        let changed = tell.clone();
        change::follow(change::ROUTES, move || changed.send(Word::Changed).is_ok());
        let named = thread::Builder::new().name("kernel-path".to_owned());
        named.spawn(move || keeper.keep(&told)).context("a thread for the kernel path")?;
        let kernel = Kernel { thread: tell, left };
        if required {
            let (answer, answered) = sync_channel(1);
            kernel.say(Word::Load(answer));
            let late = |_| Err(format!("it takes longer than {} seconds", LOADING.as_secs()));
            let loaded = answered.recv_timeout(LOADING).unwrap_or_else(late);
            loaded.map_err(|why| anyhow!("--kernel require: {why}"))?;
        }
        Ok(kernel)
    }

    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.say(Word::Publish(snapshot));
    }

    /// Returns when what was published before is in force, or after a while.
    pub fn settle(&self) {
        let (answer, answered) = sync_channel(1);
        self.say(Word::Settle(answer));
        // It serves meanwhile as it did before.
        _ = answered.recv_timeout(PATIENCE);
    }

    /// What user space is to leave to the programs.
    pub fn elsewhere(&self) -> Elsewhere {
        let left = self.left.clone();
        Elsewhere::new(move |Arrived { protocol, socket, client, local }| {
            let protocol = if *protocol == ListenerProtocol::Udp { Protocol::Udp } else { Protocol::Tcp };
            left.endpoints(protocol, *socket, *client, *local)
        })
    }

    pub fn view(&self) -> (String, Option<KernelView>) {
        let (answer, answered) = sync_channel(1);
        self.say(Word::Tell(answer));
        let late = |_| ("the kernel path does not answer; see the journal".to_owned(), None);
        answered.recv_timeout(PATIENCE).unwrap_or_else(late)
    }

    fn say(&self, word: Word) {
        if self.thread.send(word).is_err() {
            tracing::error!("the thread that keeps the kernel path has ended");
        }
    }
}

/// What the thread has.
struct Keeper {
    settings: Settings,
    drain: Duration,
    keep_client: Vec<String>,
    snapshot: Arc<Snapshot>,
    path: Loaded,
    left: Arc<Left>,
    /// What the kernel path could not be told.
    failed: Option<String>,
    /// Where it is told which way traffic takes.
    paths: watch::Sender<Told>,
}

/// The programs.
enum Loaded {
    /// There was nothing for them to do so far.
    NotYet,
    Yes(Box<Path>),
    /// And why.
    No(String),
}

impl Keeper {
    fn new(options: &RunOptions, left: Arc<Left>, paths: watch::Sender<Told>) -> Keeper {
        let traffic = &options.settings;
        let settings = Settings {
            pins: pins(FilePath::new(PINS), &options.state_dir),
            ports: options.kernel.ports.clone(),
            connections: options.kernel.connections,
            tcp_idle: traffic.tcp_idle_timeout,
            udp_idle: traffic.udp_idle_timeout,
            udp_answered: traffic.udp_stream_timeout,
            ..Settings::default()
        };
        Keeper {
            settings,
            drain: traffic.listener_drain_timeout,
            keep_client: options.kernel.keep_client.clone(),
            snapshot: Arc::default(),
            path: Loaded::NotYet,
            left,
            failed: None,
            paths,
        }
    }

    fn keep(mut self, told: &Receiver<Word>) {
        let (mut looks, mut sweep) = (Looks::new(), Instant::now() + SWEEP);
        loop {
            let now = Instant::now();
            if looks.due(self.is_whole()) <= now {
                looks.look(|| self.look());
                self.tell_paths();
            }
            if sweep <= now {
                self.sweep();
                sweep = Instant::now() + SWEEP;
            }
            let look = looks.due(self.is_whole());
            let word = told.recv_timeout(look.min(sweep).saturating_duration_since(Instant::now()));
            self.notice_detached();
            match word {
                Ok(Word::Load(answer)) => {
                    self.load();
                    let loaded = match &self.path {
                        Loaded::No(why) => Err(why.clone()),
                        _ => Ok(()),
                    };
                    // Whoever asked no longer waits.
                    _ = answer.send(loaded);
                }
                Ok(Word::Publish(snapshot)) => {
                    self.snapshot = snapshot;
                    self.publish();
                    self.tell_paths();
                }
                Ok(Word::Changed) => looks.tell(),
                Ok(Word::Settle(answer)) => _ = answer.send(()),
                Ok(Word::Tell(answer)) => _ = answer.send(self.view()),
                Err(RecvTimeoutError::Timeout) => {}
                // The programs go on; the next run takes them over.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Somebody may have run `gapi kernel detach`: then nothing is carried any more, and what is told to maps is told to
    /// nobody.
    fn notice_detached(&mut self) {
        if matches!(self.path, Loaded::Yes(_)) && fs::exists(&self.settings.pins).is_ok_and(|exists| !exists) {
            tracing::info!(
                "the programs of the kernel path were taken off: TCP and UDP traffic goes through user space"
            );
            self.path =
                Loaded::No("`gapi kernel detach` took the programs off; a restart attaches them again".to_owned());
            self.failed = None;
            self.left.divide(&[]);
            self.tell_paths();
        }
    }

    fn load(&mut self) {
        let started = Path::start(self.settings.clone()).and_then(|path| path.show(&self.left).map(|()| path));
        self.path = match started {
            Ok(path) => {
                path.troubles().iter().for_each(|trouble| tracing::warn!("kernel path: {trouble}"));
                tracing::info!(pins = %self.settings.pins.display(), "TCP and UDP to other machines goes through the kernel path");
                Loaded::Yes(Box::new(path))
            }
            Err(why) => {
                tracing::info!("TCP and UDP traffic goes through user space: {why}");
                Loaded::No(why)
            }
        };
    }

    /// Has the programs go by the snapshot. They are loaded when there is something for them, or when an earlier run left
    /// them at work.
    fn publish(&mut self) {
        if matches!(self.path, Loaded::NotYet) && (self.settings.pins.exists() || self.has_work()) {
            self.load();
        }
        let Loaded::Yes(path) = &mut self.path else { return };
        let keep_client =
            |selected: &Selected| self.keep_client.iter().any(|listener| **listener == *selected.listener);
        self.failed = path.publish(&self.snapshot, keep_client).map(|selected| self.left.divide(selected)).err();
        if let Some(why) = &self.failed {
            tracing::error!("the kernel path goes by what it had before: {why}");
        }
    }

    /// Is there a TCP or UDP listener with an endpoint on another machine?
    fn has_work(&self) -> bool {
        reachable(&self.snapshot).iter().any(Selected::is_in_kernel)
    }

    /// Is there nothing that should be tried again?
    fn is_whole(&self) -> bool {
        self.failed.is_none() && !matches!(&self.path, Loaded::Yes(path) if !path.is_whole())
    }

    /// Follows interfaces, addresses and routes.
    fn look(&mut self) {
        let is_stale = match &mut self.path {
            Loaded::Yes(path) => {
                path.follow_interfaces();
                path.is_stale(&self.snapshot) || self.failed.is_some()
            }
            // A route to an endpoint may have come.
            Loaded::NotYet => self.has_work(),
            Loaded::No(_) => false,
        };
        if is_stale {
            self.publish();
        }
    }

    /// Says which way traffic takes, where that has changed.
    fn tell_paths(&self) {
        let told = match &self.path {
            // It goes by an earlier snapshot.
            Loaded::Yes(_) if self.failed.is_some() => return,
            Loaded::Yes(path) => Told::Paths(self.snapshot.generation, Arc::new(paths(path.selected()))),
            Loaded::No(why) => Told::UserSpace(why.clone()),
            Loaded::NotYet => {
                let selected = reachable(&self.snapshot);
                // It will be loaded.
                if selected.iter().any(Selected::is_in_kernel) {
                    return;
                }
                Told::Paths(self.snapshot.generation, Arc::new(paths(&selected)))
            }
        };
        self.paths.send_if_modified(|before| {
            let is_new = *before != told;
            *before = told;
            is_new
        });
    }

    fn sweep(&mut self) {
        let Loaded::Yes(path) = &mut self.path else { return };
        if let Err(error) = path.sweep(self.drain) {
            tracing::error!(%error, "old connections of the kernel path cannot be removed");
        }
    }

    fn view(&self) -> (String, Option<KernelView>) {
        let path = match &self.path {
            Loaded::NotYet => {
                return ("user space (no TCP or UDP listener has an endpoint on another machine)".to_owned(), None);
            }
            Loaded::No(why) if is_left(&self.settings.pins) => {
                let left =
                    "programs of an earlier run carry on what they were told: `gapi kernel detach` takes them off";
                return (format!("user space ({why}); {left}"), None);
            }
            Loaded::No(why) => return (format!("user space ({why})"), None),
            Loaded::Yes(path) => path,
        };
        let statistics = match path.statistics() {
            Ok(statistics) => statistics,
            Err(error) => return (format!("kernel, which cannot be asked: {error}"), None),
        };
        let carried = statistics.services.iter().filter(|service| service.is_in_kernel).count();
        let listeners = statistics.services.len();
        let text = match carried == listeners {
            true => format!("kernel for all {listeners} TCP and UDP listeners"),
            false => format!("kernel for {carried} of {listeners} TCP and UDP listeners, user space for the rest"),
        };
        let troubles = path.troubles().into_iter().chain(self.failed.clone()).collect();
        (text, Some(view(statistics, troubles)))
    }
}

/// What status may say of it.
fn paths(selected: &[Selected]) -> Paths {
    let mut paths = Paths::new();
    for one in selected {
        let Some(route) = &one.route else { continue };
        let way = Way::new(one.socket, route.clone(), one.is_in_kernel(), &one.user);
        paths.entry(one.listener.clone()).or_default().push(way);
    }
    paths
}

fn view(statistics: Statistics, troubles: Vec<String>) -> KernelView {
    let Statistics { interfaces, entries, room, services, reasons } = statistics;
    KernelView {
        interfaces: interfaces.into_iter().map(|one| (one.name, one.how.to_owned())).collect(),
        troubles,
        entries,
        room,
        listeners: services.into_iter().map(listener).collect(),
        packets: reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect(),
    }
}

fn listener(service: ServiceLine) -> KernelListener {
    let path = match (service.is_in_kernel, service.user.is_empty()) {
        (true, true) => "kernel",
        (true, false) => "kernel and user space",
        (false, _) => "user space",
    };
    let endpoints = service.endpoints.into_iter().map(|one| KernelEndpoint {
        address: one.address.to_string(),
        departed: one.is_departed,
        current: one.current,
        connections: one.traffic.connections,
        failed: one.traffic.failed,
        packets_to: one.traffic.packets_to,
        bytes_to: one.traffic.bytes_to,
        packets_from: one.traffic.packets_from,
        bytes_from: one.traffic.bytes_from,
    });
    KernelListener {
        address: service.socket.to_string(),
        protocol: if service.protocol == Protocol::Udp { "UDP" } else { "TCP" }.to_owned(),
        listener: service.listener.to_string(),
        route: service.route.as_deref().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        why: service.user,
        endpoints: endpoints.collect(),
    }
}
