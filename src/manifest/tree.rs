//! *watch*, first half: which files of the watched directory count, and their bytes.
//!
//! `*.yaml`, `*.yml` and `*.json`, recursively, symlinks followed; hidden names and editors' leftovers do not count. A
//! file counts once, by device and inode, so that link loops end; but again in another place where others have put it,
//! since their rights are others ([`super::role`]). What cannot be read is a finding, and the file stays
//! in the tree as unreadable: what was accepted from it stays too.
//!
//! Every look visits every file, since events alone are not to be believed; a file that did not change costs one `stat`
//! relative to its open directory, and is the very same value in both trees.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque, btree_map, hash_map},
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
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, stat, statat},
    io::Errno,
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

/// Opening never blocks: what was a file a moment ago may be a FIFO by now.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The files of one scan. Read by *parse*; given to the next scan so that unchanged files are not read again.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub files: Files,
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

/// Files by path below the root, `/`-separated. One that did not change since the last scan is the very same.
pub type Files = BTreeMap<Arc<str>, Arc<TreeFile>>;

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

impl TreeFile {
    /// The very same bytes from the very same people?
    pub fn is_same(&self, other: &TreeFile) -> bool {
        std::ptr::eq(self, other)
            || self.content.is_same(&other.content) && (self.mode, &self.custody) == (other.mode, &other.custody)
    }
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

impl From<Errno> for ScanError {
    fn from(error: Errno) -> ScanError {
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
            scan.walk(root, "", &stat(root)?);
            Ok::<Scan, ScanError>(scan)
        };
        let mut scan = look()?;
        for _ in 0..MAX_LOOKS {
            if !scan.lacks_something() && !scan.swapped {
                break;
            }
            let agrees = !scan.is_torn();
            let next = look()?;
            let same = agrees && !next.swapped && !next.is_torn() && scan.has_names_of(&next);
            scan = next;
            if same {
                break;
            }
        }
        Ok(Tree { device, ..scan.finish() })
    }

    /// Is this what was in the file of this name?
    pub fn has_content(&self, name: &str, content: &Content) -> bool {
        self.files.get(name).is_some_and(|file| file.content.is_same(content))
    }

    /// The files of single paths, each a file or a directory, named as given: for `gapi check`.
    pub fn of_paths(paths: &[PathBuf], max_file_size: u64) -> Tree {
        let busy = HashSet::new();
        let mut scan = Scan::new(Path::new(""), None, &busy, max_file_size);
        for path in paths {
            let name = path.to_string_lossy();
            match stat(path).map(|stat| (FileType::from_raw_mode(stat.st_mode), stat)) {
                Ok((FileType::Directory, stat)) => scan.walk(path, &name, &stat),
                Ok((FileType::RegularFile, stat)) => {
                    let entry = c_string(path);
                    scan.file(Place::from_here(&entry), &name, &stat, &Way::start(trusted()));
                }
                Ok(_) => scan.finding(&name, Severity::Error, "NotAFile", "is neither a file nor a directory", ""),
                Err(error) => {
                    let fact = format!("cannot be read: {}", io::Error::from(error));
                    scan.finding(&name, Severity::Error, "Unreadable", &fact, "give the path of a file or directory");
                }
            }
        }
        scan.finish()
    }
}

/// As system calls want it. A path with a NUL in it names nothing, which is what they then say.
fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Where something stands: an entry of an open directory.
#[derive(Clone, Copy)]
struct Place<'p> {
    directory: BorrowedFd<'p>,
    /// The path of that directory.
    parent: &'p Path,
    entry: &'p CStr,
}

impl<'p> Place<'p> {
    /// A whole path.
    fn from_here(path: &'p CStr) -> Place<'p> {
        Place { directory: CWD, parent: Path::new(""), entry: path }
    }

    fn path(&self) -> PathBuf {
        self.parent.join(OsStr::from_bytes(self.entry.to_bytes()))
    }

    /// What a link is, and not what it leads to.
    fn itself(&self) -> rustix::io::Result<Stat> {
        statat(self.directory, self.entry, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Who visited a file or a directory, and where.
struct Visit {
    path: VisitPath,
    custody: Custody,
}

enum VisitPath {
    Full(PathBuf),
    /// Below the root: what the file is called in the tree.
    Name(Arc<str>),
}

/// A link that is to be followed.
struct Link {
    path: PathBuf,
    name: String,
    depth: usize,
    /// To the directory where it is.
    way: Way,
}

struct Scan<'a> {
    root: &'a Path,
    previous: Option<&'a Tree>,
    /// The files of `previous` from where the scan stands: names mostly come in their order.
    ahead: Option<Peekable<btree_map::Range<'a, Arc<str>, Arc<TreeFile>>>>,
    busy: &'a HashSet<PathBuf>,
    max_file_size: u64,
    /// What was visited, by device and inode; there is rarely more than one.
    seen: HashMap<(u64, u64), (Visit, Vec<Visit>)>,
    /// Links, which are followed when all else is known: what stands in its own place counts there.
    links: VecDeque<Link>,
    follow: Follow,
    /// Something was another one when it was opened than a moment before.
    swapped: bool,
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
            links: VecDeque::new(),
            follow: Follow::new(root, Way::start(trusted())),
            swapped: false,
            listed: Vec::new(),
            files: Vec::with_capacity(expected),
            known: 0,
            tree: Tree::default(),
        }
    }

    fn finish(self) -> Tree {
        Tree { files: self.files.into_iter().collect(), ..self.tree }
    }

    /// All below the directory at `path`, links last. `name` is its name below the root.
    fn walk(&mut self, path: &Path, name: &str, stat: &Stat) {
        let start = Way::start(trusted()).enter(inode(stat, || path.to_path_buf()), "");
        self.follow = Follow::new(path, start.clone());
        self.directory(Place::from_here(&c_string(path)), name, stat, 0, &start);
        while let Some(link) = self.links.pop_front() {
            self.watch_target(&link.path);
            let entry = c_string(&link.path);
            self.entry(Place::from_here(&entry), &link.name, FileType::Symlink, link.depth, &link.way);
        }
        self.tree.findings.sort_by(|a, b| a.origin.cmp(&b.origin));
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

    fn directory(&mut self, place: Place, name: &str, stat: &Stat, depth: usize, way: &Way) {
        if depth > MAX_DEPTH {
            let fact = format!("is more than {MAX_DEPTH} directories deep and is not read");
            return self.finding(name, Severity::Error, "TooDeep", &fact, "put it higher up");
        }
        let path = place.path();
        if self.is_seen(stat, &way.placed(), || VisitPath::Full(path.clone())) {
            return;
        }
        self.tree.directories.insert(path.clone(), identity(stat));
        self.listed.push((path.clone(), Stamp::of(stat)));
        let opened = openat(place.directory, place.entry, OPEN | OFlags::DIRECTORY, Mode::empty());
        let listed = opened.and_then(|directory| {
            let is_same = identity(&fstat(&directory)?) == identity(stat);
            let entries = Dir::read_from(&directory)?
                .map(|entry| entry.map(|entry| (entry.file_name().to_owned(), entry.file_type())))
                .collect::<Result<Vec<_>, Errno>>()?;
            Ok((is_same, entries, directory))
        });
        let (mut entries, directory) = match listed {
            Ok((true, entries, directory)) => (entries, directory),
            // Its owner was asked for by its path.
            Ok((false, ..)) => {
                self.swapped = true;
                return self.unseen(name, "was replaced while it was read");
            }
            Err(error) => return self.unseen(name, &format!("cannot be listed: {}", io::Error::from(error))),
        };
        entries.retain(|(entry, _)| !entry.to_bytes().starts_with(b"."));
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut name = name.to_owned();
        if !name.is_empty() && !name.ends_with('/') {
            name.push('/');
        }
        let length = name.len();
        for (entry, kind) in &entries {
            name.truncate(length);
            name.push_str(&entry.to_string_lossy());
            let place = Place { directory: directory.as_fd(), parent: &path, entry };
            let kind = match kind {
                FileType::Unknown => place.itself().map(|stat| kind_of(&stat)),
                kind => Ok(*kind),
            };
            match kind {
                Ok(FileType::Symlink) => {
                    let (path, name, way) = (place.path(), name.clone(), way.clone());
                    self.links.push_back(Link { path, name, depth, way });
                }
                Ok(kind) => self.entry(place, &name, kind, depth, way),
                Err(error) => self.nothing_there(place, &name, error),
            }
        }
    }

    /// Visits what is at `place`, a link or not according to its `kind`.
    fn entry(&mut self, place: Place, name: &str, kind: FileType, depth: usize, way: &Way) {
        let is_link = kind == FileType::Symlink;
        let last = name.rsplit('/').next().unwrap_or(name);
        let counts = is_manifest(last);
        let found = match is_link {
            true => statat(place.directory, place.entry, AtFlags::empty()),
            false => place.itself(),
        };
        let stat = match found {
            Ok(stat) => stat,
            // What leads nowhere may have been a manifest or a directory, which rarely has an ending.
            Err(error) if counts || kind == FileType::Directory || Path::new(last).extension().is_none() => {
                return self.nothing_there(place, name, error);
            }
            Err(_) => return,
        };
        let through = match is_link.then(|| self.follow.through(way, &place.path())).transpose() {
            Ok(through) => through,
            Err(error) => {
                let what = format!("cannot be followed: {error}");
                return self.finding(name, Severity::Warning, "BrokenLink", &what, "remove or mend it");
            }
        };
        let what = match kind_of(&stat) {
            FileType::Directory => {
                let way = through.unwrap_or_else(|| way.enter(inode(&stat, || place.path()), name));
                return self.directory(place, name, &stat, depth + 1, &way);
            }
            // A link by now, which was none when the directory was listed.
            FileType::Symlink => {
                self.swapped = true;
                return;
            }
            _ if !counts => return,
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::BlockDevice | FileType::CharacterDevice => "a device",
            _ => return self.file(place, name, &stat, through.as_ref().unwrap_or(way)),
        };
        self.finding(name, Severity::Warning, "NotAFile", &format!("is {what}, not a file, and is not read"), "");
    }

    /// A change to what a link points to comes from another directory than the link's.
    fn watch_target(&mut self, link: &Path) {
        let Ok(target) = fs::read_link(link) else { return };
        let target = link.parent().unwrap_or(Path::new("")).join(target);
        if let Some(parent) = target.parent()
            && let Ok(stat) = stat(parent)
        {
            self.tree.directories.insert(parent.to_path_buf(), identity(&stat));
        }
    }

    /// Was this file or directory visited under another path, by nobody else's doing? The number of a file that was
    /// replaced since is free for the next one, which is not the same file.
    fn is_seen(&mut self, now: &Stat, custody: &Custody, path: impl FnOnce() -> VisitPath) -> bool {
        let root = self.root;
        let is_there = |visit: &Visit| {
            let found = match &visit.path {
                VisitPath::Full(path) => stat(path),
                VisitPath::Name(name) => stat(root.join(&**name)),
            };
            found.is_ok_and(|found| identity(&found) == identity(now))
        };
        let visit = || Visit { path: path(), custody: custody.clone() };
        match self.seen.entry(identity(now)) {
            hash_map::Entry::Vacant(entry) => {
                entry.insert((visit(), Vec::new()));
                false
            }
            hash_map::Entry::Occupied(mut entry) => {
                let (first, others) = entry.get_mut();
                let mut visits = std::iter::once(&*first).chain(&*others);
                let is_seen = visits.any(|visit| visit.custody.is_within(custody) && is_there(visit));
                if !is_seen {
                    others.push(visit());
                }
                is_seen
            }
        }
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

    fn file(&mut self, place: Place, name: &str, stat: &Stat, way: &Way) {
        let mut custody = way.file(&inode(stat, || place.path()));
        let before = self.before(name);
        let name: Arc<str> = before.map_or_else(|| name.into(), |(name, _)| name.clone());
        // What is no text has lost something in its name.
        let path = || match name.contains(char::REPLACEMENT_CHARACTER) {
            true => VisitPath::Full(place.path()),
            false => VisitPath::Name(name.clone()),
        };
        if self.is_seen(stat, &custody, path) {
            return;
        }
        self.known += usize::from(before.is_some());
        let (mode, stamp) = (stat.st_mode, Stamp::of(stat));
        let is_read = before.is_some_and(|(_, before)| before.stamp.as_ref() == Some(&stamp));
        if let Some((_, before)) = before
            && (is_read || !self.busy.is_empty() && self.busy.contains(&place.path()))
        {
            if !is_read {
                // The bytes of then may be another's.
                custody.add(&before.custody);
            }
            let file = match (before.mode, &before.custody) == (mode, &custody) {
                true => before.clone(),
                false => Arc::new(TreeFile { mode, custody, ..TreeFile::clone(before) }),
            };
            return self.files.push((name, file));
        }
        let now = SystemTime::now();
        let mut content = self.read(place, &name, stat);
        if let Some((_, before)) = before
            && before.content == content
        {
            content = before.content.clone();
        }
        let settled = content != Content::Unreadable && stamp.is_settled(now);
        let file = TreeFile { content, mode, custody, stamp: settled.then_some(stamp) };
        self.files.push((name, Arc::new(file)));
    }

    fn read(&mut self, place: Place, name: &str, stat: &Stat) -> Content {
        let too_large = |size: u64, max: u64| format!("has {size} bytes, more than the {max} that a file may have");
        let expected = stat.st_size as u64;
        if expected > self.max_file_size {
            let fact = too_large(expected, self.max_file_size);
            self.finding(name, Severity::Error, "FileTooLarge", &fact, "split it, or raise --max-file-size");
            return Content::Unreadable;
        }
        let opened = openat(place.directory, place.entry, OPEN, Mode::empty());
        let mut bytes = Vec::with_capacity(expected as usize + 1);
        let mut swapped = false;
        let read = opened.map_err(io::Error::from).and_then(|file| {
            // Its owner was asked for by its path.
            let who = |of: &Stat| (identity(of), of.st_uid, of.st_gid, of.st_mode);
            swapped = who(&fstat(&file)?) != who(stat);
            File::from(file).take(self.max_file_size + 1).read_to_end(&mut bytes)
        });
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
            Ok(_) if swapped => {
                self.swapped = true;
                Content::Unreadable
            }
            Ok(_) => Content::Bytes(bytes.into()),
        }
    }

    /// What to say of an entry of which no more is known than its name.
    fn nothing_there(&mut self, place: Place, name: &str, error: Errno) {
        let dangling = error == Errno::NOENT;
        if dangling && place.itself().is_err() {
            // Gone since the directory was listed: a deletion, which is no news.
        } else if dangling {
            self.finding(name, Severity::Warning, "DanglingLink", "is a link to nothing", "remove or mend it");
        } else if error == Errno::LOOP {
            let fact = format!("cannot be followed: {}", io::Error::from(error));
            self.finding(name, Severity::Warning, "BrokenLink", &fact, "remove or mend it");
        } else {
            self.unseen(name, &format!("cannot be looked at: {}", io::Error::from(error)));
        }
    }

    fn unseen(&mut self, name: &str, fact: &str) {
        self.finding(name, Severity::Error, "Unreadable", fact, "what was accepted from it stays in force");
        self.tree.unseen.insert(name.to_owned());
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
        symlink("nothing", root.path().join("gone")).unwrap();
        symlink("nothing", root.path().join("gone.txt")).unwrap();
        symlink("self.yaml", root.path().join("self.yaml")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.path().join("pipe.yaml"), rustix::fs::Mode::RWXU).unwrap();
        let tree = scan(root.path(), None);
        assert_eq!(tree.files.keys().map(|name| &**name).collect::<Vec<_>>(), ["b/one.yaml"]);
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
