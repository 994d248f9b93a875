//! The one place where a new snapshot becomes visible: one writer, a reader for each worker. Likewise a new deny list.

use std::{cell::RefCell, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use super::{Snapshot, deny::DenyList};

/// Holds the value in force.
pub struct Cell<T>(Arc<ArcSwap<T>>);

/// Holds the snapshot in force. Written by *publish* alone.
pub type SnapshotCell = Cell<Snapshot>;
pub type SnapshotReader = Reader<Snapshot>;

/// Holds the deny list in force. Written by whoever follows its file.
pub type DenyCell = Cell<DenyList>;
pub type DenyReader = Reader<DenyList>;

impl<T: Default> Cell<T> {
    /// Starts with the empty snapshot, generation 0, or the empty list.
    pub fn new() -> Cell<T> {
        Cell(Arc::new(ArcSwap::from_pointee(T::default())))
    }
}

impl<T> Cell<T> {
    /// Makes `value` the one in force and returns the one before, which the caller keeps until nobody reads it.
    pub fn publish(&self, value: Arc<T>) -> Arc<T> {
        self.0.swap(value)
    }

    /// A reader for one worker.
    pub fn reader(&self) -> Reader<T> {
        Reader(RefCell::new(Cache::new(self.0.clone())))
    }
}

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        Cell(self.0.clone())
    }
}

impl<T: Default> Default for Cell<T> {
    fn default() -> Self {
        Cell::new()
    }
}

/// A worker's own view of the cell. Cost of [`Reader::pin`]: one relaxed load and one reference count, no lock.
pub struct Reader<T>(RefCell<Cache<Arc<ArcSwap<T>>, Arc<T>>>);

impl<T> Reader<T> {
    /// The value in force. A snapshot is pinned once for each request, handshake or layer-4 connection; it may be held
    /// across await.
    pub fn pin(&self) -> Arc<T> {
        self.0.borrow_mut().load().clone()
    }
}
