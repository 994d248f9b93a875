//! *watch*, second half: when to look again.
//!
//! Any event means "look again at everything"; the paths of events are used for one thing only: to know which files
//! somebody is writing just now. Watches miss things (a directory swapped behind a link, a queue that overflowed), so
//! the daemon also polls slowly.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::{
    sync::mpsc,
    time::{sleep_until, timeout_at},
};

use super::tree::Directories;

/// After a change that came alone nothing waits. A further one within this time belongs to a burst.
const LONE: Duration = Duration::from_millis(50);
/// A burst has ended after this much quiet.
const QUIET: Duration = Duration::from_millis(10);
/// A burst is looked at after this time even when it goes on.
const BURST: Duration = Duration::from_millis(250);
/// A file that was written to and not closed is read after this time all the same.
const WRITING: Duration = Duration::from_secs(1);

/// Tells when the watched directories changed.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::UnboundedReceiver<Event>,
    watched: Directories,
    /// Watched for one name in it only: that of the root.
    parent: PathBuf,
    root: PathBuf,
    /// Files written to and not closed yet, and when that was first seen.
    writing: HashMap<PathBuf, Instant>,
    /// When the first change came that nobody was told of yet.
    pending: Option<Instant>,
    /// When somebody was told last.
    last: Option<Instant>,
}

impl Watch {
    /// Watches nothing yet: see [`Watch::follow`]. Where the kernel gives no watches (too many instances), the error is
    /// returned beside a watch that never fires, so that polling goes on.
    pub fn new() -> (Watch, Option<notify::Error>) {
        let (sender, events) = mpsc::unbounded_channel();
        let handler = move |event: notify::Result<Event>| {
            // An error of the watcher means that something was missed: look again.
            let event = event.unwrap_or_else(|_| Event::new(EventKind::Other));
            if is_change(&event) {
                let _ = sender.send(event);
            }
        };
        let (watcher, error) = match RecommendedWatcher::new(handler, Config::default()) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error)),
        };
        let watch = Watch {
            watcher,
            events,
            watched: Directories::new(),
            parent: PathBuf::new(),
            root: PathBuf::new(),
            writing: HashMap::new(),
            pending: None,
            last: None,
        };
        (watch, error)
    }

    /// Watches `directories`, and `root`'s parent so that a swap of the root itself is seen. Returns true when a watch
    /// was added: what changed before it was there has to be looked for.
    pub fn follow(&mut self, root: &Path, directories: &Directories) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut wanted = directories.clone();
        if let Some(parent) = root.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            if let Ok(metadata) = std::fs::metadata(parent) {
                let of_its_own = wanted.insert(parent.to_path_buf(), (metadata.dev(), metadata.ino())).is_some();
                self.parent = if of_its_own { PathBuf::new() } else { parent.to_path_buf() };
                self.root = root.to_path_buf();
            }
        }
        for (gone, inode) in &self.watched {
            if wanted.get(gone) != Some(inode) {
                let _ = watcher.unwatch(gone);
            }
        }
        let mut added = false;
        let mut watched = Directories::new();
        for (directory, inode) in wanted {
            let known = self.watched.get(&directory) == Some(&inode);
            if known || watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok() {
                added |= !known;
                watched.insert(directory, inode);
            }
        }
        self.watched = watched;
        added
    }

    /// Returns after a change: at once for one that came alone, after 10 ms of quiet (250 ms at most) in a burst.
    /// Cancel safe.
    pub async fn changed(&mut self) {
        while self.pending.is_none() {
            let give_up = self.writing.values().min().map(|since| *since + WRITING);
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.note(&event),
                    None => std::future::pending().await,
                },
                () = sleep_until(give_up.unwrap_or_else(Instant::now).into()), if give_up.is_some() => {
                    self.writing.retain(|_, since| since.elapsed() < WRITING);
                    self.pending = Some(Instant::now());
                }
            }
        }
        if let Some(start) = self.pending
            && self.last.is_some_and(|last| start - last < LONE)
        {
            let end = start + BURST;
            while let Ok(Some(event)) = timeout_at((Instant::now() + QUIET).min(end).into(), self.events.recv()).await {
                self.note(&event);
            }
        }
        while let Ok(event) = self.events.try_recv() {
            self.note(&event);
        }
        self.pending = None;
        self.last = Some(Instant::now());
    }

    /// The files that somebody is writing just now.
    pub fn busy(&mut self) -> HashSet<PathBuf> {
        self.writing.retain(|_, since| since.elapsed() < WRITING);
        self.writing.keys().cloned().collect()
    }

    /// Takes note of an event.
    fn note(&mut self, event: &Event) {
        // The parent is full of other people's files, and a hidden name is one that will be renamed.
        let beside_root = |path: &Path| path.parent() == Some(&self.parent) && path != self.root;
        let counts = |path: &&PathBuf| !is_temporary(path) && !beside_root(path);
        match event.kind {
            EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
                for path in event.paths.iter().filter(counts) {
                    if is_created_whole(path) {
                        self.pending.get_or_insert_with(Instant::now);
                    } else {
                        self.writing.entry(path.clone()).or_insert_with(Instant::now);
                    }
                }
            }
            _ => {
                for path in &event.paths {
                    self.writing.remove(path);
                    // The watcher lets go of what is moved or removed, even when it comes back under its name.
                    if is_departure(event.kind) {
                        self.watched.retain(|watched, _| !watched.starts_with(path));
                    }
                }
                if event.paths.is_empty() || event.paths.iter().any(|path| counts(&path)) {
                    self.pending.get_or_insert_with(Instant::now);
                }
            }
        }
    }
}

/// A link is there at once: nobody will write it and close it.
fn is_created_whole(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink() || file.nlink() > 1)
}

/// Hidden files are temporary names of atomic writes: only what they are renamed to counts. Directories of a
/// ConfigMap-style swap (`..data`) do count.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && !name.starts_with("..")
}

fn is_departure(kind: EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

/// Reading a file is an event too, and must not cause another read.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    fn directories(path: &Path) -> Directories {
        let metadata = fs::metadata(path).expect("a directory");
        Directories::from([(path.to_path_buf(), (metadata.dev(), metadata.ino()))])
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_rename_is_a_change_and_a_read_is_none() {
        let root = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let (mut watch, error) = Watch::new();
            assert!(error.is_none());
            assert!(watch.follow(root.path(), &directories(root.path())));
            fs::write(root.path().join(".tmp"), "a: 1").unwrap();
            assert!(timeout(Duration::from_millis(100), watch.changed()).await.is_err());
            fs::rename(root.path().join(".tmp"), root.path().join("a.yaml")).unwrap();
            timeout(Duration::from_secs(2), watch.changed()).await.expect("the rename is seen");
            // A rename is more than one event, which need not come together.
            while timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
            fs::read(root.path().join("a.yaml")).unwrap();
            assert!(timeout(Duration::from_millis(100), watch.changed()).await.is_err());
        });
    }

    #[test]
    fn a_directory_that_comes_back_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        fs::create_dir(&root).unwrap();
        runtime().block_on(async {
            let (mut watch, _) = Watch::new();
            let known = directories(&root);
            watch.follow(&root, &known);
            for name in ["gone", "root"] {
                fs::rename(parent.path().join(if name == "gone" { "root" } else { "gone" }), parent.path().join(name))
                    .unwrap();
                timeout(Duration::from_secs(2), watch.changed()).await.expect("the move is seen");
                watch.follow(&root, &known);
            }
            while timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
            fs::write(root.join("a.yaml"), "a: 1").unwrap();
            timeout(Duration::from_secs(2), watch.changed()).await.expect("a change inside is seen");
        });
    }

    #[test]
    fn a_file_under_the_pen_is_busy_until_it_is_closed() {
        use std::io::Write;
        let root = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let (mut watch, _) = Watch::new();
            watch.follow(root.path(), &directories(root.path()));
            let path = root.path().join("a.yaml");
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(b"a:").unwrap();
            assert!(timeout(Duration::from_millis(100), watch.changed()).await.is_err());
            assert_eq!(watch.busy(), HashSet::from([path]));
            drop(file);
            timeout(Duration::from_secs(2), watch.changed()).await.expect("the close is seen");
            assert!(watch.busy().is_empty());
        });
    }
}
