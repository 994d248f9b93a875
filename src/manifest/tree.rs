//! *watch*, first half: which files of the watched directory count, and their bytes.
//!
//! `*.yaml`, `*.yml` and `*.json`, recursively, symlinks followed; hidden names and editors' leftovers do not count. A
//! file counts once, by device and inode, so that link loops end. What cannot be read is a finding, and the file stays
//! in the tree as unreadable: what was accepted from it stays too.
//!
//! Every look visits every file, since events alone are not to be believed; a file that did not change costs one `stat`
//! relative to its open directory, and is the very same value in both trees.

use std::{
    collections::{BTreeMap, HashSet, btree_map},
    ffi::{CStr, CString, OsStr},
    fs::{self, File},
    io::{self, Read},
    iter::Peekable,
    ops::Bound,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::HashMap;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, stat, statat};

use crate::finding::{Finding, Origin, Severity};

/// Directories below directories: more than this is a mistake, not a layout.
const MAX_DEPTH: usize = 64;
/// A file that is gone counts as deleted when two looks agree that nothing moved meanwhile, or after so many.
const MAX_LOOKS: usize = 20;
/// A file changed this shortly before it was read may change again without a new time stamp, so it is read again.
const RACY: Duration = Duration::from_millis(50);
/// Opening never blocks: what was a file a moment ago may be a FIFO by now.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The files of one scan. Read by *parse*; given to the next scan so that unchanged files are not read again.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub files: Files,
    /// Every directory that a change could come from, with device and inode: those visited, and the parents of what
    /// links point to.
    pub directories: Directories,
    /// What could not be read, and what does not count although it looks as if it should.
    pub findings: Vec<Finding>,
    /// Device of the root: a change means that a mount came or went.
    pub device: u64,
}

/// Files by path below the root, `/`-separated. One that did not change since the last scan is shared with it.
pub type Files = BTreeMap<Arc<str>, Arc<TreeFile>>;

/// Directories by path, with device and inode: another directory of the same name is another one.
pub type Directories = BTreeMap<PathBuf, (u64, u64)>;

/// One file that counts.
#[derive(Clone, Debug)]
pub struct TreeFile {
    pub content: Content,
    /// Owner, group and mode, for the rules on who may declare what.
    pub owner: u32,
    pub group: u32,
    pub mode: u32,
    stamp: Option<Stamp>,
}

/// What was read of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Bytes(Arc<[u8]>),
    /// Unreadable or too large: what was accepted from it stays.
    Unreadable,
}

impl Content {
    /// The very same bytes, or nothing in both? A scan that reads equal bytes again keeps those it had.
    pub fn is_same(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Bytes(one), Content::Bytes(other)) => Arc::ptr_eq(one, other),
            (one, other) => one == other,
        }
    }
}

/// Equal stamps mean equal bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    fn of(stat: &Stat) -> Stamp {
        let (device, inode) = identity(stat);
        Stamp {
            device,
            inode,
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = SystemTime::UNIX_EPOCH + Duration::new(self.changed.0.max(0) as u64, self.changed.1 as u32);
        now.duration_since(changed).is_ok_and(|age| age > RACY)
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Why a scan gave no tree: the last one stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the directory cannot be read: {0}")]
    Root(#[from] io::Error),
    #[error("the directory is on another device than before, as when a mount goes away")]
    OtherDevice,
}

impl From<rustix::io::Errno> for ScanError {
    fn from(error: rustix::io::Errno) -> ScanError {
        ScanError::Root(error.into())
    }
}

/// Is this the name of a manifest? Hidden names, backups and partial files are not.
pub fn is_manifest(name: &str) -> bool {
    let ends = |ending: &str| {
        let start = name.len().saturating_sub(ending.len());
        start > 0 && name.as_bytes()[start..].eq_ignore_ascii_case(ending.as_bytes())
    };
    !name.starts_with(['.', '#', '~']) && [".yaml", ".yml", ".json"].into_iter().any(ends)
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
        let device = stat(root)?.st_dev;
        if previous.is_some_and(|previous| previous.device != device) {
            return Err(ScanError::OtherDevice);
        }
        fs::read_dir(root)?;
        let look = || {
            let mut scan = Scan::new(root, previous, busy, max_file_size);
            let entry = c_string(root);
            scan.directory(CWD, &entry, Spot { path: root.to_path_buf(), name: String::new() }, &stat(root)?, 0);
            Ok::<Scan, ScanError>(scan)
        };
        let mut scan = look()?;
        for _ in 0..MAX_LOOKS {
            if !scan.lacks_something() {
                break;
            }
            let agrees = !scan.is_torn();
            let next = look()?;
            let same = agrees && !next.is_torn() && scan.has_names_of(&next);
            scan = next;
            if same {
                break;
            }
        }
        Ok(Tree { device, ..scan.finish() })
    }

    /// The files of single paths, each a file or a directory, named as given: for `gapi check`.
    pub fn of_paths(paths: &[PathBuf], max_file_size: u64) -> Tree {
        let busy = HashSet::new();
        let here = Path::new("");
        let mut scan = Scan::new(here, None, &busy, max_file_size);
        for path in paths {
            let (entry, name) = (c_string(path), path.to_string_lossy().into_owned());
            match stat(path) {
                Ok(stat) if is(&stat, FileType::Directory) => {
                    scan.directory(CWD, &entry, Spot { path: path.clone(), name }, &stat, 0);
                }
                Ok(stat) if is(&stat, FileType::RegularFile) => scan.file(CWD, &entry, here, &name, &stat),
                Ok(_) => scan.finding(&name, Severity::Error, "NotAFile", "is neither a file nor a directory", ""),
                Err(error) => {
                    let fact = io::Error::from(error).to_string();
                    scan.finding(&name, Severity::Error, "Unreadable", &fact, "");
                }
            }
        }
        scan.finish()
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// As system calls want it. A path with a NUL in it names nothing, which is what they then say.
fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Where a directory stands: its full path, and its name below the root.
struct Spot {
    path: PathBuf,
    name: String,
}

impl Spot {
    /// What the names of its entries begin with.
    fn prefix(&self) -> String {
        let slash = if self.name.is_empty() || self.name.ends_with('/') { "" } else { "/" };
        format!("{}{slash}", self.name)
    }
}

fn join(directory: &Path, entry: &CStr) -> PathBuf {
    directory.join(OsStr::from_bytes(entry.to_bytes()))
}

/// What was visited.
enum Seen {
    Directory(PathBuf),
    /// By its position in [`Scan::files`].
    File(usize),
}

struct Scan<'a> {
    root: &'a Path,
    previous: Option<&'a Tree>,
    /// The files of `previous` from where the scan stands: names mostly come in their order.
    ahead: Option<Peekable<btree_map::Range<'a, Arc<str>, Arc<TreeFile>>>>,
    busy: &'a HashSet<PathBuf>,
    max_file_size: u64,
    /// By device and inode.
    seen: HashMap<(u64, u64), Seen>,
    /// The directories visited, as they were before they were listed.
    listed: Vec<(PathBuf, Stamp)>,
    files: Vec<(Arc<str>, Arc<TreeFile>)>,
    /// How many of them the previous tree has.
    known: usize,
    tree: Tree,
}

impl<'a> Scan<'a> {
    fn new(root: &'a Path, previous: Option<&'a Tree>, busy: &'a HashSet<PathBuf>, max_file_size: u64) -> Scan<'a> {
        let expected = previous.map_or(0, |previous| previous.files.len());
        Scan {
            root,
            previous,
            ahead: None,
            busy,
            max_file_size,
            seen: HashMap::with_capacity_and_hasher(expected, Default::default()),
            listed: Vec::new(),
            files: Vec::with_capacity(expected),
            known: 0,
            tree: Tree::default(),
        }
    }

    fn finish(self) -> Tree {
        Tree { files: self.files.into_iter().collect(), ..self.tree }
    }

    /// Is a file gone that was there before?
    fn lacks_something(&self) -> bool {
        self.previous.is_some_and(|previous| self.known < previous.files.len())
    }

    fn has_names_of(&self, other: &Scan) -> bool {
        let names = |scan: &Scan| scan.files.iter().map(|(name, _)| name.clone()).collect::<HashSet<_>>();
        names(self) == names(other)
    }

    /// Did a directory change while others were read? A file that went from one to another may then be in neither.
    fn is_torn(&self) -> bool {
        let same = |(path, stamp): &(PathBuf, Stamp)| stat(path).is_ok_and(|now| Stamp::of(&now) == *stamp);
        !self.listed.iter().all(same)
    }

    /// The directory `entry` of the directory `parent`, which stands at `spot`.
    fn directory(&mut self, parent: BorrowedFd, entry: &CStr, spot: Spot, stat: &Stat, depth: usize) {
        if depth > MAX_DEPTH {
            let fact = format!("is more than {MAX_DEPTH} directories deep and is not read");
            return self.finding(&spot.name, Severity::Error, "TooDeep", &fact, "put it higher up");
        }
        if self.is_seen(stat, || Seen::Directory(spot.path.clone())) {
            return;
        }
        self.tree.directories.insert(spot.path.clone(), identity(stat));
        self.listed.push((spot.path.clone(), Stamp::of(stat)));
        let opened = openat(parent, entry, OPEN | OFlags::DIRECTORY, Mode::empty());
        let listed = opened.and_then(|directory| Ok((Dir::read_from(&directory)?, directory)));
        let (entries, directory) = match listed {
            Ok(listed) => listed,
            Err(error) => return self.unreadable_directory(&spot, &error.into()),
        };
        let mut entries: Vec<_> =
            entries.filter_map(Result::ok).map(|entry| (entry.file_name().to_owned(), entry.file_type())).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut name = spot.prefix();
        let length = name.len();
        for (entry, kind) in entries {
            if entry.to_bytes().starts_with(b".") {
                continue;
            }
            if kind == FileType::Symlink {
                self.watch_target(directory.as_fd(), &entry, &spot.path);
            }
            name.truncate(length);
            name.push_str(&entry.to_string_lossy());
            self.entry(directory.as_fd(), &entry, &spot.path, &name, depth);
        }
    }

    /// Visits `entry` of the directory at `parent`; `name` is its name below the root.
    fn entry(&mut self, directory: BorrowedFd, entry: &CStr, parent: &Path, name: &str, depth: usize) {
        let counts = is_manifest(name.rsplit('/').next().unwrap_or(name));
        let gone = || statat(directory, entry, AtFlags::SYMLINK_NOFOLLOW).is_err();
        let stat = match statat(directory, entry, AtFlags::empty()) {
            Ok(stat) => stat,
            Err(_) if !counts => return,
            // Gone since the directory was listed: a deletion, which is no news.
            Err(rustix::io::Errno::NOENT) if gone() => return,
            Err(rustix::io::Errno::NOENT) => {
                let remedy = "remove or mend it";
                return self.finding(name, Severity::Warning, "DanglingLink", "is a link to nothing", remedy);
            }
            Err(error) => {
                let what = format!("cannot be followed: {}", io::Error::from(error));
                return self.finding(name, Severity::Warning, "BrokenLink", &what, "remove or mend it");
            }
        };
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let spot = Spot { path: join(parent, entry), name: name.to_owned() };
                return self.directory(directory, entry, spot, &stat, depth + 1);
            }
            _ if !counts => return,
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::BlockDevice | FileType::CharacterDevice => "a device",
            _ => return self.file(directory, entry, parent, name, &stat),
        };
        self.finding(name, Severity::Warning, "NotAFile", &format!("is {what}, not a file, and is not read"), "");
    }

    /// A change to what a link points to comes from another directory than the link's.
    fn watch_target(&mut self, directory: BorrowedFd, entry: &CStr, path: &Path) {
        let Ok(target) = readlinkat(directory, entry, Vec::new()) else { return };
        let target = join(path, &target);
        if let Some(parent) = target.parent()
            && let Ok(stat) = stat(parent)
        {
            self.tree.directories.insert(parent.to_path_buf(), identity(&stat));
        }
    }

    /// Was this file or directory visited under another path? The number of a file that was replaced since is free for
    /// the next one, which is not the same file.
    fn is_seen(&mut self, now: &Stat, this: impl FnOnce() -> Seen) -> bool {
        let earlier = match self.seen.get(&identity(now)) {
            Some(Seen::Directory(path)) => stat(path).ok(),
            Some(Seen::File(index)) => stat(self.root.join(&*self.files[*index].0)).ok(),
            None => None,
        };
        let is_seen = earlier.is_some_and(|earlier| identity(&earlier) == identity(now));
        if !is_seen {
            self.seen.insert(identity(now), this());
        }
        is_seen
    }

    /// The file of this name in the previous tree.
    fn before(&mut self, name: &str) -> Option<(&'a Arc<str>, &'a Arc<TreeFile>)> {
        let files = &self.previous?.files;
        let from_here = || files.range::<str, _>((Bound::Included(name), Bound::Unbounded)).peekable();
        let ahead = self.ahead.get_or_insert_with(from_here);
        if ahead.peek().is_none_or(|(next, _)| ***next != *name) {
            *ahead = from_here();
        }
        ahead.next_if(|(next, _)| ***next == *name)
    }

    /// The file `entry` of the directory at `parent`.
    fn file(&mut self, directory: BorrowedFd, entry: &CStr, parent: &Path, name: &str, stat: &Stat) {
        let position = self.files.len();
        if self.is_seen(stat, || Seen::File(position)) {
            return;
        }
        let is_busy = !self.busy.is_empty() && self.busy.contains(&join(parent, entry));
        let stamp = Stamp::of(stat);
        let before = self.before(name);
        self.known += usize::from(before.is_some());
        if let Some((name, before)) = before
            && (is_busy || before.stamp.as_ref() == Some(&stamp))
        {
            return self.files.push((name.clone(), before.clone()));
        }
        let now = SystemTime::now();
        let mut content = self.read(directory, entry, name, stat);
        if let Some((_, before)) = before
            && before.content == content
        {
            content = before.content.clone();
        }
        let settled = content != Content::Unreadable && stamp.is_settled(now);
        let (owner, group, mode) = (stat.st_uid, stat.st_gid, stat.st_mode);
        let file = TreeFile { content, owner, group, mode, stamp: settled.then_some(stamp) };
        self.files.push((before.map_or_else(|| name.into(), |(name, _)| name.clone()), Arc::new(file)));
    }

    fn read(&mut self, directory: BorrowedFd, entry: &CStr, name: &str, stat: &Stat) -> Content {
        let too_large = |size: u64, max: u64| format!("has {size} bytes, more than the {max} that a file may have");
        let expected = stat.st_size as u64;
        if expected > self.max_file_size {
            let fact = too_large(expected, self.max_file_size);
            self.finding(name, Severity::Error, "FileTooLarge", &fact, "split it, or raise --max-file-size");
            return Content::Unreadable;
        }
        let opened = openat(directory, entry, OPEN, Mode::empty());
        let mut bytes = Vec::with_capacity(expected as usize + 1);
        let read = opened
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).take(self.max_file_size + 1).read_to_end(&mut bytes));
        match read {
            Err(error) => {
                let fact = format!("cannot be read: {error}");
                self.finding(name, Severity::Error, "Unreadable", &fact, "what was accepted from it stays in force");
                Content::Unreadable
            }
            Ok(size) if size as u64 > self.max_file_size => {
                let fact = too_large(size as u64, self.max_file_size);
                self.finding(name, Severity::Error, "FileTooLarge", &fact, "split it, or raise --max-file-size");
                Content::Unreadable
            }
            Ok(_) => Content::Bytes(bytes.into()),
        }
    }

    /// What was known below a directory that cannot be listed any more stays, as unreadable.
    fn unreadable_directory(&mut self, spot: &Spot, error: &io::Error) {
        let fact = format!("cannot be listed: {error}");
        self.finding(&spot.name, Severity::Error, "Unreadable", &fact, "what was accepted from it stays in force");
        let below = format!("{}/", spot.name);
        for (name, file) in self.previous.iter().flat_map(|previous| &previous.files) {
            if name.starts_with(&below) {
                let file = TreeFile { content: Content::Unreadable, stamp: None, ..TreeFile::clone(file) };
                self.known += 1;
                self.files.push((name.clone(), Arc::new(file)));
            }
        }
    }

    fn finding(&mut self, file: &str, severity: Severity, reason: &str, fact: &str, remedy: &str) {
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
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("pipe.yaml"), rustix::fs::Mode::RWXU).unwrap();
        let tree = scan(root.path(), None);
        assert_eq!(tree.files.keys().map(|name| &**name).collect::<Vec<_>>(), ["b/one.yaml"]);
        let reasons: Vec<_> = tree.findings.iter().map(|finding| finding.reason.as_str()).collect();
        assert_eq!(reasons, ["DanglingLink", "NotAFile"]);
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
