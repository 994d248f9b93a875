//! Of which version is the state directory? What this version writes the next one reads; what a later one wrote is left
//! alone.

use std::{fs, io, path::Path};

use crate::durable::replace;

/// Name of the mark in the state directory: a line with a number.
const MARK: &str = "version";
/// The form of what this version writes. A directory without a mark is of version 1.
const VERSION: u32 = 1;

/// Why the state directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "the state directory {directory} is of version {found}, and this gapi reads up to version {VERSION}: \
         it was written by a later gapi, and stays as it is; \
         run that one again, or give this one a --state-dir of its own"
    )]
    Newer { directory: String, found: String },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Checks the mark of a state directory, and sets it where there is none.
///
/// # Errors
/// The directory is a later version's, or the mark can be neither read nor written.
pub fn check(directory: &Path) -> Result<(), StateError> {
    let path = directory.join(MARK);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().parse() == Ok(VERSION) => Ok(()),
        Ok(text) => {
            let found = text.trim().chars().filter(|c| !c.is_control()).take(20).collect();
            Err(StateError::Newer { directory: directory.display().to_string(), found })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("{VERSION}\n");
            Ok(replace(&path, &path.with_extension("tmp"), text.as_bytes(), 0o644)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_once_and_refused_when_it_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            check(directory.path()).unwrap();
            assert_eq!(fs::read_to_string(directory.path().join(MARK)).unwrap(), "1\n");
        }
        for later in ["2\n", "17", "next\n", ""] {
            fs::write(directory.path().join(MARK), later).unwrap();
            assert!(matches!(check(directory.path()), Err(StateError::Newer { .. })), "{later:?}");
            assert_eq!(fs::read_to_string(directory.path().join(MARK)).unwrap(), later);
        }
    }
}
