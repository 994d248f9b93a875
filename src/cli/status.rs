//! `gapi status`: the daemon's state on one page; with `-o wide` also what is in force, and where that came from.

use std::{process::ExitCode, sync::Arc};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::Value;

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
    api::Kind,
    finding::Severity,
    manifest::Ignored,
    view::{Answer, Count, DenyView, Request, Traffic, View, list, text},
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
    let directory = &flags.runtime_dir.runtime_dir;
    let other = || Failure::from(anyhow::anyhow!("the daemon answered something else than its status"));
    let Answer::Status(view) = ask_daemon(directory, &Request::Status)? else { return Err(other()) };
    let text = match flags.output {
        Some(StatusOutput::Json) => json_text(&serde_json::to_value(&view)?),
        Some(StatusOutput::Wide) => {
            let gateways = Request::Objects { kind: Kind::Gateway, namespace: None, name: None };
            let Answer::Objects { objects } = ask_daemon(directory, &gateways)? else { return Err(other()) };
            page(&view, Some(&objects), Timestamp::now())
        }
        None => page(&view, None, Timestamp::now()),
    };
    print(&text)?;
    Ok(if is_ok(&view) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn is_ok(view: &View) -> bool {
    !view.has_errors() && view.stale.is_none()
}

/// With `gateways` the wide page: the listeners, what the workers have open, and every setting.
fn page(view: &View, gateways: Option<&[Arc<Value>]>, now: Timestamp) -> String {
    let mut page = head(view, now);
    if gateways.is_some() {
        page += &traffic(view);
    }
    page += &sockets(view, gateways.is_some());
    page += &listeners(gateways.unwrap_or_default());
    page += &certificates(view, now);
    for (heading, severity) in [("Errors", Severity::Error), ("Warnings", Severity::Warning)] {
        let findings = view.findings.iter().filter(|finding| finding.severity == severity);
        let lines: String = findings.map(|finding| format!("  {}\n", finding_text(finding))).collect();
        page += &section(heading, lines);
    }
    page += &section("Ignored", ignored(view));
    if gateways.is_some() {
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
    if !view.state_dir.is_empty() {
        let state = view.state_problem.as_ref().map_or("kept".to_owned(), |problem| format!("NOT KEPT: {problem}"));
        field("State", format!("{}, {state}", view.state_dir));
    }
    field("Traffic path", view.traffic_path.clone());
    if let Some(deny) = &view.deny {
        field("Deny list", denied(deny));
    }
    let counts = &view.counts;
    let programmed = [("gateway", counts.gateways), ("listener", counts.listeners), ("route", counts.routes)];
    field("Programmed", programmed.map(|(name, count)| part(name, count)).join(", "));
    head
}

/// `/etc/gapi/deny.txt, 2 prefixes, user space; denied 3 connections, 0 datagrams, 0 packets`.
fn denied(deny: &DenyView) -> String {
    let count = |number: u64, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let prefixes = if deny.prefixes == 1 { "1 prefix".to_owned() } else { format!("{} prefixes", deny.prefixes) };
    let kept_out = [(deny.connections, "connection"), (deny.datagrams, "datagram"), (deny.packets, "packet")];
    let kept_out = kept_out.map(|(number, noun)| count(number, noun)).join(", ");
    format!("{}, {prefixes}, {}; denied {kept_out}", deny.file, deny.path)
}

/// `1 route`, `3 routes`, `2 of 3 routes`.
fn part(name: &str, count: Count) -> String {
    let name = if count.total == 1 { name.to_owned() } else { format!("{name}s") };
    match count.programmed == count.total {
        true => format!("{} {name}", count.total),
        false => format!("{} of {} {name}", count.programmed, count.total),
    }
}

/// What the workers have open.
fn traffic(view: &View) -> String {
    let Traffic { workers, connections, leaving, sessions, sessions_leaving } = &view.traffic;
    let mut text = format!("{:<15}{workers}\n", "Workers:");
    let mut line = |name: &str, open: usize, leaving: usize| {
        let leaving = if leaving > 0 { format!(", and {leaving} over sockets that are gone") } else { String::new() };
        text += &format!("{name:<15}{open} open{leaving}\n");
    };
    line("Connections:", connections.values().sum(), *leaving);
    if !sessions.is_empty() || *sessions_leaving > 0 {
        line("UDP sessions:", sessions.values().sum(), *sessions_leaving);
    }
    text
}

fn sockets(view: &View, wide: bool) -> String {
    let columns = ["ADDRESS", "PROTOCOL", "CONNECTIONS", "STATE"];
    let shown = |index: &usize| wide || *index != 2;
    let mut table = Table::new((0..columns.len()).filter(shown).map(|index| columns[index]));
    for socket in &view.sockets {
        let state = socket.problem.as_ref().map_or("bound".to_owned(), |problem| format!("NOT BOUND: {problem}"));
        // A session is what UDP has of a connection.
        let open = if socket.is_udp() { &view.traffic.sessions } else { &view.traffic.connections };
        let open = open.get(&socket.address).copied().unwrap_or_default();
        let cells = [socket.address.to_string(), socket.protocol.clone(), open.to_string(), state];
        table.row((0..cells.len()).filter(shown).map(|index| cells[index].as_str()));
    }
    section("Sockets", if table.is_empty() { String::new() } else { table.text("  ") })
}

/// The listeners of the Gateways that have a status of ours.
fn listeners(gateways: &[Arc<Value>]) -> String {
    let mut table = Table::new(["LISTENER", "PROTOCOL", "PORT", "HOSTNAME", "ROUTES", "PROGRAMMED"]);
    for gateway in gateways {
        for status in list(gateway, "/status/listeners") {
            let name = text(status, "/name");
            let specs = list(gateway, "/spec/listeners");
            let Some(spec) = specs.iter().find(|spec| text(spec, "/name") == name) else { continue };
            let programmed =
                list(status, "/conditions").iter().find(|condition| text(condition, "/type") == "Programmed");
            let number = |value: &Value, field: &str| value.get(field).map(Value::to_string).unwrap_or_default();
            table.row([
                format!("{}/{}/{name}", text(gateway, "/metadata/namespace"), text(gateway, "/metadata/name")),
                text(spec, "/protocol").to_owned(),
                number(spec, "port"),
                Some(text(spec, "/hostname")).filter(|name| !name.is_empty()).unwrap_or("*").to_owned(),
                number(status, "attachedRoutes"),
                programmed.map_or("Unknown", |condition| text(condition, "/status")).to_owned(),
            ]);
        }
    }
    section("Listeners", if table.is_empty() { String::new() } else { table.text("  ") })
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
        let value = if setting.value.is_empty() { "-" } else { &setting.value };
        table.row([&setting.name, value, &setting.source]);
    }
    section("Settings", table.text("  "))
}

/// Lines under a heading; nothing when there are none.
fn section(heading: &str, lines: String) -> String {
    if lines.is_empty() { lines } else { format!("\n{heading}:\n{lines}") }
}
