//! `gapi man`: the manual pages, for those who make packages.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory};

use super::{Cli, Failure};

#[derive(Args, Debug)]
pub struct ManFlags {
    /// Directory for the pages, which must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes `gapi.1` and a page for each command.
///
/// # Errors
/// Those of the file system.
pub fn run(flags: &ManFlags) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(Cli::command(), &flags.directory)?;
    Ok(ExitCode::SUCCESS)
}
