//! The command line: one file for each command, and here what they share.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::daemon::StateError;

pub mod age;
pub mod auth;
pub mod check;
pub mod column;
pub mod completion;
pub mod describe;
pub mod echo;
pub mod get;
pub mod kernel;
pub mod man;
pub mod quantity;
pub mod reload;
pub mod run;
pub mod source;
pub mod source_line;
pub mod status;
pub mod table;
pub mod target;
pub mod test;

/// Kubernetes Gateway API manifests in a directory, served.
#[derive(Debug, Parser)]
#[command(name = "gapi", version, after_help = EXIT_CODES, infer_subcommands = false)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 there is an error, or a thing was not found; 2 wrong usage; \
                          3 the daemon could not be reached.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a directory of manifests
    Run(Box<run::RunFlags>),
    /// Say what the daemon would say about manifests; needs no daemon and no privilege
    Check(check::CheckFlags),
    /// List objects with their status, as kubectl does
    Get(get::GetFlags),
    /// Show one object with its conditions, what it refers to and what is wrong
    Describe(describe::DescribeFlags),
    /// Show the daemon's state on one page
    Status(status::StatusFlags),
    /// Send a request through every programmed route and say what answered
    Test(test::TestFlags),
    /// Make the daemon read its directory now, and wait until it serves
    Reload(RuntimeDir),
    /// Show what goes through the kernel path, or take it off
    Kernel(kernel::KernelFlags),
    /// Ask who may declare what
    Auth(auth::AuthFlags),
    /// Answer requests with what was received: a backend for first steps and tests
    Echo(echo::EchoFlags),
    /// Print a completion script for a shell
    Completion(completion::CompletionFlags),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(man::ManFlags),
}

/// Where the daemon's socket and status files are.
#[derive(Args, Clone, Debug)]
pub struct RuntimeDir {
    /// Where the daemon's socket and status files are
    #[arg(long, env = "GAPI_RUNTIME_DIR", default_value = "/run/gapi", value_name = "DIR", hide_env = true)]
    pub runtime_dir: PathBuf,
}

/// Why a command did not do what was asked. Everything else ends with the command's own exit code.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that there is not: exit code 2.
    Usage(String),
    /// No daemon, and nothing to stand in for it: exit code 3.
    Unreachable(String),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
    /// Whoever reads standard output has enough: exit code 0.
    OutputClosed,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let Cli { command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match command {
        Command::Run(flags) => {
            let (_, matches) = matches.subcommand().expect("clap demands a subcommand");
            crate::daemon::run(flags.options(matches)).map_err(unstarted)
        }
        Command::Check(flags) => check::run(flags).map_err(Failure::from),
        Command::Get(flags) => get::run(&flags),
        Command::Describe(flags) => describe::run(&flags),
        Command::Status(flags) => status::run(&flags),
        Command::Test(flags) => test::run(&flags),
        Command::Reload(flags) => reload::run(&flags),
        Command::Kernel(flags) => kernel::run(&flags),
        Command::Auth(flags) => auth::run(&flags),
        Command::Echo(flags) => echo::run(flags),
        Command::Completion(flags) => completion::run(&flags),
        Command::Man(flags) => man::run(&flags),
    };
    result.unwrap_or_else(|failure| failure.exit_code())
}

/// A state directory of a later version is wrong usage: to try again does not mend it.
fn unstarted(error: anyhow::Error) -> Failure {
    let is_later = |error: &io::Error| error.kind() == io::ErrorKind::Unsupported;
    match error.is::<StateError>() || error.downcast_ref().is_some_and(is_later) {
        true => Failure::Usage(format!("{error:#}")),
        false => error.into(),
    }
}

impl Failure {
    /// Says what went wrong on standard error.
    fn exit_code(self) -> ExitCode {
        match self {
            Failure::Usage(message) => {
                eprintln!("gapi: {message}");
                ExitCode::from(2)
            }
            Failure::Unreachable(message) => {
                eprintln!("gapi: {message}");
                ExitCode::from(3)
            }
            Failure::Failed(error) => {
                eprintln!("gapi: {error:#}");
                ExitCode::from(1)
            }
            Failure::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

/// Writes `text` to standard output at once.
///
/// # Errors
/// [`Failure::OutputClosed`] when nobody reads it any more; what the system says else.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_has_a_variable_of_its_name() {
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("is there");
        for arg in run.get_arguments() {
            let long = arg.get_long().expect("run has flags only");
            let variable = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
            assert_eq!(variable, format!("GAPI_{}", long.replace('-', "_").to_uppercase()));
        }
    }
}
