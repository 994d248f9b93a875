//! The watched directory as objects: scan, parse what changed, merge with what was accepted, keep.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api::ObjectKey,
    finding::{Finding, Origin, Severity},
    manifest::{
        Ignored,
        accepted::{self, Merged, Objects, Store, merge, state_finding},
        parse::{ParsedFile, parse_file},
        span::Bounds,
        tree::{Content, Directories, Tree},
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
    parsed: BTreeMap<String, (Arc<[u8]>, Arc<ParsedFile>)>,
    /// Files with nothing in them that had objects, since when.
    emptied: BTreeMap<String, Instant>,
    state_directory: PathBuf,
    store: Option<Store>,
    /// Records in the store that cannot be used.
    unusable: Vec<Finding>,
    /// What is in force.
    pub objects: Arc<Objects>,
    /// Objects in force whose document on disk was rejected.
    pub stale: std::collections::BTreeSet<ObjectKey>,
    /// What the last look found.
    pub findings: Vec<Finding>,
    pub ignored: Vec<Ignored>,
    pub documents: usize,
}

impl Sources {
    /// Starts from what the store holds.
    ///
    /// # Errors
    /// The store has a record of a later version.
    pub fn open(root: &Path, state_directory: &Path, bounds: Bounds) -> io::Result<Sources> {
        let mut sources = Sources {
            root: root.to_path_buf(),
            bounds,
            tree: None,
            settled: false,
            parsed: BTreeMap::new(),
            emptied: BTreeMap::new(),
            state_directory: state_directory.join("accepted"),
            store: None,
            unusable: Vec::new(),
            objects: Arc::default(),
            stale: Default::default(),
            findings: Vec::new(),
            ignored: Vec::new(),
            documents: 0,
        };
        match Store::open(&sources.state_directory) {
            Ok((store, unusable)) => {
                sources.objects = Arc::new(store.objects().clone());
                (sources.store, sources.unusable) = (Some(store), unusable);
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(error),
            // Tried again when there is something to keep.
            Err(_) => {}
        }
        Ok(sources)
    }

    /// Looks at everything again. With `now_or_never`, asked for by a person, nothing is left for later.
    /// True when an object, a finding or an ignored document changed.
    pub fn look(&mut self, busy: &HashSet<PathBuf>, now_or_never: bool) -> bool {
        let mut findings = Vec::new();
        match Tree::scan(&self.root, self.tree.as_ref(), busy, self.bounds.bytes as u64) {
            Ok(tree) => {
                let same =
                    self.tree.replace(tree).zip(self.tree.as_ref()).is_some_and(|(before, tree)| before.is_same(tree));
                if same && self.settled && self.emptied.is_empty() {
                    return false;
                }
                findings.extend(self.tree.iter().flat_map(|tree| tree.findings.iter().cloned()));
                self.settled = true;
            }
            Err(error) => {
                findings.push(self.root_finding(&error.to_string()));
                let changed = self.findings != findings;
                self.findings = findings;
                self.settled = false;
                return changed;
            }
        }
        let sources = self.parse(now_or_never, &mut findings);
        let ignored = sources.values().flat_map(ignored_of).cloned().collect();
        self.documents = sources.values().map(documents_of).sum();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Merged { objects, stale, findings: merged } =
            merge(&self.objects, &sources, &now, || uuid::Uuid::new_v4().to_string());
        findings.extend(merged);
        findings.extend(self.unusable.iter().cloned());
        let same = same(&self.objects, &objects);
        let changed = !same || self.findings != findings || self.ignored != ignored || self.stale != stale;
        if !same {
            self.objects = Arc::new(objects);
        }
        (self.stale, self.findings, self.ignored) = (stale, findings, ignored);
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

    fn parse(&mut self, now_or_never: bool, findings: &mut Vec<Finding>) -> BTreeMap<String, accepted::Source> {
        let Some(tree) = self.tree.take() else { return BTreeMap::new() };
        self.parsed.retain(|name, _| tree.files.contains_key(name));
        self.emptied.retain(|name, _| tree.files.contains_key(name));
        let mut sources = BTreeMap::new();
        for (name, file) in &tree.files {
            let source = match &file.content {
                Content::Bytes(bytes) if now_or_never || !self.is_just_emptied(name, bytes) => {
                    let parsed = self.parsed(name, bytes);
                    findings.extend(parsed.findings.iter().cloned());
                    accepted::Source::Parsed(parsed)
                }
                _ => accepted::Source::Unreadable,
            };
            sources.insert(name.clone(), source);
        }
        self.tree = Some(tree);
        sources
    }

    /// A file of no bytes that had objects may be about to be written.
    fn is_just_emptied(&mut self, name: &str, bytes: &[u8]) -> bool {
        if !bytes.is_empty() || !self.had_objects(name) {
            self.emptied.remove(name);
            return false;
        }
        let since = *self.emptied.entry(name.to_owned()).or_insert_with(Instant::now);
        since.elapsed() < EMPTY
    }

    fn parsed(&mut self, name: &str, bytes: &Arc<[u8]>) -> Arc<ParsedFile> {
        match self.parsed.get(name) {
            Some((known, parsed)) if Arc::ptr_eq(known, bytes) || known == bytes => parsed.clone(),
            _ => {
                let parsed = Arc::new(parse_file(name, bytes, &self.bounds));
                self.parsed.insert(name.to_owned(), (bytes.clone(), parsed.clone()));
                parsed
            }
        }
    }

    fn had_objects(&self, name: &str) -> bool {
        self.objects.values().any(|object| &*object.origin.file == name)
    }

    /// Begins to make durable what is in force, beside the caller; the result goes to [`Sources::kept`].
    pub fn keep(&mut self) -> impl Future<Output = Kept> + use<> {
        let (directory, objects) = (self.state_directory.clone(), self.objects.clone());
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

fn same(one: &Objects, other: &Objects) -> bool {
    one.len() == other.len()
        && one.values().zip(other.values()).all(|(one, other)| Arc::ptr_eq(one, other) || one == other)
}

fn ignored_of(source: &accepted::Source) -> &[Ignored] {
    match source {
        accepted::Source::Parsed(file) => &file.ignored,
        accepted::Source::Unreadable => &[],
    }
}

fn documents_of(source: &accepted::Source) -> usize {
    match source {
        accepted::Source::Parsed(file) => file.documents,
        accepted::Source::Unreadable => 0,
    }
}
