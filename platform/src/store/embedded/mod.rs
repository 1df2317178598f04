//! The embedded store: fjall, a log-structured store in this process, under the trait of [`crate::store`].
//!
//! **Durability.** In the one-process shape the log is the truth and the store follows it. A flush returns once the
//! operating system has it, so that a kill of the process loses nothing; it is synced to the disk at most every
//! [`EmbeddedOptions::sync_every`], at once when it holds what people entered ([`Table::Meta`], [`Table::Catalog`],
//! [`Table::Invoices`], [`Table::Rewinds`], [`Table::TenantSources`]), and when the store is closed. After a loss of
//! power an older state may be found, and it is one that was: `progress` goes back together with all the rest, and the
//! records behind it are folded again. That holds because of how fjall works (read in its source, 3.1.13):
//!
//! - all keyspaces share one journal; a batch is one entry in it, ended by a checksum, and is replayed whole or not;
//! - a journal is replayed up to the first batch that is not whole, the rest is cut;
//! - before the contents of memory go into a table file, the journal is synced (`worker_pool.rs`), so no table is ever
//!   ahead of the journal on the disk; before a new journal is begun the old one is synced (`writer.rs`, `rotate`), so
//!   only the newest can have a torn tail.
//!
//! What it does not check itself is checked before it opens (`manifest.rs`, `journal.rs`, `tables.rs`), and by a stamp in each keyspace
//! after.
//!
//! **Damage.** Every value carries a checksum over its key, version and bytes, checked at every read: a flipped or
//! swapped value is [`StoreError::Damaged`], never served. **Writes that fail** (a full disk) leave fjall unwilling to
//! write; reads go on, and the next flush that finds room opens it again.

mod cell;
mod engine;
mod input;
mod journal;
mod manifest;
mod plan;
mod stamp;
mod tables;
#[cfg(test)]
mod tests;
mod versions;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fjall::Readable;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};
use cell::{decode_cell, encode_key, encode_partition, encode_range};
use engine::Engine;
use plan::{Plan, Planned};
use versions::Versions;

/// The format of keys and values.
const FORMAT: u32 = 1;
/// The keyspaces: what is small, and what is large.
const KEYSPACES: [&str; 2] = ["rows", "blobs"];
/// What helps against any damage.
const REBUILD: &str = "stop, remove the folder of the store, start: it is folded again from the log";
/// With less room than this on the disk a store that failed to write is not opened again.
const ROOM_BYTES_MIN: u64 = 4 << 20;
/// More memory tables waiting for the disk than this, and a flush waits for them first: fjall itself would wait
/// without an end if its own writer has failed meanwhile.
const WAITING_TABLES_MAX: usize = 2;

/// How the embedded store is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// A flush is synced when the last sync was this long ago.
    pub sync_every: Duration,
    /// Memory for blocks that were read.
    pub cache_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { sync_every: Duration::from_secs(1), cache_bytes: 64 << 20 }
    }
}

/// The embedded store. One process at a time holds its folder.
pub struct EmbeddedStore {
    path: PathBuf,
    options: EmbeddedOptions,
    /// `None` while it could not be opened again.
    engine: RwLock<Option<Engine>>,
    writer: Mutex<Writer>,
}

/// What the one writer knows.
struct Writer {
    /// The last flush.
    flush: u64,
    synced_at: Instant,
    /// Whether something waits for a sync.
    dirty: bool,
    /// What is stored, of what was written lately.
    versions: Versions,
}

impl EmbeddedStore {
    /// Opens the store in this folder, and makes it when it is not there.
    ///
    /// # Errors
    /// When the folder is held by another process, cannot be read, is damaged or of a newer format.
    pub fn open(path: impl Into<PathBuf>, options: EmbeddedOptions) -> Result<Self, StoreError> {
        let path = path.into();
        let (engine, flush) = Engine::open(&path, &options)?;
        let writer =
            Mutex::new(Writer { flush, synced_at: Instant::now(), dirty: false, versions: Versions::new() });
        Ok(Self { path, options, engine: RwLock::new(Some(engine)), writer })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all that was flushed survive a loss of power. Dropping the store does the same.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let engine = self.opened()?;
        self.sync_now(opened(&engine)?, &mut writer)
    }

    fn sync_now(&self, engine: &Engine, writer: &mut Writer) -> Result<(), StoreError> {
        engine.sync()?;
        writer.synced_at = Instant::now();
        writer.dirty = false;
        Ok(())
    }

    fn opened(&self) -> Result<RwLockReadGuard<'_, Option<Engine>>, StoreError> {
        let engine = self.engine.read();
        opened(&engine)?;
        Ok(engine)
    }

    /// Opens the engine again when a write failed before and there is room by now.
    fn mend(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let usable = self.engine.read().as_ref().is_some_and(|engine| !engine.is_poisoned());
        if usable {
            return Ok(());
        }
        let room = room_bytes(&self.path)?;
        if room < ROOM_BYTES_MIN {
            let place = self.path.display();
            return Err(StoreError::Unavailable(format!(
                "the disk of {place} is full: {room} bytes are left"
            )));
        }
        let mut engine = self.engine.write();
        // The old one must be closed before the folder can be opened again.
        drop(engine.take());
        let (mended, flush) = Engine::open(&self.path, &self.options)?;
        tracing::warn!(path = %self.path.display(), "the store was opened again after a write had failed");
        *engine = Some(mended);
        writer.flush = flush;
        Ok(())
    }

    fn write(&self, engine: &Engine, writer: &mut Writer, flush: Flush) -> Result<Flushed, StoreError> {
        let urgent = is_urgent(&flush);
        let Planned { batch, committed } = match plan::plan(engine, &writer.versions, flush)? {
            Plan::Lost(key) => return Ok(Flushed::Lost(key)),
            Plan::Batch(planned) => planned,
        };
        if !batch.is_empty() {
            wait_for_tables(engine)?;
            engine.commit(batch, writer.flush + 1)?;
            committed.note(&mut writer.versions);
            writer.flush += 1;
            writer.dirty = true;
        }
        if writer.dirty && (urgent || writer.synced_at.elapsed() >= self.options.sync_every) {
            self.sync_now(engine, writer)?;
        }
        Ok(Flushed::Done)
    }

    /// Runs what reads or writes files; a panic of the engine on damaged files is an error of this call only.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|panic| Err(engine::panicked(&self.path, panic.as_ref())))
    }
}

impl Store for EmbeddedStore {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        let engine = self.opened()?;
        let engine = opened(&engine)?;
        self.guarded(|| {
            let snapshot = engine.database.snapshot();
            let mut cells = Vec::with_capacity(keys.len());
            for key in keys {
                let encoded = encode_key(key)?;
                let stored = snapshot.get(engine.keyspace(key.table), &encoded);
                let stored = stored.map_err(|error| engine.explain(&error))?;
                cells.push(stored.map(|stored| decode_cell(&encoded, &stored)).transpose()?);
            }
            Ok(cells)
        })
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        let engine = self.opened()?;
        let engine = opened(&engine)?;
        let Some((from, to)) = encode_range(table, partition, range) else { return Ok(Vec::new()) };
        let prefix = encode_partition(table, partition).len();
        self.guarded(|| {
            let mut found = engine.database.snapshot().range(engine.keyspace(table), from..to);
            let mut cells = Vec::new();
            while cells.len() < limit {
                let Some(next) = (if range.reverse { found.next_back() } else { found.next() }) else {
                    break;
                };
                let (key, stored) = next.into_inner().map_err(|error| engine.explain(&error))?;
                cells.push((key[prefix..].to_vec(), decode_cell(&key, &stored)?));
            }
            Ok(cells)
        })
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        let mut writer = self.writer.lock();
        self.mend(&mut writer)?;
        let engine = self.opened()?;
        let engine = opened(&engine)?;
        let written = self.guarded(|| self.write(engine, &mut writer, flush));
        if written.is_err() {
            writer.versions.clear();
        }
        written
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "the store was closed without a last sync; what is missing is folded again");
        }
    }
}

fn opened(engine: &Option<Engine>) -> Result<&Engine, StoreError> {
    engine.as_ref().ok_or_else(|| StoreError::Unavailable("it could not be opened again yet".to_owned()))
}

/// Whether a flush holds what cannot wait for the next sync, because people entered it.
fn is_urgent(flush: &Flush) -> bool {
    use Table::{Catalog, Invoices, Meta, Rewinds, TenantSources};
    let urgent = |key: &Key| matches!(key.table, Meta | Catalog | Invoices | Rewinds | TenantSources);
    let cells = flush.cells.iter().chain(&flush.checkpoint).map(|(key, _)| key);
    let sets = flush.sets.iter().map(|set| &set.key);
    cells.chain(sets).chain(flush.removals.iter().map(|(key, _)| key)).any(urgent)
}

fn wait_for_tables(engine: &Engine) -> Result<(), StoreError> {
    while engine.keyspaces().any(|(_, keyspace)| keyspace.sealed_memtable_count() > WAITING_TABLES_MAX) {
        if engine.is_poisoned() {
            return Err(StoreError::Unavailable(
                "a table could not be written; it is opened again".to_owned(),
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn room_bytes(path: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
