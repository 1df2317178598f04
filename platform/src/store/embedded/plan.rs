//! Turns a flush into one batch: what wins, what is spared, what is not written at all.
//!
//! Only one writer plans at a time, so that what it compares with is still so when the batch is committed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cell::{decode, encode_cell, encode_key};
use super::engine::Engine;
use super::versions::{KeyHash, Versions};
use crate::store::{Cell, CompareAndSet, Flush, Key, StoreError, Table};

/// A flush as a batch, or the key whose compare-and-set lost.
pub(super) enum Plan {
    /// Commit this one.
    Batch(Planned),
    /// Write nothing.
    Lost(Key),
}

/// What is written, and what is known once it is.
pub(super) struct Planned {
    pub(super) batch: fjall::OwnedWriteBatch,
    pub(super) committed: Committed,
}

/// What is known once a batch is committed.
pub(super) struct Committed {
    written: Vec<(KeyHash, u64)>,
    removed: Vec<KeyHash>,
}

impl Committed {
    /// Takes note of the versions, once the batch is committed.
    pub(super) fn note(self, versions: &mut Versions) {
        self.written.into_iter().for_each(|(key, version)| versions.set(key, version));
        self.removed.into_iter().for_each(|key| versions.forget(key));
    }
}

/// One cell to write.
struct Write {
    table: Table,
    key: Vec<u8>,
    hash: KeyHash,
    version: u64,
    value: Bytes,
}

/// Plans a flush.
pub(super) fn plan(engine: &Engine, versions: &Versions, flush: Flush) -> Result<Plan, StoreError> {
    if let Some(lost) = first_lost(engine, &flush.sets)? {
        return Ok(Plan::Lost(lost));
    }
    let mut writes = collect(versions, flush.cells.into_iter().chain(flush.checkpoint), flush.sets)?;
    spare_newer(engine, versions, &mut writes)?;
    let removals = removable(engine, versions, &mut writes, &flush.removals)?;
    let written = writes.iter().map(|write| (write.hash, write.version)).collect();
    let mut batch =
        fjall::OwnedWriteBatch::with_capacity(engine.database.clone(), writes.len() + removals.len() + 2);
    for write in writes {
        let value = encode_cell(&write.key, write.version, &write.value);
        batch.insert(engine.keyspace(write.table), write.key, value);
    }
    let removed = removals.keys().map(|key| versions.hash(key)).collect();
    for (key, table) in removals {
        batch.remove(engine.keyspace(table), key);
    }
    Ok(Plan::Batch(Planned { batch, committed: Committed { written, removed } }))
}

/// The first compare-and-set that loses. One may build on another of the same flush that stands before it.
fn first_lost(engine: &Engine, sets: &[CompareAndSet]) -> Result<Option<Key>, StoreError> {
    let mut versions: BTreeMap<&Key, u64> = BTreeMap::new();
    for set in sets {
        let stored = stored_version(engine, set.key.table, &encode_key(&set.key)?)?;
        let version = versions.entry(&set.key).or_insert(stored.unwrap_or(0));
        if *version != set.expected {
            return Ok(Some(set.key.clone()));
        }
        *version += 1;
    }
    Ok(None)
}

/// All cells in the order given, each key once, at its highest version.
fn collect(
    versions: &Versions,
    cells: impl Iterator<Item = (Key, Cell)>,
    sets: Vec<CompareAndSet>,
) -> Result<Vec<Write>, StoreError> {
    let sets = sets.into_iter().map(|set| (set.key, Cell { version: set.expected + 1, value: set.value }));
    let mut writes = Vec::with_capacity(cells.size_hint().0 + sets.len());
    for (key, cell) in cells.chain(sets) {
        let Cell { version, value } = cell;
        let (table, key) = (key.table, encode_key(&key)?);
        writes.push(Write { table, hash: versions.hash(&key), key, version, value });
    }
    // The highest version of a key comes last; of equal ones the last given.
    let mut order: Vec<_> =
        (0..).zip(&writes).map(|(place, write)| (write.hash, write.version, place)).collect();
    order.sort_unstable();
    let mut older: Vec<usize> =
        order.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].2).collect();
    older.sort_unstable();
    let mut older = older.into_iter().peekable();
    let mut place = 0;
    writes.retain(|_| {
        let is_newest = older.next_if_eq(&place).is_none();
        place += 1;
        is_newest
    });
    Ok(writes)
}

/// Leaves out every cell of which a newer one is stored.
fn spare_newer(engine: &Engine, versions: &Versions, writes: &mut Vec<Write>) -> Result<(), StoreError> {
    let mut failed = None;
    writes.retain(|write| match wins(engine, versions, write) {
        Ok(wins) => wins,
        Err(error) => {
            failed.get_or_insert(error);
            false
        }
    });
    failed.map_or(Ok(()), Err)
}

fn wins(engine: &Engine, versions: &Versions, write: &Write) -> Result<bool, StoreError> {
    if let Some(stored) = versions.get(write.hash) {
        return Ok(stored <= write.version);
    }
    let stored = engine.keyspace(write.table).get(&write.key).map_err(|error| engine.explain(&error))?;
    let Some(stored) = stored else { return Ok(true) };
    let (version, value) = decode(&write.key, &stored)?;
    debug_assert!(
        version != write.version || value == write.value,
        "two values at version {version} of table {:?}, key {:?}",
        write.table,
        write.key
    );
    Ok(version <= write.version)
}

/// The keys to remove: those that are stored, or about to be, at a version that is not above the given one.
fn removable(
    engine: &Engine,
    versions: &Versions,
    writes: &mut Vec<Write>,
    removals: &[(Key, u64)],
) -> Result<BTreeMap<Vec<u8>, Table>, StoreError> {
    let mut removable = BTreeMap::new();
    for (key, version) in removals {
        let encoded = encode_key(key)?;
        let hash = versions.hash(&encoded);
        if let Some(found) = writes.iter().position(|write| write.hash == hash) {
            if writes[found].version > *version {
                continue;
            }
            writes.remove(found);
        }
        let stored = stored_version(engine, key.table, &encoded)?;
        if stored.is_some_and(|stored| stored <= *version) {
            removable.insert(encoded, key.table);
        }
    }
    Ok(removable)
}

fn stored_version(engine: &Engine, table: Table, key: &[u8]) -> Result<Option<u64>, StoreError> {
    let stored = engine.keyspace(table).get(key).map_err(|error| engine.explain(&error))?;
    stored.map(|stored| decode(key, &stored).map(|(version, _)| version)).transpose()
}
