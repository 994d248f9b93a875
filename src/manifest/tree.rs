//! *watch*, first half: which files of the watched directory count, and their bytes.
//!
//! `*.yaml`, `*.yml` and `*.json`, recursively, symlinks followed; hidden names and editors' leftovers do not count. A
//! file counts once, by device and inode, so that link loops end; but again in another place where others have put it,
//! since their rights are others ([`super::role`]). What cannot be read is a finding, and the file stays
//! in the tree as unreadable: what was accepted from it stays too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fs::{self, File, FileType, Metadata},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::role::{
    Custody,
    custody::Way,
    way::{Follow, inode, trusted},
};
use crate::finding::{Finding, Origin, Severity};

/// Directories below directories: more than this is a mistake, not a layout.
const MAX_DEPTH: usize = 64;
/// A file that is gone counts as deleted when two looks agree that nothing moved meanwhile, or after so many.
const MAX_LOOKS: usize = 20;
/// A file changed this shortly before it was read may change again without a new time stamp, so it is read again.
const RACY: Duration = Duration::from_millis(50);

/// The files of one scan. Read by *parse*; given to the next scan so that unchanged files are not read again.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// By path below the root, `/`-separated.
    pub files: BTreeMap<String, TreeFile>,
    /// Every directory that a change could come from, with device and inode: those visited, and the parents of what
    /// links point to.
    pub directories: Directories,
    /// Directories that could not be listed, and entries of which nothing could be learnt: what was accepted from them, or
    /// from below them, stays.
    pub unseen: BTreeSet<String>,
    /// What could not be read, and what does not count although it looks as if it should.
    pub findings: Vec<Finding>,
    /// Device of the root: a change means that a mount came or went.
    pub device: u64,
}

/// Directories by path, with device and inode: another directory of the same name is another one.
pub type Directories = BTreeMap<PathBuf, (u64, u64)>;

/// One file that counts.
#[derive(Clone, Debug)]
pub struct TreeFile {
    pub content: Content,
    pub mode: u32,
    /// Who can have decided what it says and that it is here, for the rules on who may declare what.
    pub custody: Custody,
    stamp: Option<Stamp>,
}

/// What was read of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Bytes(Arc<[u8]>),
    /// Unreadable or too large: what was accepted from it stays.
    Unreadable,
}

/// Equal stamps mean equal bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = SystemTime::UNIX_EPOCH + Duration::new(self.changed.0.max(0) as u64, self.changed.1 as u32);
        now.duration_since(changed).is_ok_and(|age| age > RACY)
    }
}

/// Why a scan gave no tree: the last one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the directory cannot be read: {0}")]
    Root(#[from] io::Error),
    #[error("the directory is on another device than before, as when a mount goes away")]
    OtherDevice,
}

/// Is this the name of a manifest? Hidden names, backups and partial files are not.
pub fn is_manifest(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !name.starts_with(['.', '#', '~'])
        && [".yaml", ".yml", ".json"].iter().any(|ending| lower.len() > ending.len() && lower.ends_with(ending))
}

impl Tree {
    /// Reads `root`. Files in `busy` (full paths), which somebody is writing just now, keep what `previous` has of them.
    ///
    /// # Errors
    /// The root itself is missing or unreadable, or on another device than that of `previous`.
    pub fn scan(
        root: &Path,
        previous: Option<&Tree>,
        busy: &HashSet<PathBuf>,
        max_file_size: u64,
    ) -> Result<Tree, ScanError> {
        let metadata = fs::metadata(root)?;
        if previous.is_some_and(|previous| previous.device != metadata.dev()) {
            return Err(ScanError::OtherDevice);
        }
        fs::read_dir(root)?;
        let mut scan = Scan::new(root, previous, busy, max_file_size);
        scan.walk(root, &metadata);
        for _ in 0..MAX_LOOKS {
            if !scan.lacks_something() && !scan.swapped {
                break;
            }
            let agrees = !scan.is_torn();
            let mut next = Scan::new(root, previous, busy, max_file_size);
            next.walk(root, &fs::metadata(root)?);
            let same = agrees && !next.swapped && !next.is_torn() && scan.tree.files.keys().eq(next.tree.files.keys());
            scan = next;
            if same {
                break;
            }
        }
        Ok(Tree { device: metadata.dev(), ..scan.tree })
    }

    /// The same files with the very same bytes, and the same to say of them?
    pub fn is_same(&self, other: &Tree) -> bool {
        let same = |one: &Content, other: &Content| match (one, other) {
            (Content::Bytes(one), Content::Bytes(other)) => Arc::ptr_eq(one, other),
            (one, other) => one == other,
        };
        self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(|(one, other)| {
                one.0 == other.0
                    && same(&one.1.content, &other.1.content)
                    && (one.1.mode, &one.1.custody) == (other.1.mode, &other.1.custody)
            })
            && self.findings == other.findings
    }

    /// The files of single paths, each a file or a directory, named as given: for `gapi check`.
    pub fn of_paths(paths: &[PathBuf], max_file_size: u64) -> Tree {
        let busy = HashSet::new();
        let mut scan = Scan::new(Path::new(""), None, &busy, max_file_size);
        for path in paths {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    scan.walk(path, &metadata);
                }
                Ok(metadata) if metadata.is_file() => scan.file(path, &metadata, &Way::start(trusted())),
                Ok(_) => scan.finding(path, Severity::Error, "NotAFile", "is neither a file nor a directory", ""),
                Err(error) => {
                    let fact = format!("cannot be read: {error}");
                    scan.finding(path, Severity::Error, "Unreadable", &fact, "give the path of a file or directory");
                }
            }
        }
        scan.tree
    }
}

struct Scan<'a> {
    root: &'a Path,
    previous: Option<&'a Tree>,
    busy: &'a HashSet<PathBuf>,
    max_file_size: u64,
    /// What was visited, by device and inode: under which path, and who had a hand in that.
    seen: HashMap<(u64, u64), Vec<(PathBuf, Custody)>>,
    /// Links, which are followed when all else is known: what stands in its own place counts there.
    links: VecDeque<(PathBuf, FileType, usize, Way)>,
    follow: Follow,
    /// A file was another one when it was opened than a moment before.
    swapped: bool,
    /// The directories visited, as they were before they were listed.
    listed: Vec<(PathBuf, Stamp)>,
    tree: Tree,
}

impl<'a> Scan<'a> {
    fn new(root: &'a Path, previous: Option<&'a Tree>, busy: &'a HashSet<PathBuf>, max_file_size: u64) -> Scan<'a> {
        Scan {
            root,
            previous,
            busy,
            max_file_size,
            seen: HashMap::new(),
            links: VecDeque::new(),
            follow: Follow::new(root, Way::start(trusted())),
            swapped: false,
            listed: Vec::new(),
            tree: Tree::default(),
        }
    }

    fn start(directory: &Path, metadata: &Metadata) -> Way {
        Way::start(trusted()).enter(inode(metadata, directory), "")
    }

    /// All below a directory, links last.
    fn walk(&mut self, directory: &Path, metadata: &Metadata) {
        let start = Scan::start(directory, metadata);
        self.follow = Follow::new(directory, start.clone());
        self.directory(directory, metadata, 0, &start);
        while let Some((path, kind, depth, way)) = self.links.pop_front() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.entry(&path, &name, kind, depth, &way);
        }
        self.tree.findings.sort_by(|a, b| a.origin.cmp(&b.origin));
    }

    /// Is a file gone that was there before?
    fn lacks_something(&self) -> bool {
        let before = self.previous.into_iter().flat_map(|previous| previous.files.keys());
        before.into_iter().any(|name| !self.tree.files.contains_key(name))
    }

    /// Did a directory change while others were read? A file that went from one to another may then be in neither.
    fn is_torn(&self) -> bool {
        let same = |(path, stamp): &(PathBuf, Stamp)| fs::metadata(path).is_ok_and(|now| Stamp::of(&now) == *stamp);
        !self.listed.iter().all(same)
    }

    fn directory(&mut self, path: &Path, metadata: &Metadata, depth: usize, way: &Way) {
        if depth > MAX_DEPTH {
            let fact = format!("is more than {MAX_DEPTH} directories deep and is not read");
            return self.finding(path, Severity::Error, "TooDeep", &fact, "put it higher up");
        }
        if self.is_seen(path, metadata, way.placed()) {
            return;
        }
        self.tree.directories.insert(path.to_path_buf(), (metadata.dev(), metadata.ino()));
        self.listed.push((path.to_path_buf(), Stamp::of(metadata)));
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.unseen(path, &format!("cannot be listed: {error}")),
        };
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() => self.links.push_back((entry.path(), kind, depth, way.clone())),
                Ok(kind) => self.entry(&entry.path(), &entry.file_name().to_string_lossy(), kind, depth, way),
                Err(error) => self.nothing_there(&entry.path(), &error),
            }
        }
    }

    fn entry(&mut self, path: &Path, name: &str, kind: FileType, depth: usize, way: &Way) {
        if name.starts_with('.') {
            return;
        }
        if kind.is_symlink()
            && let Ok(target) = fs::read_link(path)
        {
            let target = path.parent().unwrap_or(Path::new("")).join(target);
            if let Some(parent) = target.parent()
                && let Ok(metadata) = fs::metadata(parent)
            {
                self.tree.directories.insert(parent.to_path_buf(), (metadata.dev(), metadata.ino()));
            }
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // What leads nowhere may have been a manifest or a directory, which rarely has an ending.
            Err(error) if is_manifest(name) || kind.is_dir() || Path::new(name).extension().is_none() => {
                return self.nothing_there(path, &error);
            }
            Err(_) => return,
        };
        let link = kind.is_symlink();
        let kind = metadata.file_type();
        let way = match (link, kind.is_dir()) {
            (true, _) => match self.follow.through(way, path) {
                Ok(way) => way,
                Err(error) => {
                    let what = format!("cannot be followed: {error}");
                    return self.finding(path, Severity::Warning, "BrokenLink", &what, "remove or mend it");
                }
            },
            (false, true) => way.enter(inode(&metadata, path), &self.name(path)),
            (false, false) => way.clone(),
        };
        if kind.is_dir() {
            self.directory(path, &metadata, depth + 1, &way);
        } else if is_manifest(name) {
            let special = [
                (kind.is_fifo(), "a FIFO"),
                (kind.is_socket(), "a socket"),
                (kind.is_block_device() || kind.is_char_device(), "a device"),
            ];
            match special.iter().find(|(is, _)| *is) {
                Some((_, what)) => {
                    let fact = format!("is {what}, not a file, and is not read");
                    self.finding(path, Severity::Warning, "NotAFile", &fact, "");
                }
                None => self.file(path, &metadata, &way),
            }
        }
    }

    /// Was this file or directory visited under another path, by nobody else's doing? The number of a file that was
    /// replaced since is free for the next one, which is not the same file.
    fn is_seen(&mut self, path: &Path, metadata: &Metadata, custody: Custody) -> bool {
        let identity = (metadata.dev(), metadata.ino());
        let visits = self.seen.entry(identity).or_default();
        visits.retain(|(earlier, _)| {
            fs::metadata(earlier).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == identity)
        });
        let seen = visits.iter().any(|(_, earlier)| earlier.is_within(&custody));
        if !seen {
            visits.push((path.to_path_buf(), custody));
        }
        seen
    }

    fn file(&mut self, path: &Path, metadata: &Metadata, way: &Way) {
        let mut custody = way.file(&inode(metadata, path));
        if self.is_seen(path, metadata, custody.clone()) {
            return;
        }
        let name = self.name(path);
        let stamp = Stamp::of(metadata);
        let before = self.previous.and_then(|previous| previous.files.get(&name));
        if let Some(before) = before
            && (self.busy.contains(path) || before.stamp.as_ref() == Some(&stamp))
        {
            if before.stamp.as_ref() != Some(&stamp) {
                // The bytes of then may be another's.
                custody.add(&before.custody);
            }
            self.tree.files.insert(name, TreeFile { mode: metadata.mode(), custody, ..before.clone() });
            return;
        }
        let now = SystemTime::now();
        let content = self.read(path, metadata);
        let settled = content != Content::Unreadable && stamp.is_settled(now);
        let file = TreeFile { content, mode: metadata.mode(), custody, stamp: settled.then_some(stamp) };
        self.tree.files.insert(name, file);
    }

    fn read(&mut self, path: &Path, metadata: &Metadata) -> Content {
        let too_large = |size: u64, max: u64| format!("has {size} bytes, more than the {max} that a file may have");
        if metadata.len() > self.max_file_size {
            let fact = too_large(metadata.len(), self.max_file_size);
            self.finding(path, Severity::Error, "FileTooLarge", &fact, "split it, or raise --max-file-size");
            return Content::Unreadable;
        }
        // Not blocking: what was a file a moment ago may be a FIFO by now.
        let opened = rustix::fs::open(
            path,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        let mut swapped = false;
        let read = opened.map_err(io::Error::from).map(File::from).and_then(|file| {
            // Its owner was asked for by its path.
            let identity = |of: &Metadata| (of.dev(), of.ino(), of.uid(), of.gid(), of.mode());
            swapped = identity(&file.metadata()?) != identity(metadata);
            file.take(self.max_file_size + 1).read_to_end(&mut bytes)
        });
        match read {
            Err(error) => {
                let fact = format!("cannot be read: {error}");
                self.finding(path, Severity::Error, "Unreadable", &fact, "what was accepted from it stays in force");
                Content::Unreadable
            }
            Ok(size) if size as u64 > self.max_file_size => {
                let fact = too_large(size as u64, self.max_file_size);
                self.finding(path, Severity::Error, "FileTooLarge", &fact, "split it, or raise --max-file-size");
                Content::Unreadable
            }
            Ok(_) if swapped => {
                self.swapped = true;
                Content::Unreadable
            }
            Ok(_) => Content::Bytes(bytes.into()),
        }
    }

    /// What to say of an entry of which no more is known than its name.
    fn nothing_there(&mut self, path: &Path, error: &io::Error) {
        let dangling = error.kind() == io::ErrorKind::NotFound;
        if dangling && fs::symlink_metadata(path).is_err() {
            // Gone since the directory was listed: a deletion, which is no news.
        } else if dangling {
            self.finding(path, Severity::Warning, "DanglingLink", "is a link to nothing", "remove or mend it");
        } else if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            let fact = format!("cannot be followed: {error}");
            self.finding(path, Severity::Warning, "BrokenLink", &fact, "remove or mend it");
        } else {
            self.unseen(path, &format!("cannot be looked at: {error}"));
        }
    }

    fn unseen(&mut self, path: &Path, fact: &str) {
        self.finding(path, Severity::Error, "Unreadable", fact, "what was accepted from it stays in force");
        self.tree.unseen.insert(self.name(path));
    }

    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).to_string_lossy().into_owned()
    }

    fn finding(&mut self, path: &Path, severity: Severity, reason: &str, fact: &str, remedy: &str) {
        let file = self.name(path);
        self.tree.findings.push(Finding {
            severity,
            message: format!("{file} {fact}"),
            origin: Some(Origin { file: file.into(), line: 0, column: 0 }),
            object: None,
            field: String::new(),
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scan(root: &Path, previous: Option<&Tree>) -> Tree {
        Tree::scan(root, previous, &HashSet::new(), 100).expect("the root is there")
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn names_that_count() {
        for name in ["a.yaml", "a.YML", "x.json"] {
            assert!(is_manifest(name), "{name}");
        }
        for name in [".a.yaml", "#a.yaml", "a.yaml~", "a.yaml.swp", "a.yaml.tmp", ".yaml", "a.txt", "~a.yaml"] {
            assert!(!is_manifest(name), "{name}");
        }
    }

    #[test]
    fn files_count_once_and_loops_end() {
        let root = directory();
        fs::create_dir_all(root.path().join("b/.hidden")).unwrap();
        fs::write(root.path().join("b/one.yaml"), "a: 1").unwrap();
        fs::write(root.path().join("b/.hidden/two.yaml"), "a: 1").unwrap();
        symlink("..", root.path().join("b/loop")).unwrap();
        symlink("one.yaml", root.path().join("b/same.yaml")).unwrap();
        symlink("nothing", root.path().join("gone.yaml")).unwrap();
        symlink("nothing", root.path().join("gone")).unwrap();
        symlink("nothing", root.path().join("gone.txt")).unwrap();
        symlink("self.yaml", root.path().join("self.yaml")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("pipe.yaml"), rustix::fs::Mode::RWXU).unwrap();
        let tree = scan(root.path(), None);
        assert_eq!(tree.files.keys().collect::<Vec<_>>(), ["b/one.yaml"]);
        let reasons: Vec<_> = tree.findings.iter().map(|finding| finding.reason.as_str()).collect();
        assert_eq!(reasons, ["DanglingLink", "DanglingLink", "NotAFile", "BrokenLink"]);
    }

    #[test]
    fn a_file_over_the_bound_stays_as_unreadable() {
        let root = directory();
        fs::write(root.path().join("big.yaml"), vec![b'#'; 101]).unwrap();
        let tree = scan(root.path(), None);
        assert_eq!(tree.files["big.yaml"].content, Content::Unreadable);
        assert_eq!(tree.findings[0].reason, "FileTooLarge");
    }

    #[test]
    fn a_change_within_the_clock_tick_is_seen() {
        let root = directory();
        let path = root.path().join("a.yaml");
        for text in ["one", "two", "six"] {
            fs::write(&path, text).unwrap();
            let first = scan(root.path(), None);
            fs::write(&path, "new").unwrap();
            let second = scan(root.path(), Some(&first));
            assert_eq!(second.files["a.yaml"].content, Content::Bytes(b"new".as_slice().into()));
        }
    }

    #[test]
    fn a_busy_file_keeps_what_it_had() {
        let root = directory();
        let path = root.path().join("a.yaml");
        fs::write(&path, "old").unwrap();
        let first = scan(root.path(), None);
        fs::write(&path, "half").unwrap();
        let second = Tree::scan(root.path(), Some(&first), &HashSet::from([path]), 100).unwrap();
        assert_eq!(second.files["a.yaml"].content, Content::Bytes(b"old".as_slice().into()));
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let root = directory();
        assert!(Tree::scan(&root.path().join("no"), None, &HashSet::new(), 100).is_err());
    }
}
