//! What the simulator found: each state, fate and byte is a function of the log prefix, whoever comes by and however often.

use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;
use pulso_domain::fingerprint::HashKey;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::partition::{FoldConfig, FoldRules};
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::runs;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::LogRecord;
use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table, keys};
use pulso_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

const SHAPE: RunShape = RunShape { range_bits: 2, fan_in_bits: 1, level_max: 2, cell_bits: 1 };
const DAY: i64 = 86_400;
const BEGIN: i64 = 1_700_000_000;

fn first() -> FoldState {
    FoldState::first(1, [1; 16])
}

fn open(store: Arc<dyn Store>) -> PartitionWorker {
    let config = FoldConfig {
        partition: 0,
        partitions: 1,
        earlier: Vec::new(),
        topic: "resource-consumption".into(),
        shape: SHAPE,
        hash_key: HashKey::new([5; 16]),
        rules: FoldRules::ALL,
    };
    PartitionWorker::open(store, config, &first()).expect("opens")
}

fn pulse(id: &str, day: i64) -> v1::Pulse {
    v1::Pulse {
        id: id.into(),
        tenant_id: "acme".into(),
        product_sku: "vm".into(),
        used_amount: "1".into(),
        use_unit: "Hours".into(),
        occurred_at: Some(prost_types::Timestamp { seconds: BEGIN + day * DAY, nanos: 0 }),
        ..Default::default()
    }
}

fn record(offset: u64, day: i64, batch: v1::PulseBatch) -> LogRecord {
    let value = v1::PulseBatch { format_version: 1, ..batch }.encode_to_vec();
    LogRecord {
        partition: 0,
        offset,
        appended_at_nanos: (BEGIN + day * DAY) * 1_000_000_000,
        digest: xxh3_64(&value),
        value: value.into(),
    }
}

fn pulses(offset: u64, day: i64, pulses: &[v1::Pulse]) -> LogRecord {
    record(offset, day, v1::PulseBatch { pulses: pulses.to_vec(), ..Default::default() })
}

fn horizon(offset: u64, day: i64, days: u64) -> LogRecord {
    let fact = v1::control::Fact::IdHorizon(v1::IdHorizon { seconds: days * 86_400 });
    let control = Some(v1::Control { fact: Some(fact) });
    record(offset, day, v1::PulseBatch { control, ..Default::default() })
}

/// Folds a horizon of 2 days, a pulse `a` at day 0, and other pulses up to the end of a coarsest range.
fn folded_range(store: &Arc<MemoryStore>) -> PartitionWorker {
    let mut worker = open(Arc::clone(store) as Arc<dyn Store>);
    worker.fold_record(&horizon(0, 0, 2)).expect("folds");
    worker.fold_record(&pulses(1, 0, &[pulse("a", 0)])).expect("folds");
    for offset in 2..16 {
        worker.fold_record(&pulses(offset, 0, &[pulse(&offset.to_string(), 0)])).expect("folds");
    }
    worker
}

#[test]
fn a_leap_of_the_log_time_counts_no_old_pulse_by_guess() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = folded_range(&store);
    let counted = worker.fold().state().counts.counted;
    // The record's own time makes the first `a` expire; so it must also raise the floor above the second.
    worker.fold_record(&pulses(16, 9, &[pulse("a", 0)])).expect("folds");
    let counts = worker.fold().state().counts;
    assert_eq!((counts.counted, counts.dead_lettered), (counted, 1));
}

#[test]
fn an_id_once_forgotten_stays_so_when_the_horizon_is_raised_whether_its_run_is_removed_or_not() {
    for removed in [false, true] {
        let store = Arc::new(MemoryStore::new());
        let mut worker = folded_range(&store);
        worker.fold_record(&pulses(16, 9, &[pulse("b", 9)])).expect("folds");
        worker.fold_record(&horizon(17, 9, 30)).expect("folds");
        worker.flush().expect("flushes");
        if removed {
            let border = worker.fold().state().expired_below;
            assert!(runs::expire_once(&*store, 0, &SHAPE, border).expect("expires"));
            assert!(runs::remove_leaving(&*store, 0, &SHAPE).expect("removes"));
        }
        let mut worker = open(Arc::clone(&store) as Arc<dyn Store>);
        let before = worker.fold().state().counts.counted;
        worker.fold_record(&pulses(18, 9, &[pulse("a", 9)])).expect("folds");
        assert_eq!(worker.fold().state().counts.counted, before + 1, "removed: {removed}");
    }
}

#[test]
fn a_gap_stays_a_gap_when_the_log_is_read_again() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(Arc::clone(&store) as Arc<dyn Store>);
    let one = |offset: u64| pulses(offset, 0, &[pulse(&offset.to_string(), 0)]);
    for offset in 0..6 {
        worker.fold_record(&one(offset)).expect("folds");
    }
    worker.declare_gap(v1::Gap { from: 6, to: 9, note: "lost".into(), ..Default::default() });
    worker.fold_record(&one(9)).expect("folds");
    worker.flush().expect("flushes");
    let state = worker.fold().state().clone();
    let value = v1::Rewind { from: 1, to: 10, ..Default::default() }.encode_to_vec().into();
    let cells = vec![(keys::rewind(0), Cell { version: 1, value })];
    store.flush(Flush { cells, ..Flush::default() }).expect("writes");
    let mut worker = open(Arc::clone(&store) as Arc<dyn Store>);
    for offset in 0..10 {
        // The records of the gap can be read now, and are passed over all the same.
        worker.fold_record(&one(offset)).expect("folds");
        // The memory store refuses two values at one version.
        worker.flush().expect("flushes");
    }
    assert!(!worker.is_rewinding());
    assert_eq!(worker.fold().state(), &state);
}

/// A store in which someone else acts right behind the first read, and which remembers what was flushed.
struct Overtaken {
    store: Arc<MemoryStore>,
    flushed: Mutex<Vec<Flush>>,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Store for Overtaken {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        let found = self.store.get(keys);
        if let Some(act) = self.act.lock().take() {
            act();
        }
        found
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
        self.flushed.lock().push(flush.clone());
        self.store.flush(flush)
    }
}

#[test]
fn an_owner_confirms_the_progress_it_begins_at() {
    // Its writer may have died when only one replica had it.
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(Arc::clone(&store) as Arc<dyn Store>);
    worker.fold_record(&pulses(0, 0, &[pulse("a", 0)])).expect("folds");
    worker.flush().expect("flushes");
    let progress = store.get(&[keys::progress(0)]).expect("reads").remove(0).expect("is there");
    let watched = Arc::new(Overtaken { store, flushed: Mutex::default(), act: Mutex::default() });
    open(Arc::clone(&watched) as Arc<dyn Store>);
    let flushed = watched.flushed.lock();
    assert_eq!(flushed.len(), 1);
    assert_eq!(flushed[0].checkpoint, [(keys::progress(0), progress)]);
}

#[test]
fn an_owner_opens_though_its_run_is_listed_merged_and_removed_meanwhile() {
    let store = Arc::new(MemoryStore::new());
    let mut other = open(Arc::clone(&store) as Arc<dyn Store>);
    for offset in 0..5 {
        other.fold_record(&pulses(offset, 0, &[pulse(&offset.to_string(), 0)])).expect("folds");
    }
    other.flush().expect("flushes");
    let inner = Arc::clone(&store);
    let act = move || {
        for offset in 5..9 {
            other.fold_record(&pulses(offset, 0, &[pulse(&offset.to_string(), 0)])).expect("folds");
        }
        other.flush().expect("flushes");
        assert!(runs::merge_once(&*inner, 0, &SHAPE).expect("merges"));
        assert!(runs::remove_leaving(&*inner, 0, &SHAPE).expect("removes"));
    };
    let overtaken = Overtaken { store, flushed: Mutex::default(), act: Mutex::new(Some(Box::new(act))) };
    let mut worker = open(Arc::new(overtaken));
    assert_eq!(worker.fold().state().offset, 5);
    worker.fold_record(&pulses(5, 0, &[pulse("5", 0), pulse("2", 0)])).expect("folds");
    let counts = worker.fold().state().counts;
    assert_eq!((counts.counted, counts.duplicate), (6, 1));
}

#[test]
fn an_owner_that_continues_a_range_writes_the_bytes_that_stand_there() {
    // One owner is ahead, and one that opens at an older progress comes by the same places: the memory store refuses two
    // values at one version, so open run, header and directory must be the same bytes.
    let store = Arc::new(MemoryStore::new());
    let mut ahead = open(Arc::clone(&store) as Arc<dyn Store>);
    let one =
        |offset: u64| pulses(offset, 0, &[pulse(&format!("0198c5b6-79b{offset}-7000-8000-000000000000"), 0)]);
    for offset in 0..2 {
        ahead.fold_record(&one(offset)).expect("folds");
    }
    ahead.flush().expect("flushes");
    let progress = store.get(&[keys::progress(0)]).expect("reads").remove(0).expect("is there");
    ahead.fold_record(&one(2)).expect("folds");
    ahead.flush().expect("flushes");
    let behind = MemoryStore::new();
    let older = |(key, cell)| if key == keys::progress(0) { (key, progress.clone()) } else { (key, cell) };
    let cells = store.contents().into_iter().map(older).collect();
    behind.flush(Flush { cells, ..Flush::default() }).expect("writes");
    let mut worker = open(Arc::new(behind.clone()));
    assert_eq!(worker.fold().state().offset, 2);
    worker.fold_record(&one(2)).expect("folds");
    worker.flush().expect("flushes");
    assert_eq!(store.contents(), behind.contents());
}
