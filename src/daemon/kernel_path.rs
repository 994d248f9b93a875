//! The kernel path of a run: the programs loaded when there is something for them to carry, told of every snapshot, and
//! left at work when the daemon ends.

use std::{future, sync::Arc};

use tokio::sync::watch;

#[cfg_attr(not(feature = "kernel"), path = "kernel_path/without_kernel.rs")]
mod kernel;

use self::kernel::Kernel;
use crate::{
    cli::run::{KernelUse, RunOptions},
    dataplane::elsewhere::Elsewhere,
    snapshot::{Listener, ListenerProtocol, Snapshot},
    status::path::{Paths, Way},
    view::KernelView,
};

pub struct KernelPath {
    /// None with `--kernel off`.
    kernel: Option<Kernel>,
    told: watch::Receiver<Told>,
}

/// What is known of the way that traffic takes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Told {
    #[default]
    Nothing,
    /// All of it goes through user space, whatever the snapshot, and why.
    UserSpace(String),
    /// By the snapshot of this generation.
    #[cfg_attr(not(feature = "kernel"), expect(dead_code))]
    Paths(u64, Arc<Paths>),
}

const OFF: &str = "--kernel is off";

impl KernelPath {
    /// # Errors
    /// The programs cannot be loaded and are required; or the system gives no thread.
    pub fn start(options: &RunOptions) -> anyhow::Result<KernelPath> {
        let (tell, told) = watch::channel(Told::default());
        let kernel = match options.kernel.use_ {
            KernelUse::Off => {
                tell.send_replace(Told::UserSpace(OFF.to_owned()));
                None
            }
            KernelUse::Auto => Some(Kernel::start(options, false, tell)?),
            KernelUse::Require => Some(Kernel::start(options, true, tell)?),
        };
        Ok(KernelPath { kernel, told })
    }

    /// New connections go by this snapshot soon; the sockets of user space serve them until then.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        if let Some(kernel) = &self.kernel {
            kernel.publish(snapshot);
        }
    }

    /// Returns when new connections go by what was published, or after a while.
    pub fn settle(&self) {
        if let Some(kernel) = &self.kernel {
            kernel.settle();
        }
    }

    /// What user space is to leave to the programs.
    pub fn elsewhere(&self) -> Elsewhere {
        self.kernel.as_ref().map(Kernel::elsewhere).unwrap_or_default()
    }

    /// Which way TCP and UDP traffic takes and why, and what the programs carry.
    pub fn view(&self) -> (String, Option<KernelView>) {
        match &self.kernel {
            Some(kernel) => kernel.view(),
            None => (format!("user space ({OFF})"), None),
        }
    }

    /// Which way the listeners of this snapshot take; none while that is not known.
    pub fn paths(&self, snapshot: &Snapshot) -> Option<Arc<Paths>> {
        match &*self.told.borrow() {
            Told::Nothing => None,
            Told::UserSpace(why) => Some(Arc::new(in_user_space(snapshot, why))),
            Told::Paths(generation, paths) => (*generation == snapshot.generation).then(|| paths.clone()),
        }
    }

    /// Returns when [`KernelPath::paths`] may say something else. Cancel safe.
    pub async fn changed(&mut self) {
        if self.told.changed().await.is_err() {
            // Nobody is left who could change it.
            future::pending::<()>().await;
        }
    }
}

/// All layer-4 listeners that have a route.
fn in_user_space(snapshot: &Snapshot, why: &str) -> Paths {
    let mut sockets: Vec<_> = snapshot.sockets.values().chain(snapshot.datagram_sockets.values()).collect();
    sockets.sort_by_key(|socket| socket.address);
    let is_layer4 =
        |listener: &&Arc<Listener>| matches!(listener.protocol, ListenerProtocol::Tcp | ListenerProtocol::Udp);
    let mut paths = Paths::new();
    for socket in sockets {
        for listener in socket.listeners.iter().filter(is_layer4) {
            let way = listener
                .stream_rule("")
                .map(|rule| Way::new(socket.address, rule.route.clone(), false, &[why.to_owned()]));
            paths.entry(listener.key.clone()).or_default().extend(way);
        }
    }
    paths
}
