//! `gapi status`: the daemon's state on one page.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::{
    Failure, RuntimeDir,
    age::{age, span},
    get::json_text,
    print,
    reload::{finding_text, tally},
    source::ask_daemon,
    table::Table,
};
use crate::{
    finding::Severity,
    manifest::Ignored,
    view::{Answer, Count, Request, View},
};

#[derive(Args, Debug)]
pub struct StatusFlags {
    /// How to print [default: one page]
    #[arg(short, long, value_enum)]
    output: Option<StatusOutput>,
    #[command(flatten)]
    runtime_dir: RuntimeDir,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum StatusOutput {
    /// With every setting in force
    Wide,
    Json,
}

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`]; a finding that is an error, or a snapshot older than the disk, is exit code 1.
pub fn run(flags: &StatusFlags) -> Result<ExitCode, Failure> {
    let Answer::Status(view) = ask_daemon(&flags.runtime_dir.runtime_dir, &Request::Status)? else {
        return Err(anyhow::anyhow!("the daemon answered something else than its status").into());
    };
    let text = match flags.output {
        Some(StatusOutput::Json) => json_text(&serde_json::to_value(&view)?),
        output => page(&view, output == Some(StatusOutput::Wide), Timestamp::now()),
    };
    print(&text)?;
    Ok(if is_ok(&view) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn is_ok(view: &View) -> bool {
    !view.has_errors() && view.stale.is_none()
}

fn page(view: &View, wide: bool, now: Timestamp) -> String {
    let mut page = head(view, now);
    page += &sockets(view);
    page += &certificates(view, now);
    for (heading, severity) in [("Errors", Severity::Error), ("Warnings", Severity::Warning)] {
        let findings = view.findings.iter().filter(|finding| finding.severity == severity);
        let lines: String = findings.map(|finding| format!("  {}\n", finding_text(finding))).collect();
        page += &section(heading, lines);
    }
    page += &section("Ignored", ignored(view));
    if wide {
        page += &settings(view);
    }
    page
}

fn head(view: &View, now: Timestamp) -> String {
    let errors = view.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let verdict = match (&view.stale, errors) {
        (Some(_), _) => "OUT OF DATE".to_owned(),
        (None, 0) => "OK".to_owned(),
        (None, _) => "ERRORS".to_owned(),
    };
    let pass = match &view.last_pass {
        Some(time) => format!("read {} ago", age(time, now)),
        None => "not read yet".to_owned(),
    };
    let mut head = format!("gapi {}: {verdict} ({})\n", view.version, tally(errors, view.findings.len() - errors));
    if let Some(reason) = &view.stale {
        head += &format!("\n!! What runs is OLDER than what is on disk: {reason}\n\n");
    }
    let mut field = |name: &str, value: String| head += &format!("{:<15}{value}\n", format!("{name}:"));
    field("Process", format!("{}, for {}", view.pid, age(&view.started, now)));
    field("Configuration", format!("{}, {pass}, generation {}", view.config_dir, view.generation));
    field("Traffic path", view.traffic_path.clone());
    let counts = &view.counts;
    let programmed = [("gateway", counts.gateways), ("listener", counts.listeners), ("route", counts.routes)];
    field("Programmed", programmed.map(|(name, count)| part(name, count)).join(", "));
    head
}

/// `1 route`, `3 routes`, `2 of 3 routes`.
fn part(name: &str, count: Count) -> String {
    let name = if count.total == 1 { name.to_owned() } else { format!("{name}s") };
    match count.programmed == count.total {
        true => format!("{} {name}", count.total),
        false => format!("{} of {} {name}", count.programmed, count.total),
    }
}

fn sockets(view: &View) -> String {
    let mut table = Table::new(["ADDRESS", "PROTOCOL", "STATE"]);
    for socket in &view.sockets {
        let state = socket.problem.as_ref().map_or("bound".to_owned(), |problem| format!("NOT BOUND: {problem}"));
        table.row([socket.address.to_string(), socket.protocol.clone(), state]);
    }
    section("Sockets", if table.is_empty() { String::new() } else { table.text("  ") })
}

fn certificates(view: &View, now: Timestamp) -> String {
    let mut table = Table::new(["SECRET", "EXPIRES", "HOSTNAMES", "PROBLEM"]);
    for certificate in &view.certificates {
        table.row([
            certificate.name.clone(),
            expiry(&certificate.not_after, now),
            certificate.hostnames.join(","),
            certificate.problem.clone().unwrap_or_default(),
        ]);
    }
    section("Certificates", if table.is_empty() { String::new() } else { table.text("  ") })
}

/// `in 89d`, `EXPIRED 3d ago`.
fn expiry(not_after: &str, now: Timestamp) -> String {
    match not_after.parse::<Timestamp>() {
        Ok(end) if end > now => format!("in {}", span(end.duration_since(now).as_secs())),
        Ok(end) => format!("EXPIRED {} ago", span(now.duration_since(end).as_secs())),
        Err(_) => "unknown".to_owned(),
    }
}

fn ignored(view: &View) -> String {
    let line = |document: &Ignored| {
        let name = if document.name.is_empty() { String::new() } else { format!(" {}", document.name) };
        format!("  {}{name}: {} ({})\n", document.kind, document.reason, document.origin)
    };
    view.ignored.iter().map(line).collect()
}

fn settings(view: &View) -> String {
    let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
    for setting in &view.settings {
        table.row([&setting.name, &setting.value, &setting.source]);
    }
    section("Settings", table.text("  "))
}

/// Lines under a heading; nothing when there are none.
fn section(heading: &str, lines: String) -> String {
    if lines.is_empty() { lines } else { format!("\n{heading}:\n{lines}") }
}
