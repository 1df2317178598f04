//! Generations through the pipeline over the embedded log and store: pulses, retries, duplicates and conflicts on both sides
//! of the border, and what arrives behind the seal, compared with an own record.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use prost::Message;
use pulso_domain::fate::FateCounts;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Rank, partition_number};
use pulso_domain::usage::{UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_domain::window::Window;
use pulso_ingestor_consumer::archive::{Archive, Kept, Next, PulseFilter};
use pulso_ingestor_consumer::audit;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::generations::{moved_to, partition_of_tenant};
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::handoff::Outlet;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::pipeline::{self, ConsumerConfig, ConsumerDeps};
use pulso_platform::log::Log;
use pulso_platform::log::embedded::{EmbeddedGenerations, EmbeddedLogConfig};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::{Range, Store, Table, identity};
use pulso_proto::v1;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const NOON: i64 = 1_700_049_600;
const SOON: Duration = Duration::from_secs(60);
const TENANTS: [&str; 5] = ["acme", "globex", "initech", "umbrella", "hooli"];

struct World {
    folder: TempDir,
    log: Option<Arc<EmbeddedGenerations>>,
    store: Arc<dyn Store>,
    running: Option<(CancellationToken, thread::JoinHandle<()>)>,
    /// The own record: the amount of each (tenant, id) that was sent first, and how many pulses were sent.
    sent: HashMap<(String, u32), u64>,
    pulses: u64,
}

impl World {
    fn new(partitions: u32) -> Self {
        let folder = TempDir::new().expect("a folder");
        let store = EmbeddedStore::open(folder.path().join("store"), EmbeddedOptions::default());
        let store: Arc<dyn Store> = Arc::new(store.expect("the store opens"));
        let mut world = Self { folder, log: None, store, running: None, sent: HashMap::new(), pulses: 0 };
        world.open(partitions);
        world
    }

    fn config(&self, partitions: u32) -> EmbeddedLogConfig {
        EmbeddedLogConfig::new(self.folder.path().join("log"), partitions, Clock::System)
    }

    fn open(&mut self, partitions: u32) {
        let opened = EmbeddedGenerations::open(&self.config(partitions)).expect("the log opens");
        self.log = Some(Arc::new(opened.0));
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(self.log.as_ref().expect("open")) as Arc<dyn Log>
    }

    fn hash_key(&self) -> HashKey {
        HashKey::new(identity::hash_key(&*self.store).expect("a key"))
    }

    fn start(&mut self) {
        let deps = ConsumerDeps {
            log: self.log(),
            store: Arc::clone(&self.store),
            hash_key: self.hash_key(),
            handoff: Outlet::InProcess(unbounded().0),
            letters: None,
            halts: Arc::new(Halts::default()),
        };
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let config = ConsumerConfig { workers: 2, ..ConsumerConfig::default() };
        let thread = thread::spawn(move || pipeline::run(&config, &deps, &token));
        self.running = Some((shutdown, thread));
    }

    fn stop(&mut self) {
        if let Some((shutdown, thread)) = self.running.take() {
            shutdown.cancel();
            thread.join().expect("the consumer ends in order");
        }
    }

    fn grow(&mut self, partitions: u32) {
        self.stop();
        self.log = None;
        assert!(EmbeddedGenerations::grow(&self.config(1), partitions).expect("grows").begun);
        self.open(1);
    }

    /// Appends pulses of a tenant, by id, to a generation; gives the record's partition and rank.
    fn append(&mut self, generation: usize, tenant: &str, ids: impl Iterator<Item = u32>) -> (u32, Rank) {
        let ids: Vec<u32> = ids.collect();
        self.pulses += ids.len() as u64;
        for id in &ids {
            self.sent.entry((tenant.to_owned(), *id)).or_insert(1);
        }
        let pulses = ids.iter().map(|id| pulse(tenant, *id, "1")).collect();
        self.append_pulses(generation, tenant, pulses)
    }

    fn append_pulses(&self, generation: usize, tenant: &str, pulses: Vec<v1::Pulse>) -> (u32, Rank) {
        let log = self.log();
        let partition = partition_of_tenant(&log.generations()[generation - 1], tenant);
        let value = v1::PulseBatch { format_version: 1, pulses, ..Default::default() }.encode_to_vec();
        let reply = log.append(partition, vec![value.into()]);
        let at = reply.blocking_recv().expect("answers").expect("durable");
        (partition, Rank::new(at.generation, at.offset).expect("fits"))
    }

    fn drain(&self) {
        let since = Instant::now();
        let drained = |partition: u32| {
            let end = self.log().watermarks(partition).expect("has marks").end_offset;
            lookup::folded_through(&*self.store, partition).expect("readable").offset() == end
        };
        // Twice, since what is moved is appended again.
        while !(0..2).all(|_| self.log().partitions().into_iter().all(drained)) {
            assert!(since.elapsed() < SOON, "the consumer does not come to the end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn counts(&self) -> FateCounts {
        let mut all = FateCounts::default();
        for partition in self.log().partitions() {
            let state = lookup::load_state(&*self.store, partition).expect("readable");
            all.add_counts(&state.map(|state| state.counts).unwrap_or_default());
        }
        all
    }

    /// Each tenant's month as the store has it.
    fn months(&self) -> BTreeMap<String, (String, u64)> {
        let month = Window::parse_month("2023-11").expect("good");
        let prefix = Range::prefix(&usage_clustering_prefix(month));
        let read = |tenant: &str| {
            let rows = self.store.scan(Table::Usage, &usage_partition_key(tenant, month), &prefix, 10);
            let row = UsageRow::decode(&rows.expect("readable").first()?.1.value).expect("a row");
            Some((tenant.to_owned(), (row.sum.to_string(), row.count)))
        };
        TENANTS.iter().filter_map(|tenant| read(tenant)).collect()
    }

    /// What the own record says.
    fn expected(&self) -> BTreeMap<String, (String, u64)> {
        let mut months: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for ((tenant, _), amount) in &self.sent {
            let month = months.entry(tenant.clone()).or_default();
            *month = (month.0 + amount, month.1 + 1);
        }
        months.into_iter().map(|(tenant, (sum, count))| (tenant, (sum.to_string(), count))).collect()
    }

    fn assert_audit_is_clean(&self) {
        let (log, shape) = (self.log(), RunShape::FORMAT);
        let archive = Archive { log: &*log, store: &*self.store, kept: Kept::InLog, shape };
        for memory_bytes in [audit::MEMORY_BYTES, 2048] {
            let report = audit::audit(&archive, self.hash_key(), memory_bytes, |_| {}).expect("audits");
            assert!(report.is_clean(), "{report:?}");
        }
        let month = Window::parse_month("2023-11").expect("good");
        for tenant in TENANTS {
            let mut found = 0;
            let filter = PulseFilter::window(tenant, month);
            archive
                .visit(&filter, |pulse| {
                    found += u64::from(pulse.fate == pulso_domain::fate::Fate::Counted);
                    Next::More
                })
                .expect("visits");
            let wanted = self.sent.keys().filter(|(of, _)| of == tenant).count() as u64;
            // The records' pulses are all this tenant's.
            assert_eq!(found, wanted, "every counted pulse of {tenant} is found through its directories");
        }
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
fn g03_pulses_and_retries_on_both_sides_of_a_border_and_behind_the_seal_count_once() {
    let mut world = World::new(3);
    world.start();
    for round in 0..60 {
        for tenant in TENANTS {
            world.append(1, tenant, round * 5..round * 5 + 7);
        }
    }
    // The last of it is folded only behind the growth.
    world.grow(5);
    world.start();
    let mut behind = Vec::new();
    for round in 50..90 {
        for tenant in TENANTS {
            // An ingestor that knows the new generation, and one that does not; each sends what both have sent before.
            world.append(2, tenant, round * 5..round * 5 + 7);
            behind.push(world.append(1, tenant, round * 5 + 3..round * 5 + 9));
        }
    }
    let conflict = pulse("acme", 1, "2");
    world.append_pulses(2, "acme", vec![conflict.clone()]);
    world.append_pulses(1, "acme", vec![conflict]);
    world.drain();
    world.stop();
    assert_eq!(world.months(), world.expected());
    let counts = world.counts();
    let strays = 40 * 5 * 6 + 1;
    assert_eq!((counts.counted, counts.conflict, counts.moved), (world.sent.len() as u64, 2, strays));
    assert_eq!(
        counts.counted + counts.duplicate,
        world.pulses,
        "every pulse has one fate, where it came to rest"
    );
    for (partition, rank) in behind {
        let traces = moved_to(&*world.store, &RunShape::FORMAT, (partition, rank)).expect("readable");
        let moved: usize = traces.iter().map(|trace| trace.indexes.len()).sum();
        assert_eq!((moved, traces[0].pulses, traces[0].generation), (6, 6, 2), "{rank} is followed");
    }
    world.assert_audit_is_clean();
}

#[test]
fn g03_what_arrives_behind_an_old_seal_goes_on_in_the_newest_generation() {
    let mut world = World::new(3);
    world.append(1, "acme", 0..40);
    world.grow(4);
    world.append(2, "acme", 20..60);
    world.grow(2);
    // An ingestor that slept through both, and one that slept through the second.
    let behind_both = world.append(1, "acme", 50..70);
    let behind_one = world.append(2, "acme", 60..80);
    world.start();
    world.append(3, "acme", 75..90);
    world.drain();
    world.stop();
    assert_eq!(world.months(), world.expected());
    for (partition, rank) in [behind_both, behind_one] {
        let traces = moved_to(&*world.store, &RunShape::FORMAT, (partition, rank)).expect("readable");
        let moved: usize = traces.iter().map(|trace| trace.indexes.len()).sum();
        assert_eq!((moved, traces[0].generation), (20, 3), "{rank}");
    }
    world.assert_audit_is_clean();
}

#[test]
fn g03_ids_are_found_over_three_generations_and_after_the_store_is_folded_again() {
    let mut world = World::new(4);
    world.start();
    for generation in 1..=3 {
        for tenant in TENANTS {
            // Enough records that some runs are complete and one is growing.
            for round in 0..70 {
                world.append(generation, tenant, round * 3..round * 3 + 4);
            }
        }
        if generation < 3 {
            world.grow([8, 6][generation - 1]);
            world.start();
        }
    }
    world.drain();
    world.stop();
    let (months, counts) = (world.months(), world.counts());
    assert_eq!(months, world.expected());
    assert_eq!(counts.counted, world.sent.len() as u64);
    world.assert_audit_is_clean();
    let fresh = EmbeddedStore::open(world.folder.path().join("fresh"), EmbeddedOptions::default());
    world.store = Arc::new(fresh.expect("the store opens"));
    world.start();
    world.drain();
    world.stop();
    assert_eq!((world.months(), world.counts()), (months, counts), "a function of the log alone");
    let waiting =
        lookup::load_state(&*world.store, partition_number(3, 0)).expect("readable").expect("folded");
    assert_eq!(waiting.generation, 3);
}
