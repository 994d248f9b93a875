//! Where what the kernel keeps of a daemon is pinned.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The directory under `root` of the daemon of this state directory in this network: several may be on one machine.
pub fn pins(root: &Path, state_dir: &Path) -> PathBuf {
    let network = fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
    let state_dir = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
    let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    root.join(format!("{network}-{digest}"))
}
