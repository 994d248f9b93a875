//! One daemon to a state directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Held as long as the daemon runs; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another gapi ({0}) runs on this state directory; stop it, or give this one a --state-dir of its own")]
    Held(String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Lock {
    /// Takes the lock and writes this process's id into it.
    ///
    /// # Errors
    /// Another process has it, or the file cannot be made.
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            let holder = holder.trim();
            return Err(LockError::Held(match holder {
                "" => "of unknown process id".to_owned(),
                id => format!("process {id}"),
            }));
        }
        // The id is for people; a full disk does not make the lock less of one.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let Err(LockError::Held(holder)) = Lock::take(&path) else { panic!("the second took the lock") };
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(first);
        Lock::take(&path).unwrap();
    }
}
