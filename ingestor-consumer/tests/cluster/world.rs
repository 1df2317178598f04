//! A log on a real broker, a store in memory, and members that fold the one into the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use futures::executor::block_on;
use parking_lot::{Condvar, Mutex};
use prost::Message as _;
use pulso_domain::fate::FateCounts;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::Rank;
use pulso_domain::usage::{UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_domain::window::Window;
use pulso_ingestor_consumer::generations::partition_of_tenant;
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::handoff::Outlet;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::pipeline::{self, ConsumerConfig, ConsumerDeps};
use pulso_platform::log::Log;
use pulso_platform::log::generations::GrowReport;
use pulso_platform::log::kafka::{
    GrowStep, Growth, KafkaGenerations, KafkaLogOptions, KafkaSettings, TopicPlan, grow, init,
};
use pulso_platform::log::membership::{Change, Membership};
use pulso_platform::log::{AppendReply, Appended, LogError, LogLayout, LogReader, LogRecord, Watermarks};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};
use pulso_proto::v1;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come: a rebalance or two, on a machine that does much else.
pub(crate) const SOON: Duration = Duration::from_secs(180);
const NOON: i64 = 1_700_049_600;
const TENANTS: [&str; 8] = ["acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka"];

/// Waits until it is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "it does not come to be that {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The secret of every world's ids.
pub(crate) const fn hash_key() -> HashKey {
    HashKey::new([7; 16])
}

/// What was sent: the first copy of each pulse, by tenant and number.
pub(crate) type Sent = BTreeMap<(&'static str, u32), u64>;

/// Where a world is.
pub(crate) struct Place {
    /// The brokers of its log.
    pub(crate) brokers: String,
    /// Copies that they keep of each record.
    pub(crate) copies: u16,
    /// Where totals go.
    pub(crate) store: Arc<dyn Store>,
}

/// A log and a store.
pub(crate) struct World {
    brokers: String,
    topic: String,
    pub(crate) log: Arc<KafkaGenerations>,
    pub(crate) store: Arc<dyn Store>,
}

impl World {
    /// On one broker, with a store in memory.
    pub(crate) fn new(partitions: u32) -> Self {
        let brokers = std::env::var("PULSO_TEST_KAFKA");
        let brokers = brokers.expect("PULSO_TEST_KAFKA names no broker; run make test-cluster");
        Self::at(Place { brokers, copies: 1, store: Arc::new(MemoryStore::default()) }, partitions)
    }

    /// A new log.
    pub(crate) fn at(Place { brokers, copies, store }: Place, partitions: u32) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let topic = format!("group-{}-{number}", Clock::System.now_nanos());
        let plan = TopicPlan {
            handoff_topic: format!("{topic}.usage"),
            topic: topic.clone(),
            partitions,
            replication_factor: copies,
            id_horizon: Duration::ZERO,
            ..TopicPlan::default()
        };
        let settings = KafkaSettings::plaintext(&brokers);
        init(&settings, &plan, &Clock::System).expect("the topics are made");
        let options = KafkaLogOptions { topic: topic.clone(), ..KafkaLogOptions::default() };
        let log = Arc::new(KafkaGenerations::open(&settings, options).expect("the log opens"));
        Self { brokers, topic, log, store }
    }

    /// The same, its log opened anew.
    pub(crate) fn reopened(mut self) -> Self {
        let opened = KafkaGenerations::open(&self.settings(), self.options());
        self.log = Arc::new(opened.expect("the log opens"));
        self
    }

    /// A client that may change topics.
    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).create().expect("a client")
    }

    /// The log's topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// A member of the group.
    pub(crate) fn join(&self) -> Member {
        self.member(Arc::clone(&self.store), Gate::default(), self.options())
    }

    /// A member that looks for a next generation only so often.
    pub(crate) fn join_looking_every(&self, directory_every: Duration) -> Member {
        let options = KafkaLogOptions { directory_every, ..self.options() };
        self.member(Arc::clone(&self.store), Gate::default(), options)
    }

    fn options(&self) -> KafkaLogOptions {
        KafkaLogOptions { topic: self.topic.clone(), ..KafkaLogOptions::default() }
    }

    /// Begins the next generation; `told` hears of each step, and its error ends it there.
    pub(crate) fn grow(
        &self,
        partitions: u32,
        told: &mut dyn FnMut(GrowStep) -> Result<(), LogError>,
    ) -> Result<GrowReport, LogError> {
        let is_folded = |partition| {
            let state = lookup::load_state(&*self.store, partition).expect("readable");
            state.is_some_and(|state| state.sealed_at.is_some())
        };
        let growth = Growth { topic: &self.topic, clock: &Clock::System, is_folded: &is_folded, told };
        grow(&self.settings(), growth, partitions)
    }

    /// The brokers.
    pub(crate) fn settings(&self) -> KafkaSettings {
        KafkaSettings::plaintext(&self.brokers)
    }

    /// A member whose flushes go through a gate, and who is taken for dead after that long.
    pub(crate) fn join_through(&self, gate: &Gate, member_timeout: Duration) -> Member {
        let store = Gated { store: Arc::clone(&self.store), gate: gate.clone() };
        self.member(Arc::new(store), gate.clone(), KafkaLogOptions { member_timeout, ..self.options() })
    }

    fn member(&self, store: Arc<dyn Store>, gate: Gate, options: KafkaLogOptions) -> Member {
        let log = KafkaGenerations::open(&self.settings(), options).expect("the log opens");
        let partitions = Arc::new(AtomicUsize::new(0));
        let log = Arc::new(Counting { log, partitions: Arc::clone(&partitions), gate });
        let (handoff, changes) = unbounded();
        let handoff = Outlet::InProcess(handoff);
        let halts = Arc::new(Halts::default());
        let deps = ConsumerDeps {
            log,
            store,
            hash_key: hash_key(),
            handoff,
            letters: None,
            halts: Arc::clone(&halts),
        };
        let config = ConsumerConfig {
            topic: self.topic.clone(),
            group: format!("{}-consumer", self.topic),
            workers: 2,
            flush_every: Duration::from_millis(100),
            ..ConsumerConfig::default()
        };
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let thread = thread::spawn(move || {
            pipeline::run(&config, &deps, &token);
            drop(changes);
        });
        Member { shutdown, thread: Some(thread), partitions, halts }
    }

    /// Sends one pulse and remembers the first copy of it.
    pub(crate) fn send_pulse(&self, sent: &mut Sent, number: u32) {
        self.offer_pulse(sent, number).expect("is durable");
    }

    /// Sends one pulse as a client does that sends it again until it is acknowledged, and remembers the first copy of it.
    /// Gives how many answers were no yes.
    pub(crate) fn insist_on_pulse(&self, sent: &mut Sent, number: u32) -> u32 {
        let until = Instant::now() + SOON;
        let mut refusals = 0;
        while let Err(error) = self.offer_pulse(sent, number) {
            assert!(error.is_retryable() && Instant::now() < until, "it is not taken: {error}");
            refusals += 1;
            thread::sleep(Duration::from_millis(100));
        }
        refusals
    }

    /// The pulse of a number, and its tenant.
    pub(crate) fn pulse(number: u32) -> (&'static str, v1::Pulse) {
        let tenant = TENANTS[number as usize % TENANTS.len()];
        let pulse = v1::Pulse {
            id: format!("p-{number}"),
            tenant_id: tenant.into(),
            product_sku: "vm".into(),
            used_amount: (number % 7 + 1).to_string(),
            use_unit: "Hours".into(),
            occurred_at: Some(prost_types::Timestamp { seconds: NOON, nanos: 0 }),
            ..Default::default()
        };
        (tenant, pulse)
    }

    fn offer_pulse(&self, sent: &mut Sent, number: u32) -> Result<(), LogError> {
        self.offer_pulse_to(&self.log.layout(), sent, number).map(drop)
    }

    /// Sends one pulse as a producer does that knows this generation as the newest; gives where it stands.
    pub(crate) fn offer_pulse_to(
        &self,
        layout: &LogLayout,
        sent: &mut Sent,
        number: u32,
    ) -> Result<(u32, Rank), LogError> {
        let (tenant, pulse) = Self::pulse(number);
        let batch = v1::PulseBatch { format_version: 1, pulses: vec![pulse], ..Default::default() };
        sent.insert((tenant, number), u64::from(number % 7 + 1));
        let partition = partition_of_tenant(layout, tenant);
        let at = self.append(partition, &batch.encode_to_vec())?;
        Ok((partition, Rank::new(at.generation, at.offset).expect("fits")))
    }

    /// Appends bytes as they are.
    pub(crate) fn send_bytes(&self, partition: u32, value: &[u8]) {
        self.append(partition, value).expect("is durable");
    }

    fn append(&self, partition: u32, value: &[u8]) -> Result<Appended, LogError> {
        self.log.append(partition, vec![value.to_vec().into()]).blocking_recv().expect("answers")
    }

    /// Has the broker forget all records of a partition, as retention does.
    pub(crate) fn delete_below_end(&self, partition: u32) {
        let end = self.log.watermarks(partition).expect("has marks").end_offset;
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(end.cast_signed());
        list.add_partition_offset(&self.topic, partition.cast_signed(), offset).expect("is added");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("are deleted");
    }

    pub(crate) fn is_drained(&self, partition: u32) -> bool {
        let state = lookup::load_state(&*self.store, partition);
        if state.is_ok_and(|state| state.is_some_and(|state| state.is_given_up())) {
            return true;
        }
        let end = self.log.watermarks(partition).expect("has marks").end_offset;
        // A store that is away for a moment says nothing about it.
        lookup::folded_through(&*self.store, partition).is_ok_and(|through| through.offset() == end)
    }

    /// Waits until everything is folded.
    pub(crate) fn drain(&self) {
        let is_drained = || self.log.partitions().into_iter().all(|partition| self.is_drained(partition));
        // Twice, since what is moved is appended again.
        until("all is folded", || is_drained() && is_drained());
    }

    /// What became of all pulses.
    pub(crate) fn counts(&self) -> FateCounts {
        let mut sum = FateCounts::default();
        for partition in self.log.partitions() {
            let state = lookup::load_state(&*self.store, partition).expect("readable").expect("was folded");
            sum.add_counts(&state.counts);
        }
        sum
    }

    /// Lost 0, doubled 0: each tenant's month is the sum of the first copies. Prints what else came of what stood in the log.
    #[expect(clippy::print_stdout, reason = "docs/faults.md has the counts")]
    pub(crate) fn assert_totals(&self, sent: &Sent) {
        let counts = self.counts();
        assert_eq!(counts.counted, sent.len() as u64);
        for tenant in TENANTS {
            let its = sent.iter().filter(|((whose, _), _)| *whose == tenant).map(|(_, amount)| amount);
            let expected: (u64, u64) = its.fold((0, 0), |(sum, count), amount| (sum + amount, count + 1));
            assert_eq!(self.month(tenant), expected, "{tenant}");
        }
        let test = thread::current().name().unwrap_or_default().to_owned();
        println!("{test}: {} pulses, lost 0, doubled 0; {counts:?}", sent.len());
    }

    /// Sum and count of a tenant.
    fn month(&self, tenant: &str) -> (u64, u64) {
        let month = Window::parse_month("2023-11").expect("a month");
        let prefix = Range::prefix(&usage_clustering_prefix(month));
        let rows = self.store.scan(Table::Usage, &usage_partition_key(tenant, month), &prefix, 10);
        let rows = rows.expect("readable");
        assert!(rows.len() <= 1, "one series");
        let Some((_, cell)) = rows.first() else { return (0, 0) };
        let row = UsageRow::decode(&cell.value).expect("a row");
        (row.sum.to_string().parse().expect("a whole number"), row.count)
    }
}

/// A member of the group; dropping it stops it in order.
pub(crate) struct Member {
    shutdown: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
    partitions: Arc<AtomicUsize>,
    halts: Arc<Halts>,
}

impl Member {
    /// How many partitions it has now.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Why it has halted a partition.
    pub(crate) fn halt_of(&self, partition: u32) -> Option<String> {
        self.halts.list().into_iter().find(|(halted, _)| *halted == partition).map(|(_, why)| why)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let ended = self.thread.take().expect("it runs").join();
        assert!(ended.is_ok() || thread::panicking(), "a member has panicked");
    }
}

/// A log whose membership counts its partitions, and sleeps while its member's flush is held.
struct Counting {
    log: KafkaGenerations,
    partitions: Arc<AtomicUsize>,
    gate: Gate,
}

impl Log for Counting {
    fn layout(&self) -> LogLayout {
        self.log.layout()
    }

    fn generations(&self) -> Vec<LogLayout> {
        self.log.generations()
    }

    fn append(&self, partition: u32, value: Vec<bytes::Bytes>) -> AppendReply {
        self.log.append(partition, value)
    }

    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        self.log.watermarks(partition)
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        self.log.reader(from)
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        self.log.fetch(partition, offsets)
    }

    fn is_appendable(&self) -> bool {
        self.log.is_appendable()
    }

    fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        let (partitions, gate) = (Arc::clone(&self.partitions), self.gate.clone());
        Ok(Box::new(Counted { membership: self.log.join(group)?, partitions, gate }))
    }
}

struct Counted {
    membership: Box<dyn Membership>,
    partitions: Arc<AtomicUsize>,
    gate: Gate,
}

impl Membership for Counted {
    fn changes(&mut self) -> Vec<Change> {
        if self.gate.is_holding() {
            self.gate.wait();
        }
        let changes = self.membership.changes();
        for change in &changes {
            match change {
                Change::Assigned(more) => self.partitions.fetch_add(more.len(), Ordering::Relaxed),
                Change::Revoked(less) | Change::Lost(less) => {
                    self.partitions.fetch_sub(less.len(), Ordering::Relaxed)
                }
            };
        }
        changes
    }

    fn let_go(&mut self, partitions: &[u32]) {
        self.membership.let_go(partitions);
    }

    fn folded(&mut self, through: &[(u32, u64)]) {
        self.membership.folded(through);
    }
}

/// Holds the flushes that go through it while it is closed.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<GateState>);

#[derive(Default)]
struct GateState {
    is_closed: Mutex<bool>,
    opened: Condvar,
    is_holding: AtomicBool,
    /// Usage rows and cells of runs in flushes that were held, once they are written.
    rows: AtomicUsize,
    runs: AtomicUsize,
}

impl Gate {
    pub(crate) fn close(&self) {
        *self.0.is_closed.lock() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.is_closed.lock() = false;
        self.0.opened.notify_all();
    }

    /// Whether a flush waits.
    pub(crate) fn is_holding(&self) -> bool {
        self.0.is_holding.load(Ordering::Relaxed)
    }

    /// How many usage rows and cells of runs were written late.
    pub(crate) fn late(&self) -> (usize, usize) {
        (self.0.rows.load(Ordering::Relaxed), self.0.runs.load(Ordering::Relaxed))
    }

    fn wait(&self) {
        let mut is_closed = self.0.is_closed.lock();
        self.0.opened.wait_while(&mut is_closed, |is_closed| *is_closed);
    }
}

struct Gated {
    store: Arc<dyn Store>,
    gate: Gate,
}

impl Store for Gated {
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
        let count = |table| flush.cells.iter().filter(|(key, _)| key.table == table).count();
        let (rows, runs) = (count(Table::Usage), count(Table::Runs));
        let is_held = rows > 0 && *self.gate.0.is_closed.lock();
        if is_held {
            self.gate.0.is_holding.store(true, Ordering::Relaxed);
            self.gate.wait();
        }
        let flushed = self.store.flush(flush);
        if is_held {
            self.gate.0.rows.fetch_add(rows, Ordering::Relaxed);
            self.gate.0.runs.fetch_add(runs, Ordering::Relaxed);
        }
        flushed
    }
}
