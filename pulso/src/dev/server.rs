//! The wiring of one process: listeners, data folder, and every role between them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use pulso_ingestor_api::door::{Floor, UnitBook};
use pulso_ingestor_api::ingest::IngestDeps;
use pulso_ingestor_api::sources::Doors;
use pulso_ingestor_consumer::archive::Kept;
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::handoff::Outlet;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::pipeline::ConsumerDeps;
use pulso_platform::log::{LayoutBook, Log};
use pulso_platform::service::clock::Clock;
use pulso_platform::service::tasks::{Exit as End, Tasks};
use pulso_platform::store::Store;
use pulso_pricing::service::{PricingService, Settings as PricingSettings};
use pulso_query_api::Sources;
use pulso_query_api::settings::QuerySettings;

use super::folder::{DataFolder, log_failure};
use super::settings::ServerArgs;
use crate::cli::exit::Failure;
use crate::roles::host::{Host, bind};
use crate::roles::parts::CatalogUnits;

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
    host: Host,
    folder: DataFolder,
}

/// What every role works on.
struct Shared {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    halts: Arc<Halts>,
    pricing: PricingService,
}

impl Server {
    /// Binds, opens the folder, and starts every role.
    ///
    /// # Errors
    /// When a port is taken, or the folder is in use, damaged or of a newer version.
    pub async fn start(data_dir: &Path, args: &ServerArgs) -> Result<Self, Failure> {
        // Every socket is bound before anything else is done.
        let ingest = bind(args.ingest.ingest_addr, "--ingest-addr").await?;
        let api = bind(args.api.api_addr, "--api-addr").await?;
        let events = match args.sources.events_addr {
            Some(address) => Some(bind(address, "--events-addr").await?),
            None => None,
        };
        let mut host = Host::start(&args.process, &[("ingest", &ingest), ("api", &api)]).await?;
        if let Some(listener) = &events {
            host.also_listens("events", listener)?;
        }
        let addresses = addresses(&host)?;

        let folder = open(data_dir, args.partitions).await?;
        let shared = Shared {
            log: Arc::clone(&folder.log) as Arc<dyn Log>,
            store: Arc::clone(&folder.store) as Arc<dyn Store>,
            halts: Arc::default(),
            pricing: open_pricing(&folder).await?,
        };
        let ends = shared.log_ends()?;
        let (changed, changes) = bounded(HANDOFF_CHANGES_MAX);
        let doors =
            Doors { grpc: ingest, events, sources: args.sources.brokers()?, health: host.health.clone() };
        host.start_ingestor(doors, args.taking.settings(host.grace), shared.ingestor());
        let outlet = Outlet::InProcess(changed);
        host.start_consumer(args.folding.config(), shared.consumer(&folder, outlet))?;
        host.start_pricing(shared.pricing.clone(), changes)?;
        let accept_future = args.taking.accept_future;
        let answering = QuerySettings { accept_future, ..args.answering.settings(host.grace) };
        host.start_api(api, answering, shared.sources(&folder));
        host.start_watch(Arc::clone(&shared.log), Arc::clone(&shared.halts));
        shared.catch_up(&ends).await;
        Ok(Self { addresses, tasks: host.tasks.clone(), host, folder })
    }

    /// The line that says that it can serve.
    #[must_use]
    pub fn ready_line(&self) -> String {
        self.host.ready_line()
    }

    /// Serves until the end is asked for or a role fails, stops in order, and closes log and store.
    pub async fn run(self) -> End {
        let Self { host, folder, .. } = self;
        let end = host.run().await;
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

fn addresses(host: &Host) -> Result<Addresses, Failure> {
    let of = |name: &str| host.address_of(name).ok_or_else(|| Failure::failed(format!("no listener {name}")));
    Ok(Addresses { ingest: of("ingest")?, api: of("api")?, admin: of("admin")? })
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
        layouts: LayoutBook::of(Arc::clone(&log)),
        log: Some(log),
        fold_wait: CATCH_UP_MAX,
        sweep_every: None,
        rates: true,
    };
    let opened = tokio::task::spawn_blocking(move || PricingService::open(settings));
    opened.await.map_err(Failure::failed)?.map_err(Failure::failed)
}

impl Shared {
    fn ingestor(&self) -> IngestDeps {
        let pricing = self.pricing.clone();
        let units = UnitBook::following(move || Arc::new(CatalogUnits(pricing.catalog())));
        IngestDeps { log: Arc::clone(&self.log), clock: Clock::System, units, floor: Floor::default() }
    }

    fn consumer(&self, folder: &DataFolder, handoff: Outlet) -> ConsumerDeps {
        ConsumerDeps {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            hash_key: folder.hash_key,
            handoff,
            letters: None,
            halts: Arc::clone(&self.halts),
        }
    }

    fn sources(&self, folder: &DataFolder) -> Sources {
        Sources {
            log: Arc::clone(&self.log),
            archive: Kept::InLog,
            store: Arc::clone(&self.store),
            clock: Clock::System,
            hash_key: folder.hash_key,
            pricing: self.pricing.clone(),
        }
    }

    /// Where each partition of the log ends now.
    fn log_ends(&self) -> Result<Vec<(u32, u64)>, Failure> {
        let partitions = self.log.partitions().into_iter();
        let ends = partitions.map(|partition| Ok((partition, self.log.watermarks(partition)?.end_offset)));
        ends.collect::<Result<_, _>>().map_err(|error| log_failure(&error))
    }

    /// Waits until what the log held at the start is folded, so that the first read sees all of it and the first catalog
    /// can be applied. A long way to go is no reason not to take pulses: then it serves, and says 503 where it must.
    async fn catch_up(&self, ends: &[(u32, u64)]) {
        let all_folded = async {
            while !self.is_folded_to(ends) {
                tokio::time::sleep(CATCH_UP_STEP).await;
            }
        };
        if tokio::time::timeout(CATCH_UP_MAX, all_folded).await.is_err() {
            tracing::info!("the log is still being folded; reads of its newest part have to wait");
        }
    }

    fn is_folded_to(&self, ends: &[(u32, u64)]) -> bool {
        ends.iter().all(|(partition, end)| {
            let folded = lookup::folded_through(&*self.store, *partition);
            self.halts.is_halted(*partition) || folded.is_ok_and(|rank| rank.offset() >= *end)
        })
    }
}
