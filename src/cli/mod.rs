//! The command line: one file for each command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod check;
pub mod source_line;

/// Kubernetes Gateway API manifests in a directory, served.
#[derive(Debug, Parser)]
#[command(name = "gapi", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what the daemon would say about manifests; needs no daemon and no privilege
    Check(check::CheckFlags),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match command {
        Command::Check(flags) => check::run(flags),
    };
    result.unwrap_or_else(|error| {
        eprintln!("gapi: {error:#}");
        ExitCode::FAILURE
    })
}
