//! The deny list of a run: its file followed, and what there is to say of it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use anyhow::Context;
use tokio::sync::Notify;

use crate::{
    deny::{Source, Watch},
    finding::Finding,
    publish::DataPlane,
    view::DenyView,
};

/// Nothing where the daemon has no deny list.
#[derive(Default)]
pub struct Deny {
    followed: Option<(PathBuf, Watch)>,
    changed: Arc<Notify>,
}

impl Deny {
    /// Reads the list, so that it is in force before anybody is served, and follows its file.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(path: Option<&Path>, data_plane: &DataPlane) -> anyhow::Result<Deny> {
        let Some(path) = path else { return Ok(Deny::default()) };
        let changed = Arc::<Notify>::default();
        let tell = changed.clone();
        let source = Source::new(path, data_plane.denier());
        let watch = Watch::start(source, move || tell.notify_one()).context("the thread of the deny list")?;
        Ok(Deny { followed: Some((path.to_owned(), watch)), changed })
    }

    /// Returns when there is something else to say of it. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks at the file now; what it says is in force when this returns.
    pub fn look(&self) {
        if let Some((_, watch)) = &self.followed {
            watch.look();
        }
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.followed.as_ref().map(|(_, watch)| watch.state().findings).unwrap_or_default()
    }

    pub fn view(&self, data_plane: &DataPlane) -> Option<DenyView> {
        let (path, watch) = self.followed.as_ref()?;
        let mut view = DenyView {
            file: path.display().to_string(),
            prefixes: watch.state().prefixes,
            path: "user space".to_owned(),
            ..DenyView::default()
        };
        for counters in data_plane.counters() {
            view.connections += counters.denied_connections.load(Relaxed);
            view.datagrams += counters.denied_datagrams.load(Relaxed);
        }
        Some(view)
    }
}
