//! The one place where a new snapshot becomes visible: one writer, a reader for each worker.

use std::{cell::RefCell, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::Snapshot;

/// Holds the snapshot in force. Written by *publish* alone.
#[derive(Clone)]
pub struct SnapshotCell(Arc<ArcSwap<Snapshot>>);

impl SnapshotCell {
    /// Starts with the empty snapshot, generation 0.
    pub fn new() -> SnapshotCell {
        SnapshotCell(Arc::new(ArcSwap::from_pointee(Snapshot::default())))
    }

    /// Makes `snapshot` the one in force and returns the one before, which the caller keeps until nobody reads it.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        self.0.swap(snapshot)
    }

    /// A reader for one worker.
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader(RefCell::new(Cache::new(self.0.clone())))
    }
}

impl Default for SnapshotCell {
    fn default() -> Self {
        SnapshotCell::new()
    }
}

/// A worker's own view of the cell. Cost of [`SnapshotReader::pin`]: one relaxed load and one reference count, no lock.
pub struct SnapshotReader(RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>);

impl SnapshotReader {
    /// The snapshot in force. Called once for each request, handshake or layer-4 connection; may be held across await.
    pub fn pin(&self) -> Arc<Snapshot> {
        self.0.borrow_mut().load().clone()
    }
}
