//! From where everything is read: the log, the store, the clock. What is read from them is only what a checkpoint
//! confirmed, so an answer never shows a part of a record.

use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::Rank;
use pulso_ingestor_consumer::archive::{Archive, Kept};
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::{halts, lookup};
use pulso_platform::log::Log;
use pulso_platform::service::clock::Clock;
use pulso_platform::store::Store;
use pulso_pricing::service::PricingService;

use crate::problem::{Code, Problem};

/// Where everything is read from. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// The log: how far it goes, and what of it is not folded yet.
    pub log: Arc<dyn Log>,
    /// Where the records are that were folded.
    pub archive: Kept,
    /// Totals, fates, charges.
    pub store: Arc<dyn Store>,
    /// Says what "to date" means.
    pub clock: Clock,
    /// The store's secret: for ids and page tokens.
    pub hash_key: HashKey,
    /// The catalog in force, and what plans and applies another.
    pub pricing: PricingService,
}

impl Sources {
    /// The partitions of the log.
    pub(crate) fn partitions(&self) -> u32 {
        self.log.layout().partitions
    }

    /// The partition of a tenant's pulses.
    pub(crate) fn partition_of(&self, tenant_id: &str) -> u32 {
        partition_of(tenant_id.as_bytes(), self.partitions())
    }

    /// The archived pulses.
    pub(crate) fn archive(&self) -> Archive<'_> {
        Archive { log: &*self.log, store: &*self.store, kept: self.archive, shape: RunShape::FORMAT }
    }

    /// Everything of the partition below this rank is folded.
    pub(crate) fn folded_through(&self, partition: u32) -> Result<Rank, Problem> {
        let folded = lookup::folded_through(&*self.store, partition)?;
        let first = Rank::new(self.log.layout().generation, 0).unwrap_or(Rank::ZERO);
        Ok(folded.max(first))
    }

    /// An error when the partition is halted: its totals may lack what was acknowledged (G10).
    pub(crate) fn refuse_halted(&self, partition: u32) -> Result<(), Problem> {
        match halts::read(&*self.store, partition)? {
            None => Ok(()),
            Some(sentence) => {
                Err(Problem::new(Code::PartitionHalted, format!("partition {partition}: {sentence}")))
            }
        }
    }
}

/// Runs what blocks, such as every read of the store, where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Problem::internal(&error)),
    }
}
