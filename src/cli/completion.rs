//! `gapi completion`: a script that teaches a shell the commands and flags.

use std::process::ExitCode;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Cli, Failure, print};

#[derive(Args, Debug)]
pub struct CompletionFlags {
    shell: CompletionShell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompletionShell {
    Bash,
    Fish,
    Zsh,
}

/// Prints the script.
///
/// # Errors
/// Those of standard output.
pub fn run(flags: &CompletionFlags) -> Result<ExitCode, Failure> {
    let shell = match flags.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Fish => Shell::Fish,
        CompletionShell::Zsh => Shell::Zsh,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "gapi", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
