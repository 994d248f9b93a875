//! The deny list of a run: its file followed, and what there is to say of it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use anyhow::Context;
use tokio::sync::Notify;

#[cfg_attr(not(feature = "kernel"), path = "deny/without_kernel.rs")]
mod kernel;

use self::kernel::{Kernel, Told};
use crate::{
    cli::run::RunOptions,
    deny::{Source, Watch},
    finding::Finding,
    publish::{DataPlane, Published},
    snapshot::deny::DenyList,
    view::DenyView,
};

/// Nothing where the daemon has no deny list.
#[derive(Default)]
pub struct Deny {
    followed: Option<Followed>,
    changed: Arc<Notify>,
}

struct Followed {
    path: PathBuf,
    watch: Watch,
    kernel: Kernel,
}

impl Deny {
    /// Reads the list, so that it is in force in user space before anybody is served, and follows its file.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(options: &RunOptions, data_plane: &DataPlane) -> anyhow::Result<Deny> {
        const THREAD: &str = "a thread for the deny list";
        let Some(path) = options.deny_list.clone() else { return Ok(Deny::default()) };
        let kernel = Kernel::start(options).context(THREAD)?;
        let (mut deny, in_kernel) = (data_plane.denier(), kernel.clone());
        let serve = move |list: Arc<DenyList>| {
            deny(list.clone());
            in_kernel.replace(list);
        };
        let changed = Arc::<Notify>::default();
        let tell = changed.clone();
        let watch = Watch::start(Source::new(&path, serve), move || tell.notify_one()).context(THREAD)?;
        Ok(Deny { followed: Some(Followed { path, watch, kernel }), changed })
    }

    /// Returns when there is something else to say of it. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks at the file now; what it says is in force when this returns.
    pub fn look(&self) {
        if let Some(followed) = &self.followed {
            followed.watch.look();
        }
    }

    /// These are the sockets that are bound.
    pub fn bound(&self, sockets: &Published, datagram_sockets: &Published) {
        let Some(followed) = &self.followed else { return };
        followed.kernel.listen(bound(sockets), bound(datagram_sockets));
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.followed.as_ref().map(|followed| followed.watch.state().findings).unwrap_or_default()
    }

    pub fn view(&self, data_plane: &DataPlane) -> Option<DenyView> {
        let Followed { path, watch, kernel } = self.followed.as_ref()?;
        let Told { path: traffic_path, dropped } = kernel.told();
        let counters = || data_plane.counters();
        Some(DenyView {
            file: path.display().to_string(),
            prefixes: watch.state().prefixes,
            path: traffic_path,
            connections: counters().map(|counters| counters.denied_connections.load(Relaxed)).sum(),
            datagrams: counters().map(|counters| counters.denied_datagrams.load(Relaxed)).sum(),
            packets: dropped,
        })
    }

    /// Nobody is served any more: who comes now is no business of the list.
    pub fn end(self) {
        if let Some(followed) = self.followed {
            followed.kernel.end();
        }
    }
}

fn bound(published: &Published) -> impl Iterator<Item = SocketAddr> {
    published.iter().filter(|(_, bound)| bound.is_ok()).map(|(address, _)| *address)
}
