//! The file of the deny list: read when it is another than before, and what became of it.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::parse::{Parsed, parse};
use crate::{
    finding::{Finding, Origin, Severity},
    snapshot::deny::DenyList,
};

/// Bytes that are read of a file.
const MAX_BYTES: u64 = 64 << 20;

/// What is in force, and what there is to say of it.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Counts lists that were put in force.
    pub generation: u64,
    /// How many prefixes the file has.
    pub prefixes: usize,
    pub findings: Vec<Finding>,
}

/// Which file it was: changes when it is replaced or written to.
type Identity = (u64, u64, u64, (i64, i64), (i64, i64));

/// A deny list's file, and where lists go that come out of it.
pub struct Source {
    path: PathBuf,
    file: Arc<str>,
    read: Option<Identity>,
    state: State,
    serve: Box<dyn FnMut(Arc<DenyList>) + Send>,
}

impl Source {
    /// Nothing is read yet: see [`Source::look`].
    pub fn new(path: &Path, serve: impl FnMut(Arc<DenyList>) + Send + 'static) -> Source {
        let file = path.display().to_string().into();
        // As events name it.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Source { path, file, read: None, state: State::default(), serve: Box::new(serve) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Reads the file if it is another than before, and has its list served. Says whether findings have changed.
    pub fn look(&mut self) -> bool {
        let start = Instant::now();
        let findings = match self.changed() {
            Ok(None) => return false,
            Ok(Some((identity, text))) => {
                let Parsed { list, prefixes, findings } = parse(&self.file, &text);
                (self.serve)(Arc::new(list));
                self.read = Some(identity);
                self.state.generation += 1;
                self.state.prefixes = prefixes;
                tracing::info!(path = %self.file, prefixes, took = ?start.elapsed(), "deny list in force");
                findings
            }
            Err(error) => {
                self.read = None;
                vec![self.unreadable(&error)]
            }
        };
        let changed = self.state.findings != findings;
        self.state.findings = findings;
        changed
    }

    /// The file's identity and text, if it is not the one that was read.
    fn changed(&self) -> io::Result<Option<(Identity, Vec<u8>)>> {
        if self.read == Some(identity(&fs::metadata(&self.path)?)) {
            return Ok(None);
        }
        // A pipe would never be opened, and a device never end.
        if !fs::metadata(&self.path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let mut text = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or_default() + 1);
        file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it is longer than {} MiB", MAX_BYTES >> 20)));
        }
        Ok(Some((identity(&metadata), text)))
    }

    fn unreadable(&self, error: &io::Error) -> Finding {
        let fact = match (error.kind(), self.state.generation) {
            (io::ErrorKind::NotFound, 0) => "the deny list is not there: nobody is denied".to_owned(),
            (io::ErrorKind::NotFound, _) => {
                format!("the deny list is gone: its last {} prefixes stay denied", self.state.prefixes)
            }
            (_, 0) => format!("the deny list cannot be read: {error}; nobody is denied"),
            _ => {
                format!("the deny list cannot be read: {error}; its last {} prefixes stay denied", self.state.prefixes)
            }
        };
        Finding {
            severity: Severity::Error,
            origin: Some(Origin { file: self.file.clone(), line: 0, column: 0 }),
            object: None,
            field: String::new(),
            reason: "DenyListUnreadable".to_owned(),
            message: fact,
            remedy: "put the file there, readable by the daemon's user (an empty one denies nobody), or take --deny-list out".to_owned(),
        }
    }
}

fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino(), file.len(), (file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Mutex};

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// A source, and what it has served last.
    fn source(path: &Path) -> (Source, Arc<Mutex<Arc<DenyList>>>) {
        let served = Arc::<Mutex<Arc<DenyList>>>::default();
        let keep = served.clone();
        (Source::new(path, move |list| *keep.lock().expect("whole") = list), served)
    }

    #[test]
    fn a_file_that_is_gone_leaves_its_list_in_force() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deny.txt");
        let (mut source, served) = source(&path);
        assert!(source.look());
        assert!(source.state().findings[0].message.contains("nobody is denied"));
        fs::write(&path, "192.0.2.0/24\nnonsense\n").expect("written");
        assert!(source.look());
        assert_eq!((source.state().prefixes, source.state().findings.len()), (1, 1));
        assert!(served.lock().expect("whole").contains(CLIENT));
        assert!(!source.look(), "it is as it was");
        fs::remove_file(&path).expect("removed");
        assert!(source.look());
        assert!(source.state().findings[0].message.contains("its last 1 prefixes stay denied"));
        assert!(served.lock().expect("whole").contains(CLIENT));
        fs::create_dir(&path).expect("made");
        source.look();
        assert!(source.state().findings[0].message.contains("no regular file"));
        fs::remove_dir(&path).expect("removed");
        fs::write(&path, "").expect("written");
        assert!(source.look() && source.state().findings.is_empty());
        assert!(served.lock().expect("whole").is_empty());
    }
}
