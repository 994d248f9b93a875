//! The deny list in the kernel, kept on a thread of its own: what is in user space never waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    cli::run::{KernelUse, RunOptions},
    daemon::{look::Looks, pins::pins},
    kernel::{
        self, change,
        deny::{Deny, Listener, PINS},
    },
    snapshot::deny::DenyList,
};

/// Whoever asks waits for the answer so long, while a long list is being written.
const PATIENCE: Duration = Duration::from_millis(500);

/// The thread's end of a channel.
#[derive(Clone)]
pub struct Kernel(Sender<Word>);

/// What the thread is told.
enum Word {
    List(Arc<DenyList>),
    Listeners(BTreeSet<Listener>),
    /// Interfaces are others. On one that is new, user space keeps out who is denied.
    Changed,
    Tell(SyncSender<Told>),
    End(SyncSender<()>),
}

/// What there is to say of it.
#[derive(Default)]
pub struct Told {
    /// `user space`, or which kernel path, where.
    pub path: String,
    pub dropped: u64,
}

impl Kernel {
    /// Starts the thread for the daemon of these options.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(options: &RunOptions) -> io::Result<Kernel> {
        let pins_at = |root: &str| pins(Path::new(root), &options.state_dir);
        let (pins, path) = (pins_at(PINS), pins_at(kernel::PINS));
        let (tell, told) = channel();
        let is_off = options.kernel.use_ == KernelUse::Off;
        if !is_off {
            let changed = tell.clone();
            change::follow(change::LINKS, move || changed.send(Word::Changed).is_ok());
        }
        let deny = Err(if is_off { "--kernel is off" } else { "not loaded yet" }.to_owned());
        let keeper =
            Keeper { is_off, pins, path, deny, list: Arc::default(), listeners: BTreeSet::new(), failed: None };
        thread::Builder::new().name("deny-kernel".to_owned()).spawn(move || keeper.keep(&told))?;
        Ok(Kernel(tell))
    }

    pub fn replace(&self, list: Arc<DenyList>) {
        self.say(Word::List(list));
    }

    pub fn listen(&self, tcp: impl Iterator<Item = SocketAddr>, udp: impl Iterator<Item = SocketAddr>) {
        self.say(Word::Listeners(tcp.map(Listener::tcp).chain(udp.map(Listener::udp)).collect()));
    }

    pub fn told(&self) -> Told {
        let (answer, answered) = sync_channel(1);
        self.say(Word::Tell(answer));
        let late = |_| Told { path: "kernel (a list is being written)".to_owned(), dropped: 0 };
        answered.recv_timeout(PATIENCE).unwrap_or_else(late)
    }

    /// Takes the programs off every interface; returns when they are.
    pub fn end(&self) {
        let (answer, answered) = sync_channel(1);
        self.say(Word::End(answer));
        _ = answered.recv_timeout(Duration::from_secs(5));
    }

    fn say(&self, word: Word) {
        if self.0.send(word).is_err() {
            tracing::error!("the thread that keeps the deny list in the kernel has ended");
        }
    }
}

/// What the thread has.
struct Keeper {
    is_off: bool,
    pins: PathBuf,
    /// Where the kernel path is pinned.
    path: PathBuf,
    /// Or why it is not in the kernel.
    deny: Result<Deny, String>,
    list: Arc<DenyList>,
    listeners: BTreeSet<Listener>,
    /// What is in the kernel is not what it should be.
    failed: Option<String>,
}

impl Keeper {
    fn keep(mut self, told: &Receiver<Word>) {
        if !self.is_off {
            self.load();
        }
        let mut looks = Looks::new();
        loop {
            if looks.due(self.is_whole()) <= Instant::now() {
                looks.look(|| self.look());
            }
            match told.recv_timeout(looks.due(self.is_whole()).saturating_duration_since(Instant::now())) {
                Ok(Word::List(list)) => {
                    self.list = list;
                    self.write();
                }
                Ok(Word::Listeners(listeners)) if listeners == self.listeners => {}
                Ok(Word::Listeners(listeners)) => {
                    self.listeners = listeners;
                    self.write();
                }
                Ok(Word::Changed) => looks.tell(),
                // Whoever asked and went away needs no answer.
                Ok(Word::Tell(answer)) => _ = answer.try_send(self.tell()),
                Ok(Word::End(answer)) => {
                    match self.deny {
                        // What the kernel path carries on is denied on.
                        Ok(deny) if self.path.exists() => deny.leave(),
                        Ok(deny) => deny.detach(),
                        Err(_) => {}
                    }
                    _ = answer.try_send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// It takes longer than a change may.
    fn load(&mut self) {
        self.deny = Deny::load(&self.pins).map_err(|error| reasons(&error));
        if let Err(error) = &self.deny {
            tracing::info!(%error, "deny list in user space alone");
        }
    }

    /// Has the kernel know what it should.
    fn write(&mut self) {
        let Ok(deny) = &mut self.deny else { return };
        let start = Instant::now();
        let written = deny.listen(self.listeners.clone()).and_then(|()| deny.replace(self.list.clone()));
        let failed = written.err().map(|error| reasons(&error));
        match &failed {
            None => tracing::debug!(took = ?start.elapsed(), "deny list in the kernel"),
            Some(error) if self.failed.is_none() => {
                tracing::error!(%error, "deny list not whole in the kernel: the rest is denied in user space");
            }
            Some(_) => {}
        }
        self.failed = failed;
        deny.follow_interfaces();
    }

    /// Is there nothing that should be tried again?
    fn is_whole(&self) -> bool {
        self.failed.is_none() && self.deny.iter().flat_map(Deny::attached).all(|attached| attached.hook.is_ok())
    }

    /// Interfaces may have come or gone, and what failed may succeed.
    fn look(&mut self) {
        match &mut self.deny {
            _ if self.failed.is_some() => self.write(),
            Ok(deny) => deny.follow_interfaces(),
            Err(_) => {}
        }
    }

    fn tell(&self) -> Told {
        let deny = match &self.deny {
            _ if self.list.is_empty() => return Told { path: "user space".to_owned(), dropped: 0 },
            Err(error) => return Told { path: format!("user space (not in the kernel: {error})"), dropped: 0 },
            Ok(deny) => deny,
        };
        let mut by_hook = BTreeMap::<String, Vec<&str>>::new();
        for attached in deny.attached() {
            let how = attached.hook.as_ref().map_or_else(|error| format!("not, {error},"), ToString::to_string);
            by_hook.entry(how).or_default().push(&attached.interface);
        }
        let hooks: Vec<String> =
            by_hook.iter().map(|(how, where_)| format!("{how} at {}", where_.join(", "))).collect();
        let whole = self.failed.as_ref().map_or(String::new(), |error| format!("; not whole: {error}"));
        let path = match hooks.is_empty() {
            true => "user space (there is no interface but loopback)".to_owned(),
            false => format!("kernel ({}{whole})", hooks.join("; ")),
        };
        Told { path, dropped: deny.dropped() }
    }
}

/// An error with what caused it.
fn reasons(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
