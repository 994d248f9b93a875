//! The watched directory as objects: scan, parse what changed, merge with what was accepted, keep.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::AGAIN;
use crate::{
    api::ObjectKey,
    finding::{Finding, Origin, Severity},
    manifest::{
        Ignored,
        accepted::{self, Merged, Objects, Store, merge, state_finding},
        parse::{ParsedFile, parse_file},
        readable,
        role::{self, Names, remark::remarks},
        span::Bounds,
        tree::{Content, Directories, Tree},
    },
};

/// A file that became empty is taken as emptied by hand, not as about to be written, after this time.
const EMPTY: Duration = Duration::from_secs(1);

/// What was in a file that is gone may be on its way to another, as in a checkout: it stays in force for this time.
const GONE: Duration = Duration::from_millis(100);

/// Owns the tree, what was parsed of it and what was accepted from it.
pub struct Sources {
    root: PathBuf,
    bounds: Bounds,
    tree: Option<Tree>,
    /// The last look read the tree: what it found stands as long as the tree is the same.
    settled: bool,
    /// When the root could not be read last.
    lost: Option<Instant>,
    /// The store came late, and the tree was not looked at since.
    late: bool,
    parsed: BTreeMap<String, (Arc<[u8]>, Arc<ParsedFile>)>,
    names: Names,
    /// Others than trusted users had a hand in some file: what their names are decides too.
    shared: bool,
    /// Files with nothing in them that had objects, since when.
    emptied: BTreeMap<String, Instant>,
    /// Files that are gone, since when.
    gone: BTreeMap<String, Instant>,
    state_directory: PathBuf,
    store: Option<Store>,
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
            lost: None,
            late: false,
            parsed: BTreeMap::new(),
            names: Names::default(),
            shared: false,
            emptied: BTreeMap::new(),
            gone: BTreeMap::new(),
            state_directory: state_directory.join("accepted"),
            store: None,
            objects: Arc::default(),
            stale: Default::default(),
            findings: Vec::new(),
            ignored: Vec::new(),
            documents: 0,
        };
        match Store::open(&sources.state_directory) {
            Ok(store) => {
                for finding in store.findings() {
                    // Of those whose place is taken in the first pass, nobody else tells.
                    tracing::warn!("{}", finding.message);
                }
                sources.objects = Arc::new(store.objects().clone());
                sources.store = Some(store);
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
        self.late = false;
        match Tree::scan(&self.root, self.tree.as_ref(), busy, self.bounds.bytes as u64) {
            Ok(tree) => {
                let departures = self.note_gone(&tree, now_or_never);
                let same =
                    self.tree.replace(tree).zip(self.tree.as_ref()).is_some_and(|(before, tree)| before.is_same(tree));
                if same && self.settled && self.emptied.is_empty() && !departures && !(now_or_never && self.shared) {
                    return false;
                }
                findings.extend(self.tree.iter().flat_map(|tree| tree.findings.iter().cloned()));
                (self.settled, self.lost) = (true, None);
            }
            Err(error) => {
                findings.push(self.root_finding(&error.to_string()));
                let changed = self.findings != findings;
                self.findings = findings;
                (self.settled, self.lost) = (false, Some(Instant::now()));
                return changed;
            }
        }
        let sources = self.parse(now_or_never, &mut findings);
        let sources = self.judge(sources, now_or_never, &mut findings);
        let ignored = sources.values().flat_map(ignored_of).cloned().collect();
        self.documents = sources.values().map(documents_of).sum();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let Merged { objects, mut stale, findings: merged } =
            merge(&self.objects, &sources, &now, || uuid::Uuid::new_v4().to_string());
        findings.extend(merged);
        stale.retain(|key| objects.get(key).is_none_or(|object| !self.gone.contains_key(&*object.origin.file)));
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
        let emptied = self.emptied.values().min().map(|since| *since + EMPTY);
        let gone = self.gone.values().min().map(|since| *since + GONE);
        // No watch tells of a mount that comes back.
        let lost = self.lost.map(|lost| lost + AGAIN);
        [emptied, gone, lost, self.late.then(Instant::now)].into_iter().flatten().min()
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
                    findings.extend(readable::findings(&self.root.join(name), &parsed));
                    accepted::Source::Parsed(parsed)
                }
                _ => accepted::Source::Unreadable,
            };
            sources.insert(name.clone(), source);
        }
        for file in self.objects.values().map(|object| &object.origin.file).filter(|_| !tree.unseen.is_empty()) {
            let is_unseen = Path::new(&**file).ancestors().any(|path| tree.unseen.contains(&*path.to_string_lossy()));
            if is_unseen && !sources.contains_key(&**file) {
                sources.insert(file.to_string(), accepted::Source::Unreadable);
            }
        }
        for name in self.gone.keys() {
            sources.entry(name.clone()).or_insert(accepted::Source::Unreadable);
        }
        self.tree = Some(tree);
        sources
    }

    /// Leaves out what the writers of the files may not declare.
    fn judge(
        &mut self,
        sources: BTreeMap<String, accepted::Source>,
        now_or_never: bool,
        findings: &mut Vec<Finding>,
    ) -> BTreeMap<String, accepted::Source> {
        let Some(tree) = &self.tree else { return sources };
        let writers = self.names.writers(tree.files.iter().map(|(name, file)| (name, &file.custody)), now_or_never);
        self.shared = tree.files.values().any(|file| !file.custody.is_trusted());
        let judged = role::judge(&self.objects, sources, &writers);
        findings.extend(judged.findings);
        findings.extend(remarks(&judged.sources));
        judged.sources
    }

    /// Keeps account of files that are gone. True where something follows from it, now or later.
    fn note_gone(&mut self, tree: &Tree, now_or_never: bool) -> bool {
        let before = self.tree.iter().flat_map(|before| before.files.keys());
        for name in before.filter(|name| !tree.files.contains_key(*name)) {
            self.gone.entry(name.clone()).or_insert_with(Instant::now);
        }
        let departures = !self.gone.is_empty();
        self.gone.retain(|name, since| !now_or_never && !tree.files.contains_key(name) && since.elapsed() < GONE);
        departures
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

    /// Takes the store back. Findings where it does not hold what is in force, or holds what cannot be used.
    pub fn kept(&mut self, kept: Kept) -> Vec<Finding> {
        self.store = kept.store;
        if kept.late {
            // What is in force was made without knowing this: whether it is gone, or was rejected, the next look tells.
            let mut objects = self.store.as_ref().map(|store| store.objects().clone()).unwrap_or_default();
            objects.extend(self.objects.iter().map(|(key, object)| (key.clone(), object.clone())));
            self.objects = Arc::new(objects);
            (self.late, self.settled) = (true, false);
        }
        let unkept = kept.error.map(|error| {
            state_finding(
                format!("what was accepted cannot be kept in {}: {error}", self.state_directory.display()),
                "make room, or make it writable; until then a restart may bring back older objects",
            )
        });
        unkept.into_iter().chain(self.store.iter().flat_map(Store::findings)).collect()
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
    error: Option<io::Error>,
    /// The store could not be opened before, and holds what nobody has read yet: nothing was kept for now.
    late: bool,
}

fn keep(store: Option<Store>, directory: &Path, objects: &Objects) -> Kept {
    let is_late = store.is_none();
    let mut kept = Kept { store, ..Kept::default() };
    if kept.store.is_none() {
        match Store::open(directory) {
            Ok(store) => kept.store = Some(store),
            Err(error) => kept.error = Some(error),
        }
    }
    kept.late = kept.store.as_ref().is_some_and(|store| is_late && !store.objects().is_empty());
    if let Some(store) = kept.store.as_mut().filter(|_| !kept.late) {
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
