//! What the daemon holds in memory, private keys among it, stays there; and who may see what it shows.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::manifest::role::name::group_number;

/// The group that may read status and ask the daemon.
const GROUP: &str = "gapi";

/// No core dump: it would have the keys in it, and crash reporters keep and send those.
///
/// The limit alone does not hold where the kernel hands dumps to a program (`core_pattern` with a pipe, as
/// systemd-coredump has it); a process that is not dumpable gives none, and no other process of the user reads its
/// memory.
pub fn no_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps cannot be limited");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be turned off");
    }
}

/// Gives a directory or socket to the group `gapi`, where there is one, with these permissions. What is made in such a
/// directory later is the group's too.
///
/// A daemon that is not root can do so only where it is in the group; else its own group may look.
pub fn show_group(path: &Path, mode: u32) {
    let other = group_number(GROUP).filter(|group| *group != rustix::process::getegid().as_raw());
    let given = other.is_some_and(|group| chown(path, None, Some(group)).is_ok());
    let mode = if given && path.is_dir() { mode | 0o2000 } else { mode };
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        tracing::warn!(path = %path.display(), %error, "permissions cannot be set");
    }
}
