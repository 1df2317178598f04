//! What each role does, as tasks of a [`Host`]: one process starts all of them on one log and store, a cluster one in each
//! process.
//!
//! A stop goes the way of a pulse: the ingestor answers what is in flight, the consumer flushes what it folded, pricing
//! rates what it was handed, then log and store are closed.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use pulso_domain::usage::UsageChanged;
use pulso_ingestor_api::door::Units;
use pulso_ingestor_api::ingest::IngestDeps;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_ingestor_api::sources::Doors;
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::pipeline::{self, ConsumerConfig, ConsumerDeps};
use pulso_platform::log::Log;
use pulso_platform::service::tasks::Stage;
use pulso_pricing::rate::CompiledCatalog;
use pulso_pricing::service::PricingService;
use pulso_query_api::Sources;
use pulso_query_api::settings::QuerySettings;
use tokio::net::TcpListener;

use super::host::Host;
use super::watch::Watch;
use crate::cli::exit::Failure;

/// The units of one catalog version, for the door.
pub(crate) struct CatalogUnits(pub(crate) Arc<CompiledCatalog>);

impl Units for CatalogUnits {
    fn is_empty(&self) -> bool {
        self.0.document().skus.is_empty()
    }

    fn accepts(&self, product_sku: &[u8], use_unit: &[u8]) -> Option<bool> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        self.0.accepts_unit(text(product_sku)?, text(use_unit)?)
    }
}

impl Host {
    /// Takes pulses.
    pub(crate) fn start_ingestor(&self, doors: impl Into<Doors>, settings: IngestSettings, deps: IngestDeps) {
        let doors = doors.into();
        let stop = self.tasks.stop_of(Stage::Accept);
        self.tasks.spawn(Stage::Accept, "ingestor", async {
            Ok(pulso_ingestor_api::server::serve(settings, deps, doors, stop).await?)
        });
    }

    /// Folds pulses.
    pub(crate) fn start_consumer(&self, config: ConsumerConfig, deps: ConsumerDeps) -> Result<(), Failure> {
        let stop = self.tasks.stop_of(Stage::Work);
        let work = move || {
            pipeline::run(&config, &deps, &stop);
            Ok(())
        };
        self.tasks.spawn_blocking(Stage::Work, "consumer", work).map_err(Failure::failed)
    }

    /// Rates what changes.
    pub(crate) fn start_pricing(
        &self,
        pricing: PricingService,
        changes: Receiver<UsageChanged>,
    ) -> Result<(), Failure> {
        let stop = self.tasks.stop_of(Stage::Flush);
        let work = move || Ok(pricing.run(&changes, &stop)?);
        self.tasks.spawn_blocking(Stage::Flush, "pricing", work).map_err(Failure::failed)
    }

    /// Answers the REST API.
    pub(crate) fn start_api(&self, listener: TcpListener, settings: QuerySettings, sources: Sources) {
        let stop = self.tasks.stop_of(Stage::Accept);
        self.tasks.spawn(Stage::Accept, "api", async {
            Ok(pulso_query_api::server::serve(settings, sources, listener, stop).await?)
        });
    }

    /// Follows whether the log takes records, and which partitions are halted.
    pub(crate) fn start_watch(&self, log: Arc<dyn Log>, halts: Arc<Halts>) {
        let watch = Watch { log, halts, health: self.health.clone() };
        self.tasks.spawn(Stage::Close, "watch", watch.run(self.tasks.stop_of(Stage::Close)));
    }
}
