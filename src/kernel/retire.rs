//! Programs of another layout: those of an older gapi, or of a newer one that was taken back.
//!
//! Their maps mean something else, so that they cannot be taken over. They keep what they have: without services they
//! begin nothing, and pass what they do not know to the programs after them, which are ours. When their connections had
//! their time to end, they go.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use aya::maps::MapData;

use super::{attach, netlink::Netlink, table};

/// What a directory of pins is called, before its layout.
pub const LAYOUT_PINS: &str = "layout-";

/// Directories of other layouts, and since when they begin nothing.
pub struct Retired {
    pins: Vec<PathBuf>,
    since: Instant,
}

impl Retired {
    /// Takes the services of all layouts under `pins` but the one whose directory is `own`.
    pub fn new(pins: &Path, own: &Path) -> Retired {
        let entries = fs::read_dir(pins).into_iter().flatten().flatten();
        let others = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(LAYOUT_PINS) && path != own
        });
        Retired { pins: others.collect(), since: Instant::now() }
    }

    /// Has them begin nothing more; what failed. Call it when the services are in force here.
    pub fn stop(&self) -> Vec<String> {
        let stop = |pins: &PathBuf| {
            let services = MapData::from_pin(pins.join("gapi_services"));
            let cleared =
                services.map_err(|error| error.to_string()).and_then(|services| match table::clear_first(&services) {
                    Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error.to_string()),
                    _ => Ok(()),
                });
            cleared.err().map(|why| format!("{} still begins connections: {why}", pins.display()))
        };
        self.pins.iter().filter_map(stop).collect()
    }

    /// Ends them when `drain` has passed.
    pub fn end_after(&mut self, drain: std::time::Duration, netlink: &mut Netlink) {
        if self.pins.is_empty() || self.since.elapsed() < drain {
            return;
        }
        for pins in self.pins.drain(..) {
            attach::detach_layout(&pins, &netlink.interfaces().unwrap_or_default());
            _ = fs::remove_dir_all(&pins);
        }
    }
}
