//! `gapi check`: placeholder for the command's flags.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

/// Flags of `gapi check`.
#[derive(Args, Debug)]
pub struct CheckFlags {
    /// Files and directories of manifests
    #[arg(value_name = "PATH", default_value = "/etc/gapi")]
    pub paths: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: CheckOutput,
    /// Count warnings as errors
    #[arg(long)]
    pub strict: bool,
}

/// What `check` prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum CheckOutput {
    /// Findings with their source lines
    Text,
    /// One JSON object
    Json,
}

/// Says what the daemon would say.
///
/// # Errors
/// Always, for now: parsing is not there yet.
pub fn run(flags: CheckFlags) -> anyhow::Result<ExitCode> {
    anyhow::bail!("{:?} cannot be checked: parsing is not there yet", flags.paths)
}
