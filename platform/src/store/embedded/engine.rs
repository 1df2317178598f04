//! The opened engine: fjall's database with the keyspaces, and what its errors mean.
//!
//! Opening is where damage shows: journals are checked first, stamps and format afterwards. Nothing is served before.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::cell::encode_key;
use super::stamp::{Stamp, stamp_key};
use super::{EmbeddedOptions, FORMAT, KEYSPACES, REBUILD, cell, journal, manifest, tables};
use crate::store::{StoreError, Table, keys};

/// Rows, and all that is small: read one by one, written often.
const ROWS_MEMTABLE_BYTES: u64 = 32 << 20;
/// Runs, filters, directories, fates: read whole, and large.
const BLOBS_MEMTABLE_BYTES: u64 = 64 << 20;
/// A blob is read whole, so a block holds as much of one as a read-ahead of the disk.
const BLOBS_BLOCK_BYTES: u32 = 32 << 10;

/// The keyspace of a table, by the table's number: an index of [`KEYSPACES`].
pub(super) fn keyspace_of(table: u8) -> usize {
    let blobs = [Table::Runs, Table::RunFilters, Table::Directory, Table::Fates, Table::Archive];
    usize::from(blobs.iter().any(|blob| *blob as u8 == table))
}

/// The opened database.
pub(super) struct Engine {
    pub(super) database: Database,
    keyspaces: [Keyspace; KEYSPACES.len()],
}

impl Engine {
    /// Opens the folder, making it when it is not there, and returns the last flush in it.
    pub(super) fn open(path: &Path, options: &EmbeddedOptions) -> Result<(Self, u64), StoreError> {
        manifest::check(path)?;
        let journals = journal::check(path)?;
        if journals.cut_bytes > 0 {
            let bytes = journals.cut_bytes;
            tracing::warn!(bytes, "the end of the store's journal was torn and is cut; it is folded again");
        }
        // Damaged files can make the engine panic; that is damage too, not a broken invariant of this process.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_database(path, options)));
        let engine = opened.unwrap_or_else(|panic| Err(panicked(path, panic.as_ref())))?;
        tables::check_places(&engine)?;
        let flush = engine.last_flush(path, journals.last_flush)?;
        if flush == 0 {
            engine.create()?;
            return Ok((engine, 1));
        }
        engine.check_format()?;
        Ok((engine, flush))
    }

    fn open_database(path: &Path, options: &EmbeddedOptions) -> Result<Self, StoreError> {
        let failed = |error: fjall::Error| explain(path, &error);
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            // Most of it are hashes, which nothing makes smaller.
            .journal_compression(CompressionType::None)
            .worker_threads(2)
            .open()
            .map_err(failed)?;
        let rows = KeyspaceCreateOptions::default().max_memtable_size(ROWS_MEMTABLE_BYTES);
        // Blobs are dense already; compressing them again costs time and gains nothing.
        let blobs = KeyspaceCreateOptions::default()
            .max_memtable_size(BLOBS_MEMTABLE_BYTES)
            .data_block_size_policy(BlockSizePolicy::all(BLOBS_BLOCK_BYTES))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None));
        let rows = database.keyspace(KEYSPACES[0], || rows).map_err(failed)?;
        let blobs = database.keyspace(KEYSPACES[1], || blobs).map_err(failed)?;
        Ok(Self { database, keyspaces: [rows, blobs] })
    }

    /// The keyspace that holds a table.
    pub(super) fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[keyspace_of(table as u8)]
    }

    /// All keyspaces, each with the key of its stamp.
    pub(super) fn keyspaces(&self) -> impl Iterator<Item = ([u8; 2], &Keyspace)> {
        (0..).map(stamp_key).zip(&self.keyspaces)
    }

    fn last_flush(&self, path: &Path, in_journals: Option<u64>) -> Result<u64, StoreError> {
        let mut flushes = [0; KEYSPACES.len()];
        for (flush, (key, keyspace)) in flushes.iter_mut().zip(self.keyspaces()) {
            if let Some(stored) = keyspace.get(key).map_err(|error| explain(path, &error))? {
                *flush = Stamp::decode(key, &stored)?.flush;
            }
        }
        let last = in_journals.unwrap_or(flushes[0]);
        if flushes.iter().any(|flush| *flush != last) {
            let detail =
                format!("it is torn: its parts stand at flush {flushes:?}, its journal at {last}; {REBUILD}");
            return Err(StoreError::Damaged { place: path.display().to_string(), detail });
        }
        Ok(last)
    }

    /// Writes the format and the first stamp.
    fn create(&self) -> Result<(), StoreError> {
        let key = encode_key(&keys::meta("format"))?;
        let mut batch = self.database.batch();
        batch.insert(
            self.keyspace(Table::Meta),
            key.clone(),
            cell::encode_cell(&key, 1, &FORMAT.to_be_bytes()),
        );
        self.commit(batch, 1)?;
        self.sync()
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let key = encode_key(&keys::meta("format"))?;
        let damaged = |detail: &str| {
            let detail = format!("{detail}; {REBUILD}");
            StoreError::Damaged { place: "the store's format".to_owned(), detail }
        };
        let stored = self.keyspace(Table::Meta).get(&key).map_err(|error| self.explain(&error))?;
        let stored = stored.ok_or_else(|| damaged("it is not there"))?;
        let (_, value) = cell::decode(&key, &stored)?;
        let found = value.try_into().map(u32::from_be_bytes).map_err(|_| damaged("it has another length"))?;
        if found > FORMAT {
            return Err(StoreError::NeedsUpgrade { found, supported: FORMAT });
        }
        Ok(())
    }

    /// Commits a batch as this flush: after it, a kill of the process loses nothing of it.
    pub(super) fn commit(&self, mut batch: fjall::OwnedWriteBatch, flush: u64) -> Result<(), StoreError> {
        let stamp = Stamp { flush, sequence_min: self.database.seqno() };
        for (key, keyspace) in self.keyspaces() {
            batch.insert(keyspace, key, stamp.encode(key));
        }
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(|error| self.explain(&error))
    }

    /// Makes all flushes so far survive a loss of power.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(|error| self.explain(&error))
    }

    /// Whether it takes no writes any more, after one failed.
    pub(super) fn is_poisoned(&self) -> bool {
        matches!(self.database.persist(PersistMode::Buffer), Err(fjall::Error::Poisoned))
    }

    /// What an error of the engine means.
    pub(super) fn explain(&self, error: &fjall::Error) -> StoreError {
        explain(self.keyspaces[0].path(), error)
    }
}

fn explain(path: &Path, error: &fjall::Error) -> StoreError {
    let place = path.display();
    let io = match error {
        fjall::Error::Io(io) => Some(io),
        fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io),
        _ => None,
    };
    match (error, io.map(std::io::Error::kind)) {
        (fjall::Error::Locked, _) => {
            StoreError::Unavailable(format!("{place} is open in another process; stop that one first"))
        }
        (fjall::Error::Poisoned, _) => {
            StoreError::Unavailable(format!("a write to {place} failed before; it is opened again"))
        }
        (_, Some(kind)) if !is_damage(kind) => StoreError::Unavailable(format!("{place}: {error}")),
        _ => StoreError::Damaged { place: place.to_string(), detail: format!("{error}; {REBUILD}") },
    }
}

/// Kinds of I/O errors that mean that the files are not what was written.
fn is_damage(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
    matches!(kind, InvalidData | InvalidInput | NotFound | UnexpectedEof)
}

/// A panic of the engine, as damage.
pub(super) fn panicked(path: &Path, panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    StoreError::Damaged { place: path.display().to_string(), detail: format!("{text}; {REBUILD}") }
}
