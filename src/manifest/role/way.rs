//! The way to a file as the file system has it, links included.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{FileType, Stat, lstat};

use super::custody::{Custody, Inode, Trusted, Way};

/// Links on one way; the kernel follows no more either.
const MAX_LINKS: usize = 40;

/// Root, and whoever this process runs as.
pub fn trusted() -> Trusted {
    [0, rustix::process::geteuid().as_raw()]
}

/// A step on the way to a file, from what is known of it; its path is rarely asked for.
pub fn inode(stat: &Stat, path: impl FnOnce() -> PathBuf) -> Inode {
    let mut inode = Inode { owner: stat.st_uid, group: stat.st_gid, mode: stat.st_mode, list: false };
    // Without group permissions there is no mask that could let anybody else write.
    inode.list = !inode.is_link() && inode.mode & 0o020 != 0 && has_list(&path());
    inode
}

/// An access control list that says more than the mode does. What cannot be told is taken for one.
fn has_list(path: &Path) -> bool {
    use rustix::io::Errno;
    match rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]) {
        Ok(size) => size > 0,
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOENT | Errno::NOSYS) => false,
        Err(_) => true,
    }
}

/// Follows links within one config directory.
#[derive(Debug)]
pub struct Follow {
    /// The config directory, without links in its own path: how it is reached is the operator's word.
    root: PathBuf,
    start: Way,
}

impl Follow {
    pub fn new(root: &Path, start: Way) -> Follow {
        Follow { root: fs::canonicalize(root).unwrap_or_else(|_| root.to_path_buf()), start }
    }

    /// The way through the link at `path`, which stands at the end of `way`: to the directory that it leads to, or to
    /// the one where the file is that it leads to.
    ///
    /// # Errors
    /// Those of the file system: a dangling link, a loop.
    pub fn through(&self, way: &Way, path: &Path) -> io::Result<Way> {
        let link = inode(&lstat(path)?, || path.to_path_buf());
        let mut links = way.link(&link);
        let parent = fs::canonicalize(path.parent().unwrap_or(Path::new("/")))?;
        let end = self.walk(&parent.join(fs::read_link(path)?), &mut links)?;
        Ok(end.with(&links))
    }

    /// Every directory on the way from `/` on, or from the config directory on where the way leads through it.
    fn walk(&self, path: &Path, links: &mut Custody) -> io::Result<Way> {
        let mut rest: VecDeque<OsString> = components(path).collect();
        let mut at = PathBuf::from("/");
        let mut stack = vec![self.outside(Path::new("/"), None)?];
        let mut followed = 0;
        while let Some(name) = rest.pop_front() {
            let top = stack.last().expect("`/` stays");
            if name == ".." {
                if at.pop() {
                    stack.pop();
                }
                continue;
            }
            let next = at.join(&name);
            let stat = lstat(&next)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                stack.push(if next == self.root { self.start.clone() } else { self.outside(&next, Some(top))? });
                at = next;
            } else if kind == FileType::Symlink {
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(io::Error::from(rustix::io::Errno::LOOP));
                }
                links.add(&top.link(&inode(&stat, || next.clone())));
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                    stack.truncate(1);
                }
                for name in components(&target).rev() {
                    rest.push_front(name);
                }
            } else if !rest.is_empty() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        Ok(stack.pop().expect("`/` stays"))
    }

    fn outside(&self, path: &Path, from: Option<&Way>) -> io::Result<Way> {
        let inode = inode(&lstat(path)?, || path.to_path_buf());
        let from = from.cloned().unwrap_or_else(|| Way::start(trusted()));
        Ok(from.enter(inode, &path.to_string_lossy()))
    }
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let kept = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    kept.collect::<Vec<_>>().into_iter()
}
