//! Files that are there whole, as they were or as they are to be, whatever is cut off.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Has `path` hold `bytes`: written to `aside` in the same directory (with `mode`, where it is made), fsynced, renamed. When
/// it returns, it is durable.
///
/// # Errors
/// Those of the file system; `path` is as it was then, and `aside` is gone.
pub fn replace(path: &Path, aside: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(aside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(aside, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(aside);
    }
    written?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        replace(&at("a"), &at("a.tmp"), b"one", 0o600).expect("writable");
        replace(&at("a"), &at("a.tmp"), b"two", 0o600).expect("writable");
        assert_eq!(fs::read(at("a")).expect("it is there"), b"two");
        assert_eq!(fs::metadata(at("a")).expect("it is there").permissions().mode() & 0o777, 0o600);
        // A directory is in the way.
        fs::create_dir(at("b")).expect("writable");
        assert!(replace(&at("b"), &at("b.tmp"), b"three", 0o600).is_err());
        assert!(at("b").is_dir() && !at("b.tmp").exists() && !at("a.tmp").exists());
    }
}
