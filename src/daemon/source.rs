//! The watched directory as objects: scan, parse what changed, merge with what was accepted, keep.

use std::{
    collections::{BTreeMap, HashSet},
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
    parsed: BTreeMap<String, (Content, Arc<ParsedFile>)>,
    /// Files with nothing in them that had objects, since when.
    emptied: BTreeMap<String, Instant>,
    state_directory: PathBuf,
    store: Option<Store>,
    /// What is in force.
    pub objects: Objects,
    /// Objects in force whose document on disk was rejected.
    pub stale: std::collections::BTreeSet<ObjectKey>,
    /// What the last look found.
    pub findings: Vec<Finding>,
    pub ignored: Vec<Ignored>,
    pub documents: usize,
}

impl Sources {
    /// Starts from what the store holds.
    pub fn open(root: &Path, state_directory: &Path, bounds: Bounds) -> Sources {
        let mut sources = Sources {
            root: root.to_path_buf(),
            bounds,
            tree: None,
            parsed: BTreeMap::new(),
            emptied: BTreeMap::new(),
            state_directory: state_directory.join("accepted"),
            store: None,
            objects: Objects::new(),
            stale: Default::default(),
            findings: Vec::new(),
            ignored: Vec::new(),
            documents: 0,
        };
        let mut findings = Vec::new();
        sources.open_store(&mut findings);
        if let Some(store) = &sources.store {
            sources.objects = store.objects().clone();
        }
        sources
    }

    /// Looks at everything again. With `now_or_never`, asked for by a person, nothing is left for later.
    /// True when an object, a finding or an ignored document changed.
    pub fn look(&mut self, busy: &HashSet<PathBuf>, now_or_never: bool) -> bool {
        let mut findings = Vec::new();
        match Tree::scan(&self.root, self.tree.as_ref(), busy, self.bounds.bytes as u64) {
            Ok(tree) => {
                findings.extend(tree.findings.iter().cloned());
                self.tree = Some(tree);
            }
            Err(error) => {
                findings.push(self.root_finding(&error.to_string()));
                let changed = self.findings != findings;
                self.findings = findings;
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
        self.keep(&objects, &mut findings);
        let changed = !same(&self.objects, &objects)
            || self.findings != findings
            || self.ignored != ignored
            || self.stale != stale;
        (self.objects, self.stale, self.findings, self.ignored) = (objects, stale, findings, ignored);
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
        let files = self.tree.as_ref().map(|tree| tree.files.clone()).unwrap_or_default();
        self.parsed.retain(|name, _| files.contains_key(name));
        self.emptied.retain(|name, _| files.contains_key(name));
        let mut sources = BTreeMap::new();
        for (name, file) in files {
            let Content::Bytes(bytes) = &file.content else {
                sources.insert(name, accepted::Source::Unreadable);
                continue;
            };
            if bytes.is_empty() && !now_or_never && self.had_objects(&name) {
                let since = *self.emptied.entry(name.clone()).or_insert_with(Instant::now);
                if since.elapsed() < EMPTY {
                    sources.insert(name, accepted::Source::Unreadable);
                    continue;
                }
            }
            self.emptied.remove(&name);
            let known = self.parsed.get(&name).filter(|(content, _)| *content == file.content);
            let parsed = match known {
                Some((_, parsed)) => parsed.clone(),
                None => Arc::new(parse_file(&name, bytes, &self.bounds)),
            };
            findings.extend(parsed.findings.iter().cloned());
            self.parsed.insert(name.clone(), (file.content.clone(), parsed.clone()));
            sources.insert(name, accepted::Source::Parsed(parsed));
        }
        sources
    }

    fn had_objects(&self, name: &str) -> bool {
        self.objects.values().any(|object| &*object.origin.file == name)
    }

    fn keep(&mut self, objects: &Objects, findings: &mut Vec<Finding>) {
        if self.store.is_none() {
            self.open_store(findings);
        }
        let Some(store) = &mut self.store else { return };
        if let Err(error) = store.keep(objects) {
            findings.push(state_finding(
                format!("what was accepted cannot be kept in {}: {error}", self.state_directory.display()),
                "make room, or make it writable; until then a restart may bring back older objects",
            ));
        }
    }

    fn open_store(&mut self, findings: &mut Vec<Finding>) {
        match Store::open(&self.state_directory) {
            Ok((store, unusable)) => {
                findings.extend(unusable);
                self.store = Some(store);
            }
            Err(error) => findings.push(state_finding(
                format!("the state directory {} cannot be used: {error}", self.state_directory.display()),
                "make it writable; until then nothing is kept across a restart",
            )),
        }
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
