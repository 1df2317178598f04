//! How many usage rows the flushes of a fold write into Cassandra, against the keys that the records between them touched, as
//! counted from the pulses themselves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use pulso_domain::time::Instant;
use pulso_domain::window::{Level, Window};
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::{Log, LogRecord};
use pulso_platform::store::cql::apart::Apart;
use pulso_platform::store::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};
use pulso_proto::v1;

use super::super::held_log::HeldLog;
use super::super::role::MIX;
use super::Session;
use crate::records::{PARTITIONS, fill};
use crate::role::consume::month_totals;
use crate::role::fold::worker;
use crate::table::figure::{Bounds, Figure};

/// Records of a partition between two of its flushes.
const FLUSH_RECORDS: usize = 16;

pub(super) fn measure(session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    session.place.make_tables()?;
    let topic = session.place.make_topic("written")?;
    let log = session.place.log(&topic)?;
    let totals = fill(&*log, MIX, session.pick(200_000, 40_000), 1)?;
    let held = HeldLog::of(&*log)?;
    let written = Arc::new(AtomicU64::new(0));
    let store = Counting { store: Apart::new(session.place.store()?), written: Arc::clone(&written) };
    let store = Arc::new(store) as Arc<dyn Store>;
    let (mut touched, mut flushes) = (0, 0);
    for partition in 0..PARTITIONS {
        let mut worker = worker(&store, &held.layout(), partition)?;
        let end = held.watermarks(partition)?.end_offset;
        let offsets: Vec<u64> = (0..end).collect();
        for records in held.fetch(partition, &offsets)?.chunks(FLUSH_RECORDS) {
            touched += fold(&mut worker, records)?;
            flushes += 1;
        }
    }
    let found = month_totals(&*store, &held)?;
    ensure!(found == totals, "the store holds {found:?}, not {totals:?}");
    let written = written.load(Ordering::Relaxed);
    show(Figure {
        what: "usage rows written, against keys touched".to_owned(),
        value: written as f64 / touched as f64,
        unit: "x",
        detail: format!("{written} rows in {flushes} flushes, {touched} keys touched between them"),
        bounds: Bounds::AtMost { floor: 1.0, goal: 1.0 },
    });
    Ok(())
}

/// Folds and flushes records; gives how many keys they touched.
fn fold(worker: &mut PartitionWorker, records: &[LogRecord]) -> anyhow::Result<u64> {
    let mut keys = HashSet::new();
    for record in records {
        worker.fold_record(record).map_err(|stop| anyhow::anyhow!("{stop}"))?;
        // The first record of a generation has no pulses.
        for pulse in v1::PulseBatch::decode(record.value.clone()).unwrap_or_default().pulses {
            let at = pulse.occurred_at.context("a time")?;
            let at = Instant::new(at.seconds, at.nanos).context("a time")?;
            for level in [Level::Hour, Level::Day, Level::Month] {
                let series = (pulse.tenant_id.clone(), pulse.product_sku.clone(), pulse.region.clone());
                keys.insert((series, pulse.use_unit.clone(), Window::containing(level, at)));
            }
        }
    }
    worker.flush().map_err(|stop| anyhow::anyhow!("{stop}"))?;
    Ok(keys.len() as u64)
}

/// Counts the usage rows that go through it.
struct Counting<S> {
    store: S,
    written: Arc<AtomicU64>,
}

impl<S: Store> Store for Counting<S> {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        self.store.get(keys)
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        self.store.scan(table, partition, range, limit)
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        let rows = flush.cells.iter().filter(|(key, _)| key.table == Table::Usage).count();
        self.written.fetch_add(rows as u64, Ordering::Relaxed);
        self.store.flush(flush)
    }
}
