//! Sockets of UDP listeners.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use super::{
    CLOSING, Published,
    inherited::Passed,
    store::{Store, Transport},
};
use crate::{
    dataplane::{
        udp::{bind, listening::Shared, places::Places},
        worker::{Command, Thread},
    },
    snapshot::Snapshot,
};

/// What is bound, was bound, or could not be.
pub(super) struct Datagrams {
    places: Arc<Places>,
    bound: BTreeMap<SocketAddr, Bound>,
    /// No longer wanted, and open while somebody has a session over them.
    leaving: BTreeMap<SocketAddr, Leaving>,
    failed: BTreeMap<SocketAddr, String>,
}

/// The sockets of one address, before they are handed over.
pub(super) struct Sockets {
    sockets: Vec<UdpSocket>,
    /// What the store calls those that it keeps.
    names: Vec<String>,
    /// They are a socket unit's.
    passed: bool,
}

/// A bound address.
struct Bound {
    shared: Arc<Shared>,
    names: Vec<String>,
    passed: bool,
}

/// What the workers close by themselves.
struct Leaving {
    shared: Weak<Shared>,
    passed: bool,
}

impl Leaving {
    fn is_open(&self) -> bool {
        self.shared.strong_count() > 0
    }
}

impl Datagrams {
    pub fn new(places: Arc<Places>) -> Datagrams {
        let (bound, leaving, failed) = Default::default();
        Datagrams { places, bound, leaving, failed }
    }

    /// Sockets for the addresses of `snapshot` that have none; those that could not be bound are tried again.
    pub fn bind(
        &mut self,
        snapshot: &Snapshot,
        threads: &[Thread],
        inherited: &mut Passed<UdpSocket>,
        store: &mut Option<Store>,
    ) -> BTreeMap<SocketAddr, Sockets> {
        self.failed.clear();
        let mut new = BTreeMap::new();
        for &address in snapshot.datagram_sockets.keys() {
            if self.bound.contains_key(&address) || self.comes_back(address, threads, store) {
                continue;
            }
            if let Some(sockets) = succeed_to(address, threads.len(), inherited, store) {
                new.insert(address, sockets);
                continue;
            }
            let mut own = self.bound.keys().chain(self.leaving.keys()).chain(new.keys());
            let alone = !own.any(|own| own.port() == address.port()) && !inherited.has_port(address.port());
            match bind::bind(address, threads.len(), alone) {
                Ok(sockets) => {
                    let names = sockets.iter().filter_map(|socket| put_in(store, address, socket)).collect();
                    new.insert(address, Sockets { sockets, names, passed: false });
                }
                Err(message) => _ = self.failed.insert(address, message),
            }
        }
        new
    }

    /// Is the address still bound, and bound on? Otherwise it is not bound any more.
    fn comes_back(&mut self, address: SocketAddr, threads: &[Thread], store: &mut Option<Store>) -> bool {
        let Some(leaving) = self.leaving.remove(&address) else { return false };
        let passed = leaving.passed;
        if let Some(shared) = leaving.shared.upgrade().filter(|shared| shared.stay()) {
            let again = shared.sockets().iter().filter(|_| !passed);
            let names = again.filter_map(|socket| put_in(store, address, socket)).collect();
            self.bound.insert(address, Bound { shared, names, passed });
            return true;
        }
        // They look whether it is to close.
        threads.iter().for_each(|thread| _ = thread.commands.send(Command::Published));
        let start = Instant::now();
        while leaving.is_open() && start.elapsed() < CLOSING {
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Deals the sockets of each address out to the workers.
    pub fn hand_over(&mut self, new: BTreeMap<SocketAddr, Sockets>, threads: &[Thread]) {
        for (address, Sockets { sockets, names, passed }) in new {
            let shared = Shared::new(self.places.clone(), threads.len(), sockets);
            for (thread, socket) in threads.iter().cycle().zip(shared.sockets()) {
                let command = Command::ListenDatagrams { address, socket: socket.clone(), shared: shared.clone() };
                // A worker that has gone has panicked, which draining reports.
                _ = thread.commands.send(command);
            }
            self.bound.insert(address, Bound { shared, names, passed });
        }
    }

    /// Has those leave that `snapshot` does not have; workers look when they are told that it was published. The store
    /// gives them up now: their sessions do not outlive this process.
    pub fn leave(&mut self, snapshot: &Snapshot, store: &mut Option<Store>) {
        self.leaving.retain(|_, leaving| leaving.is_open());
        let old: Vec<_> =
            self.bound.keys().copied().filter(|address| !snapshot.datagram_sockets.contains_key(address)).collect();
        for address in old {
            let Some(Bound { shared, names, passed }) = self.bound.remove(&address) else { continue };
            for store in store.iter_mut() {
                names.iter().for_each(|name| store.remove(name));
            }
            shared.leave();
            self.leaving.insert(address, Leaving { shared: Arc::downgrade(&shared), passed });
        }
    }

    pub fn published(&self) -> Published {
        let bound = self.bound.keys().map(|address| (*address, Ok(())));
        let failed = self.failed.iter().map(|(address, message)| (*address, Err(message.clone())));
        bound.chain(failed).collect()
    }

    pub fn is_bound(&self, address: &SocketAddr) -> bool {
        self.bound.contains_key(address)
    }

    pub fn any_passed(&self) -> bool {
        self.bound.values().any(|bound| bound.passed)
    }

    pub fn counts(&self) -> BTreeMap<SocketAddr, Vec<usize>> {
        self.bound.iter().map(|(address, bound)| (*address, bound.shared.open().collect())).collect()
    }

    /// Sessions over sockets that are no longer wanted.
    pub fn leaving(&self) -> usize {
        self.leaving
            .values()
            .filter_map(|leaving| leaving.shared.upgrade())
            .map(|shared| shared.open().sum::<usize>())
            .sum()
    }
}

/// The sockets of an address that were there before this process, and as many more as there are workers more.
fn succeed_to(
    address: SocketAddr,
    workers: usize,
    inherited: &mut Passed<UdpSocket>,
    store: &mut Option<Store>,
) -> Option<Sockets> {
    let kept = inherited.kept.remove(&address).unwrap_or_default();
    let (mut names, mut sockets): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let passed = inherited.passed.get(&address);
    // Its unit's socket is needed again when the listener comes back after it has left.
    sockets.extend(passed.into_iter().flatten().filter_map(|(_, socket)| socket.try_clone().ok()));
    if sockets.is_empty() {
        return None;
    }
    let passed = passed.is_some();
    // A socket that is not shared out has one worker: with several, each would have a session with the same client.
    while !passed && sockets.len() < workers {
        let Ok(joined) = bind::join(address) else { break };
        names.extend(put_in(store, address, &joined));
        sockets.push(joined);
    }
    Some(Sockets { sockets, names, passed })
}

fn put_in(store: &mut Option<Store>, address: SocketAddr, socket: &impl std::os::fd::AsFd) -> Option<String> {
    store.as_mut().map(|store| store.keep_socket(Transport::Udp, address, socket))
}
