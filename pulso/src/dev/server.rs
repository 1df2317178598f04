//! The wiring of one process: listeners, data folder, and every role between them.
//!
//! A stop goes the way of a pulse: the ingestor answers what is in flight, the consumer flushes what it folded, pricing
//! rates what it was handed, then log and store are closed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use pulso_domain::fingerprint::HashKey;
use pulso_domain::usage::UsageChanged;
use pulso_ingestor_api::door::{Floor, UnitBook, Units};
use pulso_ingestor_api::ingest::IngestDeps;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_ingestor_consumer::archive::Kept;
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::handoff::Outlet;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::pipeline::{self, ConsumerConfig, ConsumerDeps};
use pulso_platform::log::Log;
use pulso_platform::service::admin::{self, Admin};
use pulso_platform::service::clock::Clock;
use pulso_platform::service::health::Health;
use pulso_platform::service::listen;
use pulso_platform::service::tasks::{Exit as End, Signals, Stage, Supervisor, Tasks};
use pulso_platform::service::telemetry;
use pulso_platform::store::Store;
use pulso_pricing::rate::CompiledCatalog;
use pulso_pricing::service::{PricingService, Settings as PricingSettings};
use pulso_query_api::Sources;
use pulso_query_api::settings::QuerySettings;
use serde_json::json;
use tokio::net::TcpListener;

use super::folder::{DataFolder, log_failure};
use super::settings::ServerArgs;
use super::watch::Watch;
use crate::cli::exit::Failure;

/// Changes that wait for pricing before the consumer waits too.
const HANDOFF_CHANGES_MAX: usize = 64;

/// After a crash at most one flush interval is folded again: mostly far less than this.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
const CATCH_UP_STEP: Duration = Duration::from_millis(5);

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// gRPC.
    pub ingest: SocketAddr,
    /// REST.
    pub api: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
}

/// A server that serves.
pub struct Server {
    /// Where.
    pub addresses: Addresses,
    /// Spawns supervised tasks, and asks for the end.
    pub tasks: Tasks,
    supervisor: Supervisor,
    health: Health,
    folder: DataFolder,
    grace: Duration,
}

/// The sockets of a server, bound before anything else is done.
struct Sockets {
    ingest: TcpListener,
    api: TcpListener,
    admin: TcpListener,
}

/// What every role works on.
struct Shared {
    tasks: Tasks,
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    halts: Arc<Halts>,
    pricing: PricingService,
    health: Health,
}

impl Server {
    /// Binds, opens the folder, and starts every role.
    ///
    /// # Errors
    /// When a port is taken, or the folder is in use, damaged or of a newer version.
    pub async fn start(data_dir: &Path, args: &ServerArgs) -> Result<Self, Failure> {
        let signals = Signals::of_process().map_err(Failure::failed)?;
        let (tasks, supervisor) = Tasks::new(signals);
        let metrics = telemetry::install_metrics().map_err(Failure::failed)?;
        let health = Health::new();
        let (sockets, addresses) = Sockets::bind(args).await?;
        let admin = Admin { metrics, health: health.clone() };
        let stop = tasks.stop_of(Stage::Close);
        tasks.spawn(Stage::Close, "admin", async { Ok(admin::serve(sockets.admin, admin, stop).await?) });

        let folder = open(data_dir, args.partitions).await?;
        let shared = Shared {
            tasks: tasks.clone(),
            log: Arc::clone(&folder.log) as Arc<dyn Log>,
            store: Arc::clone(&folder.store) as Arc<dyn Store>,
            halts: Arc::default(),
            pricing: open_pricing(&folder).await?,
            health: health.clone(),
        };
        let ends = shared.log_ends()?;
        let (handoff, changes) = bounded(HANDOFF_CHANGES_MAX);
        shared.start_ingestor(sockets.ingest, args);
        shared.start_consumer(args, &folder, handoff)?;
        shared.start_pricing(changes)?;
        shared.start_api(sockets.api, args, folder.hash_key);
        shared.start_watch();
        shared.catch_up(&ends).await;
        Ok(Self { addresses, tasks, supervisor, health, folder, grace: args.process.grace })
    }

    /// The line that says that it can serve.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let Addresses { ingest, api, admin } = self.addresses;
        // By hand, since the order of the fields is part of the interface.
        let [ingest, api, admin] = [ingest, api, admin].map(|address| json!(address.to_string()));
        format!(r#"{{"event":"ready","ingest":{ingest},"api":{api},"admin":{admin}}}"#)
    }

    /// Serves until the end is asked for or a role fails, stops in order, and closes log and store.
    pub async fn run(self) -> End {
        let Self { supervisor, health, folder, grace, .. } = self;
        let end = supervisor.run(&health, grace).await;
        if end == End::Forced {
            return end;
        }
        let closed = tokio::task::spawn_blocking(move || folder.close()).await;
        match closed {
            Ok(Ok(())) => end,
            Ok(Err(failure)) => {
                tracing::error!(%failure, "the store could not be synced; it is folded again from the log");
                End::Failed
            }
            Err(_) => End::Failed,
        }
    }
}

impl Sockets {
    async fn bind(args: &ServerArgs) -> Result<(Self, Addresses), Failure> {
        let ingest = bind(args.ingest.ingest_addr, "--ingest-addr").await?;
        let api = bind(args.api.api_addr, "--api-addr").await?;
        let admin = bind(args.process.admin_addr, "--admin-addr").await?;
        let addresses = Addresses { ingest: address(&ingest)?, api: address(&api)?, admin: address(&admin)? };
        Ok((Self { ingest, api, admin }, addresses))
    }
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Failure> {
    listen::bind(address, flag).await.map_err(Failure::failed)
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::failed)
}

/// Opening reads whole files: not on a thread that serves.
async fn open(data_dir: &Path, partitions: u32) -> Result<DataFolder, Failure> {
    let data_dir = data_dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || DataFolder::open(&data_dir, partitions));
    opened.await.map_err(Failure::failed)?
}

/// Reads the catalog in force.
async fn open_pricing(folder: &DataFolder) -> Result<PricingService, Failure> {
    let log = Arc::clone(&folder.log) as Arc<dyn Log>;
    let settings = PricingSettings {
        store: Arc::clone(&folder.store) as Arc<dyn Store>,
        partitions: log.layout().partitions,
        log: Some(log),
        fold_wait: CATCH_UP_MAX,
        sweep_every: None,
        rates: true,
    };
    let opened = tokio::task::spawn_blocking(move || PricingService::open(settings));
    opened.await.map_err(Failure::failed)?.map_err(Failure::failed)
}

/// The units of one catalog version, for the door.
struct CatalogUnits(Arc<CompiledCatalog>);

impl Units for CatalogUnits {
    fn is_empty(&self) -> bool {
        self.0.document().skus.is_empty()
    }

    fn accepts(&self, product_sku: &[u8], use_unit: &[u8]) -> Option<bool> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        self.0.accepts_unit(text(product_sku)?, text(use_unit)?)
    }
}

impl Shared {
    /// Where each partition of the log ends now.
    fn log_ends(&self) -> Result<Vec<u64>, Failure> {
        let partitions = 0..self.log.layout().partitions;
        let ends = partitions.map(|partition| Ok(self.log.watermarks(partition)?.end_offset));
        ends.collect::<Result<_, _>>().map_err(|error| log_failure(&error))
    }

    /// Waits until what the log held at the start is folded, so that the first read sees all of it and the first catalog
    /// can be applied. A long way to go is no reason not to take pulses: then it serves, and says 503 where it must.
    async fn catch_up(&self, ends: &[u64]) {
        let all_folded = async {
            while !self.is_folded_to(ends) {
                tokio::time::sleep(CATCH_UP_STEP).await;
            }
        };
        if tokio::time::timeout(CATCH_UP_MAX, all_folded).await.is_err() {
            tracing::info!("the log is still being folded; reads of its newest part have to wait");
        }
    }

    fn is_folded_to(&self, ends: &[u64]) -> bool {
        (0..).zip(ends).all(|(partition, end)| {
            let folded = lookup::folded_through(&*self.store, partition);
            self.halts.is_halted(partition) || folded.is_ok_and(|rank| rank.offset() >= *end)
        })
    }

    fn start_ingestor(&self, listener: TcpListener, args: &ServerArgs) {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let settings = IngestSettings {
            accept_past: args.accept_past,
            accept_future: args.accept_future,
            message_bytes_max: bytes(args.message_bytes_max),
            bytes_in_flight_max: bytes(args.in_flight_bytes_max),
            // The consumer's last flush needs a part of the grace time, too.
            drain_max: args.process.grace / 2,
            ..IngestSettings::default()
        };
        let pricing = self.pricing.clone();
        let units = UnitBook::following(move || Arc::new(CatalogUnits(pricing.catalog())));
        let deps =
            IngestDeps { log: Arc::clone(&self.log), clock: Clock::System, units, floor: Floor::default() };
        let stop = self.tasks.stop_of(Stage::Accept);
        self.tasks.spawn(Stage::Accept, "ingestor", async {
            Ok(pulso_ingestor_api::server::serve(settings, deps, listener, stop).await?)
        });
    }

    fn start_consumer(
        &self,
        args: &ServerArgs,
        folder: &DataFolder,
        handoff: Sender<UsageChanged>,
    ) -> Result<(), Failure> {
        let config = ConsumerConfig {
            workers: args.workers as usize,
            flush_every: args.flush_every,
            undecodable_max: args.undecodable_max as usize,
            ..ConsumerConfig::default()
        };
        let deps = ConsumerDeps {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            hash_key: folder.hash_key,
            handoff: Outlet::InProcess(handoff),
            letters: None,
            halts: Arc::clone(&self.halts),
        };
        let stop = self.tasks.stop_of(Stage::Work);
        let work = move || {
            pipeline::run(&config, &deps, &stop);
            Ok(())
        };
        self.tasks.spawn_blocking(Stage::Work, "consumer", work).map_err(Failure::failed)
    }

    fn start_pricing(&self, changes: Receiver<UsageChanged>) -> Result<(), Failure> {
        let (pricing, stop) = (self.pricing.clone(), self.tasks.stop_of(Stage::Flush));
        let work = move || Ok(pricing.run(&changes, &stop)?);
        self.tasks.spawn_blocking(Stage::Flush, "pricing", work).map_err(Failure::failed)
    }

    fn start_api(&self, listener: TcpListener, args: &ServerArgs, hash_key: HashKey) {
        let settings = QuerySettings {
            wait_max: args.wait_max,
            accept_future: args.accept_future,
            body_bytes_max: usize::try_from(args.body_bytes_max).unwrap_or(usize::MAX),
            drain_max: args.process.grace / 2,
            ..QuerySettings::default()
        };
        let sources = Sources {
            archive: Kept::InLog,
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            clock: Clock::System,
            hash_key,
            pricing: self.pricing.clone(),
        };
        let stop = self.tasks.stop_of(Stage::Accept);
        self.tasks.spawn(Stage::Accept, "api", async {
            Ok(pulso_query_api::server::serve(settings, sources, listener, stop).await?)
        });
    }

    fn start_watch(&self) {
        let watch =
            Watch { log: Arc::clone(&self.log), halts: Arc::clone(&self.halts), health: self.health.clone() };
        self.tasks.spawn(Stage::Close, "watch", watch.run(self.tasks.stop_of(Stage::Close)));
    }
}
