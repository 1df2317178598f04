//! Writing a flush in its order: lists of buckets, cells, sets, the checkpoint, removals; each confirmed before the next.

use futures::stream::{self, StreamExt, TryStreamExt};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::Inner;
use super::layout::{self, BUCKET_LIST, Home};
use super::session::unavailable;
use super::statements::Verb;
use crate::store::{Cell, Flush, Flushed, Key, StoreError, VERSION_MAX, keys};

/// The largest value. A request of 16 MiB is refused by Apache Cassandra, a mutation of more by ScyllaDB; usual values
/// stay below 1 MiB.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// Bytes of one batch: a batch is one mutation of one partition, which the servers hold in memory as a whole.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Cells of one batch.
const BATCH_CELLS_MAX: usize = 128;
/// What a cell costs in a batch beside its keys and its value.
const CELL_BYTES: usize = 32;
/// Writes of one call under way at once.
const WRITES: usize = 64;
/// More listed buckets than this are not remembered: then they are written again, which does no harm.
const LISTED_MAX: usize = 100_000;
/// The version of an entry in a list of buckets, which never changes.
const LISTED_VERSION: i64 = 1;

/// A write of one cell at a version; without a value its removal.
#[derive(Clone, Copy)]
struct Write<'f> {
    home: Home,
    partition: &'f [u8],
    bucket: i64,
    clustering: &'f [u8],
    version: i64,
    value: Option<&'f [u8]>,
}

impl<'f> Write<'f> {
    /// What a removal says.
    fn name(&self) -> (i64, &'f [u8], i64, &'f [u8]) {
        (self.version, self.partition, self.bucket, self.clustering)
    }

    fn bytes(&self) -> usize {
        let keys = self.partition.len() + self.clustering.len();
        keys + self.value.map_or(0, <[u8]>::len) + CELL_BYTES
    }
}

/// Refuses what CQL cannot hold or would mix up, before anything is written.
pub(super) fn check(flush: &Flush) -> Result<(), StoreError> {
    let cells = || flush.cells.iter().chain(&flush.checkpoint);
    let removed = flush.removals.iter().map(|(key, version)| (key, *version));
    for (key, version) in cells().map(|(key, cell)| (key, cell.version)).chain(removed) {
        if keys::changes_by_set(key.table, &key.partition) {
            return Err(refuse(key, "it changes by compare-and-set only"));
        }
        if version > VERSION_MAX {
            return Err(refuse(key, &format!("version {version} is above {VERSION_MAX}")));
        }
    }
    for set in &flush.sets {
        if !keys::changes_by_set(set.key.table, &set.key.partition) {
            return Err(refuse(&set.key, "it never changes by compare-and-set"));
        }
    }
    let values = cells().map(|(key, cell)| (key, cell.value.len()));
    for (key, bytes) in values.chain(flush.sets.iter().map(|set| (&set.key, set.value.len()))) {
        if bytes > VALUE_BYTES_MAX {
            return Err(refuse(key, &format!("a value of {bytes} bytes is above {VALUE_BYTES_MAX}")));
        }
    }
    Ok(())
}

fn refuse(key: &Key, why: &str) -> StoreError {
    StoreError::Refused(format!("{}: {why}", layout::place(key)))
}

impl Inner {
    pub(super) async fn flush(&self, flush: &Flush) -> Result<Flushed, StoreError> {
        self.list_buckets(flush).await?;
        self.write(flush.cells.iter().map(put).collect()).await?;
        for set in &flush.sets {
            if !self.set(set).await? {
                return Ok(Flushed::Lost(set.key.clone()));
            }
        }
        self.write(flush.checkpoint.iter().map(put).collect()).await?;
        self.write(flush.removals.iter().map(remove).collect()).await?;
        Ok(Flushed::Done)
    }

    /// Enters the buckets of the flush in the lists of their partitions, before any cell stands in one.
    async fn list_buckets(&self, flush: &Flush) -> Result<(), StoreError> {
        let mut new = Vec::new();
        {
            let listed = self.listed_buckets.lock();
            for (key, _) in flush.cells.iter().chain(&flush.checkpoint) {
                if !layout::has_bucket_list(key.table) {
                    continue;
                }
                let bucket = layout::bucket(key.table, &key.clustering);
                let name = (key.table, key.partition.clone(), bucket);
                if !listed.contains(&name) {
                    new.push((name, bucket.to_be_bytes()));
                }
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let writes = new.iter().map(|((table, partition, _), clustering)| Write {
            home: layout::home(*table, partition),
            partition,
            bucket: BUCKET_LIST,
            clustering,
            version: LISTED_VERSION,
            value: Some(&[]),
        });
        self.write(writes.collect()).await?;
        let mut listed = self.listed_buckets.lock();
        if listed.len() > LISTED_MAX {
            listed.clear();
        }
        listed.extend(new.into_iter().map(|(name, _)| name));
        Ok(())
    }

    /// Writes cells in any order; all are confirmed when it returns.
    async fn write(&self, mut writes: Vec<Write<'_>>) -> Result<(), StoreError> {
        writes.sort_by_key(place);
        let batches: Vec<&[Write<'_>]> =
            writes.chunk_by(|left, right| place(left) == place(right)).flat_map(cut).collect();
        let send = |batch| self.send(batch);
        stream::iter(batches).map(Ok).try_for_each_concurrent(WRITES, send).await
    }

    /// Sends writes of one bucket, as one mutation.
    async fn send(&self, writes: &[Write<'_>]) -> Result<(), StoreError> {
        let Some(first) = writes.first() else { return Ok(()) };
        let verb = if first.value.is_some() { Verb::Put } else { Verb::Remove };
        let statement = self.statements.get(&self.session, first.home, verb).await?;
        let _flight = self.take_off(writes.iter().map(Write::bytes).sum()).await?;
        let sent = match (writes, first.value) {
            ([one], Some(value)) => {
                let values = (one.version, value, one.partition, one.bucket, one.clustering);
                self.session.execute_unpaged(statement, values).await
            }
            ([one], None) => self.session.execute_unpaged(statement, one.name()).await,
            (_, Some(_)) => {
                let values: Vec<_> = writes
                    .iter()
                    .map(|write| {
                        (write.version, write.value, write.partition, write.bucket, write.clustering)
                    })
                    .collect();
                self.session.batch(&batch(statement, writes.len()), values).await
            }
            (_, None) => {
                let values: Vec<_> = writes.iter().map(Write::name).collect();
                self.session.batch(&batch(statement, writes.len()), values).await
            }
        };
        sent.map(drop).map_err(|error| unavailable(&error))
    }
}

/// The same statement several times, with its own timestamp each time. Unlogged: within one partition it is one mutation.
fn batch(statement: &PreparedStatement, length: usize) -> Batch {
    let statements = vec![BatchStatement::PreparedStatement(statement.clone()); length];
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
    batch.set_is_idempotent(true);
    batch
}

fn put((key, cell): &(Key, Cell)) -> Write<'_> {
    write(key, cell.version, Some(&cell.value))
}

fn remove((key, version): &(Key, u64)) -> Write<'_> {
    write(key, *version, None)
}

fn write<'f>(key: &'f Key, version: u64, value: Option<&'f [u8]>) -> Write<'f> {
    Write {
        home: layout::home(key.table, &key.partition),
        partition: &key.partition,
        bucket: layout::bucket(key.table, &key.clustering),
        clustering: &key.clustering,
        version: version.cast_signed(),
        value,
    }
}

/// What writes of one batch have in common.
fn place<'f>(write: &Write<'f>) -> (usize, &'f [u8], i64) {
    (write.home.slot, write.partition, write.bucket)
}

/// Cuts writes of one bucket into batches.
fn cut<'w, 'f>(writes: &'w [Write<'f>]) -> Vec<&'w [Write<'f>]> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (number, write) in writes.iter().enumerate() {
        let full = number - begin == BATCH_CELLS_MAX || bytes + write.bytes() > BATCH_BYTES_MAX;
        if full && number > begin {
            batches.push(&writes[begin..number]);
            (begin, bytes) = (number, 0);
        }
        bytes += write.bytes();
    }
    batches.push(&writes[begin..]);
    batches
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::{CompareAndSet, Table};

    fn cell(key: Key, version: u64, bytes: usize) -> (Key, Cell) {
        (key, Cell { version, value: Bytes::from(vec![7; bytes]) })
    }

    #[test]
    fn batches_hold_bounded_bytes_and_cells_and_every_write_once() {
        let sizes = [10, 70_000, 10, 30_000, 30_000, 10].into_iter().chain(std::iter::repeat_n(1, 300));
        let cells: Vec<_> = sizes.map(|bytes| cell(Key::new(Table::Usage, "t", "row"), 1, bytes)).collect();
        let writes: Vec<Write<'_>> = cells.iter().map(put).collect();
        let batches = cut(&writes);
        assert_eq!(batches.iter().map(|batch| batch.len()).sum::<usize>(), writes.len());
        for batch in &batches {
            let bytes: usize = batch.iter().map(Write::bytes).sum();
            assert!(batch.len() <= BATCH_CELLS_MAX && (bytes <= BATCH_BYTES_MAX || batch.len() == 1));
        }
        assert_eq!(batches[1].len(), 1, "what is larger than a batch goes alone");
    }

    #[test]
    fn what_cql_would_mix_up_or_cannot_hold_is_refused() {
        let set = |key| CompareAndSet { key, expected: 0, value: Bytes::new() };
        let row = || Key::new(Table::Usage, "t", "row");
        let list = || keys::run_list(3);
        let refused = [
            Flush { cells: vec![cell(list(), 1, 1)], ..Flush::default() },
            Flush { checkpoint: vec![cell(keys::catalog_head(), 1, 1)], ..Flush::default() },
            Flush { removals: vec![(list(), 1)], ..Flush::default() },
            Flush { sets: vec![set(row())], ..Flush::default() },
            Flush { cells: vec![cell(row(), VERSION_MAX + 1, 1)], ..Flush::default() },
            Flush { cells: vec![cell(row(), 1, VALUE_BYTES_MAX + 1)], ..Flush::default() },
        ];
        for flush in refused {
            let error = check(&flush).unwrap_err();
            assert!(matches!(error, StoreError::Refused(_)), "{error}");
        }
        let cells = vec![cell(row(), VERSION_MAX, VALUE_BYTES_MAX), cell(keys::catalog_version(1), 1, 1)];
        check(&Flush { cells, sets: vec![set(list()), set(keys::catalog_head())], ..Flush::default() })
            .unwrap();
    }
}
