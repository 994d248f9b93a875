//! `gapi kernel`: what goes through the kernel path, and the programs taken off again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, RuntimeDir, get::json_text, print, source::ask_daemon, table::Table};
use crate::view::{Answer, KernelListener, KernelView, Request};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct KernelFlags {
    #[command(subcommand)]
    command: Option<KernelCommand>,
    /// How to print [default: tables]
    #[arg(short, long, value_enum)]
    output: Option<KernelOutput>,
    #[command(flatten)]
    runtime_dir: RuntimeDir,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum KernelOutput {
    Json,
}

#[derive(Debug, Subcommand)]
enum KernelCommand {
    /// Take gapi's eBPF programs off every interface and remove their pins: connections that the kernel carried end
    Detach {
        /// Where the pins are
        #[arg(long, default_value = "/sys/fs/bpf/gapi", value_name = "DIR")]
        pins: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// Those of [`Failure`].
pub fn run(flags: &KernelFlags) -> Result<ExitCode, Failure> {
    if let Some(KernelCommand::Detach { pins }) = &flags.command {
        detach(pins)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Answer::Status(view) = ask_daemon(&flags.runtime_dir.runtime_dir, &Request::Status)? else {
        return Err(anyhow::anyhow!("the daemon answered something else than its status").into());
    };
    let text = match flags.output {
        Some(KernelOutput::Json) => json_text(&serde_json::to_value(&view.kernel)?),
        None => page(&view.traffic_path, view.kernel.as_ref()),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "kernel")]
fn detach(pins: &Path) -> Result<(), Failure> {
    let removed = crate::kernel::deny::detach_all()
        .and_then(|()| crate::kernel::detach_all(pins))
        .map_err(|error| anyhow::anyhow!("{} cannot be removed: {error}; it takes root", pins.display()))?;
    print(&match removed {
        0 => format!("nothing of gapi is under {}\n", pins.display()),
        _ => format!(
            "{} is removed; a daemon that runs goes on in user space, and attaches again at its next start\n",
            pins.display()
        ),
    })
}

#[cfg(not(feature = "kernel"))]
fn detach(_pins: &Path) -> Result<(), Failure> {
    Err(anyhow::anyhow!("this program was built without the kernel path").into())
}

fn page(path: &str, view: Option<&KernelView>) -> String {
    let mut page = format!("Traffic path: {path}\n");
    let Some(view) = view else { return page };
    for trouble in &view.troubles {
        page += &format!("!! {trouble}\n");
    }
    let interfaces: Vec<String> = view.interfaces.iter().map(|(name, how)| format!("{name} ({how})")).collect();
    page +=
        &format!("Interfaces:   {}\n", if interfaces.is_empty() { "none".to_owned() } else { interfaces.join(", ") });
    page += &format!("Connections:  {} of {}\n", view.entries / 2, view.room / 2);
    page += &listeners(&view.listeners);
    page += &endpoints(&view.listeners);
    page += &packets(&view.packets);
    page
}

fn listeners(listeners: &[KernelListener]) -> String {
    let mut table = Table::new(["LISTENER", "ADDRESS", "PROTOCOL", "ROUTE", "PATH", "WHY"]);
    for one in listeners {
        let cells = [&one.listener, &one.address, &one.protocol, &one.route, &one.path, &one.why.join(", ")];
        table.row(cells.map(String::as_str));
    }
    section("Listeners", table)
}

fn endpoints(listeners: &[KernelListener]) -> String {
    let columns = [
        "LISTENER",
        "ENDPOINT",
        "NOW",
        "CONNECTIONS",
        "FAILED",
        "PACKETS TO",
        "BYTES TO",
        "PACKETS FROM",
        "BYTES FROM",
    ];
    let mut table = Table::new(columns);
    for listener in listeners {
        for one in &listener.endpoints {
            let departed = if one.departed { " (leaving)" } else { "" };
            let numbers = [one.connections, one.failed, one.packets_to, one.bytes_to, one.packets_from, one.bytes_from];
            let cells = [listener.listener.clone(), format!("{}{departed}", one.address), one.current.to_string()];
            table.row(cells.into_iter().chain(numbers.map(|number| number.to_string())));
        }
    }
    section("Endpoints", table)
}

fn packets(packets: &BTreeMap<String, u64>) -> String {
    let mut table = Table::new(["PACKETS", "NOT SENT ON BECAUSE"]);
    for (reason, count) in packets.iter().filter(|(_, count)| **count > 0) {
        table.row([count.to_string(), reason.clone()]);
    }
    section("Packets", table)
}

fn section(heading: &str, mut table: Table) -> String {
    if table.is_empty() { String::new() } else { format!("\n{heading}:\n{}", table.text("  ")) }
}
