//! Status files: `<runtime-dir>/status/<namespace|_cluster>/<plural>/<name>.yaml`, replaced atomically, written only
//! when different, removed with the object.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use super::yaml::to_yaml;
use crate::api::ObjectKey;

/// The directory of status files, and what is in it.
#[derive(Debug)]
pub struct StatusFiles {
    directory: PathBuf,
    written: BTreeMap<ObjectKey, Arc<Value>>,
    /// Files that an earlier run left and that were not written since.
    left: Vec<PathBuf>,
}

impl StatusFiles {
    /// Opens or makes the directory. Files of an earlier run are removed by the first [`StatusFiles::write`], unless it
    /// replaces them.
    ///
    /// # Errors
    /// The directory can be neither read nor made.
    pub fn open(directory: &Path) -> io::Result<StatusFiles> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        let mut left = Vec::new();
        let mut directories = vec![directory.to_path_buf()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                match entry.file_type()?.is_dir() {
                    true => directories.push(entry.path()),
                    false => left.push(entry.path()),
                }
            }
        }
        Ok(StatusFiles { directory: directory.to_path_buf(), written: BTreeMap::new(), left })
    }

    /// The files of an earlier run.
    pub fn into_left(self) -> Vec<PathBuf> {
        self.left
    }

    /// Makes the directory hold `documents`; `path` says where below it one stands. Goes on after an error, so that one
    /// file that cannot be written costs no other.
    ///
    /// # Errors
    /// The first that the file system gave; the next call tries again.
    pub fn write(
        &mut self,
        documents: &BTreeMap<ObjectKey, Arc<Value>>,
        path: impl Fn(&ObjectKey) -> PathBuf,
    ) -> io::Result<()> {
        let mut first_error = Ok(());
        for (key, document) in documents {
            let path = self.directory.join(path(key));
            let same = |written: &Arc<Value>| Arc::ptr_eq(written, document) || written == document;
            // Somebody may have removed it.
            if self.written.get(key).is_some_and(same) && path.exists() {
                continue;
            }
            match replace(&path, to_yaml(document).as_bytes()) {
                Ok(()) => {
                    self.written.insert(key.clone(), document.clone());
                }
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        let gone: Vec<_> = self.written.keys().filter(|key| !documents.contains_key(*key)).cloned().collect();
        for key in gone {
            first_error = first_error.and(self.remove(&self.directory.join(path(&key))));
            self.written.remove(&key);
        }
        if !self.left.is_empty() {
            let wanted: HashSet<PathBuf> = documents.keys().map(|key| self.directory.join(path(key))).collect();
            for path in std::mem::take(&mut self.left) {
                if !wanted.contains(&path) {
                    first_error = first_error.and(self.remove(&path));
                }
            }
        }
        first_error
    }

    /// Removes a file, and the directories above it that are empty then.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for parent in path.ancestors().skip(1).take_while(|parent| *parent != self.directory) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    // As an earlier run wrote it.
    if fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    let aside = parent.join(".status.tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o640);
    let mut file = match options.open(&aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
            options.open(&aside)?
        }
        opened => opened?,
    };
    file.write_all(bytes)?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_follow_their_objects_and_leftovers_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = PathBuf::from("echo/gateways/echo.yaml");
        let key = ObjectKey::new("Gateway", "echo", "echo");
        fs::create_dir_all(directory.path().join("old/gateways")).unwrap();
        fs::write(directory.path().join("old/gateways/gone.yaml"), "x").unwrap();
        let mut files = StatusFiles::open(directory.path()).unwrap();
        let documents = BTreeMap::from([(key, Arc::new(json!({"kind": "Gateway"})))]);
        files.write(&documents, |_| path.clone()).unwrap();
        assert!(fs::read_to_string(directory.path().join(&path)).unwrap().contains("kind: Gateway"));
        assert!(!directory.path().join("old").exists());
        fs::remove_file(directory.path().join(&path)).unwrap();
        files.write(&documents, |_| path.clone()).unwrap();
        assert!(directory.path().join(&path).exists());
        files.write(&BTreeMap::new(), |_| path.clone()).unwrap();
        assert!(!directory.path().join("echo").exists());
    }
}
