//! A store within a store, for tests against real servers: making tables takes seconds, so that tests share them, and each
//! keeps to partitions of its own.

use std::sync::Arc;

use uuid::Uuid;

use crate::store::{Cell, CompareAndSet, Flush, Flushed, Key, Range, Store, StoreError, Table};

/// An empty store: partitions of a shared one that nobody else uses. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Apart<S> {
    store: Arc<S>,
    prefix: [u8; 16],
}

impl<S: Store> Apart<S> {
    /// Another one.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self { store, prefix: Uuid::new_v4().into_bytes() }
    }

    /// The same cells, through another connection.
    #[must_use]
    pub fn through<T: Store>(&self, store: Arc<T>) -> Apart<T> {
        Apart { store, prefix: self.prefix }
    }

    fn outside(&self, key: &Key) -> Key {
        // How a cell of the catalog changes depends on its partition, so that its clustering key is what sets it apart.
        if key.table == Table::Catalog {
            let clustering = [self.prefix.as_slice(), &key.clustering].concat();
            return Key::new(key.table, key.partition.as_slice(), clustering);
        }
        Key::new(key.table, self.partition(&key.partition), key.clustering.as_slice())
    }

    fn inside(&self, key: Key) -> Key {
        let cut = |bytes: &[u8]| bytes[self.prefix.len()..].to_vec();
        if key.table == Table::Catalog {
            return Key { clustering: cut(&key.clustering), ..key };
        }
        Key { partition: cut(&key.partition), ..key }
    }

    fn partition(&self, partition: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), partition].concat()
    }
}

impl<S: Store> Store for Apart<S> {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        self.store.get(&keys.iter().map(|key| self.outside(key)).collect::<Vec<_>>())
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        self.store.scan(table, &self.partition(partition), range, limit)
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        let cell = |(key, cell): &(Key, Cell)| (self.outside(key), cell.clone());
        let set = |set: &CompareAndSet| CompareAndSet { key: self.outside(&set.key), ..set.clone() };
        let outside = Flush {
            cells: flush.cells.iter().map(cell).collect(),
            sets: flush.sets.iter().map(set).collect(),
            checkpoint: flush.checkpoint.iter().map(cell).collect(),
            removals: flush.removals.iter().map(|(key, version)| (self.outside(key), *version)).collect(),
        };
        Ok(match self.store.flush(outside)? {
            Flushed::Lost(key) => Flushed::Lost(self.inside(key)),
            Flushed::Done => Flushed::Done,
        })
    }
}
