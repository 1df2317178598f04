//! A world of four partitions: pulses go through the embedded log and the real fold; requests through the real router.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use crossbeam_channel::Sender;
use http_body_util::BodyExt;
use prost::Message;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::partitioner::partition_of;
use pulso_domain::time::Instant;
use pulso_domain::usage::UsageChanged;
use pulso_ingestor_consumer::archive::Kept;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::partition::{FoldConfig, FoldRules};
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use pulso_platform::log::{Appended, LayoutBook, Log, LogLayout};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::Store;
use pulso_platform::store::memory::MemoryStore;
use pulso_pricing::service::{PricingService, Settings};
use pulso_proto::v1;
use pulso_query_api::Sources;
use pulso_query_api::router::router;
use pulso_query_api::settings::QuerySettings;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const PARTITIONS: u32 = 4;
/// What the world's clock shows.
pub(crate) const NOW: &str = "2026-03-10T12:30:00Z";

pub(crate) fn at(text: &str) -> Instant {
    Instant::parse_rfc3339(text).expect(text)
}

/// A pulse of `acme`; tests change what matters to them.
pub(crate) fn pulse(id: &str, amount: &str, occurred_at: &str) -> v1::Pulse {
    v1::Pulse {
        id: id.into(),
        tenant_id: "acme".into(),
        product_sku: "vm".into(),
        used_amount: amount.into(),
        use_unit: "Hours".into(),
        occurred_at: Some(prost_timestamp(at(occurred_at))),
        ..Default::default()
    }
}

fn prost_timestamp(at: Instant) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.seconds(), nanos: at.nanos() as i32 }
}

pub(crate) struct World {
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) store: Arc<MemoryStore>,
    workers: Vec<PartitionWorker>,
    pricing: Rating,
    pub(crate) router: Router,
    pub(crate) sources: Sources,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let settings = QuerySettings { wait_max: Duration::from_millis(200), ..QuerySettings::default() };
        Self::with(settings)
    }

    pub(crate) fn with(settings: QuerySettings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now = at(NOW);
        let clock = Clock::manual(now.seconds() * 1_000_000_000);
        let config = EmbeddedLogConfig::new(folder.path(), PARTITIONS, clock.clone());
        let (log, _) = EmbeddedLog::open(config).expect("opens");
        let (log, store) = (Arc::new(log), Arc::new(MemoryStore::new()));
        let hash_key = HashKey::new([7; 16]);
        let layout = log.layout();
        let workers = workers(&store, layout, hash_key);
        let pricing = Rating::start(Arc::clone(&log), Arc::clone(&store));
        let sources = Sources {
            archive: Kept::InLog,
            log: Arc::clone(&log) as Arc<dyn Log>,
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock,
            hash_key,
            pricing: pricing.service.clone(),
        };
        let router = router(settings, sources.clone());
        let mut world = Self { log, store, workers, pricing, router, sources, _folder: folder };
        // The first records of the log are control records; a catalog is applied only behind them.
        world.fold();
        world
    }

    /// Appends a record of these pulses, all of one partition.
    pub(crate) async fn append(&self, pulses: Vec<v1::Pulse>) -> Appended {
        let partition = partition_of(pulses[0].tenant_id.as_bytes(), PARTITIONS);
        let batch = v1::PulseBatch { format_version: 1, pulses, ..Default::default() };
        self.append_raw(partition, batch.encode_to_vec()).await
    }

    /// Appends a record of these bytes.
    pub(crate) async fn append_raw(&self, partition: u32, value: Vec<u8>) -> Appended {
        self.log.append(partition, vec![value.into()]).await.expect("answers").expect("durable")
    }

    /// Folds all that is in the log, and makes it durable.
    pub(crate) fn fold(&mut self) {
        for changed in fold(&self.log, &mut self.workers) {
            self.pricing.changes.send(changed).expect("runs");
        }
    }

    /// A store that is made from the log alone.
    pub(crate) fn folded_again(&self) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        fold(&self.log, &mut workers(&store, self.log.layout(), self.sources.hash_key));
        store
    }

    /// Folds all that is in the log, and rates it.
    pub(crate) fn rate(&mut self) {
        self.fold();
        assert!(self.pricing.service.settled(Duration::from_secs(20)), "rates");
    }

    /// Appends and folds.
    pub(crate) async fn count(&mut self, pulses: Vec<v1::Pulse>) -> Appended {
        let appended = self.append(pulses).await;
        self.fold();
        appended
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("never fails");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("complete").to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.answer(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    pub(crate) async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, content_type);
        self.answer(request.body(body.into()).expect("a request")).await
    }

    /// What the desk answers to a good request.
    pub(crate) async fn desk(&self, verb: &str, request: Value) -> Value {
        let path = format!("/v1/dead-letters:{verb}");
        let answer = self.post(&path, "application/json", request.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {request}: {}", answer.text());
        answer.json()
    }

    /// The problem that the desk answers to a bad request.
    pub(crate) async fn desk_problem(&self, verb: &str, request: Value, problem: (u16, &str)) -> Value {
        let path = format!("/v1/dead-letters:{verb}");
        let answer = self.post(&path, "application/json", request.to_string()).await;
        answer.is_problem(&path, problem.0, problem.1)
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Answer {
        let request = Request::get(path).header(header::ACCEPT, accept);
        self.answer(request.body(Body::empty()).expect("a request")).await
    }

    /// The document of a good answer.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json");
        answer.json()
    }

    /// The problem of a bad request: its status and code are those expected.
    pub(crate) async fn problem(&self, path: &str, status: u16, code: &str) -> Value {
        let answer = self.get(path).await;
        answer.is_problem(path, status, code)
    }
}

fn workers(store: &Arc<MemoryStore>, layout: LogLayout, hash_key: HashKey) -> Vec<PartitionWorker> {
    let open = |partition| {
        let config = FoldConfig {
            partition,
            partitions: PARTITIONS,
            earlier: Vec::new(),
            topic: "resource-consumption".into(),
            shape: RunShape::FORMAT,
            hash_key,
            rules: FoldRules::ALL,
        };
        let first = FoldState::first(layout.generation, layout.log_id);
        PartitionWorker::open(Arc::clone(store) as Arc<dyn Store>, config, &first).expect("opens")
    };
    (0..PARTITIONS).map(open).collect()
}

fn fold(log: &EmbeddedLog, workers: &mut [PartitionWorker]) -> Vec<UsageChanged> {
    let mut all = Vec::new();
    for (partition, worker) in (0..).zip(workers) {
        let end = log.watermarks(partition).expect("reads").end_offset;
        let offsets: Vec<u64> = (worker.fold().state().offset..end).collect();
        for record in log.fetch(partition, &offsets).expect("reads") {
            worker.fold_record(&record).expect("folds");
        }
        all.extend(worker.flush().expect("flushes"));
    }
    all
}

/// The pricing service, running in its thread.
struct Rating {
    service: PricingService,
    changes: Sender<UsageChanged>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Rating {
    fn start(log: Arc<EmbeddedLog>, store: Arc<MemoryStore>) -> Self {
        let fold_wait = Duration::from_secs(5);
        let settings = Settings {
            store,
            layouts: LayoutBook::of(Arc::clone(&log) as Arc<dyn Log>),
            log: Some(log),
            fold_wait,
            sweep_every: None,
            rates: true,
        };
        let service = PricingService::open(settings).expect("opens");
        let (changes, received) = crossbeam_channel::unbounded();
        let (running, stop) = (service.clone(), CancellationToken::new());
        let stopping = stop.clone();
        let run = move || running.run(&received, &stopping).expect("rates");
        Self { service, changes, stop, thread: Some(std::thread::spawn(run)) }
    }
}

impl Drop for Rating {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn is_problem(&self, path: &str, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{path}: {}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{path}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{path}: {problem}");
        assert_eq!(problem["status"], status, "{path}");
        assert_eq!(problem["type"], format!("/errors#{code}"), "{path}");
        assert_eq!(problem["instance"], path.split('?').next().expect("a path"), "{path}");
        for name in ["title", "detail"] {
            assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "{path}: {name}");
        }
        problem
    }
}
