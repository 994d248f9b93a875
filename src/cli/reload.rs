//! `gapi reload`: the daemon reads its directory now; the command returns when it serves what it read.

use std::process::ExitCode;

use super::{Failure, RuntimeDir, print, source::ask_daemon};
use crate::{
    finding::{Finding, Severity},
    view::{Answer, Request},
};

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`]; a finding that is an error, or a snapshot older than the disk, is exit code 1.
pub fn run(flags: &RuntimeDir) -> Result<ExitCode, Failure> {
    let Answer::Reload { generation, stale, findings } = ask_daemon(&flags.runtime_dir, &Request::Reload)? else {
        return Err(anyhow::anyhow!("the daemon answered something else than its reload").into());
    };
    let mut text: String = findings.iter().map(finding_line).collect();
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    text += &match &stale {
        Some(reason) => format!("generation {generation} is OLDER than what is on disk: {reason}\n"),
        None => format!("serving generation {generation}, {}\n", tally(errors, warnings)),
    };
    print(&text)?;
    Ok(if errors > 0 || stale.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// `error: HTTPRoute a/b: …`.
fn finding_line(finding: &Finding) -> String {
    let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
    format!("{severity}: {}\n", finding_text(finding))
}

/// A finding on one line that cannot drive the terminal.
pub fn finding_text(finding: &Finding) -> String {
    finding.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `no errors, 2 warnings`.
pub fn tally(errors: usize, warnings: usize) -> String {
    let count = |number: usize, word: &str| match number {
        0 => format!("no {word}s"),
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    format!("{}, {}", count(errors, "error"), count(warnings, "warning"))
}
