//! Sockets of UDP listeners.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::Instant,
};

use super::{CLOSING, Published};
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
    bound: BTreeMap<SocketAddr, Arc<Shared>>,
    /// No longer wanted, and open while somebody has a session over them.
    leaving: BTreeMap<SocketAddr, Arc<Shared>>,
    failed: BTreeMap<SocketAddr, String>,
}

impl Datagrams {
    pub fn new(places: Arc<Places>) -> Datagrams {
        let (bound, leaving, failed) = Default::default();
        Datagrams { places, bound, leaving, failed }
    }

    /// Sockets for the addresses of `snapshot` that have none; those that could not be bound are tried again.
    pub fn bind(&mut self, snapshot: &Snapshot, threads: &[Thread]) -> BTreeMap<SocketAddr, Vec<UdpSocket>> {
        self.failed.clear();
        let mut new = BTreeMap::new();
        for &address in snapshot.datagram_sockets.keys() {
            if self.bound.contains_key(&address) || self.comes_back(address, threads) {
                continue;
            }
            let mut own = self.bound.keys().chain(self.leaving.keys()).chain(new.keys());
            let alone = !own.any(|own| own.port() == address.port());
            match bind::bind(address, threads.len(), alone) {
                Ok(sockets) => _ = new.insert(address, sockets),
                Err(message) => _ = self.failed.insert(address, message),
            }
        }
        new
    }

    /// Is the address still bound, and bound on? Otherwise it is not bound any more.
    fn comes_back(&mut self, address: SocketAddr, threads: &[Thread]) -> bool {
        let Some(shared) = self.leaving.remove(&address) else { return false };
        if shared.stay() {
            self.bound.insert(address, shared);
            return true;
        }
        // They look whether it is to close.
        threads.iter().for_each(|thread| _ = thread.commands.send(Command::Published));
        let start = Instant::now();
        while Arc::strong_count(&shared) > 1 && start.elapsed() < CLOSING {
            thread::sleep(std::time::Duration::from_millis(2));
        }
        false
    }

    pub fn hand_over(&mut self, new: BTreeMap<SocketAddr, Vec<UdpSocket>>, threads: &[Thread]) {
        for (address, sockets) in new {
            let shared = Shared::new(self.places.clone(), threads.len());
            for (thread, socket) in threads.iter().zip(sockets) {
                // A worker that has gone has panicked, which draining reports.
                _ = thread.commands.send(Command::ListenDatagrams { address, socket, shared: shared.clone() });
            }
            self.bound.insert(address, shared);
        }
    }

    /// Has those leave that `snapshot` does not have; workers look when they are told that it was published.
    pub fn leave(&mut self, snapshot: &Snapshot) {
        self.leaving.retain(|_, shared| Arc::strong_count(shared) > 1);
        let wanted = |address: &SocketAddr| snapshot.datagram_sockets.contains_key(address);
        let (bound, leaving) = std::mem::take(&mut self.bound).into_iter().partition(|(address, _)| wanted(address));
        self.bound = bound;
        let leaving: BTreeMap<SocketAddr, Arc<Shared>> = leaving;
        leaving.values().for_each(|shared| shared.leave());
        self.leaving.extend(leaving);
    }

    pub fn published(&self) -> Published {
        let bound = self.bound.keys().map(|address| (*address, Ok(())));
        let failed = self.failed.iter().map(|(address, message)| (*address, Err(message.clone())));
        bound.chain(failed).collect()
    }

    pub fn counts(&self) -> BTreeMap<SocketAddr, Vec<usize>> {
        self.bound.iter().map(|(address, shared)| (*address, shared.open().collect())).collect()
    }
}
