//! The watched directory as objects: scan, parse what changed, merge with what was accepted, keep.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    finding::{Finding, Origin, Severity},
    manifest::{
        Ignored,
        accepted::{Accepted, Objects, Source, Store, state_finding},
        differences,
        parse::parse_file,
        span::Bounds,
        tree::{Content, Directories, Tree, TreeFile},
    },
};

/// A file that became empty is taken as emptied by hand, not as about to be written, after this time.
const EMPTY: Duration = Duration::from_secs(1);

/// Owns the tree, what was parsed of it and what was accepted from it.
pub struct Sources {
    root: PathBuf,
    bounds: Bounds,
    tree: Option<Tree>,
    /// The last look read the tree: what it found stands as long as the tree is the same.
    settled: bool,
    /// Files with nothing in them that had objects, since when.
    emptied: BTreeMap<Arc<str>, Instant>,
    state_directory: PathBuf,
    store: Option<Store>,
    /// Records in the store that cannot be used.
    unusable: Vec<Finding>,
    /// What is in force.
    pub accepted: Accepted,
    /// What the last look found.
    pub findings: Vec<Finding>,
    pub ignored: Vec<Ignored>,
}

impl Sources {
    /// Starts from what the store holds.
    pub fn open(root: &Path, state_directory: &Path, bounds: Bounds) -> Sources {
        let state_directory = state_directory.join("accepted");
        let (store, unusable) =
            Store::open(&state_directory).map_or((None, Vec::new()), |(store, unusable)| (Some(store), unusable));
        let accepted = store.as_ref().map(|store| store.objects().clone()).unwrap_or_default();
        Sources {
            root: root.to_path_buf(),
            bounds,
            tree: None,
            settled: false,
            emptied: BTreeMap::new(),
            state_directory,
            store,
            unusable,
            accepted: Accepted::new(accepted),
            findings: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// Looks at everything again. With `now_or_never`, asked for by a person, nothing is left for later.
    /// True when an object, a finding or an ignored document changed.
    pub fn look(&mut self, busy: &HashSet<PathBuf>, now_or_never: bool) -> bool {
        let tree = match Tree::scan(&self.root, self.tree.as_ref(), busy, self.bounds.bytes as u64) {
            Ok(tree) => tree,
            Err(error) => {
                let findings = vec![self.root_finding(&error.to_string())];
                let changed = self.findings != findings;
                self.findings = findings;
                self.settled = false;
                return changed;
            }
        };
        let settled = std::mem::replace(&mut self.settled, true);
        let before = self.tree.take().unwrap_or_default();
        let is_read = self.parse(&before, &tree, now_or_never);
        let is_same = settled && !is_read && before.findings == tree.findings;
        self.tree = Some(tree);
        !is_same && self.merge()
    }

    /// Brings what is in force up to what the files say.
    fn merge(&mut self) -> bool {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let stale = self.accepted.stale.clone();
        let mut changed = self.accepted.merge(&now, || uuid::Uuid::new_v4().to_string());
        let mut findings: Vec<Finding> = self.tree.iter().flat_map(|tree| tree.findings.iter().cloned()).collect();
        findings.extend(self.accepted.noted().flat_map(|file| file.findings.iter().cloned()));
        findings.extend(self.accepted.findings());
        findings.extend(self.unusable.iter().cloned());
        let ignored = self.accepted.noted().flat_map(|file| file.ignored.iter().cloned()).collect();
        changed |= self.findings != findings || self.ignored != ignored || self.accepted.stale != stale;
        (self.findings, self.ignored) = (findings, ignored);
        changed
    }

    /// When [`Sources::look`] wants to be called again though nothing changes.
    pub fn look_again(&self) -> Option<Instant> {
        self.emptied.values().min().map(|since| *since + EMPTY)
    }

    /// Where changes can come from.
    pub fn directories(&self) -> Directories {
        self.tree.as_ref().map(|tree| tree.directories.clone()).unwrap_or_default()
    }

    /// Parses the files of `tree` that are not what they were in `before`. True when there was one.
    fn parse(&mut self, before: &Tree, tree: &Tree, now_or_never: bool) -> bool {
        let same = |one: &Arc<TreeFile>, other: &Arc<TreeFile>| one.content.is_same(&other.content);
        let changed = differences(&before.files, &tree.files, same).into_iter();
        let mut changed: BTreeMap<Arc<str>, Option<Arc<TreeFile>>> =
            changed.map(|(name, _, file)| (name.clone(), file.cloned())).collect();
        for name in self.emptied.keys() {
            changed.entry(name.clone()).or_insert_with(|| tree.files.get(name).cloned());
        }
        let is_any = !changed.is_empty();
        for (name, file) in changed {
            let bytes = file.as_ref().and_then(|file| match &file.content {
                Content::Bytes(bytes) => Some(bytes),
                Content::Unreadable => None,
            });
            let was_emptied = self.emptied.remove(&name);
            let source = match (&file, bytes) {
                (None, _) => None,
                (Some(_), Some(bytes)) if now_or_never || !self.is_just_emptied(&name, bytes, was_emptied) => {
                    Some(Source::Parsed(Arc::new(parse_file(&name, bytes, &self.bounds))))
                }
                _ => Some(Source::Unreadable),
            };
            self.accepted.set(&name, source);
        }
        is_any
    }

    /// A file of no bytes that had objects may be about to be written.
    fn is_just_emptied(&mut self, name: &Arc<str>, bytes: &[u8], since: Option<Instant>) -> bool {
        if !bytes.is_empty() || !self.accepted.objects.values().any(|object| object.origin.file == *name) {
            return false;
        }
        let since = since.unwrap_or_else(Instant::now);
        let is_just_emptied = since.elapsed() < EMPTY;
        if is_just_emptied {
            self.emptied.insert(name.clone(), since);
        }
        is_just_emptied
    }

    /// Begins to make durable what is in force, beside the caller; the result goes to [`Sources::kept`].
    pub fn keep(&mut self) -> impl Future<Output = Kept> + use<> {
        let (directory, objects) = (self.state_directory.clone(), self.accepted.objects.clone());
        let store = self.store.take();
        let keeping = tokio::task::spawn_blocking(move || keep(store, &directory, &objects));
        async move { keeping.await.unwrap_or_default() }
    }

    /// Takes the store back. A finding where it does not hold what is in force.
    pub fn kept(&mut self, kept: Kept) -> Option<Finding> {
        self.store = kept.store;
        self.unusable.extend(kept.unusable);
        kept.error.map(|error| {
            state_finding(
                format!("what was accepted cannot be kept in {}: {error}", self.state_directory.display()),
                "make room, or make it writable; until then a restart may bring back older objects",
            )
        })
    }

    fn root_finding(&self, error: &str) -> Finding {
        let root = self.root.display().to_string();
        Finding {
            severity: Severity::Error,
            message: format!("the config directory {root}: {error}; what was accepted last stays in force"),
            origin: Some(Origin { file: root.into(), line: 0, column: 0 }),
            object: None,
            field: String::new(),
            reason: "ConfigDirectory".to_owned(),
            remedy: "make it readable again, or restart gapi if it has moved for good".to_owned(),
        }
    }
}

/// What became of [`Sources::keep`].
#[derive(Default)]
pub struct Kept {
    store: Option<Store>,
    unusable: Vec<Finding>,
    error: Option<io::Error>,
}

fn keep(store: Option<Store>, directory: &Path, objects: &Objects) -> Kept {
    let mut kept = Kept { store, ..Kept::default() };
    if kept.store.is_none() {
        match Store::open(directory) {
            Ok((store, unusable)) => (kept.store, kept.unusable) = (Some(store), unusable),
            Err(error) => kept.error = Some(error),
        }
    }
    if let Some(store) = &mut kept.store {
        kept.error = store.keep(objects).err();
    }
    kept
}
