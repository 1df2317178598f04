//! `pulso ingestor`: takes pulses into the log, by gRPC, as events over HTTP, and from brokers. It needs the log alone: what it knows of the catalog and of the floor comes
//! from the store, and while the store is away it takes pulses without.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Arg;
use parking_lot::RwLock;
use pulso_ingestor_api::door::{Floor, UnitBook};
use pulso_ingestor_api::ingest::IngestDeps;
use pulso_ingestor_api::sources::Doors;
use pulso_ingestor_consumer::lookup;
use pulso_platform::log::{LayoutBook, Log};
use pulso_platform::service::clock::Clock;
use pulso_platform::service::settings::{IngestListener, ProcessSettings};
use pulso_platform::service::tasks::Stage;
use pulso_platform::store::Store;
use pulso_platform::store::cql::CqlSettings;
use pulso_pricing::rate::CompiledCatalog;
use pulso_pricing::service::{PricingService, Settings as PricingSettings};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::settings::{ClusterFlags, NetworkFlags};
use super::shared::{Cluster, open_log, open_store};
use crate::cli::exit::Failure;
use crate::roles::host::{Host, bind};
use crate::roles::parts::CatalogUnits;
use crate::roles::settings::IngestFlags;
use crate::sources::SourceArgs;

/// How late the door may be with a new catalog.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How soon a stop is seen.
const STEP: Duration = Duration::from_millis(50);
/// The floor moves with the log's time, a day above what is forgotten: it need not be known at once.
const FLOOR_TURNS: u32 = 20;

/// Flags of `pulso ingestor`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(
    mut_arg("events_addr", events_by_default),
    after_help = "\
Prints one line of JSON on stdout when it can serve. Ctrl-C stops it cleanly, a second one forces.

Examples:
  pulso ingestor --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042
  pulso ingestor --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042 --redis-url redis://127.0.0.1:6379"
)]
pub struct IngestorArgs {
    /// Where log and store are.
    #[command(flatten)]
    #[serde(flatten)]
    pub cluster: ClusterFlags,
    /// Where pulses come in.
    #[command(flatten)]
    #[serde(flatten)]
    pub ingest: IngestListener,
    /// Where pulses come from beside gRPC.
    #[command(flatten)]
    #[serde(flatten)]
    pub sources: SourceArgs,
    /// What every server has.
    #[command(flatten)]
    #[serde(flatten)]
    pub process: ProcessSettings,
    /// What it takes.
    #[command(flatten)]
    #[serde(flatten)]
    pub taking: IngestFlags,
    /// Who may reach it.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: NetworkFlags,
}

impl IngestorArgs {
    /// Checks what no single flag can know.
    ///
    /// # Errors
    /// When an address can be reached from outside, or the URL of a broker is none.
    pub(super) fn validate(&self) -> Result<(), Failure> {
        let mut addresses =
            vec![("--ingest-addr", self.ingest.ingest_addr), ("--admin-addr", self.process.admin_addr)];
        addresses.extend(self.sources.events_addr.map(|address| ("--events-addr", address)));
        self.network.validate(&addresses)?;
        self.taking.validate()?;
        self.sources.brokers().map(drop)
    }
}

/// A role says what it serves: events over HTTP are always part of it.
fn events_by_default(argument: Arg) -> Arg {
    argument
        .default_value("127.0.0.1:7071")
        .help("Address that takes events over HTTP (CloudEvents, POST /v1/events); port 0 takes a free one")
}

/// Binds, opens the log, and takes pulses.
pub(super) async fn start(args: &IngestorArgs) -> Result<(Host, Cluster), Failure> {
    let grpc = bind(args.ingest.ingest_addr, "--ingest-addr").await?;
    let events = match args.sources.events_addr {
        Some(address) => Some(bind(address, "--events-addr").await?),
        None => None,
    };
    let mut host = Host::start(&args.process, &[("ingest", &grpc)]).await?;
    if let Some(listener) = &events {
        host.also_listens("events", listener)?;
    }
    let log = open_log(&args.cluster).await?;
    let known = Arc::new(Known::default());
    let follower = Follower {
        settings: args.cluster.cql.clone(),
        layouts: LayoutBook::of(Arc::clone(&log) as Arc<dyn Log>),
        known: Arc::clone(&known),
        stop: host.tasks.stop_of(Stage::Close),
    };
    let follow = move || {
        follower.run();
        Ok(())
    };
    host.tasks.spawn_blocking(Stage::Close, "catalog", follow).map_err(Failure::failed)?;
    let deps = IngestDeps {
        log: Arc::clone(&log) as Arc<dyn Log>,
        clock: Clock::System,
        units: UnitBook::following({
            let known = Arc::clone(&known);
            move || Arc::new(CatalogUnits(Arc::clone(&known.catalog.read())))
        }),
        floor: known.floor.clone(),
    };
    let doors = Doors { grpc, events, sources: args.sources.brokers()?, health: host.health.clone() };
    host.start_ingestor(doors, args.taking.settings(host.grace), deps);
    host.start_watch(Arc::clone(&log) as Arc<dyn Log>, Arc::default());
    Ok((host, Cluster { log, store: None }))
}

/// What the door knows from the store: nothing at first.
struct Known {
    catalog: RwLock<Arc<CompiledCatalog>>,
    floor: Floor,
}

impl Default for Known {
    fn default() -> Self {
        let empty = CompiledCatalog::new(0, pulso_pricing::catalog::Document::default());
        Self { catalog: RwLock::new(Arc::new(empty)), floor: Floor::default() }
    }
}

/// Follows the store, whenever it is there.
struct Follower {
    settings: CqlSettings,
    layouts: LayoutBook,
    known: Arc<Known>,
    stop: CancellationToken,
}

impl Follower {
    fn run(&self) {
        while !self.stop.is_cancelled() {
            match self.open() {
                Ok((store, pricing)) => self.follow(&*store, &pricing),
                Err(sentence) => {
                    tracing::warn!(reason = sentence, "pulses are taken without a look at the catalog");
                    self.pause(FOLLOW_EVERY * 4);
                }
            }
        }
    }

    fn open(&self) -> Result<(Arc<dyn Store>, PricingService), String> {
        let (store, _) = open_store(&self.settings).map_err(|error| error.to_string())?;
        let store = store as Arc<dyn Store>;
        let settings = PricingSettings {
            store: Arc::clone(&store),
            log: None,
            layouts: self.layouts.clone(),
            fold_wait: Duration::ZERO,
            sweep_every: None,
            rates: false,
        };
        let pricing = PricingService::open(settings).map_err(|error| error.to_string())?;
        Ok((store, pricing))
    }

    fn follow(&self, store: &dyn Store, pricing: &PricingService) {
        for turn in (0..FLOOR_TURNS).cycle() {
            if self.stop.is_cancelled() {
                return;
            }
            if let Err(error) = pricing.refresh() {
                tracing::warn!(%error, "the newest catalog cannot be read now");
            }
            *self.known.catalog.write() = pricing.catalog();
            if turn == 0 {
                self.read_floor(store);
            }
            self.pause(FOLLOW_EVERY);
        }
    }

    /// The highest floor of any partition: what lies below it would be dead-lettered where its tenant is.
    fn read_floor(&self, store: &dyn Store) {
        for partition in self.layouts.partitions() {
            match lookup::load_state(store, partition) {
                Ok(state) => {
                    let floor = state.and_then(|state| state.floor_seconds);
                    floor.into_iter().for_each(|seconds| self.known.floor.raise(seconds));
                }
                Err(error) => tracing::debug!(partition, %error, "the floor cannot be read now"),
            }
        }
    }

    fn pause(&self, duration: Duration) {
        let mut left = duration;
        while !left.is_zero() && !self.stop.is_cancelled() {
            let step = left.min(STEP);
            thread::sleep(step);
            left -= step;
        }
    }
}
