//! The accepted-object store: the last accepted version of each object, with what the API server would have given it
//! (uid, generation, creationTimestamp). It plays the part that etcd plays in a cluster.
//!
//! [`Accepted`] decides, purely; [`Store`] keeps, one file for each object, written aside, fsynced and renamed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Ignored, Object, differences, parse::ParsedFile};
use crate::{
    api::{Kind, ObjectKey},
    finding::{Finding, Severity},
};

/// Accepted objects, by key.
pub type Objects = BTreeMap<ObjectKey, Arc<Object>>;

/// What a file of the tree has become.
#[derive(Clone, Debug)]
pub enum Source {
    Parsed(Arc<ParsedFile>),
    /// Unreadable: what was accepted from it stays.
    Unreadable,
}

impl Source {
    /// The very same parsed file, or nothing known in both?
    pub fn is_same(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Parsed(one), Source::Parsed(other)) => Arc::ptr_eq(one, other),
            (Source::Unreadable, Source::Unreadable) => true,
            _ => false,
        }
    }

    /// What the file says, if that is known.
    pub fn parsed(&self) -> Option<&ParsedFile> {
        match self {
            Source::Parsed(file) => Some(file),
            Source::Unreadable => None,
        }
    }

    /// The objects that are declared in the file, each with its position, and those that were rejected.
    fn places(&self) -> impl Iterator<Item = (&ObjectKey, usize)> {
        let declared =
            self.parsed().into_iter().flat_map(|file| file.objects.iter().map(|object| &object.key)).zip(0..);
        let rejected = self.parsed().into_iter().flat_map(|file| &file.rejected_keys);
        declared.chain(rejected.map(|key| (key, REJECTED)))
    }
}

/// In place of the position of a document that was rejected.
const REJECTED: usize = usize::MAX;

/// What the files say, and what is in force of it.
///
/// A rejected document leaves its last accepted version in force, wherever it stands; a file that cannot be read or
/// parsed, or has a document that may be anything, leaves all that was accepted from it; a document that is gone is
/// deleted. Of two documents for one object the one already accepted stays, else the first by file name; the others are
/// findings.
///
/// [`Accepted::set`] says what changed, [`Accepted::merge`] decides, at the cost of what changed: an object is judged
/// again when a file changed that declares it, or when it is in force without a document.
#[derive(Debug, Default)]
pub struct Accepted {
    /// What is in force.
    pub objects: Arc<Objects>,
    /// Objects whose document on disk was rejected: what runs is older than what is on disk.
    pub stale: BTreeSet<ObjectKey>,
    /// By name.
    files: BTreeMap<Arc<str>, Source>,
    /// Files with documents that are ignored.
    ignoring: BTreeSet<Arc<str>>,
    /// Which files declare or reject an object, and where in [`ParsedFile::objects`].
    places: BTreeSet<(ObjectKey, Arc<str>, usize)>,
    /// What is to be judged.
    touched: BTreeSet<ObjectKey>,
    duplicates: BTreeMap<ObjectKey, Vec<Finding>>,
}

impl Accepted {
    /// Starts from what an earlier run accepted, with no file known yet.
    pub fn new(objects: Objects) -> Accepted {
        Accepted { touched: objects.keys().cloned().collect(), objects: Arc::new(objects), ..Accepted::default() }
    }

    /// Takes in what an earlier run accepted and nobody knew of yet; what is in force already wins.
    pub fn add(&mut self, objects: &Objects) {
        self.touched.extend(objects.keys().cloned());
        let own = Arc::make_mut(&mut self.objects);
        for (key, object) in objects {
            own.entry(key.clone()).or_insert_with(|| object.clone());
        }
    }

    /// What the files have become, by name.
    pub fn files(&self) -> &BTreeMap<Arc<str>, Source> {
        &self.files
    }

    /// The documents that are ignored, in the order of their files.
    pub fn ignored(&self) -> impl Iterator<Item = &Ignored> {
        self.ignoring.iter().filter_map(|name| self.files.get(name)?.parsed()).flat_map(|file| &file.ignored)
    }

    /// Every document of a kind in the files, those of one object by the names of their files.
    pub fn documents_of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        let kind = kind.names().name;
        let places = self.places.range((ObjectKey::new(kind, "", ""), Arc::from(""), 0)..);
        let places = places.take_while(move |(key, ..)| *key.kind == *kind);
        places.filter_map(|(_, file, position)| self.files.get(file)?.parsed()?.objects.get(*position))
    }

    /// Takes note of what a file has become; none where it is gone.
    pub fn set(&mut self, name: &Arc<str>, source: Option<Source>) {
        let before = match source {
            Some(source) => self.files.insert(name.clone(), source),
            None => self.files.remove(name),
        };
        for (key, position) in before.iter().flat_map(Source::places) {
            self.places.remove(&(key.clone(), name.clone(), position));
            self.touched.insert(key.clone());
        }
        let parsed = self.files.get(name).and_then(Source::parsed);
        match parsed.is_some_and(|file| !file.ignored.is_empty()) {
            true => self.ignoring.insert(name.clone()),
            false => self.ignoring.remove(name),
        };
        for (key, position) in self.files.get(name).iter().flat_map(|source| source.places()) {
            self.places.insert((key.clone(), name.clone(), position));
            self.touched.insert(key.clone());
        }
    }

    /// Brings what is in force up to what the files say. True when an object changed. `now` is RFC 3339; `new_uid` gives
    /// a fresh uid.
    pub fn merge(&mut self, now: &str, mut new_uid: impl FnMut() -> String) -> bool {
        let mut touched = std::mem::take(&mut self.touched);
        touched.append(&mut self.stale);
        let mut changes = Vec::new();
        for key in touched {
            let before = self.objects.get(&key);
            let (documents, rejected) = self.documents(&key);
            let chosen = before.map_or(0, |before| in_force(&documents, before));
            let duplicates: Vec<Finding> = duplicates(&documents, chosen).collect();
            let kept = before.filter(|before| rejected || self.is_unknown(&before.origin.file)).cloned();
            let stays = documents.is_empty() && kept.is_some();
            let after = documents.get(chosen).map(|document| accept(document, before, now, &mut new_uid)).or(kept);
            let is_same = match (before, &after) {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                (before, after) => before.is_none() && after.is_none(),
            };
            if stays || rejected && after.is_some() {
                self.stale.insert(key.clone());
            }
            match duplicates.is_empty() {
                true => _ = self.duplicates.remove(&key),
                false => _ = self.duplicates.insert(key.clone(), duplicates),
            }
            if !is_same {
                changes.push((key, after));
            }
        }
        if changes.is_empty() {
            return false;
        }
        let objects = Arc::make_mut(&mut self.objects);
        for (key, object) in changes {
            match object {
                Some(object) => objects.insert(key, object),
                None => objects.remove(&key),
            };
        }
        true
    }

    /// Sorted.
    ///
    /// # Findings
    /// `DuplicateObject` (error) at each further document for one object.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.duplicates.values().flatten().cloned().collect();
        findings.sort();
        findings
    }

    /// The documents that declare an object, by file name, and whether one for it was rejected.
    fn documents(&self, key: &ObjectKey) -> (Vec<&Object>, bool) {
        let (mut documents, mut rejected) = (Vec::new(), false);
        let places = self.places.range((key.clone(), Arc::from(""), 0)..).take_while(|(other, ..)| other == key);
        for (_, file, position) in places {
            match self.files.get(file).and_then(Source::parsed).and_then(|file| file.objects.get(*position)) {
                Some(object) => documents.push(object),
                None => rejected = true,
            }
        }
        (documents, rejected)
    }

    /// Is it unknown what the file says?
    fn is_unknown(&self, file: &str) -> bool {
        let is_unknown = |file: &ParsedFile| file.whole_file_rejected || file.has_unidentified;
        self.files.get(file).is_some_and(|source| source.parsed().is_none_or(is_unknown))
    }
}

/// What would be in force of these files if `previous` was before.
pub fn merge(previous: &Objects, files: &BTreeMap<Arc<str>, Source>) -> Objects {
    let mut accepted = Accepted::new(previous.clone());
    for (name, source) in files {
        accepted.set(name, Some(source.clone()));
    }
    accepted.merge("", String::new);
    Arc::unwrap_or_clone(accepted.objects)
}

/// Which of several documents for one object was accepted before: one of the same file, of them one that says the same.
fn in_force(documents: &[&Object], before: &Object) -> usize {
    let likeness = |document: &Object| {
        (document.origin.file == before.origin.file, documents.len() > 1 && document.value == before.value)
    };
    let first_of_the_best =
        documents.iter().enumerate().max_by_key(|(index, document)| (likeness(document), Reverse(*index)));
    first_of_the_best.map_or(0, |(index, _)| index)
}

fn duplicates<'a>(documents: &'a [&Object], chosen: usize) -> impl Iterator<Item = Finding> + 'a {
    documents.iter().enumerate().filter(move |(index, _)| *index != chosen).map(move |(_, document)| Finding {
        severity: Severity::Error,
        origin: Some(document.origin.clone()),
        object: Some(document.key.clone()),
        field: String::new(),
        reason: "DuplicateObject".to_owned(),
        message: format!("the object is declared at {} too, and that document is in force", documents[chosen].origin),
        remedy: "remove or rename one of the two".to_owned(),
    })
}

fn accept(
    document: &Object,
    before: Option<&Arc<Object>>,
    now: &str,
    new_uid: &mut impl FnMut() -> String,
) -> Arc<Object> {
    if let Some(before) = before
        && Arc::ptr_eq(&before.positions, &document.positions)
        && before.origin == document.origin
    {
        // Positions are shared by clones alone: this is the very document that was accepted.
        return before.clone();
    }
    let mut object = document.clone();
    let meta = &mut object.meta;
    if meta.uid.is_empty() {
        meta.uid = before.map_or_else(new_uid, |before| before.meta.uid.clone());
    }
    if meta.creation_timestamp.is_none() {
        let seen = before.and_then(|before| before.meta.creation_timestamp.clone());
        meta.creation_timestamp = Some(seen.unwrap_or_else(|| now.to_owned()));
    }
    if meta.generation == 0 {
        meta.generation = match before {
            None => 1,
            Some(before) if desired(&before.value) == desired(&document.value) => before.meta.generation,
            Some(before) => before.meta.generation + 1,
        };
    }
    match before {
        Some(before) if **before == object && before.positions == object.positions => before.clone(),
        _ => Arc::new(object),
    }
}

/// What of a document counts towards its generation: all but metadata and status.
fn desired(value: &Value) -> Vec<(&String, &Value)> {
    let fields = value.as_object().into_iter().flatten();
    fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status")).collect()
}

/// File name for an object's `name` with `ending`: cut, and closed by a digest, where it would pass 255 bytes.
pub fn file_name(name: &str, ending: &str) -> String {
    if name.len() + ending.len() <= 255 {
        return format!("{name}{ending}");
    }
    let digest = digest(name);
    let mut end = 255 - ending.len() - digest.len() - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{digest}{ending}", &name[..end])
}

/// Where an object's file stands below a directory: `<namespace|_cluster>/<plural>/<name><ending>`.
pub fn object_path(key: &ObjectKey, ending: &str) -> PathBuf {
    let namespace = if key.namespace.is_empty() { "_cluster" } else { &*key.namespace };
    let plural = key.served().map_or("others", |kind| kind.names().plural);
    Path::new(namespace).join(plural).join(file_name(&key.name, ending))
}

/// Version of the files' form. A store of a later version is refused, never overwritten.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Record<'a> {
    version: u32,
    object: &'a Object,
}

#[derive(Deserialize)]
struct OwnedRecord {
    version: u32,
    object: Object,
}

/// The store on disk, `<state-dir>/accepted`. Files are readable by their owner alone, since Secrets are among them.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// What the disk holds.
    kept: Objects,
    /// Files that are no records, and why; until a record takes their place.
    unusable: BTreeMap<PathBuf, String>,
}

impl Store {
    /// Opens or makes the store and reads it. Files that cannot be read as a record are left alone: see
    /// [`Store::findings`].
    ///
    /// # Errors
    /// The directory can be neither read nor made; `Unsupported` when a record is of a later version, which is never
    /// overwritten.
    pub fn open(directory: &Path) -> io::Result<Store> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let directory = directory.to_path_buf();
        let mut store = Store { directory, kept: Objects::new(), unusable: BTreeMap::new() };
        for path in files_below(&store.directory)? {
            if path.to_string_lossy().ends_with(".tmp") {
                // A write that was cut off: its object's last version stands beside it.
                let _ = fs::remove_file(&path);
                continue;
            }
            match read_record(&path)? {
                Ok(object) if store.path(&object.key) == path => {
                    store.kept.insert(object.key.clone(), Arc::new(object));
                }
                Ok(object) => {
                    store.unusable.insert(path, format!("it is of {}, whose file has another name", object.key));
                }
                Err(problem) => {
                    store.unusable.insert(path, problem);
                }
            }
        }
        Ok(store)
    }

    /// One for each file that is still there and cannot be used.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.unusable.iter().filter(|(path, _)| path.exists()).map(|(path, problem)| {
            state_finding(
                format!("{} cannot be used, and what was accepted there last is lost: {problem}", path.display()),
                "remove it",
            )
        })
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.directory.join(object_path(key, ".json"))
    }

    /// What the disk holds.
    pub fn objects(&self) -> &Objects {
        &self.kept
    }

    /// Makes the disk hold `objects`; when it returns, they are durable.
    ///
    /// # Errors
    /// The first that the file system gave (full, read-only). What is on disk is then a mixture of old and new whole
    /// records, and the next call tries the rest again.
    pub fn keep(&mut self, objects: &Objects) -> io::Result<()> {
        let (mut changed, mut gone, mut equal) = (Vec::new(), Vec::new(), Vec::new());
        for (key, kept, object) in differences(&self.kept, objects, Arc::ptr_eq) {
            match (kept, object) {
                (Some(kept), Some(object)) if same(kept, object) => equal.push(object.clone()),
                (_, Some(object)) => changed.push(object.clone()),
                (_, None) => gone.push(key.clone()),
            }
        }
        // Read from disk and found the same in a file: one of the two is enough.
        self.kept.extend(equal.into_iter().map(|object| (object.key.clone(), object)));
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut touched = BTreeSet::new();
        for object in &changed {
            let path = self.path(&object.key);
            touched.extend(path.parent().map(Path::to_path_buf));
            write_aside(&path, object)?;
        }
        // Many files are cheaper to make durable by one call for the file system than one by one.
        if changed.len() > 8 {
            rustix::fs::syncfs(File::open(&self.directory)?.as_fd())?;
        } else {
            for object in &changed {
                File::open(aside(&self.path(&object.key)))?.sync_all()?;
            }
        }
        for object in changed {
            let path = self.path(&object.key);
            fs::rename(aside(&path), &path)?;
            self.unusable.remove(&path);
            self.kept.insert(object.key.clone(), object);
        }
        for key in gone {
            let path = self.path(&key);
            touched.extend(path.parent().map(Path::to_path_buf));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.kept.remove(&key),
            };
        }
        for directory in touched {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// Positions are not kept, so they do not count; where a document stands does.
fn same(kept: &Arc<Object>, object: &Arc<Object>) -> bool {
    kept.meta == object.meta
        && kept.value == object.value
        && kept.api_version == object.api_version
        && kept.origin.file == object.origin.file
}

/// A short name of its own beside `path`, since an object's file name may be as long as names can be.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(format!(".{}.tmp", digest(&name.to_string_lossy())))
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn write_aside(path: &Path, object: &Object) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let bytes = serde_json::to_vec(&Record { version: VERSION, object })?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside(path))?;
    file.write_all(&bytes)
}

/// What a file says, or why it is no record.
fn read_record(path: &Path) -> io::Result<Result<Object, String>> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let record = serde_json::from_slice::<OwnedRecord>(&bytes);
    let version = match &record {
        Ok(record) => record.version,
        Err(_) => serde_json::from_slice::<Versioned>(&bytes).map_or(VERSION, |record| record.version),
    };
    if version > VERSION {
        let message = format!(
            "{} is of version {version}, and this gapi reads version {VERSION}: it was written by a later gapi, and stays \
             as it is; run that one again, or give this one a --state-dir of its own",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(record.map(|record| record.object).map_err(|error| error.to_string()))
}

fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => directories.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reason of [`state_finding`].
pub const NOT_KEPT: &str = "StateNotKept";

/// A finding about the state directory: such state is served, but not kept.
pub fn state_finding(message: String, remedy: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        origin: None,
        object: None,
        field: String::new(),
        reason: NOT_KEPT.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ObjectMeta, finding::Origin};

    fn object(file: &str, name: &str, spec: i64) -> Object {
        Object {
            key: ObjectKey::new("HTTPRoute", "default", name),
            kind: Kind::HttpRoute,
            api_version: "gateway.networking.k8s.io/v1".into(),
            meta: ObjectMeta { name: name.into(), namespace: "default".into(), ..ObjectMeta::default() },
            value: serde_json::json!({"metadata": {"name": name}, "spec": {"n": spec}}).into(),
            origin: Origin { file: file.into(), line: 1, column: 1 },
            positions: Default::default(),
            reading: Default::default(),
        }
    }

    fn parsed(objects: Vec<Object>) -> Source {
        Source::Parsed(Arc::new(ParsedFile { documents: objects.len(), objects, ..ParsedFile::default() }))
    }

    fn merge(accepted: &mut Accepted) -> bool {
        accepted.merge("2026-01-01T00:00:00Z", || "uid".into())
    }

    /// As after a restart: what was accepted is known, and every file is new.
    fn run(previous: &Objects, files: Vec<(&str, Source)>) -> Accepted {
        let mut accepted = Accepted::new(previous.clone());
        for (name, source) in files {
            accepted.set(&name.into(), Some(source));
        }
        merge(&mut accepted);
        accepted
    }

    fn generation(merged: &Accepted, name: &str) -> i64 {
        merged.objects[&ObjectKey::new("HTTPRoute", "default", name)].meta.generation
    }

    #[test]
    fn generation_follows_the_spec() {
        let first = run(&Objects::new(), vec![("a", parsed(vec![object("a", "r", 1)]))]);
        assert_eq!(generation(&first, "r"), 1);
        let same = run(&first.objects, vec![("a", parsed(vec![object("a", "r", 1)]))]);
        assert_eq!(generation(&same, "r"), 1);
        let other = run(&same.objects, vec![("a", parsed(vec![object("a", "r", 2)]))]);
        assert_eq!(generation(&other, "r"), 2);
    }

    #[test]
    fn the_accepted_document_stays_when_a_second_comes() {
        let first = run(&Objects::new(), vec![("b", parsed(vec![object("b", "r", 1)]))]);
        let second = run(
            &first.objects,
            vec![("a", parsed(vec![object("a", "r", 2)])), ("b", parsed(vec![object("b", "r", 1)]))],
        );
        assert_eq!(generation(&second, "r"), 1);
        assert_eq!(second.findings().len(), 1);
        assert_eq!(second.findings()[0].origin.as_ref().map(|origin| &*origin.file), Some("a"));
    }

    #[test]
    fn the_accepted_document_stays_wherever_the_second_stands() {
        let first = run(&Objects::new(), vec![("a", parsed(vec![object("a", "r", 1)]))]);
        let before = |file| vec![(file, parsed(vec![object(file, "r", 2), object(file, "r", 1)]))];
        assert_eq!(generation(&run(&first.objects, before("a")), "r"), 1);
        assert_eq!(generation(&run(&first.objects, before("b")), "r"), 1);
        let edited = run(&first.objects, vec![("a", parsed(vec![object("a", "r", 3), object("a", "r", 2)]))]);
        assert_eq!(edited.objects[&ObjectKey::new("HTTPRoute", "default", "r")].value["spec"]["n"], 3);
    }

    #[test]
    fn rejection_keeps_and_absence_deletes() {
        let first = run(&Objects::new(), vec![("a", parsed(vec![object("a", "r", 1), object("a", "s", 1)]))]);
        let rejected =
            ParsedFile { rejected_keys: vec![ObjectKey::new("HTTPRoute", "default", "r")], ..ParsedFile::default() };
        let second = run(&first.objects, vec![("a", Source::Parsed(Arc::new(rejected)))]);
        assert_eq!(second.objects.len(), 1);
        assert_eq!(second.stale.len(), 1);
        let nameless = ParsedFile { has_unidentified: true, ..ParsedFile::default() };
        assert_eq!(run(&first.objects, vec![("a", Source::Parsed(Arc::new(nameless)))]).objects.len(), 2);
        let unreadable = run(&first.objects, vec![("a", Source::Unreadable)]);
        assert_eq!(unreadable.objects.len(), 2);
        let moved = run(&first.objects, vec![("a", Source::Unreadable), ("b", parsed(vec![object("b", "r", 1)]))]);
        assert_eq!(&*moved.objects[&ObjectKey::new("HTTPRoute", "default", "r")].origin.file, "b");
        assert!(run(&first.objects, vec![]).objects.is_empty());
    }

    #[test]
    fn what_changed_gives_the_same_as_everything_anew() {
        let rejected = |name: &str| {
            let rejected_keys = vec![ObjectKey::new("HTTPRoute", "default", name)];
            Source::Parsed(Arc::new(ParsedFile { rejected_keys, ..ParsedFile::default() }))
        };
        let whole = || Source::Parsed(Arc::new(ParsedFile { whole_file_rejected: true, ..ParsedFile::default() }));
        let nameless = || Source::Parsed(Arc::new(ParsedFile { has_unidentified: true, ..ParsedFile::default() }));
        let mut random = fastrand::Rng::with_seed(7);
        let mut accepted = Accepted::default();
        let mut files: BTreeMap<Arc<str>, Source> = BTreeMap::new();
        let mut turns = BTreeMap::<usize, usize>::new();
        for _ in 0..3000 {
            for _ in 0..random.usize(1..3) {
                let name: Arc<str> = ["a", "b", "c"][random.usize(0..3)].into();
                let kind = random.usize(0..7);
                *turns.entry(kind).or_default() += 1;
                let source = match kind {
                    0 => None,
                    1 => Some(Source::Unreadable),
                    2 => Some(whole()),
                    3 => Some(rejected(["r", "s", "t"][random.usize(0..3)])),
                    4 => Some(nameless()),
                    _ => {
                        let names = ["r", "s", "t", "t"].into_iter().filter(|_| random.bool()).collect::<Vec<_>>();
                        let objects = names.iter().map(|one| object(&name, one, random.i64(0..3))).collect();
                        Some(parsed(objects))
                    }
                };
                match &source {
                    Some(source) => _ = files.insert(name.clone(), source.clone()),
                    None => _ = files.remove(&name),
                }
                accepted.set(&name, source);
            }
            let mut anew = Accepted::new((*accepted.objects).clone());
            files.iter().for_each(|(name, source)| anew.set(name, Some(source.clone())));
            merge(&mut anew);
            let before = accepted.objects.clone();
            assert_eq!(merge(&mut accepted), *before != *accepted.objects);
            assert_eq!(accepted.objects, anew.objects);
            assert_eq!(accepted.stale, anew.stale);
            assert_eq!(accepted.findings(), anew.findings());
            assert!(!merge(&mut accepted), "nothing is left to do");
        }
        assert_eq!(turns.len(), 7);
    }

    #[test]
    fn the_store_reads_back_what_it_kept_and_survives_a_cut_write() {
        let directory = tempfile::tempdir().unwrap();
        let objects = run(&Objects::new(), vec![("a", parsed(vec![object("a", "r", 1)]))]).objects;
        let mut store = Store::open(directory.path()).unwrap();
        store.keep(&objects).unwrap();
        let path = directory.path().join("default/httproutes/r.json");
        fs::write(aside(&path), b"{\"version\":1,\"obj").unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!((store.objects(), store.findings().count()), (&*objects, 0));
        assert!(!aside(&path).exists());
    }

    #[test]
    fn what_is_no_record_is_told_until_one_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let objects = run(&Objects::new(), vec![("a", parsed(vec![object("a", "r", 1)]))]).objects;
        Store::open(directory.path()).unwrap().keep(&objects).unwrap();
        let path = directory.path().join("default/httproutes/r.json");
        let elsewhere = path.with_file_name("s.json");
        fs::rename(&path, &elsewhere).unwrap();
        fs::write(&path, b"garbage").unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        assert_eq!((store.objects().len(), store.findings().count()), (0, 2));
        store.keep(&objects).unwrap();
        assert_eq!(store.findings().count(), 1);
        fs::remove_file(elsewhere).unwrap();
        assert_eq!(store.findings().count(), 0);
        assert_eq!(Store::open(directory.path()).unwrap().objects(), &*objects);
    }

    #[test]
    fn records_of_a_later_version_are_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("default/httproutes/r.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, br#"{"version":2,"thing":{}}"#).unwrap();
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("r.json is of version 2"), "{error}");
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (one, two) = ("a".repeat(253), format!("{}b", "a".repeat(252)));
        assert_ne!(file_name(&one, ".yaml"), file_name(&two, ".yaml"));
        assert_eq!(file_name(&one, ".yaml").len(), 255);
        assert_eq!(file_name("a", ".yaml"), "a.yaml");
    }
}
