//! The fold with its shell on a store in memory: what is counted, once, over restarts, rewinds and merges.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use pulso_domain::fate::FateCounts;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::quantity::{Quantity, QuantitySum};
use pulso_domain::reason::Reason;
use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::Level;
use pulso_ingestor_consumer::fold::halt::{Halt, Stop};
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::letter_message::LetterMessage;
use pulso_ingestor_consumer::fold::partition::{FoldConfig, FoldRules};
use pulso_ingestor_consumer::fold::record::RECORD_FORMAT;
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::runs;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::LogRecord;
use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Cell, Flush, Key, Range, Store, Table, keys};
use pulso_proto::{foreign, v1};
use xxhash_rust::xxh3::xxh3_64;

const SHAPE: RunShape = RunShape { range_bits: 2, fan_in_bits: 1, level_max: 2, cell_bits: 1 };

fn config() -> FoldConfig {
    FoldConfig {
        partition: 0,
        partitions: 1,
        earlier: Vec::new(),
        topic: "resource-consumption".into(),
        shape: SHAPE,
        hash_key: HashKey::new([5; 16]),
        rules: FoldRules::ALL,
    }
}

fn first() -> FoldState {
    FoldState::first(1, [1; 16])
}

fn open(store: &Arc<MemoryStore>) -> PartitionWorker {
    PartitionWorker::open(Arc::clone(store) as Arc<dyn Store>, config(), &first()).expect("opens")
}

fn pulse(id: &str, amount: &str, hour: i64) -> v1::Pulse {
    v1::Pulse {
        id: id.into(),
        tenant_id: "acme".into(),
        product_sku: "vm".into(),
        used_amount: amount.into(),
        use_unit: "Hours".into(),
        occurred_at: Some(prost_types::Timestamp { seconds: 1_700_000_000 + hour * 3600, nanos: 0 }),
        ..Default::default()
    }
}

fn record(offset: u64, pulses: Vec<v1::Pulse>) -> LogRecord {
    raw_record(offset, v1::PulseBatch { format_version: 1, pulses, ..Default::default() }.encode_to_vec())
}

fn raw_record(offset: u64, value: Vec<u8>) -> LogRecord {
    LogRecord {
        partition: 0,
        offset,
        appended_at_nanos: 1_700_000_000_000_000_000 + offset as i64,
        digest: xxh3_64(&value),
        value: value.into(),
    }
}

/// Every month row's (sum, count) by SKU, as the store has it.
fn month_totals(store: &MemoryStore) -> BTreeMap<String, (String, u64)> {
    let rows = store.contents().into_iter().filter(|(key, _)| key.table == Table::Usage);
    let rows = rows.filter_map(|(key, cell)| {
        let name = RowKey::decode(&key.partition, &key.clustering).expect("a row key");
        let row = UsageRow::decode(&cell.value).expect("a row");
        (name.window.level() == Level::Month)
            .then(|| (name.product_sku.to_owned(), (row.sum.to_string(), row.count)))
    });
    rows.collect()
}

#[test]
fn g06_a_conflict_is_dead_lettered_and_the_first_stands() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    let mut restamped = pulse("a", "1.50", 1);
    restamped.occurred_at = Some(prost_types::Timestamp { seconds: 1_700_000_999, nanos: 1 });
    let mut bad = pulse("d", "x", 0);
    bad.tenant_id = "acme".into();
    let pulses = vec![pulse("a", "1.5", 0), restamped, pulse("a", "2", 0), pulse("b", "1", 0), bad];
    worker.fold_record(&record(0, pulses)).expect("folds");
    worker.fold_record(&raw_record(1, b"garbage".to_vec())).expect("folds");
    worker.flush().expect("flushes");
    let counts = worker.fold().state().counts;
    assert_eq!((counts.counted, counts.duplicate, counts.conflict, counts.dead_lettered), (2, 1, 1, 2));
    assert_eq!(month_totals(&store)["vm"], ("2.5".to_owned(), 2));
    let letters = store.scan(Table::DeadLetters, &0_u32.to_be_bytes(), &Range::all(), 10).expect("reads");
    let reasons: Vec<_> = letters
        .iter()
        .map(|(_, cell)| v1::DeadLetter::decode(cell.value.clone()).expect("a letter"))
        .map(|letter| (Reason::from_byte(letter.reason as u8).expect("known"), letter.origin_index))
        .collect();
    let expected =
        [(Reason::IdConflict, Some(2)), (Reason::InvalidAmount, Some(4)), (Reason::Undecodable, None)];
    assert_eq!(reasons, expected);
}

/// Pulses of which the first makes its series known, so that the others are read another way.
#[test]
fn g06_tags_tell_a_conflict_from_a_copy_in_whatever_order_they_stand() {
    let tagged = |tags: &[(&str, &str)]| {
        let mut bytes = pulse("a", "1.5", 0).encode_to_vec();
        for (key, value) in tags {
            let tags = [((*key).to_owned(), (*value).to_owned())].into();
            bytes.extend(v1::Pulse { tags, ..Default::default() }.encode_to_vec());
        }
        bytes
    };
    let many: Vec<String> = (0..20).map(|number| format!("key-{number:02}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "v")).collect();
    let sendings = [
        tagged(&[("team", "storage"), ("stage", "production")]),
        tagged(&[("stage", "production"), ("team", "storage")]),
        // The last one of a key counts.
        tagged(&[("team", "network"), ("stage", "production"), ("team", "storage")]),
        tagged(&[("stage", "production"), ("team", "network")]),
        tagged(&[("stage", "production"), ("team", "")]),
        tagged(&[("stage", "production")]),
        tagged(&[]),
        tagged(&many),
    ];
    let mut value = vec![0x08, 1];
    for bytes in &sendings {
        value.push(0x22);
        prost::encoding::encode_varint(bytes.len() as u64, &mut value);
        value.extend(bytes);
    }
    let mut worker = open(&Arc::new(MemoryStore::new()));
    worker.fold_record(&raw_record(0, value)).expect("folds");
    let counts = worker.fold().state().counts;
    assert_eq!((counts.counted, counts.duplicate, counts.conflict, counts.dead_lettered), (1, 2, 5, 0));
}

#[test]
fn g02_a_foreign_message_is_one_dead_letter_with_its_own_bytes_and_counts_nothing() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    let old = pulse("a", "1.5", 0);
    let message = v1::ForeignMessage {
        source: "rabbitmq:pulses".into(),
        reason: "TOO_OLD".into(),
        detail: "occurred_at: it lies before the acceptance limit".into(),
        body: old.encode_to_vec().into(),
        ..Default::default()
    };
    worker.fold_record(&raw_record(0, foreign::encode(&message).to_vec())).expect("folds");
    worker.flush().expect("flushes");
    assert_eq!(worker.fold().state().counts, FateCounts { dead_lettered: 1, ..FateCounts::default() });
    let letters = store.scan(Table::DeadLetters, &0_u32.to_be_bytes(), &Range::all(), 10).expect("reads");
    let letter = v1::DeadLetter::decode(letters[0].1.value.clone()).expect("a letter");
    assert_eq!(letter.reason, Reason::Undecodable as u32);
    assert_eq!(
        letter.detail,
        "from rabbitmq:pulses: TOO_OLD: occurred_at: it lies before the acceptance limit"
    );
    assert_eq!((letter.tenant_id.as_str(), &letter.original[..]), ("acme", &old.encode_to_vec()[..]));
}

#[test]
fn g13_a_dead_letter_does_not_claim_its_id() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    worker.fold_record(&record(0, vec![pulse("a", "1e5", 0)])).expect("folds");
    worker.fold_record(&record(1, vec![pulse("a", "5", 0)])).expect("folds");
    assert_eq!(worker.fold().state().counts.counted, 1);
}

#[test]
fn g13_dead_letters_are_confirmed_elsewhere_before_the_progress_passes_them() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (taking, down) = (Arc::clone(&sent), Arc::new(AtomicBool::new(true)));
    let is_down = Arc::clone(&down);
    worker.send_letters_to(Some(Arc::new(move |letters: &[LetterMessage]| {
        taking.lock().expect("whole").extend(letters.iter().map(|letter| letter.key.clone()));
        if is_down.load(Ordering::Relaxed) { Err("the brokers are gone".to_owned()) } else { Ok(()) }
    })));
    worker.fold_record(&record(0, vec![pulse("a", "1", 0), pulse("b", "1e5", 0)])).expect("folds");
    worker.fold_record(&raw_record(1, b"garbage".to_vec())).expect("folds");
    assert!(matches!(worker.flush(), Err(Stop::Retry(reason)) if reason.contains("brokers")));
    assert!(store.contents().is_empty(), "nothing passes what is not confirmed");
    down.store(false, Ordering::Relaxed);
    worker.flush().expect("flushes");
    worker.fold_record(&record(2, vec![pulse("c", "1", 0)])).expect("folds");
    worker.flush().expect("flushes");
    // The first try may have been written: the same letters once more.
    assert_eq!(*sent.lock().expect("whole"), ["1:0:0:1", "1:0:1", "1:0:0:1", "1:0:1"]);
}

#[test]
fn a_pulse_of_another_partition_is_misrouted() {
    let store = Arc::new(MemoryStore::new());
    let elsewhere = FoldConfig { partitions: 1000, ..config() };
    let mut worker =
        PartitionWorker::open(Arc::clone(&store) as Arc<dyn Store>, elsewhere, &first()).expect("opens");
    worker.fold_record(&record(0, vec![pulse("a", "1", 0)])).expect("folds");
    assert_eq!(worker.fold().state().counts.dead_lettered, 1);
}

#[test]
fn a_newer_record_halts_and_nothing_of_it_is_counted() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    let newer = v1::PulseBatch {
        format_version: RECORD_FORMAT + 1,
        pulses: vec![pulse("a", "1", 0)],
        ..Default::default()
    };
    let stop = worker.fold_record(&raw_record(0, newer.encode_to_vec())).expect_err("halts");
    assert!(
        matches!(stop, Stop::Halt(Halt::NeedsUpgrade { found, .. }) if found == RECORD_FORMAT + 1),
        "{stop}"
    );
    assert_eq!(worker.fold().state().offset, 0);
}

#[test]
fn a_record_out_of_turn_halts() {
    let store = Arc::new(MemoryStore::new());
    let stop = open(&store).fold_record(&record(3, vec![pulse("a", "1", 0)])).expect_err("halts");
    assert!(matches!(stop, Stop::Halt(Halt::LogCut { wanted: 0, .. })), "{stop}");
}

#[test]
fn a_start_inside_a_range_without_its_run_halts() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    worker.fold_record(&record(0, vec![pulse("a", "1", 0)])).expect("folds");
    worker.flush().expect("flushes");
    let run = keys::run_partition(0, 0, first().rank());
    let removals = store
        .contents()
        .into_iter()
        .filter(|(key, _)| key.table == Table::Runs && key.partition == run)
        .map(|(key, cell)| (key, cell.version))
        .collect();
    store.flush(Flush { removals, ..Flush::default() }).expect("removes");
    let opened = PartitionWorker::open(Arc::clone(&store) as Arc<dyn Store>, config(), &first());
    assert!(matches!(opened.err(), Some(Stop::Halt(Halt::StoreIncomplete(_)))));
}

#[test]
fn a_rewind_over_other_records_halts() {
    let store = Arc::new(MemoryStore::new());
    let mut worker = open(&store);
    for offset in 0..6 {
        worker.fold_record(&record(offset, vec![pulse(&offset.to_string(), "1", 0)])).expect("folds");
    }
    worker.flush().expect("flushes");
    request_rewind(&store, 4, 6, 1);
    let mut worker = open(&store);
    assert_eq!(worker.fold().state().offset, 4);
    worker.fold_record(&record(4, vec![pulse("4", "1", 0)])).expect("as before");
    let stop = worker.fold_record(&record(5, vec![pulse("5", "9", 0)])).expect_err("another record");
    assert!(matches!(stop, Stop::Halt(Halt::LogChanged(_))), "{stop}");
}

fn request_rewind(store: &MemoryStore, from: u64, to: u64, version: u64) {
    let value = v1::Rewind { from, to, ..Default::default() }.encode_to_vec().into();
    let cells = vec![(keys::rewind(0), Cell { version, value })];
    store.flush(Flush { cells, ..Flush::default() }).expect("writes");
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Fold(usize),
    Flush,
    Crash,
    Evict,
    Merge,
    Remove,
    Rewind(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..6).prop_map(Step::Fold),
        3 => Just(Step::Flush),
        2 => Just(Step::Crash),
        1 => Just(Step::Evict),
        2 => Just(Step::Merge),
        1 => Just(Step::Remove),
        1 => (0_u64..40).prop_map(Step::Rewind),
    ]
}

struct Life {
    store: Arc<MemoryStore>,
    worker: PartitionWorker,
    log: Vec<LogRecord>,
    rewinds: u64,
}

impl Life {
    fn fold(&mut self, count: usize) {
        for _ in 0..count {
            let next = self.worker.fold().state().offset as usize;
            if let Some(record) = self.log.get(next) {
                self.worker.fold_record(record).expect("folds");
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Fold(count) => self.fold(*count),
            Step::Flush => drop(self.worker.flush().expect("flushes")),
            Step::Crash => self.worker = open(&self.store),
            Step::Evict => self.worker.evict(0),
            Step::Merge => drop(runs::merge_once(&*self.store, 0, &SHAPE).expect("merges")),
            Step::Remove => drop(runs::remove_leaving(&*self.store, 0, &SHAPE).expect("removes")),
            Step::Rewind(from) => {
                self.worker.flush().expect("flushes");
                let to = self.worker.fold().state().offset;
                if *from < to && !self.worker.is_rewinding() {
                    self.rewinds += 1;
                    // The request's cell is removed when passed; a later one is newer.
                    request_rewind(&self.store, *from, to, self.rewinds);
                    self.worker = open(&self.store);
                }
            }
        }
    }
}

impl Life {
    fn new(log: Vec<LogRecord>) -> Self {
        let store = Arc::new(MemoryStore::new());
        Self { worker: open(&store), store, log, rewinds: 0 }
    }

    /// Takes the steps, then folds to the end of the log.
    fn live(log: Vec<LogRecord>, steps: &[Step]) -> Self {
        let mut life = Self::new(log);
        steps.iter().for_each(|step| life.take(step));
        while life.worker.is_rewinding() || (life.worker.fold().state().offset as usize) < life.log.len() {
            life.fold(10);
            life.worker.flush().expect("flushes");
        }
        life.worker.flush().expect("flushes");
        life
    }

    /// What stands where, but for the id runs, whose cut into merged and unmerged ones is nobody's business.
    fn outcome(&self) -> Vec<(Key, Bytes)> {
        let runs = [Table::Runs, Table::RunFilters, Table::RunLists, Table::Rewinds];
        let others = self.store.contents().into_iter().filter(|(key, _)| !runs.contains(&key.table));
        others.map(|(key, cell)| (key, cell.value)).collect()
    }
}

/// One sending: which id, at which hour, and what is odd about it.
type Sending = (u32, i64, u8);

fn sendings() -> impl Strategy<Value = Vec<Sending>> {
    prop::collection::vec((0_u32..60, 0_i64..50, 0_u8..10), 1..120)
}

/// The records of some sendings: kind 0 has another amount, kind 1 one that is none.
fn records(sendings: &[Sending], per_record: usize) -> Vec<LogRecord> {
    let one = |(id, hour, kind): &Sending| pulse(&format!("p-{id}"), &amount(*id, *kind), *hour);
    let chunks = sendings.chunks(per_record).zip(0..);
    chunks.map(|(chunk, offset)| record(offset, chunk.iter().map(one).collect())).collect()
}

fn amount(id: u32, kind: u8) -> String {
    match kind {
        0 => format!("{}.75", id % 7),
        1 => "1e5".to_owned(),
        _ => format!("{}.5", id % 7),
    }
}

/// The sum of the first good sending of each id, and how many sendings have which fate.
fn expected(sendings: &[Sending]) -> (QuantitySum, FateCounts) {
    let mut first: HashMap<u32, String> = HashMap::new();
    let (mut sum, mut counts) = (QuantitySum::ZERO, FateCounts::default());
    for (id, _, kind) in sendings {
        let amount = amount(*id, *kind);
        match first.get(id) {
            _ if *kind == 1 => counts.dead_lettered += 1,
            Some(counted) if *counted == amount => counts.duplicate += 1,
            Some(_) => counts.conflict += 1,
            None => {
                counts.counted += 1;
                sum.add(Quantity::parse(amount.as_bytes()).expect("good"));
                first.insert(*id, amount);
            }
        }
    }
    (sum, counts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn g03_totals_are_those_of_the_first_copies_whatever_happens(
        sendings in sendings(), per_record in 1_usize..4, steps in prop::collection::vec(step(), 0..120),
    ) {
        let life = Life::live(records(&sendings, per_record), &steps);
        let (sum, counts) = expected(&sendings);
        let found = month_totals(&life.store).remove("vm").unwrap_or_else(|| ("0".to_owned(), 0));
        prop_assert_eq!(found, (sum.to_string(), counts.counted));
    }

    #[test]
    fn g02_every_pulse_reaches_one_fate_whatever_happens(
        sendings in sendings(), per_record in 1_usize..4, steps in prop::collection::vec(step(), 0..120),
    ) {
        let life = Life::live(records(&sendings, per_record), &steps);
        let counts = life.worker.fold().state().counts;
        prop_assert_eq!(counts, expected(&sendings).1);
        prop_assert_eq!(counts.pulses(), sendings.len() as u64);
    }

    #[test]
    fn g07_two_lives_of_one_log_end_byte_for_byte_alike(
        sendings in sendings(),
        per_record in 1_usize..4,
        steps in prop::collection::vec(step(), 0..60),
        others in prop::collection::vec(step(), 0..60),
    ) {
        let log = records(&sendings, per_record);
        let one = Life::live(log.clone(), &steps);
        let other = Life::live(log, &others);
        prop_assert_eq!(one.outcome(), other.outcome());
    }
}
