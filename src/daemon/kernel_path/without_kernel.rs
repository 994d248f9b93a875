//! Stands for the kernel path where the program was built without it.

use std::sync::Arc;

use anyhow::bail;
use tokio::sync::watch;

use super::Told;
use crate::{cli::run::RunOptions, dataplane::elsewhere::Elsewhere, snapshot::Snapshot, view::KernelView};

const MISSING: &str = "this program was built without the kernel path";

pub struct Kernel;

impl Kernel {
    /// # Errors
    /// When it is required.
    pub fn start(_options: &RunOptions, required: bool, paths: watch::Sender<Told>) -> anyhow::Result<Kernel> {
        if required {
            bail!("--kernel require: {MISSING}");
        }
        paths.send_replace(Told::UserSpace(MISSING.to_owned()));
        Ok(Kernel)
    }

    pub fn publish(&self, _snapshot: Arc<Snapshot>) {}

    pub fn settle(&self) {}

    pub fn elsewhere(&self) -> Elsewhere {
        Elsewhere::default()
    }

    pub fn view(&self) -> (String, Option<KernelView>) {
        (format!("user space ({MISSING})"), None)
    }
}
