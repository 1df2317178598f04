//! The store: what the fold and the pricing made of the log. Two siblings implement [`Store`]: the embedded one here,
//! and ScyllaDB or Apache Cassandra. Both pass the same conformance suite.
//!
//! It keeps *cells*: a value under (table, partition key, clustering key) with a version. A higher version wins, whatever
//! the order of arrival; equal versions carry equal bytes by the fold's design. That one rule is what makes a zombie or
//! a late write harmless, and it is all that a store decides.

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(feature = "cql")]
pub mod cql;
pub mod embedded;
pub mod identity;
pub mod keys;
pub mod memory;

use bytes::Bytes;

/// The tables. What stands in each cell's key and value is said where it is encoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// One cell per setting of the store itself: format, hash key.
    Meta = 1,
    /// Usage rows: tenant and month / level, window, SKU, unit, region.
    Usage = 2,
    /// Progress of each partition.
    Progress = 3,
    /// Chain digest and counts at each range border: partition / rank.
    Borders = 4,
    /// Cells of id runs: partition, level, start / prefix.
    Runs = 5,
    /// Filters of id runs: partition, level, start / prefix.
    RunFilters = 6,
    /// The list of complete id runs of each partition; by compare-and-set only.
    RunLists = 7,
    /// Which records of a range hold a tenant's pulses: tenant / rank of the range.
    Directory = 8,
    /// Pulses of a record that were not counted: partition, range / offset.
    Fates = 9,
    /// Dead letters: partition / rank, index.
    DeadLetters = 10,
    /// Which tenants and tenant-months exist: kind / tenant, month.
    Tenants = 11,
    /// Requests to read again: partition.
    Rewinds = 12,
    /// Catalog versions: the catalog / version; its head by compare-and-set.
    Catalog = 13,
    /// Published charge sets: tenant / month; by compare-and-set only.
    Charges = 14,
    /// Final invoices: tenant / period; by compare-and-set only.
    Invoices = 15,
    /// How far pricing has come in each partition.
    Rated = 16,
    /// Original names of tenants that an importer mapped: source / tenant.
    TenantSources = 17,
    /// Folded records, compressed; in the cluster, where the log forgets: partition, range / rank.
    Archive = 18,
    /// What was done about dead letters: partition / rank, index, time, place of the action in the log.
    LetterActions = 19,
}

impl Table {
    /// All of them, for whoever makes them.
    pub const ALL: [Self; 19] = [
        Self::Meta,
        Self::Usage,
        Self::Progress,
        Self::Borders,
        Self::Runs,
        Self::RunFilters,
        Self::RunLists,
        Self::Directory,
        Self::Fates,
        Self::DeadLetters,
        Self::Tenants,
        Self::Rewinds,
        Self::Catalog,
        Self::Charges,
        Self::Invoices,
        Self::Rated,
        Self::TenantSources,
        Self::Archive,
        Self::LetterActions,
    ];

    /// Whether its partitions can be scanned. The others are read by exact key only, so that a store may cut a large
    /// partition into pieces without knowing which pieces there are.
    #[must_use]
    pub const fn is_scanned(self) -> bool {
        !matches!(self, Self::Runs | Self::RunFilters | Self::Borders | Self::Archive)
    }
}

/// Names a cell.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Which table.
    pub table: Table,
    /// Cells of one partition lie together and can be scanned in order.
    pub partition: Vec<u8>,
    /// The order within the partition, bytewise.
    pub clustering: Vec<u8>,
}

impl Key {
    /// A cell's name.
    #[must_use]
    pub fn new(table: Table, partition: impl Into<Vec<u8>>, clustering: impl Into<Vec<u8>>) -> Self {
        Self { table, partition: partition.into(), clustering: clustering.into() }
    }
}

/// The greatest version. A store may take versions as times in microseconds, and refuse a time that lies in the future; this
/// one lies in 2005, and leaves room for 1,023 generations of ranks.
pub const VERSION_MAX: u64 = (1 << 50) - 1;

/// A value with the version it was written at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    /// For what the fold writes, a rank; for what changes by compare-and-set, a count from 1. At most [`VERSION_MAX`].
    pub version: u64,
    /// The bytes.
    pub value: Bytes,
}

/// A part of one partition, by clustering key; half-open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// The first key; empty for the beginning.
    pub from: Vec<u8>,
    /// The first key beyond; `None` for the end.
    pub to: Option<Vec<u8>>,
    /// Whether the last keys come first.
    pub reverse: bool,
}

impl Range {
    /// The whole partition.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// All keys that begin with the prefix.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: after_prefix(prefix), reverse: false }
    }

    /// From a key (inclusive) to another (exclusive).
    #[must_use]
    pub fn between(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self { from: from.into(), to: Some(to.into()), reverse: false }
    }
}

/// The first key behind all that begin with the prefix; `None` when there is none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

/// A change by compare-and-set: takes place only if the cell's version is still the expected one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompareAndSet {
    /// The cell.
    pub key: Key,
    /// Its version when it was read; 0 when it did not exist.
    pub expected: u64,
    /// What to put there; its version becomes `expected + 1`.
    pub value: Bytes,
}

/// What one flush makes durable, in the order of the one ordering rule: every cell before any list, every list before
/// the checkpoint. The embedded store does all of it in one atomic batch.
#[derive(Clone, Default, Debug)]
pub struct Flush {
    /// Rows, runs, filters, directories, fates, dead letters.
    pub cells: Vec<(Key, Cell)>,
    /// Changes by compare-and-set. If one loses, nothing behind it is done.
    pub sets: Vec<CompareAndSet>,
    /// Progress and what goes with it.
    pub checkpoint: Vec<(Key, Cell)>,
    /// Cells to remove by exact key, each at the version it is known by; a newer one stays.
    pub removals: Vec<(Key, u64)>,
}

/// What became of a flush.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// All of it is durable.
    Done,
    /// This compare-and-set lost: read the cell again. The checkpoint was not written.
    Lost(Key),
}

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not now; the caller waits and tries again. What was written may or may not be there.
    #[error("the store cannot be used now ({0})")]
    Unavailable(String),
    /// Bytes are not what was written.
    #[error("the store is damaged at {place}: {detail}")]
    Damaged {
        /// The table and key.
        place: String,
        /// What was found.
        detail: String,
    },
    /// The store was made by a newer version.
    #[error("the store has format {found}, this binary reads up to {supported}; start a newer one")]
    NeedsUpgrade {
        /// The version found.
        found: u32,
        /// The newest version known.
        supported: u32,
    },
    /// It cannot be used like this, and a second try changes nothing: wrong settings, or a cell that it does not take.
    #[error("the store refuses: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The store. Cheap to share; all methods may be called from any thread, and block.
pub trait Store: Send + Sync + 'static {
    /// Reads cells, in the order asked; `None` for one that does not exist. Sees every write that returned before.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError>;

    /// Reads at most `limit` cells of one partition in order, as (clustering key, cell). Only of tables that
    /// [can be scanned](Table::is_scanned).
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError>;

    /// Makes a flush durable. A cell whose stored version is higher keeps it.
    ///
    /// # Errors
    /// When it is not sure that everything is durable; the same flush may be sent again.
    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError>;
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        (**self).get(keys)
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        (**self).scan(table, partition, range, limit)
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        (**self).flush(flush)
    }
}
