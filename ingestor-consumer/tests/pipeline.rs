//! The pipeline over the embedded log and store: totals come out, also after restarts, and the archive agrees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use parking_lot::Mutex;
use prost::Message;
use pulso_domain::fate::Fate;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::Rank;
use pulso_domain::usage::{UsageChanged, UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_domain::window::Window;
use pulso_ingestor_consumer::admin::{self, Actor, AdminError};
use pulso_ingestor_consumer::archive::{Archive, Kept, Next, PulseFilter};
use pulso_ingestor_consumer::audit::{self, AuditReport, Step};
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::partition::{FoldConfig, FoldRules};
use pulso_ingestor_consumer::halts::{self, Halts};
use pulso_ingestor_consumer::handoff::{Handoff, Handover, Outlet};
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::pipeline::{self, ConsumerConfig, ConsumerDeps};
use pulso_platform::log::Log;
use pulso_platform::log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::{Range, Store, Table, identity};
use pulso_proto::v1;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 3;
const NOON: i64 = 1_700_049_600;
const SOON: Duration = Duration::from_secs(20);

/// A data folder with its log and store, and a consumer while one runs.
struct World {
    folder: TempDir,
    log: Option<Arc<EmbeddedLog>>,
    store: Option<Arc<EmbeddedStore>>,
    running: Option<Running>,
    kept: Kept,
    handoff: Option<Arc<dyn Handoff>>,
}

struct Running {
    shutdown: CancellationToken,
    thread: thread::JoinHandle<()>,
    changes: Receiver<UsageChanged>,
    halts: Arc<Halts>,
}

impl World {
    fn new() -> Self {
        Self::with_archive(Kept::InLog)
    }

    fn with_archive(kept: Kept) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut world = Self { folder, log: None, store: None, running: None, kept, handoff: None };
        world.open();
        world
    }

    fn open(&mut self) {
        let config = EmbeddedLogConfig::new(self.folder.path().join("log"), PARTITIONS, Clock::System);
        self.log = Some(Arc::new(EmbeddedLog::open(config).expect("the log opens").0));
        let store = EmbeddedStore::open(self.folder.path().join("store"), EmbeddedOptions::default());
        self.store = Some(Arc::new(store.expect("the store opens")));
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(self.log.as_ref().expect("open")) as Arc<dyn Log>
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().expect("open")) as Arc<dyn Store>
    }

    fn hash_key(&self) -> HashKey {
        HashKey::new(identity::hash_key(&*self.store()).expect("a key"))
    }

    fn start(&mut self) {
        let (handoff, changes) = unbounded();
        let halts = Arc::new(Halts::default());
        let deps = ConsumerDeps {
            log: self.log(),
            store: self.store(),
            hash_key: self.hash_key(),
            handoff: self.handoff.clone().map_or(Outlet::InProcess(handoff), Outlet::Confirmed),
            letters: None,
            halts: Arc::clone(&halts),
        };
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let config = ConsumerConfig { workers: 2, archive: self.kept, ..ConsumerConfig::default() };
        let thread = thread::spawn(move || pipeline::run(&config, &deps, &token));
        self.running = Some(Running { shutdown, thread, changes, halts });
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown.cancel();
            running.thread.join().expect("the consumer ends in order");
        }
    }

    fn reopen(&mut self) {
        self.stop();
        (self.log, self.store) = (None, None);
        self.open();
    }

    fn append(&self, tenant: &str, pulses: Vec<v1::Pulse>) {
        let value = v1::PulseBatch { format_version: 1, pulses, ..Default::default() }.encode_to_vec();
        let partition = partition_of(tenant.as_bytes(), PARTITIONS);
        self.log().append(partition, vec![value.into()]).blocking_recv().expect("answers").expect("durable");
    }

    fn drain(&self) {
        let since = Instant::now();
        let drained = |partition| {
            let end = self.log().watermarks(partition).expect("has marks").end_offset;
            lookup::folded_through(&*self.store(), partition).expect("readable").offset() == end
        };
        while !(0..PARTITIONS).all(drained) {
            assert!(since.elapsed() < SOON, "the consumer does not come to the end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn month(&self, tenant: &str) -> Option<(String, u64)> {
        let month = Window::parse_month("2023-11").expect("good");
        let prefix = Range::prefix(&usage_clustering_prefix(month));
        let rows = self.store().scan(Table::Usage, &usage_partition_key(tenant, month), &prefix, 10);
        let rows = rows.expect("readable");
        assert!(rows.len() <= 1, "one series");
        let row = UsageRow::decode(&rows.first()?.1.value).expect("a row");
        Some((row.sum.to_string(), row.count))
    }

    fn assert_audit_is_clean(&self) {
        let report = self.audit(audit::MEMORY_BYTES);
        assert!(report.is_clean(), "{report:?}");
        let mut slices = 0;
        let little = self.audit_in_steps(2048, |step| slices = slices.max(step.slices));
        assert!(slices > 1, "what is held has a bound");
        assert_eq!(format!("{little:?}"), format!("{report:?}"), "in slices it finds the same");
    }

    fn audit(&self, memory_bytes: usize) -> AuditReport {
        self.audit_in_steps(memory_bytes, |_| {})
    }

    fn audit_in_steps(&self, memory_bytes: usize, step: impl FnMut(Step)) -> AuditReport {
        let (log, store) = (self.log(), self.store());
        let archive = Archive { log: &*log, store: &*store, kept: self.kept, shape: RunShape::FORMAT };
        audit::audit(&archive, self.hash_key(), memory_bytes, step).expect("audits")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pulse(tenant: &str, id: u32, amount: &str) -> v1::Pulse {
    v1::Pulse {
        id: format!("p-{id}"),
        tenant_id: tenant.into(),
        product_sku: "vm".into(),
        used_amount: amount.into(),
        use_unit: "Hours".into(),
        occurred_at: Some(prost_types::Timestamp { seconds: NOON + i64::from(id % 5) * 3600, nanos: 0 }),
        ..Default::default()
    }
}

#[test]
fn pulses_come_out_as_totals_once_and_the_audit_agrees() {
    let mut world = World::new();
    world.start();
    for round in 0..300_u32 {
        for tenant in ["acme", "globex", "initech", "umbrella"] {
            // Every third record is a retry of the one before.
            let id = round - u32::from(round % 3 == 1);
            world.append(tenant, vec![pulse(tenant, id, "0.5"), pulse(tenant, 10_000 + round, "1")]);
        }
    }
    world.drain();
    world.stop();
    for tenant in ["acme", "globex", "initech", "umbrella"] {
        assert_eq!(world.month(tenant), Some(("400".to_owned(), 500)), "{tenant}");
    }
    world.assert_audit_is_clean();
    world.reopen();
    world.start();
    world.append("acme", vec![pulse("acme", 10_000, "1"), pulse("acme", 7, "0.25")]);
    world.drain();
    assert_eq!(world.month("acme"), Some(("400.25".to_owned(), 501)), "an old duplicate and a new pulse");
    world.assert_audit_is_clean();
}

#[test]
fn a_change_is_handed_to_pricing_with_its_month() {
    let mut world = World::new();
    world.start();
    world.append("acme", vec![pulse("acme", 1, "1")]);
    let changes = &world.running.as_ref().expect("runs").changes;
    let since = Instant::now();
    let change = loop {
        let change = changes.recv_timeout(SOON).expect("a change");
        if !change.months.is_empty() {
            break change;
        }
        assert!(since.elapsed() < SOON);
    };
    assert_eq!(change.partition, partition_of(b"acme", PARTITIONS));
    assert_eq!(change.months[0].1.to_string(), "2023-11");
}

/// A hand-off that takes nothing until it is told to, and remembers what it took.
#[derive(Default)]
struct Desk {
    is_open: AtomicBool,
    refused: AtomicUsize,
    taken: Mutex<Vec<Handover>>,
}

impl Handoff for Desk {
    fn deliver(&self, handover: &Handover) -> Result<(), Stop> {
        if !self.is_open.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Stop::Retry("not now".to_owned()));
        }
        self.taken.lock().push(handover.clone());
        Ok(())
    }
}

#[test]
fn the_progress_waits_for_the_hand_off_and_then_all_of_it_was_handed_over() {
    let desk = Arc::new(Desk::default());
    let mut world = World::new();
    world.handoff = Some(Arc::clone(&desk) as Arc<dyn Handoff>);
    world.start();
    let partition = partition_of(b"acme", PARTITIONS);
    world.append("acme", vec![pulse("acme", 1, "1.5")]);
    let since = Instant::now();
    while desk.refused.load(Ordering::SeqCst) < 2 {
        assert!(since.elapsed() < SOON);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.month("acme"), Some(("1.5".to_owned(), 1)), "rows are written before");
    assert!(
        lookup::load_state(&*world.store(), partition).expect("readable").is_none(),
        "the progress is not"
    );
    desk.is_open.store(true, Ordering::SeqCst);
    world.append("acme", vec![pulse("acme", 2, "1"), pulse("acme", 1, "1.5")]);
    world.drain();
    world.append("acme", vec![pulse("acme", 2, "1")]);
    world.drain();
    world.stop();
    let taken = desk.taken.lock();
    let of_partition: Vec<_> = taken.iter().filter(|one| one.partition == partition).collect();
    assert!(of_partition.windows(2).all(|two| two[0].through == two[1].from), "without a gap");
    let folded = lookup::folded_through(&*world.store(), partition).expect("readable");
    assert_eq!(of_partition.last().expect("some").through, folded, "a marker ends the wait for a duplicate");
    let months = of_partition.iter().flat_map(|one| &one.records);
    let newest = months.filter(|record| record.level() == v1::WindowLevel::Month).max_by_key(|one| one.hwm);
    let newest = newest.expect("a month");
    assert_eq!((newest.quantity.as_str(), newest.count), ("2.5", 2), "records are absolute");
}

/// A hand-off with a fault of its own.
struct Broken;

impl Handoff for Broken {
    fn deliver(&self, _: &Handover) -> Result<(), Stop> {
        panic!("a broken invariant")
    }
}

#[test]
fn a_worker_that_dies_ends_the_consumer_although_nothing_more_comes() {
    let mut world = World::new();
    world.handoff = Some(Arc::new(Broken));
    world.start();
    world.append("acme", vec![pulse("acme", 1, "1.5")]);
    let running = world.running.take().expect("it runs");
    let since = Instant::now();
    while !running.thread.is_finished() {
        assert!(since.elapsed() < SOON, "it looks as if there were nothing to do");
        thread::sleep(Duration::from_millis(5));
    }
    running.thread.join().expect_err("it ends as what it is");
}

#[test]
fn g04_a_rewind_changes_no_total() {
    let mut world = World::new();
    world.start();
    for id in 0..400 {
        world.append("acme", vec![pulse("acme", id, "1")]);
    }
    world.drain();
    world.stop();
    let before = world.month("acme");
    let partition = partition_of(b"acme", PARTITIONS);
    let actor = Actor { name: "test".into(), at_nanos: 1 };
    admin::request_rewind(&*world.log(), &*world.store(), (partition, 100), &actor).expect("is noted");
    let beyond = admin::request_rewind(&*world.log(), &*world.store(), (partition, 4000), &actor);
    assert!(matches!(beyond, Err(AdminError::Offset { .. })));
    world.reopen();
    world.start();
    world.append("acme", vec![pulse("acme", 399, "1"), pulse("acme", 400, "1")]);
    let since = Instant::now();
    while world.month("acme") == before {
        assert!(since.elapsed() < SOON);
        thread::sleep(Duration::from_millis(5));
    }
    world.drain();
    assert_eq!(world.month("acme"), Some(("401".to_owned(), 401)));
    world.assert_audit_is_clean();
}

#[test]
fn the_archive_shows_a_tenants_pulses_with_their_fates() {
    for kept in [Kept::InLog, Kept::InStore] {
        the_archive_shows_pulses(World::with_archive(kept));
    }
}

fn the_archive_shows_pulses(mut world: World) {
    world.start();
    for id in 0..200 {
        world.append("acme", vec![pulse("acme", id, "1")]);
        world.append("globex", vec![pulse("globex", id, "1")]);
    }
    world.append("acme", vec![pulse("acme", 5, "1"), pulse("acme", 6, "9")]);
    world.drain();
    let (log, store) = (world.log(), world.store());
    let archive = Archive { log: &*log, store: &*store, kept: world.kept, shape: RunShape::FORMAT };
    let filter = PulseFilter {
        product_sku: Some("vm"),
        ..PulseFilter::window("acme", Window::parse_month("2023-11").expect("good"))
    };
    let (mut counted, mut others) = (0, Vec::new());
    archive
        .visit(&filter, |pulse| {
            let read = v1::Pulse::decode(pulse.bytes).expect("a pulse");
            match pulse.fate {
                Fate::Counted if read.tenant_id == "acme" => counted += 1,
                Fate::Counted => {}
                fate => others.push(fate.as_str()),
            }
            Next::More
        })
        .expect("reads");
    assert_eq!(counted, 200);
    assert!(others.is_empty() || others == ["duplicate", "conflict"], "{others:?}");
    let partition = archive.partition_at("acme", Rank::new(1, 0).expect("fits"));
    let hash = world.hash_key().id_hash("acme", "p-7");
    let entry = lookup::find_id(&*store, &RunShape::FORMAT, partition, ("p-7", hash)).expect("reads");
    assert!(entry.is_some());
    let hash = world.hash_key().id_hash("acme", "p-999");
    assert_eq!(lookup::find_id(&*store, &RunShape::FORMAT, partition, ("p-999", hash)).expect("reads"), None);
}

#[test]
fn g10_a_partition_whose_record_is_of_a_newer_version_halts_and_the_others_go_on() {
    let mut world = World::new();
    world.start();
    let newer = v1::PulseBatch { format_version: 9, ..Default::default() }.encode_to_vec();
    let halted = partition_of(b"acme", PARTITIONS);
    world.append("acme", vec![pulse("acme", 1, "1")]);
    world.log().append(halted, vec![newer.into()]).blocking_recv().expect("answers").expect("durable");
    let other = ["globex", "initech", "umbrella"]
        .into_iter()
        .find(|tenant| partition_of(tenant.as_bytes(), PARTITIONS) != halted)
        .expect("another partition");
    world.append(other, vec![pulse(other, 1, "1")]);
    let since = Instant::now();
    let halts = Arc::clone(&world.running.as_ref().expect("runs").halts);
    while !halts.is_halted(halted) || world.month(other).is_none() {
        assert!(since.elapsed() < SOON);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.month("acme"), Some(("1".to_owned(), 1)), "what was before the fault is flushed");
    let sentence = halts::read(&*world.store(), halted).expect("readable").expect("is halted");
    assert!(sentence.contains("needs_upgrade"), "{sentence}");
    world.stop();
    skip_the_newer_record(&world, halted);
    world.reopen();
    world.start();
    world.append("acme", vec![pulse("acme", 2, "1")]);
    world.drain();
    assert_eq!(world.month("acme"), Some(("2".to_owned(), 2)));
    assert_eq!(halts::read(&*world.store(), halted).expect("readable"), None);
}

fn skip_the_newer_record(world: &World, partition: u32) {
    let config = FoldConfig {
        partition,
        partitions: PARTITIONS,
        earlier: Vec::new(),
        topic: "resource-consumption".into(),
        shape: RunShape::FORMAT,
        hash_key: world.hash_key(),
        rules: FoldRules::ALL,
    };
    let actor = Actor { name: "test".into(), at_nanos: 1 };
    let end = world.log().watermarks(partition).expect("has marks").end_offset;
    let without = admin::skip(&*world.log(), &world.store(), config.clone(), (end, " "), &actor);
    assert!(matches!(without, Err(AdminError::NoNote)));
    let gap = admin::skip(&*world.log(), &world.store(), config, (end, "made by a trial"), &actor);
    assert_eq!(gap.expect("is skipped").to, end);
}
