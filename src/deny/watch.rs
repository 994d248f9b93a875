//! When to look at the deny list's file again: inotify tells, and a slow poll where it missed something.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};

use super::{Source, State};

/// The file is looked at after this time even when nothing was heard of it.
const POLL: Duration = Duration::from_secs(5);
/// One that is written to and not closed is read after this time all the same.
const WRITING: Duration = Duration::from_secs(1);
/// Links that lead to the file.
const MAX_LINKS: usize = 8;

/// Follows a deny list for as long as the value lives.
pub struct Watch {
    shared: Arc<Shared>,
    stop: Sender<Heard>,
}

struct Shared {
    source: Mutex<Source>,
    /// Of its own, so that whoever asks for it does not wait for a long list.
    state: Mutex<State>,
}

impl Shared {
    /// Says whether findings have changed.
    fn look(&self) -> bool {
        let mut source = lock(&self.source);
        let changed = source.look();
        *lock(&self.state) = source.state().clone();
        changed
    }
}

/// What the thread is told.
enum Heard {
    Event(notify::Result<Event>),
    Stop,
}

impl Watch {
    /// Reads the file, has it served, and follows it on a thread. `changed` is called there when findings have changed.
    ///
    /// # Errors
    /// When the system gives no thread. Without inotify the file is polled.
    pub fn start(source: Source, changed: impl Fn() + Send + 'static) -> io::Result<Watch> {
        let path = source.path().to_owned();
        let shared = Arc::new(Shared { source: Mutex::new(source), state: Mutex::default() });
        let (tell, heard) = channel();
        let stop = tell.clone();
        let mut directories = Directories::new(path, tell);
        directories.follow();
        shared.look();
        let looked = shared.clone();
        thread::Builder::new().name("deny-list".to_owned()).spawn(move || {
            while directories.is_time(&heard) {
                // What changes from here on is heard.
                directories.follow();
                if looked.look() {
                    changed();
                }
            }
        })?;
        Ok(Watch { shared, stop })
    }

    /// Looks at the file now; returns when it is served.
    pub fn look(&self) {
        self.shared.look();
    }

    pub fn state(&self) -> State {
        lock(&self.shared.state).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that has ended needs no word.
        _ = self.stop.send(Heard::Stop);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directories in which a change may be one of the file: its own, and those of the links that lead to it.
struct Directories {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Names that count, of the file and of links.
    names: BTreeSet<PathBuf>,
    /// Since when the file is being written.
    writing: Option<Instant>,
}

impl Directories {
    fn new(path: PathBuf, tell: Sender<Heard>) -> Directories {
        let handler = move |event| _ = tell.send(Heard::Event(event));
        let watcher = RecommendedWatcher::new(handler, Config::default());
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, poll = ?POLL, "deny list cannot be watched, only polled");
        });
        let (watched, names) = Default::default();
        Directories { path, watcher: watcher.ok(), watched, names, writing: None }
    }

    /// Watches what leads to the file now.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        self.names = links(&self.path);
        let wanted: BTreeSet<PathBuf> = self.names.iter().map(|name| parent(name).to_owned()).collect();
        for gone in self.watched.difference(&wanted) {
            _ = watcher.unwatch(gone);
        }
        // A directory that was replaced under its name needs its watch anew, so all are asked for again: the kernel knows
        // those that it has.
        self.watched =
            wanted.into_iter().filter(|one| watcher.watch(one, RecursiveMode::NonRecursive).is_ok()).collect();
    }

    /// Waits until it is time to look at the file; false when there is nothing to follow any more.
    fn is_time(&mut self, heard: &Receiver<Heard>) -> bool {
        let poll = Instant::now() + POLL;
        loop {
            let until = self.writing.map_or(poll, |since| poll.min(since + WRITING));
            match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heard::Event(Ok(event))) if !self.tells(&event) => {}
                Ok(Heard::Event(_)) => break,
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        self.writing = None;
        true
    }

    /// Is the file another one by this event?
    fn tells(&mut self, event: &Event) -> bool {
        let counts = event.paths.is_empty() || event.paths.iter().any(|path| self.names.contains(path));
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => counts,
            EventKind::Access(_) => false,
            // Whoever writes it will close it.
            EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) if counts => {
                self.writing.get_or_insert_with(Instant::now);
                event.paths.iter().any(|path| is_created_whole(path))
            }
            _ => counts,
        }
    }
}

/// A link is there at once: nobody will write it and close it.
fn is_created_whole(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_symlink() || file.nlink() > 1)
}

/// The path itself, and every link on the way to what it leads to: the names by which a change is noticed.
fn links(path: &Path) -> BTreeSet<PathBuf> {
    let mut names = BTreeSet::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        if names.len() > MAX_LINKS || !names.insert(path.clone()) {
            continue;
        }
        // A directory of the way may be a link as well, as in ..data of a ConfigMap.
        for way in path.ancestors().filter(|way| *way != Path::new("")) {
            if let Ok(target) = way.read_link() {
                let rest = path.strip_prefix(way).unwrap_or(Path::new(""));
                let target = parent(way).join(target);
                names.insert(way.to_owned());
                pending.push(if rest == Path::new("") { target } else { target.join(rest) });
                break;
            }
        }
    }
    names
}

/// The directory that a name is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| parent.as_os_str() != OsStr::new("")).unwrap_or(Path::new("."))
}
