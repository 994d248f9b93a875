//! The accepted-object store: the last accepted version of each object, with what the API server would have given it
//! (uid, generation, creationTimestamp). It plays the part that etcd plays in a cluster.
//!
//! [`merge`] decides, purely; [`Store`] keeps, one file for each object, written aside, fsynced and renamed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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

use super::{Object, parse::ParsedFile};
use crate::{
    api::ObjectKey,
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

/// What [`merge`] decided.
#[derive(Debug, Default)]
pub struct Merged {
    pub objects: Objects,
    /// Objects whose document on disk was rejected: what runs is older than what is on disk.
    pub stale: BTreeSet<ObjectKey>,
    pub findings: Vec<Finding>,
}

/// The next set of accepted objects, from the last one and the files as they are now.
///
/// A rejected document leaves its last accepted version in force, wherever it stands; a file that cannot be read or
/// parsed, or has a document that may be anything, leaves all that was accepted from it; a document that is gone is deleted. Of two documents for one object the
/// one already accepted stays, else the first by file name; the others are findings. `now` is RFC 3339; `new_uid` gives
/// a fresh uid.
///
/// # Findings
/// `DuplicateObject` (error) at each further document for one object.
pub fn merge(
    previous: &Objects,
    files: &BTreeMap<String, Source>,
    now: &str,
    mut new_uid: impl FnMut() -> String,
) -> Merged {
    let mut merged = Merged::default();
    let mut candidates: HashMap<&ObjectKey, Vec<&Object>> = HashMap::with_capacity(previous.len());
    let mut rejected: HashSet<&ObjectKey> = HashSet::new();
    for source in files.values() {
        let Source::Parsed(file) = source else { continue };
        rejected.extend(&file.rejected_keys);
        for object in &file.objects {
            candidates.entry(&object.key).or_default().push(object);
        }
    }
    let mut accepted = Vec::with_capacity(candidates.len());
    for (key, documents) in &candidates {
        let before = previous.get(*key);
        let chosen = before.map_or(0, |before| in_force(documents, before));
        merged.findings.extend(duplicates(documents, chosen));
        accepted.push(((*key).clone(), accept(documents[chosen], before, now, &mut new_uid)));
    }
    merged.findings.sort();
    merged.objects = accepted.into_iter().collect();
    for (key, object) in previous.iter().filter(|(key, _)| !candidates.contains_key(key)) {
        let kept = match files.get(&*object.origin.file) {
            _ if rejected.contains(key) => true,
            Some(Source::Unreadable) => true,
            Some(Source::Parsed(file)) => file.whole_file_rejected || file.has_unidentified,
            None => false,
        };
        if kept {
            merged.stale.insert(key.clone());
            merged.objects.insert(key.clone(), object.clone());
        }
    }
    merged.stale.extend(rejected.into_iter().filter(|key| merged.objects.contains_key(*key)).cloned());
    merged
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
    let kept = &documents[chosen].origin;
    documents.iter().enumerate().filter(move |(index, _)| *index != chosen).map(move |(_, document)| Finding {
        severity: Severity::Error,
        origin: Some(document.origin.clone()),
        object: Some(document.key.clone()),
        field: String::new(),
        reason: "DuplicateObject".to_owned(),
        message: format!("the object is declared at {kept} too, and that document is in force"),
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
        let changed: Vec<_> = objects
            .values()
            .filter(|object| self.kept.get(&object.key).is_none_or(|kept| !same(kept, object)))
            .collect();
        let gone: Vec<_> = self.kept.keys().filter(|key| !objects.contains_key(*key)).cloned().collect();
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
            self.kept.insert(object.key.clone(), object.clone());
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
    Arc::ptr_eq(kept, object)
        || (kept.meta == object.meta
            && kept.value == object.value
            && kept.api_version == object.api_version
            && kept.origin.file == object.origin.file)
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
    use crate::{
        api::{Kind, ObjectMeta},
        finding::Origin,
    };

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

    fn run(previous: &Objects, files: Vec<(&str, Source)>) -> Merged {
        let files = files.into_iter().map(|(name, source)| (name.to_owned(), source)).collect();
        merge(previous, &files, "2026-01-01T00:00:00Z", || "uid".into())
    }

    fn generation(merged: &Merged, name: &str) -> i64 {
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
        assert_eq!(second.findings.len(), 1);
        assert_eq!(second.findings[0].origin.as_ref().map(|origin| &*origin.file), Some("a"));
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
    fn the_store_reads_back_what_it_kept_and_survives_a_cut_write() {
        let directory = tempfile::tempdir().unwrap();
        let objects = run(&Objects::new(), vec![("a", parsed(vec![object("a", "r", 1)]))]).objects;
        let mut store = Store::open(directory.path()).unwrap();
        store.keep(&objects).unwrap();
        let path = directory.path().join("default/httproutes/r.json");
        fs::write(aside(&path), b"{\"version\":1,\"obj").unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!((store.objects(), store.findings().count()), (&objects, 0));
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
        assert_eq!(Store::open(directory.path()).unwrap().objects(), &objects);
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
