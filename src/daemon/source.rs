//! The watched directory as objects: scan, parse what changed, merge with what was accepted, keep.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::AGAIN;
use crate::{
    api::{Kind, ObjectKey},
    finding::{Finding, Origin, Severity},
    manifest::{
        Ignored,
        accepted::{Accepted, Objects, Source, Store, state_finding},
        differences,
        parse::{ParsedFile, parse_file},
        readable,
        role::{self, Names, remark::remarks},
        span::Bounds,
        tree::{Content, Directories, Tree, TreeFile},
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
    /// What each file says, whoever wrote it; with those that are gone or not seen, and that count still.
    read: BTreeMap<Arc<str>, Source>,
    /// Those that are gone or not seen.
    absent: BTreeSet<Arc<str>>,
    /// What there is to say of single files.
    said: BTreeMap<Arc<str>, Vec<Finding>>,
    names: Names,
    /// Others than trusted users had a hand in some file: what their names are decides too.
    shared: bool,
    /// What was refused because of that.
    refused: Vec<Finding>,
    /// Files with nothing in them that had objects, since when.
    emptied: BTreeMap<Arc<str>, Instant>,
    /// Files that are gone, since when.
    gone: BTreeMap<Arc<str>, Instant>,
    state_directory: PathBuf,
    store: Option<Store>,
    /// What is in force.
    pub accepted: Accepted,
    /// Objects in force whose document on disk was rejected.
    pub stale: BTreeSet<ObjectKey>,
    /// What the last look found.
    pub findings: Vec<Finding>,
    pub ignored: Vec<Ignored>,
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
            read: BTreeMap::new(),
            absent: BTreeSet::new(),
            said: BTreeMap::new(),
            names: Names::default(),
            shared: false,
            refused: Vec::new(),
            emptied: BTreeMap::new(),
            gone: BTreeMap::new(),
            state_directory: state_directory.join("accepted"),
            store: None,
            accepted: Accepted::default(),
            stale: BTreeSet::new(),
            findings: Vec::new(),
            ignored: Vec::new(),
        };
        match Store::open(&sources.state_directory) {
            Ok(store) => {
                for finding in store.findings() {
                    // Of those whose place is taken in the first pass, nobody else tells.
                    tracing::warn!("{}", finding.message);
                }
                sources.accepted = Accepted::new(store.objects().clone());
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
        self.late = false;
        let tree = match Tree::scan(&self.root, self.tree.as_ref(), busy, self.bounds.bytes as u64) {
            Ok(tree) => tree,
            Err(error) => {
                let findings = vec![self.root_finding(&error.to_string())];
                let changed = self.findings != findings;
                self.findings = findings;
                (self.settled, self.lost) = (false, Some(Instant::now()));
                return changed;
            }
        };
        let departures = self.note_gone(&tree, now_or_never);
        let before = self.tree.take().unwrap_or_default();
        let same = |one: &Arc<TreeFile>, other: &Arc<TreeFile>| one.is_same(other);
        let changed = differences(&before.files, &tree.files, same).into_iter();
        let changed: Vec<Arc<str>> = changed.map(|(name, ..)| name.clone()).collect();
        let same = changed.is_empty() && before.findings == tree.findings;
        let nothing = same && self.settled && self.emptied.is_empty() && !departures && !now_or_never;
        if !nothing {
            (self.settled, self.lost) = (true, None);
            let changed = self.parse(changed, &before, &tree, now_or_never);
            self.judge(changed, &tree, now_or_never);
        }
        self.tree = Some(tree);
        !nothing && self.merge()
    }

    /// Brings what is in force up to what the files say.
    fn merge(&mut self) -> bool {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let changed = self.accepted.merge(&now, || uuid::Uuid::new_v4().to_string());
        let mut findings: Vec<Finding> = self.tree.iter().flat_map(|tree| tree.findings.iter().cloned()).collect();
        findings.extend(self.said.values().flatten().chain(&self.refused).cloned());
        let roles = [Kind::ClusterRole, Kind::Role, Kind::ClusterRoleBinding, Kind::RoleBinding];
        findings.extend(remarks(roles.into_iter().flat_map(|kind| self.accepted.documents_of(kind))));
        findings.extend(self.accepted.findings());
        let ignored: Vec<Ignored> = self.accepted.ignored().cloned().collect();
        let is_gone = |key: &ObjectKey| {
            self.accepted.objects.get(key).is_some_and(|object| self.gone.contains_key(&object.origin.file))
        };
        let stale: BTreeSet<ObjectKey> = self.accepted.stale.iter().filter(|key| !is_gone(key)).cloned().collect();
        let changed = changed || self.findings != findings || self.ignored != ignored || self.stale != stale;
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

    /// Reads anew the files that `changed` since the last look, and those of which more than their bytes decides. Gives
    /// all of these.
    fn parse(&mut self, changed: Vec<Arc<str>>, before: &Tree, tree: &Tree, now_or_never: bool) -> BTreeSet<Arc<str>> {
        let mut names = BTreeSet::from_iter(changed);
        names.extend(self.emptied.keys().cloned());
        names.extend(self.gone.keys().cloned());
        names.append(&mut self.absent);
        let unseen = self.unseen(tree);
        names.extend(unseen.iter().cloned());
        if now_or_never {
            // The rights to the directories above them may have changed.
            let has_secret = |file: &ParsedFile| file.objects.iter().any(|object| object.kind == Kind::Secret);
            let secrets = self.read.iter().filter(|(_, source)| source.parsed().is_some_and(has_secret));
            names.extend(secrets.map(|(name, _)| name.clone()));
        }
        for name in &names {
            let emptied = self.emptied.remove(name);
            let source = match (tree.files.get(name), self.read.get(name)) {
                (Some(file), Some(known @ Source::Parsed(_))) if before.has_content(name, &file.content) => {
                    Some(known.clone())
                }
                (Some(file), _) => Some(self.source(name, file, emptied, now_or_never)),
                (None, _) if self.gone.contains_key(name) || unseen.contains(name) => {
                    self.absent.insert(name.clone());
                    Some(Source::Unreadable)
                }
                (None, _) => None,
            };
            let findings = match source.as_ref().and_then(Source::parsed) {
                Some(parsed) => self.findings_of(name, parsed),
                None => Vec::new(),
            };
            match findings.is_empty() {
                true => _ = self.said.remove(name),
                false => _ = self.said.insert(name.clone(), findings),
            }
            match source {
                Some(source) => _ = self.read.insert(name.clone(), source),
                None => _ = self.read.remove(name),
            }
        }
        names
    }

    /// What a file says that was `emptied` then.
    fn source(&mut self, name: &Arc<str>, file: &TreeFile, emptied: Option<Instant>, now_or_never: bool) -> Source {
        match &file.content {
            Content::Bytes(bytes) if now_or_never || !self.is_just_emptied(name, bytes, emptied) => {
                Source::Parsed(Arc::new(parse_file(name, bytes, &self.bounds)))
            }
            _ => Source::Unreadable,
        }
    }

    fn findings_of(&self, name: &str, parsed: &ParsedFile) -> Vec<Finding> {
        let mut findings = parsed.findings.clone();
        findings.extend(readable::findings(&self.root.join(name), parsed));
        findings
    }

    /// Files that objects in force are from, and of which it cannot be told whether they are there.
    fn unseen(&self, tree: &Tree) -> BTreeSet<Arc<str>> {
        if tree.unseen.is_empty() {
            return BTreeSet::new();
        }
        let is_unseen = |file: &Arc<str>| {
            !tree.files.contains_key(file)
                && Path::new(&**file).ancestors().any(|path| tree.unseen.contains(&*path.to_string_lossy()))
        };
        let files = self.accepted.objects.values().map(|object| &object.origin.file);
        files.filter(|file| is_unseen(file)).cloned().collect()
    }

    /// Hands on what the files in `changed` say now, without what the writers of files may not declare.
    fn judge(&mut self, changed: BTreeSet<Arc<str>>, tree: &Tree, now_or_never: bool) {
        let was_shared = self.shared;
        self.shared = tree.files.values().any(|file| !file.custody.is_trusted());
        if !self.shared && !was_shared {
            for name in changed {
                let (before, source) = (self.accepted.files().get(&name), self.read.get(&name));
                let is_same = before.zip(source).is_some_and(|(before, source)| before.is_same(source));
                if !is_same {
                    self.accepted.set(&name, source.cloned());
                }
            }
            return;
        }
        let writers = self.names.writers(tree.files.iter().map(|(name, file)| (&**name, &file.custody)), now_or_never);
        let judged = role::judge(&self.accepted.objects, self.read.clone(), &writers);
        let differences: Vec<(Arc<str>, Option<Source>)> =
            differences(self.accepted.files(), &judged.sources, Source::is_same)
                .into_iter()
                .map(|(name, _, source)| (name.clone(), source.cloned()))
                .collect();
        for (name, source) in differences {
            self.accepted.set(&name, source);
        }
        self.refused = judged.findings;
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

    /// Takes the store back. Findings where it does not hold what is in force, or holds what cannot be used.
    pub fn kept(&mut self, kept: Kept) -> Vec<Finding> {
        self.store = kept.store;
        if kept.late {
            // What is in force was made without knowing this: whether it is gone, or was rejected, the next look tells.
            if let Some(store) = &self.store {
                self.accepted.add(store.objects());
            }
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

#[cfg(test)]
mod tests;
