//! A store in RAM that two fold workers can write to at the same time: what it costs is no part of the figures of the fold.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};

/// Parts that are locked apart.
const PARTS: usize = 64;

/// Many stores in memory, each with its share of the partitions of all tables. A flush is done part by part, so it must be
/// the only one that writes what it compares.
pub struct RamStore(Vec<MemoryStore>);

impl RamStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self((0..PARTS).map(|_| MemoryStore::new()).collect())
    }

    fn place(table: Table, partition: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        (table, partition).hash(&mut hasher);
        hasher.finish() as usize % PARTS
    }

    fn of(key: &Key) -> usize {
        Self::place(key.table, &key.partition)
    }

    /// Flushes what `share` puts into the parts.
    fn write(&self, share: impl FnOnce(&mut [Flush])) -> Result<Flushed, StoreError> {
        let mut parts: Vec<Flush> = (0..PARTS).map(|_| Flush::default()).collect();
        share(&mut parts);
        for (store, flush) in self.0.iter().zip(parts) {
            if let Flushed::Lost(key) = store.flush(flush)? {
                return Ok(Flushed::Lost(key));
            }
        }
        Ok(Flushed::Done)
    }
}

impl Default for RamStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for RamStore {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        keys.iter()
            .map(|key| Ok(self.0[Self::of(key)].get(std::slice::from_ref(key))?.pop().flatten()))
            .collect()
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        self.0[Self::place(table, partition)].scan(table, partition, range, limit)
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        let Flush { cells, sets, checkpoint, removals } = flush;
        self.write(|parts| cells.into_iter().for_each(|cell| parts[Self::of(&cell.0)].cells.push(cell)))?;
        let compared =
            self.write(|parts| sets.into_iter().for_each(|set| parts[Self::of(&set.key)].sets.push(set)))?;
        if let Flushed::Lost(key) = compared {
            return Ok(Flushed::Lost(key));
        }
        self.write(|parts| {
            checkpoint.into_iter().for_each(|cell| parts[Self::of(&cell.0)].checkpoint.push(cell));
            removals.into_iter().for_each(|removal| parts[Self::of(&removal.0)].removals.push(removal));
        })
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
