//! The loop: owns what was last good.

use std::process::ExitCode;

use crate::cli::run::RunOptions;

/// Serves until SIGTERM.
///
/// # Errors
/// Always, for now: the daemon is not there yet.
pub fn run(options: RunOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("{} cannot be served: the daemon is not there yet", options.config_dir.display())
}
