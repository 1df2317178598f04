//! What the tests of the fold on CQL share: a log of records with an own account of it, and the comparison of two stores.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use prost::Message;
use pulso_domain::fate::FateCounts;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::Level;
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::partition::{FoldConfig, FoldRules};
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::LogRecord;
use pulso_platform::store::cql::apart::Apart;
use pulso_platform::store::cql::{CqlSettings, CqlStore, schema};
use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Range, Store, Table, keys};
use pulso_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

/// Small ranges, so that a few hundred records close, list and merge many runs.
pub(crate) const SHAPE: RunShape = RunShape { range_bits: 3, fan_in_bits: 1, level_max: 2, cell_bits: 1 };
/// The keyspace of these tests.
pub(crate) const KEYSPACE: &str = "pulso_test";

/// The nodes that `make test-cluster` has started.
pub(crate) fn nodes() -> String {
    std::env::var("PULSO_TEST_CQL_NODES")
        .expect("PULSO_TEST_CQL_NODES names no Cassandra; run the tests by `make test-cluster`")
}

/// An empty store on these nodes.
pub(crate) fn empty(nodes: &str) -> Arc<Apart<CqlStore>> {
    let settings = CqlSettings::new(&[nodes], KEYSPACE);
    // Whoever is first makes the tables, and the others wait: each change of the schema takes a while.
    static MAKING: Mutex<()> = Mutex::new(());
    let making = MAKING.lock();
    schema::init(&settings, 1).expect("the tables can be made");
    drop(making);
    Arc::new(Apart::new(Arc::new(CqlStore::open(&settings).expect("the store opens"))))
}

/// The fold of these tests.
pub(crate) fn config() -> FoldConfig {
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

/// A worker that goes on from what the store has.
pub(crate) fn try_worker<S: Store>(store: &Arc<S>) -> Result<PartitionWorker, Stop> {
    PartitionWorker::open(Arc::clone(store) as Arc<dyn Store>, config(), &FoldState::first(1, [1; 16]))
}

/// A worker that must open.
pub(crate) fn worker<S: Store>(store: &Arc<S>) -> PartitionWorker {
    try_worker(store).expect("the worker opens")
}

/// What must come out of the records: counts, and the sum and number of pulses of each tenant and SKU.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    /// The fates.
    pub(crate) counts: FateCounts,
    /// Sum in units and number of counted pulses, by tenant and SKU.
    pub(crate) totals: BTreeMap<(String, String), (i64, u64)>,
}

/// Records with retries, conflicts, bad pulses and foreign bytes, always the same, and what they add up to.
pub(crate) fn history(records: u64) -> (Vec<LogRecord>, Account) {
    let mut dice = Dice(records | 1);
    let mut account = Account::default();
    let mut sent: Vec<v1::Pulse> = Vec::new();
    let mut log = Vec::new();
    for offset in 0..records {
        if dice.below(40) == 0 {
            account.counts.dead_lettered += 1;
            log.push(record(offset, b"\xff foreign bytes".to_vec()));
            continue;
        }
        let mut pulses = Vec::new();
        for _ in 0..1 + dice.below(24) {
            let old = sent.get(dice.below(sent.len() as u64 * 4 + 1) as usize).cloned();
            let pulse = match old {
                Some(old) if dice.below(8) == 0 => {
                    account.counts.conflict += 1;
                    v1::Pulse { used_amount: format!("{}.5", old.used_amount), ..old }
                }
                Some(old) => {
                    account.counts.duplicate += 1;
                    old
                }
                None => new_pulse(&mut dice, sent.len(), &mut account),
            };
            if pulse.used_amount != "much" && !pulse.used_amount.contains('.') {
                sent.push(pulse.clone());
            }
            pulses.push(pulse);
        }
        let batch = v1::PulseBatch { format_version: 1, pulses, ..Default::default() };
        log.push(record(offset, batch.encode_to_vec()));
    }
    (log, account)
}

fn new_pulse(dice: &mut Dice, number: usize, account: &mut Account) -> v1::Pulse {
    let tenant = format!("tenant-{}", dice.below(5));
    let sku = format!("sku-{}", dice.below(4));
    let amount = 1 + dice.below(1000) as i64;
    let bad = dice.below(50) == 0;
    if bad {
        account.counts.dead_lettered += 1;
    } else {
        account.counts.counted += 1;
        let total = account.totals.entry((tenant.clone(), sku.clone())).or_default();
        *total = (total.0 + amount, total.1 + 1);
    }
    let seconds = 1_700_000_000 + dice.below(40 * 86_400) as i64;
    v1::Pulse {
        id: format!("pulse-{number}-{}", dice.below(u64::MAX)),
        tenant_id: tenant,
        product_sku: sku,
        used_amount: if bad { "much".to_owned() } else { amount.to_string() },
        use_unit: "Hours".into(),
        occurred_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..Default::default()
    }
}

fn record(offset: u64, value: Vec<u8>) -> LogRecord {
    LogRecord {
        partition: 0,
        offset,
        appended_at_nanos: 1_700_000_000_000_000_000 + offset as i64,
        digest: xxh3_64(&value),
        value: value.into(),
    }
}

/// Pseudo-random numbers that are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `end`; 0 when that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if end == 0 { 0 } else { (self.0 >> 11) % end }
    }
}

/// What a folded store holds, read as a reader would: scans of all tenants, and the progress.
pub(crate) fn account_of(store: &dyn Store) -> Account {
    let mut account = Account::default();
    let progress = store.get(&[keys::progress(0)]).expect("reads").remove(0).expect("a progress");
    account.counts = FoldState::decode(&progress.value).expect("readable").counts;
    let months = scan_all(store, Table::Tenants, &keys::months_partition(0));
    for (clustering, _) in months {
        let (tenant, month) = keys::decode_month_clustering(&clustering).expect("a month");
        let partition = pulso_domain::usage::usage_partition_key(tenant, month);
        for (clustering, value) in scan_all(store, Table::Usage, &partition) {
            let name = RowKey::decode(&partition, &clustering).expect("a row's key");
            if name.window.level() != Level::Month {
                continue;
            }
            let row = UsageRow::decode(&value).expect("a row");
            let sum: i64 = row.sum.to_string().parse().expect("whole units");
            let total = account.totals.entry((tenant.to_owned(), name.product_sku.to_owned())).or_default();
            *total = (total.0 + sum, total.1 + row.count);
        }
    }
    account
}

/// A partition, read page by page.
pub(crate) fn scan_all(store: &dyn Store, table: Table, partition: &[u8]) -> Vec<(Vec<u8>, bytes::Bytes)> {
    let mut all = Vec::new();
    let mut range = Range::all();
    loop {
        let page = store.scan(table, partition, &range, 100).expect("reads");
        let Some((last, _)) = page.last() else { return all };
        range.from = [last.as_slice(), &[0]].concat();
        all.extend(page.into_iter().map(|(clustering, cell)| (clustering, cell.value)));
    }
}

/// Insists that a store has every cell that another has in memory, and none beside them in what can be scanned.
/// `exactly`: also versions, and what depends on when flushes were made: id runs, their list, directories.
pub(crate) fn assert_same(store: &dyn Store, memory: &MemoryStore, exactly: bool) {
    let by_schedule = |table| {
        use Table::{Directory, RunFilters, RunLists, Runs};
        matches!(table, Runs | RunFilters | RunLists | Directory)
    };
    let mut expected = memory.contents();
    expected.retain(|(key, _)| exactly || !by_schedule(key.table));
    let names: Vec<_> = expected.iter().map(|(key, _)| key.clone()).collect();
    let mut partitions: HashMap<(Table, Vec<u8>), usize> = HashMap::new();
    for ((key, cell), found) in expected.iter().zip(store.get(&names).expect("reads")) {
        assert_eq!(found.as_ref(), Some(cell), "{key:?}");
        *partitions.entry((key.table, key.partition.clone())).or_default() += 1;
    }
    for ((table, partition), count) in partitions {
        if table.is_scanned() && table != Table::Catalog {
            assert_eq!(scan_all(store, table, &partition).len(), count, "{table:?}");
        }
    }
}
