//! Who can have decided what a file says, and that it stands where it stands?
//!
//! Pure: from owner, group and mode of each step on the way from the config directory to the file. A file declares
//! something only if every one of its [`Hand`]s may, so that nobody gains by moving, linking or writing what is
//! another's.

use std::{collections::BTreeMap, sync::Arc};

/// What `lstat` says of a step on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Inode {
    pub owner: u32,
    pub group: u32,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// An access control list names users or groups beside these, and the group's permissions are its mask.
    pub list: bool,
}

/// Someone who can have had a hand in it, by number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hand {
    /// Who owns something; the group of it counts as theirs.
    Owner { user: u32, group: u32 },
    /// Any member of a group that can write something of this owner's.
    Member { group: u32, owner: u32 },
}

/// What a hand was in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// The file: what it says.
    File,
    /// A link on the way.
    Link,
    /// A directory on the way, where they can put any file that they can reach.
    Directory(Arc<str>),
}

/// The hands of a file or of a way. Those who are trusted are left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Custody {
    pub hands: BTreeMap<Hand, Part>,
    /// What everybody, or somebody of an access control list, can write.
    pub open: Option<Open>,
}

/// Something that cannot be trusted, whoever owns it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    pub part: Part,
    pub mode: u32,
    /// By an access control list, not by everybody.
    pub list: bool,
}

/// Users whose files may declare anything: root, and whoever the daemon runs as.
pub type Trusted = [u32; 2];

const TYPE: u32 = 0o170_000;
const LINK: u32 = 0o120_000;
const DIRECTORY: u32 = 0o040_000;
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

impl Inode {
    pub fn is_directory(&self) -> bool {
        self.mode & TYPE == DIRECTORY
    }

    pub fn is_link(&self) -> bool {
        self.mode & TYPE == LINK
    }
}

impl Custody {
    /// Nobody but trusted users?
    pub fn is_trusted(&self) -> bool {
        self.hands.is_empty() && self.open.is_none()
    }

    /// Is there no hand in this that is not in `other` too?
    pub fn is_within(&self, other: &Custody) -> bool {
        self.hands.keys().all(|hand| other.hands.contains_key(hand)) && (self.open.is_none() || other.open.is_some())
    }

    /// Takes the hands of `other` in.
    pub fn add(&mut self, other: &Custody) {
        for (hand, part) in &other.hands {
            self.hands.entry(*hand).or_insert_with(|| part.clone());
        }
        self.open = self.open.take().or_else(|| other.open.clone());
    }

    fn own(&mut self, inode: &Inode, part: &Part, trusted: &Trusted) {
        if !trusted.contains(&inode.owner) {
            let hand = Hand::Owner { user: inode.owner, group: inode.group };
            self.hands.entry(hand).or_insert_with(|| part.clone());
        }
    }

    /// Those who can write in a file or a directory, beside its owner.
    fn write(&mut self, inode: &Inode, part: &Part) {
        let by_group = inode.mode & GROUP_WRITES != 0;
        if inode.mode & OTHERS_WRITE != 0 || (by_group && inode.list) {
            let list = inode.mode & OTHERS_WRITE == 0;
            self.open.get_or_insert_with(|| Open { part: part.clone(), mode: inode.mode & 0o7777, list });
        }
        // Group root has root's trust, as far as writing goes.
        if by_group && inode.group != 0 {
            let hand = Hand::Member { group: inode.group, owner: inode.owner };
            self.hands.entry(hand).or_insert_with(|| part.clone());
        }
    }
}

/// The way to a directory: who can have bent it, and the directory itself, in which something will be looked up.
#[derive(Clone, Debug)]
pub struct Way {
    before: Custody,
    last: Option<(Inode, Arc<str>)>,
    trusted: Trusted,
}

impl Way {
    /// Where a way begins that somebody named who is trusted.
    pub fn start(trusted: Trusted) -> Way {
        Way { before: Custody::default(), last: None, trusted }
    }

    /// On to a directory; `path` is for people.
    pub fn enter(&self, directory: Inode, path: &str) -> Way {
        let mut before = self.before.clone();
        if let Some((last, part)) = self.last() {
            before.own(last, &part, &self.trusted);
            // With the sticky bit only its own owner moves a directory, and links to directories there are none.
            if last.mode & STICKY == 0 {
                before.write(last, &part);
            }
        }
        Way { before, last: Some((directory, path.into())), trusted: self.trusted }
    }

    /// Who can have made this link, or another in its place.
    pub fn link(&self, link: &Inode) -> Custody {
        let mut custody = self.placed();
        custody.own(link, &Part::Link, &self.trusted);
        custody
    }

    /// Who can have decided what this file says, and that it is here.
    pub fn file(&self, file: &Inode) -> Custody {
        let mut custody = self.placed();
        // Who puts a file of their own somewhere does so in the name of its group.
        custody.hands.retain(|hand, _| !matches!(hand, Hand::Owner { user, .. } if *user == file.owner));
        custody.own(file, &Part::File, &self.trusted);
        custody.write(file, &Part::File);
        custody
    }

    /// The same way, with more hands in it.
    pub fn with(mut self, more: &Custody) -> Way {
        self.before.add(more);
        self
    }

    /// Who can have reached, or put, a file where the way ends.
    ///
    /// The sticky bit does not count here: it keeps nobody from making a hard link to what is another's.
    pub fn placed(&self) -> Custody {
        let mut custody = self.before.clone();
        if let Some((last, part)) = self.last() {
            custody.own(last, &part, &self.trusted);
            custody.write(last, &part);
        }
        custody
    }

    fn last(&self) -> Option<(&Inode, Part)> {
        self.last.as_ref().map(|(inode, path)| (inode, Part::Directory(path.clone())))
    }
}

/// The custody of the file at the end of `trail`: directories from the config directory on, links, and the file.
pub fn custody(trail: &[Inode], trusted: Trusted) -> Custody {
    let mut way = Way::start(trusted);
    for (index, step) in trail.iter().enumerate() {
        way = match (step.is_directory(), step.is_link()) {
            (true, _) => way.enter(*step, &index.to_string()),
            (_, true) => {
                let more = way.link(step);
                way.with(&more)
            }
            _ => return way.file(step),
        };
    }
    way.placed()
}

#[cfg(test)]
mod tests;
