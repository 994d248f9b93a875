//! The deny list in the kernel: `ebpf/deny.bpf.c`, its maps, and the interfaces that it is attached to.
//!
//! What a list says is written into new tries, which are flipped in; what changed little is written into those in force,
//! additions first. Links are pinned and the program behind them is exchanged by the next run, with maps that are complete
//! by then: there is no moment without a list, and nothing of an earlier run's layout is ever read.

use std::{
    collections::BTreeSet,
    io,
    iter::Peekable,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use aya::{
    Ebpf, EbpfError, Pod,
    maps::{ArrayOfMaps, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key},
};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::snapshot::deny::DenyList;

mod hook;

use hook::Hooks;
pub use hook::{Attached, Hook, PINS, detach_all};

/// The object of `ebpf/deny.bpf.c`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/deny.bpf.o"));

/// `MAX_PREFIXES` and the flags of the tries, as in `ebpf/deny.bpf.c`.
const MAX_PREFIXES: u32 = 1 << 22;
const NO_PREALLOC: u32 = 1;
/// So many changes are written into the tries in force.
const FEW: usize = 10_000;

/// `struct deny_listener`: address, port and protocol that a listener is bound to.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
#[repr(C)]
pub struct Listener {
    address: [u8; 16],
    port: [u8; 2],
    protocol: u8,
    zero: u8,
}

const _: () = assert!(size_of::<Listener>() == 20);

// SAFETY: bytes alone, without padding.
unsafe impl Pod for Listener {}

impl Listener {
    pub fn tcp(address: SocketAddr) -> Listener {
        Listener::new(address, 6)
    }

    pub fn udp(address: SocketAddr) -> Listener {
        Listener::new(address, 17)
    }

    fn new(address: SocketAddr, protocol: u8) -> Listener {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Listener { address: ip.octets(), port: address.port().to_be_bytes(), protocol, zero: 0 }
    }
}

/// The programs and what they know.
pub struct Deny {
    listeners: HashMap<MapData, Listener, u8>,
    known: BTreeSet<Listener>,
    v4: Tries<[u8; 4]>,
    v6: Tries<[u8; 16]>,
    dropped: PerCpuArray<MapData, u64>,
    list: Arc<DenyList>,
    hooks: Hooks,
}

impl Deny {
    /// Loads the programs, attached to nothing. Links are pinned in `pins`, where those of an earlier run are as well; it
    /// is made when it is needed.
    ///
    /// # Errors
    /// Why the kernel does not take them, or that this process may not ask.
    pub fn load(pins: &Path) -> Result<Deny, EbpfError> {
        let mut hooks = Hooks::new(Ebpf::load(OBJECT)?, pins)?;
        Ok(Deny {
            listeners: hooks.take_map("deny_listeners")?.try_into()?,
            known: BTreeSet::new(),
            v4: Tries::new(hooks.take_map("deny_prefixes_v4")?)?,
            v6: Tries::new(hooks.take_map("deny_prefixes_v6")?)?,
            dropped: hooks.take_map("deny_dropped")?.try_into()?,
            list: Arc::default(),
            hooks,
        })
    }

    /// Puts `list` in force.
    ///
    /// # Errors
    /// The kernel has no room; the list that was in force stays so, perhaps with some of the changes.
    pub fn replace(&mut self, list: Arc<DenyList>) -> Result<(), MapError> {
        if Arc::ptr_eq(&self.list, &list) {
            return Ok(());
        }
        self.v4.replace(self.list.prefixes_v4().map(key_v4), list.prefixes_v4().map(key_v4))?;
        self.v6.replace(self.list.prefixes_v6().map(key_v6), list.prefixes_v6().map(key_v6))?;
        self.list = list;
        Ok(())
    }

    /// Has packets to these listeners looked at, and no others.
    ///
    /// # Errors
    /// There are more than the map has room for: the rest is not looked at here.
    pub fn listen(&mut self, wanted: BTreeSet<Listener>) -> Result<(), MapError> {
        for gone in self.known.difference(&wanted) {
            self.listeners.remove(gone)?;
        }
        let (stays, new): (BTreeSet<_>, BTreeSet<_>) = wanted.into_iter().partition(|one| self.known.contains(one));
        self.known = stays;
        for listener in new {
            self.listeners.insert(listener, 1, 0)?;
            self.known.insert(listener);
        }
        Ok(())
    }

    /// Attaches the programs to interfaces that have come, or to none while the list is empty.
    pub fn follow_interfaces(&mut self) {
        self.hooks.follow(!self.list.is_empty());
    }

    /// Where the programs are attached.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.hooks.attached()
    }

    /// Packets dropped since the programs were loaded.
    pub fn dropped(&self) -> u64 {
        self.dropped.get(&0, 0).map_or(0, |counts| counts.iter().sum())
    }

    /// Takes the programs off every interface.
    pub fn detach(mut self) {
        self.hooks.follow(false);
    }

    /// Leaves them where they are, for the next run to take over.
    pub fn leave(self) {
        self.hooks.leave();
    }
}

fn key_v4(net: Ipv4Net) -> Key<[u8; 4]> {
    Key::new(net.prefix_len().into(), net.network().octets())
}

fn key_v6(net: Ipv6Net) -> Key<[u8; 16]> {
    Key::new(net.prefix_len().into(), net.network().octets())
}

/// Prefixes of one family: a slot with the trie in force.
struct Tries<K> {
    slot: ArrayOfMaps<MapData, LpmTrie<MapData, K, u8>>,
    trie: LpmTrie<MapData, K, u8>,
}

impl<K: Pod + Ord> Tries<K> {
    fn new(slot: Map) -> Result<Tries<K>, MapError> {
        let mut slot = ArrayOfMaps::try_from(slot)?;
        let trie = LpmTrie::create(MAX_PREFIXES, NO_PREALLOC)?;
        slot.set(0, &trie, 0)?;
        Ok(Tries { slot, trie })
    }

    /// From the keys in force to others, both in order.
    fn replace(
        &mut self,
        before: impl Iterator<Item = Key<K>>,
        after: impl Iterator<Item = Key<K>> + Clone,
    ) -> Result<(), MapError> {
        let changes: Vec<_> = Changes::new(before, after.clone()).take(FEW + 1).collect();
        if changes.len() <= FEW {
            for (key, _) in changes.iter().filter(|(_, is_new)| *is_new) {
                self.trie.insert(key, 1, 0)?;
            }
            for (key, _) in changes.iter().filter(|(_, is_new)| !*is_new) {
                match self.trie.remove(key) {
                    // An attempt before this one came so far.
                    Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
            return Ok(());
        }
        let mut next = LpmTrie::create(MAX_PREFIXES, NO_PREALLOC)?;
        for key in after {
            next.insert(&key, 1, 0)?;
        }
        self.slot.set(0, &next, 0)?;
        self.trie = next;
        Ok(())
    }
}

/// Keys that are in one of two ordered sequences only, and whether that is the second.
struct Changes<B: Iterator, A: Iterator> {
    before: Peekable<B>,
    after: Peekable<A>,
}

impl<B: Iterator, A: Iterator> Changes<B, A> {
    fn new(before: B, after: A) -> Changes<B, A> {
        Changes { before: before.peekable(), after: after.peekable() }
    }
}

impl<K: Pod + Ord, B: Iterator<Item = Key<K>>, A: Iterator<Item = Key<K>>> Iterator for Changes<B, A> {
    type Item = (Key<K>, bool);

    fn next(&mut self) -> Option<(Key<K>, bool)> {
        loop {
            let order = match (self.before.peek(), self.after.peek()) {
                (Some(before), Some(after)) => rank(before).cmp(&rank(after)),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return None,
            };
            match order {
                std::cmp::Ordering::Less => return self.before.next().map(|key| (key, false)),
                std::cmp::Ordering::Greater => return self.after.next().map(|key| (key, true)),
                std::cmp::Ordering::Equal => _ = (self.before.next(), self.after.next()),
            }
        }
    }
}

/// Prefixes of a list do not overlap, so that their addresses are in order.
fn rank<K: Pod + Ord>(key: &Key<K>) -> (K, u32) {
    (key.data(), key.prefix_len())
}

#[cfg(test)]
mod tests;
