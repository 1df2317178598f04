//! The store as one owner sees it: each call is a moment at which someone else may act, and here stand the shortcuts that
//! can be taken at the border of the store.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::QuantitySum;
use pulso_domain::usage::UsageRow;
use pulso_ingestor_consumer::fold::ids::IdEntry;
use pulso_ingestor_consumer::fold::ids::cell;
use pulso_ingestor_consumer::fold::ids::open::HEADER_PREFIX;
use pulso_platform::store::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};

use crate::faulty::NOBODY;
use crate::mutant::Mutant;
use crate::world::World;

/// One owner's store.
pub struct Border {
    world: Arc<World>,
    owner: u32,
    mutant: Option<Mutant>,
    memory: Mutex<Memory>,
}

/// What a shortcut remembers.
#[derive(Default)]
struct Memory {
    /// Rows as this owner last loaded or confirmed them.
    rows: HashMap<Key, Bytes>,
    /// The run whose header was loaded last.
    header_of: Option<Vec<u8>>,
    /// The progress that this owner last saw or confirmed.
    progress: u64,
    flushes: u64,
}

impl Border {
    /// The store as `owner` sees it.
    #[must_use]
    pub fn new(world: &Arc<World>, owner: u32) -> Self {
        // Background work and operators take no shortcuts but those of the world.
        let mutant = world.mutant().filter(|_| owner != NOBODY);
        Self { world: Arc::clone(world), owner, mutant, memory: Mutex::default() }
    }
}

impl Store for Border {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        self.world.someone_else_acts();
        let mut found = self.world.store().get(keys)?;
        if let Some(mutant) = self.mutant {
            self.memory.lock().read(mutant, keys, &mut found);
        }
        Ok(found)
    }

    fn scan(
        &self,
        _table: Table,
        _partition: &[u8],
        _range: &Range,
        _limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        Err(StoreError::Unavailable("the protocol reads by key only".to_owned()))
    }

    fn flush(&self, mut flush: Flush) -> Result<Flushed, StoreError> {
        self.world.someone_else_acts();
        let Some(mutant) = self.mutant else { return self.world.flush(self.owner, flush) };
        let rows = self.memory.lock().write(mutant, self.owner, &mut flush);
        let progress = flush.checkpoint.first().map(|(_, cell)| cell.version);
        let flushed = self.world.flush(self.owner, flush);
        if matches!(flushed, Ok(Flushed::Done)) {
            let mut memory = self.memory.lock();
            memory.rows.extend(rows);
            memory.progress = progress.unwrap_or(memory.progress);
        }
        flushed
    }
}

fn run_start(key: &Key) -> Rank {
    let start = key.partition.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Rank::from_u64(start)
}

fn is_run_cell(key: &Key) -> bool {
    key.table == Table::Runs && key.clustering != HEADER_PREFIX.to_be_bytes()
}

fn empty_cell(key: &Key) -> Cell {
    Cell { version: 0, value: cell::encode(run_start(key), 0, std::iter::empty()) }
}

impl Memory {
    fn read(&mut self, mutant: Mutant, keys: &[Key], found: &mut [Option<Cell>]) {
        for (key, cell) in keys.iter().zip(found.iter_mut()) {
            match (mutant, key.table) {
                (_, Table::Progress) => self.progress = cell.as_ref().map_or(0, |cell| cell.version),
                (Mutant::Counters | Mutant::LooseDeltas, Table::Usage) => {
                    self.rows.remove(key);
                    *cell = None;
                }
                (Mutant::TotalsWithoutHwm, Table::Usage) => without_hwm(cell),
                (Mutant::SkippedRowsNotWritten, Table::Usage) => {
                    self.rows.remove(key);
                    self.rows.extend(cell.iter().map(|cell| (key.clone(), cell.value.clone())));
                }
                (Mutant::DedupWithoutPositions, Table::Runs) if is_run_cell(key) => {
                    without_positions(key, cell)
                }
                (Mutant::MissingTakenForNotFound, Table::Runs) if is_run_cell(key) => {
                    cell.get_or_insert_with(|| empty_cell(key));
                }
                (Mutant::RunWithoutBeginning, Table::Runs) => self.without_beginning(key, cell),
                _ => {}
            }
        }
    }

    /// Cells that are loaded right behind their header are those of a run to be continued.
    fn without_beginning(&mut self, key: &Key, cell: &mut Option<Cell>) {
        if !is_run_cell(key) {
            self.header_of = Some(key.partition.clone());
        } else if self.header_of.as_ref() == Some(&key.partition) {
            *cell = cell.as_ref().map(|_| empty_cell(key));
        }
    }

    /// Changes what is sent; gives the rows to remember once it is confirmed.
    fn write(&mut self, mutant: Mutant, owner: u32, flush: &mut Flush) -> Vec<(Key, Bytes)> {
        self.header_of = None;
        self.flushes += 1;
        let is_row = |(key, _): &&(Key, Cell)| key.table == Table::Usage;
        let rows = flush.cells.iter().filter(is_row).map(|(key, cell)| (key.clone(), cell.value.clone()));
        let rows: Vec<_> = match mutant {
            Mutant::Counters | Mutant::LooseDeltas | Mutant::SkippedRowsNotWritten => rows.collect(),
            _ => return Vec::new(),
        };
        if mutant == Mutant::SkippedRowsNotWritten {
            flush.cells.retain(|(key, cell)| self.rows.get(key) != Some(&cell.value));
            return rows;
        }
        for (key, cell) in flush.cells.iter_mut().filter(|(key, _)| key.table == Table::Usage) {
            let before = self.rows.get(key);
            cell.value = delta(&cell.value, before);
            if mutant == Mutant::Counters {
                // Each addition takes place once for each time it is sent.
                key.clustering.extend_from_slice(&owner.to_be_bytes());
                key.clustering.extend_from_slice(&self.flushes.to_be_bytes());
            } else {
                key.clustering.extend_from_slice(&self.progress.to_be_bytes());
            }
        }
        rows
    }
}

fn without_hwm(cell: &mut Option<Cell>) {
    let Some(cell) = cell else { return };
    if let Some(row) = UsageRow::decode(&cell.value) {
        cell.value = Bytes::copy_from_slice(&UsageRow { hwm: Rank::ZERO, ..row }.encode());
    }
}

fn without_positions(key: &Key, cell: &mut Option<Cell>) {
    let Some(cell) = cell else { return };
    let start = run_start(key);
    let Some(read) = cell::Cell::decode(start, cell.value.clone()) else { return };
    let first = Position::new(start, 0);
    let entries: Vec<IdEntry> = read.entries().map(|entry| IdEntry { first, ..entry }).collect();
    cell.value = cell::encode(start, entries.len(), entries.into_iter());
}

fn delta(now: &Bytes, before: Option<&Bytes>) -> Bytes {
    let (Some(mut row), Some(before)) = (UsageRow::decode(now), before.and_then(|row| UsageRow::decode(row)))
    else {
        return now.clone();
    };
    row.sum = QuantitySum::from_steps(row.sum.steps() - before.sum.steps()).unwrap_or(row.sum);
    row.count -= before.count.min(row.count);
    Bytes::copy_from_slice(&row.encode())
}
