//! The kernel path of a run: the programs loaded when there is something for them to carry, told of every snapshot, and
//! left at work when the daemon ends.

use std::sync::Arc;

#[cfg_attr(not(feature = "kernel"), path = "kernel_path/without_kernel.rs")]
mod kernel;

use self::kernel::Kernel;
use crate::{
    cli::run::{KernelUse, RunOptions},
    dataplane::elsewhere::Elsewhere,
    snapshot::Snapshot,
    view::KernelView,
};

/// None with `--kernel off`.
pub struct KernelPath(Option<Kernel>);

impl KernelPath {
    /// # Errors
    /// The programs cannot be loaded and are required; or the system gives no thread.
    pub fn start(options: &RunOptions) -> anyhow::Result<KernelPath> {
        Ok(KernelPath(match options.kernel.use_ {
            KernelUse::Off => None,
            KernelUse::Auto => Some(Kernel::start(options, false)?),
            KernelUse::Require => Some(Kernel::start(options, true)?),
        }))
    }

    /// New connections go by this snapshot soon; the sockets of user space serve them until then.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        if let Some(kernel) = &self.0 {
            kernel.publish(snapshot);
        }
    }

    /// Returns when new connections go by what was published, or after a while.
    pub fn settle(&self) {
        if let Some(kernel) = &self.0 {
            kernel.settle();
        }
    }

    /// What user space is to leave to the programs.
    pub fn elsewhere(&self) -> Elsewhere {
        self.0.as_ref().map(Kernel::elsewhere).unwrap_or_default()
    }

    /// Which way TCP and UDP traffic takes and why, and what the programs carry.
    pub fn view(&self) -> (String, Option<KernelView>) {
        match &self.0 {
            Some(kernel) => kernel.view(),
            None => ("user space (--kernel is off)".to_owned(), None),
        }
    }
}
