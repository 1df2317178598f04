//! A store in RAM that two fold workers can write to at the same time: what it costs is no part of the figures of the fold.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use pulso_platform::store::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};

/// Parts that are locked apart.
const PARTS: usize = 64;

/// The cells of a share of all keys. They are in order only when they are scanned, which is done once a run.
type Part = HashMap<Key, Cell, FixedState>;

/// Cells by their keys, each in the part that the key's partition names. A flush is done part by part, so it must be the only one
/// that writes what it compares.
pub struct RamStore(Vec<Mutex<Part>>);

impl RamStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }

    fn part(&self, table: Table, partition: &[u8]) -> &Mutex<Part> {
        &self.0[FixedState::default().hash_one((table, partition)) as usize % PARTS]
    }

    fn of(&self, key: &Key) -> &Mutex<Part> {
        self.part(key.table, &key.partition)
    }

    /// A higher version wins, also over one that comes later.
    fn put(&self, key: Key, cell: Cell) {
        let mut part = self.of(&key).lock();
        if part.get(&key).is_none_or(|stored| stored.version <= cell.version) {
            part.insert(key, cell);
        }
    }

    fn version(&self, key: &Key) -> u64 {
        self.of(key).lock().get(key).map_or(0, |cell| cell.version)
    }
}

impl Default for RamStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for RamStore {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        Ok(keys.iter().map(|key| self.of(key).lock().get(key).cloned()).collect())
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        let part = self.part(table, partition).lock();
        let is_in = |key: &Key| {
            (key.table, key.partition.as_slice()) == (table, partition)
                && key.clustering >= range.from
                && range.to.as_ref().is_none_or(|to| key.clustering < *to)
        };
        let found = part.iter().filter(|(key, _)| is_in(key));
        let mut found: Vec<_> = found.map(|(key, cell)| (key.clustering.clone(), cell.clone())).collect();
        found.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        if range.reverse {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        let Flush { cells, sets, checkpoint, removals } = flush;
        cells.into_iter().for_each(|(key, cell)| self.put(key, cell));
        for set in sets {
            if self.version(&set.key) != set.expected {
                return Ok(Flushed::Lost(set.key));
            }
            self.put(set.key, Cell { version: set.expected + 1, value: set.value });
        }
        checkpoint.into_iter().for_each(|(key, cell)| self.put(key, cell));
        for (key, version) in removals {
            if self.version(&key) <= version {
                self.of(&key).lock().remove(&key);
            }
        }
        Ok(Flushed::Done)
    }
}

#[cfg(test)]
mod tests {
    use pulso_platform::store::CompareAndSet;

    use super::*;

    fn cell(partition: u8, version: u64) -> (Key, Cell) {
        (Key::new(Table::Usage, [partition], [7]), Cell { version, value: vec![partition].into() })
    }

    #[test]
    fn what_is_flushed_is_read_back_and_a_lost_comparison_stops_what_is_behind_it() {
        let store = RamStore::new();
        let cells = (0..200).map(|partition| cell(partition, 3)).collect();
        assert_eq!(store.flush(Flush { cells, ..Flush::default() }).expect("writes"), Flushed::Done);
        for partition in 0..200 {
            let (key, cell) = cell(partition, 3);
            assert_eq!(store.get(&[key]).expect("reads"), [Some(cell.clone())]);
            let found = store.scan(Table::Usage, &[partition], &Range::all(), 9).expect("reads");
            assert_eq!(found, [(vec![7], cell)]);
        }
        let (key, _) = cell(0, 3);
        let sets = vec![CompareAndSet { key: key.clone(), expected: 2, value: vec![1].into() }];
        let checkpoint = vec![cell(201, 1)];
        let flush = Flush { sets, checkpoint, ..Flush::default() };
        assert_eq!(store.flush(flush).expect("answers"), Flushed::Lost(key));
        assert_eq!(store.get(&[cell(201, 1).0]).expect("reads"), [None], "the checkpoint is behind it");
    }
}
