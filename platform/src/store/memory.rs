//! The store of a test: the same promises as its siblings, kept in one ordered map and gone with the process.
//!
//! It stands where the embedded store would; the invariant is the one of [`Store`]: a higher version wins, a flush is
//! done as a whole or not at all.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Cell, CompareAndSet, Flush, Flushed, Key, Range, Store, StoreError, Table};

type Cells = BTreeMap<Key, Cell>;

/// A store in memory. A clone is the same store.
#[derive(Clone, Default, Debug)]
pub struct MemoryStore {
    cells: Arc<RwLock<Cells>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All that is in it, in order of table and key.
    #[must_use]
    pub fn contents(&self) -> Vec<(Key, Cell)> {
        self.cells.read().iter().map(|(key, cell)| (key.clone(), cell.clone())).collect()
    }
}

impl Store for MemoryStore {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        let cells = self.cells.read();
        Ok(keys.iter().map(|key| cells.get(key).cloned()).collect())
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        assert!(table.is_scanned(), "{table:?} is read by exact key only");
        if range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return Ok(Vec::new());
        }
        let from = Bound::Included(Key::new(table, partition, range.from.as_slice()));
        let to = range
            .to
            .as_ref()
            .map_or(Bound::Unbounded, |to| Bound::Excluded(Key::new(table, partition, to.as_slice())));
        let cells = self.cells.read();
        let here = |key: &Key| key.table == table && key.partition == partition;
        let owned = |(key, cell): (&Key, &Cell)| (key.clustering.clone(), cell.clone());
        if range.reverse {
            let beyond = |key: &Key| (key.table, key.partition.as_slice()) > (table, partition);
            let found = cells.range((from, to)).rev().skip_while(|(key, _)| beyond(key)).take(limit);
            return Ok(found.map(owned).collect());
        }
        Ok(cells.range((from, to)).take_while(|(key, _)| here(key)).take(limit).map(owned).collect())
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        let mut cells = self.cells.write();
        if let Some(lost) = first_lost(&cells, &flush.sets) {
            return Ok(Flushed::Lost(lost));
        }
        for (key, cell) in flush.cells {
            put(&mut cells, key, cell);
        }
        for set in flush.sets {
            cells.insert(set.key, Cell { version: set.expected + 1, value: set.value });
        }
        for (key, cell) in flush.checkpoint {
            put(&mut cells, key, cell);
        }
        for (key, version) in flush.removals {
            if cells.get(&key).is_some_and(|stored| stored.version <= version) {
                cells.remove(&key);
            }
        }
        Ok(Flushed::Done)
    }
}

/// The first compare-and-set that loses. One may build on another of the same flush that stands before it.
fn first_lost(cells: &Cells, sets: &[CompareAndSet]) -> Option<Key> {
    let mut versions: BTreeMap<&Key, u64> = BTreeMap::new();
    for set in sets {
        let stored = cells.get(&set.key).map_or(0, |cell| cell.version);
        let version = versions.entry(&set.key).or_insert(stored);
        if *version != set.expected {
            return Some(set.key.clone());
        }
        *version += 1;
    }
    None
}

fn put(cells: &mut Cells, key: Key, cell: Cell) {
    match cells.get_mut(&key) {
        None => {
            cells.insert(key, cell);
        }
        Some(stored) if stored.version <= cell.version => {
            debug_assert!(
                stored.version < cell.version || stored.value == cell.value,
                "two values at version {} of {key:?}",
                cell.version
            );
            *stored = cell;
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[test]
    fn the_memory_store_passes_the_conformance_suite() {
        conformance::run_all(&MemoryStore::new);
    }
}
