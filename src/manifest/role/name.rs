//! Names of users and groups, which may have to come from far away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Group, Uid, User};

use super::{
    custody::{Custody, Hand, Open, Part},
    roles::Who,
};

/// A name is asked for again after this time, or when somebody asks for a reload.
const FRESH: Duration = Duration::from_secs(60);
/// All names of one look; whoever keeps them (LDAP, …) may be slow, and a reload should not be.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names that are remembered: more owners than this in one directory are told by number.
const MOST: usize = 10_000;

/// What is to be asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Number {
    User(u32),
    Group(u32),
}

/// What was said: the name and, of a group, its members.
#[derive(Clone, Debug, Default)]
struct Entry {
    name: Option<String>,
    members: Vec<String>,
}

/// Who had a hand in a file, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Writers {
    /// Each of them must be allowed; none where only trusted users had a hand in it.
    pub all: Vec<(Who, Part)>,
    pub open: Option<Open>,
}

/// Remembers names.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<Number, Entry>,
    since: Option<Instant>,
}

impl Names {
    /// The files that others than trusted users had a hand in, with those. `anew` forgets what was known.
    pub fn writers<'a>(
        &mut self,
        files: impl Iterator<Item = (&'a str, &'a Custody)>,
        anew: bool,
    ) -> BTreeMap<Arc<str>, Writers> {
        let files: Vec<_> = files.filter(|(_, custody)| !custody.is_trusted()).collect();
        if files.is_empty() {
            return BTreeMap::new();
        }
        if anew || self.since.is_none_or(|since| since.elapsed() > FRESH) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
        self.learn(files.iter().flat_map(|(_, custody)| custody.hands.keys()));
        let writers = files.iter().map(|(file, custody)| {
            let all = custody.hands.iter().filter(|(hand, _)| !self.is_own(hand));
            let all = all.map(|(hand, part)| (self.who(hand), part.clone())).collect();
            (Arc::from(*file), Writers { all, open: custody.open.clone() })
        });
        writers.filter(|(_, writers)| !writers.all.is_empty() || writers.open.is_some()).collect()
    }

    /// A group in which nobody is but the owner, who has a hand in it anyway: the group that many systems give each user.
    fn is_own(&self, hand: &Hand) -> bool {
        let Hand::Member { group, owner } = hand else { return false };
        let (Some(group), Some(owner)) =
            (self.known.get(&Number::Group(*group)), self.known.get(&Number::User(*owner)))
        else {
            return false;
        };
        group.name.is_some()
            && group.name == owner.name
            && group.members.iter().all(|name| owner.name.as_ref() == Some(name))
    }

    fn who(&self, hand: &Hand) -> Who {
        match hand {
            Hand::Owner { user, group } => {
                Who { user: Some(self.name(Number::User(*user))), groups: vec![self.name(Number::Group(*group))] }
            }
            Hand::Member { group, .. } => Who { user: None, groups: vec![self.name(Number::Group(*group))] },
        }
    }

    /// Without a name it is the number.
    fn name(&self, number: Number) -> String {
        let (Number::User(id) | Number::Group(id)) = number;
        self.known.get(&number).and_then(|entry| entry.name.clone()).unwrap_or_else(|| id.to_string())
    }

    /// Asks for what is not known, on a thread of its own: one that never answers is left behind.
    fn learn<'a>(&mut self, hands: impl Iterator<Item = &'a Hand>) {
        let mut unknown: Vec<Number> = hands
            .flat_map(|hand| match hand {
                Hand::Owner { user, group } => [Number::User(*user), Number::Group(*group)],
                Hand::Member { group, owner } => [Number::User(*owner), Number::Group(*group)],
            })
            .filter(|number| !self.known.contains_key(number))
            .collect();
        unknown.sort_by_key(|number| match number {
            Number::User(id) => (0, *id),
            Number::Group(id) => (1, *id),
        });
        unknown.dedup();
        unknown.truncate(MOST.saturating_sub(self.known.len()));
        if unknown.is_empty() {
            return;
        }
        let (said, answers) = mpsc::channel();
        let asked = unknown.clone();
        std::thread::spawn(move || {
            for number in asked {
                // Nobody listens any more: enough.
                if said.send((number, look_up(number))).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..unknown.len() {
            match answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((number, entry)) => self.known.insert(number, entry),
                Err(_) => break,
            };
        }
        // What was not said in time counts as nameless until it is asked for again.
        for number in unknown {
            self.known.entry(number).or_default();
        }
    }
}

fn look_up(number: Number) -> Entry {
    match number {
        Number::User(id) => {
            let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
            Entry { name: user.map(|user| user.name), members: Vec::new() }
        }
        Number::Group(id) => match Group::from_gid(Gid::from_raw(id)).ok().flatten() {
            Some(group) => Entry { name: Some(group.name), members: group.mem },
            None => Entry::default(),
        },
    }
}

/// Whoever runs this process, with all their groups.
pub fn myself() -> Who {
    let user = look_up(Number::User(nix::unistd::geteuid().as_raw()));
    let mut groups = rustix::process::getgroups().unwrap_or_default();
    groups.push(rustix::process::getegid());
    let group =
        |id: rustix::process::Gid| look_up(Number::Group(id.as_raw())).name.unwrap_or_else(|| id.as_raw().to_string());
    let mut groups: Vec<String> = groups.into_iter().map(group).collect();
    groups.sort();
    groups.dedup();
    let number = nix::unistd::geteuid().as_raw().to_string();
    Who { user: Some(user.name.unwrap_or(number)), groups }
}

/// The number of the group of this name.
pub fn group_number(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}
