//! Which partitions this process folds now, and how far each is flushed.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Shared by the reader, the fold workers and whoever tends the store.
#[derive(Debug, Default)]
pub(crate) struct Owned(Mutex<BTreeMap<u32, u64>>);

impl Owned {
    /// A partition is folded here from now on, from this offset.
    pub(crate) fn take(&self, partition: u32, offset: u64) {
        self.0.lock().insert(partition, offset);
    }

    /// A partition is folded here no more.
    pub(crate) fn let_go(&self, partition: u32) {
        self.0.lock().remove(&partition);
    }

    /// Everything below this offset is flushed.
    pub(crate) fn flushed(&self, partition: u32, offset: u64) {
        if let Some(flushed) = self.0.lock().get_mut(&partition) {
            *flushed = offset;
        }
    }

    /// Each partition with the offset below which all is flushed.
    pub(crate) fn list(&self) -> Vec<(u32, u64)> {
        self.0.lock().iter().map(|(partition, offset)| (*partition, *offset)).collect()
    }
}
