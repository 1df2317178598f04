//! From where everything is read: the log, the store, the clock. What is read from them is only what a checkpoint
//! confirmed, so an answer never shows a part of a record.

use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Rank, partition_generation, partition_place};
use pulso_ingestor_consumer::archive::{Archive, Kept};
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::{generations, halts, lookup};
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
    /// The partitions of a tenant's pulses, one of each generation, the oldest first.
    pub(crate) fn partitions_of(&self, tenant_id: &str) -> Vec<u32> {
        generations::partitions_of_tenant(&self.log.generations(), tenant_id)
    }

    /// The partition of a tenant's pulses in the generation of a rank.
    pub(crate) fn partition_at(&self, tenant_id: &str, rank: Rank) -> u32 {
        self.archive().partition_at(tenant_id, rank)
    }

    /// The archived pulses.
    pub(crate) fn archive(&self) -> Archive<'_> {
        Archive { log: &*self.log, store: &*self.store, kept: self.archive, shape: RunShape::FORMAT }
    }

    /// Everything of the partition below this rank is folded.
    pub(crate) fn folded_through(&self, partition: u32) -> Result<Rank, Problem> {
        let folded = lookup::folded_through(&*self.store, partition)?;
        let first = Rank::new(partition_generation(partition), 0).unwrap_or(Rank::ZERO);
        Ok(folded.max(first))
    }

    /// Everything of a tenant below this rank is folded: in the newest generation that has begun to be.
    pub(crate) fn tenant_through(&self, tenant_id: &str) -> Result<Rank, Problem> {
        let mut partitions = self.partitions_of(tenant_id);
        while partitions.len() > 1 {
            let newest = partitions.pop().unwrap_or_default();
            let folded = lookup::folded_through(&*self.store, newest)?;
            if folded > Rank::ZERO {
                return Ok(folded);
            }
        }
        self.folded_through(partitions.pop().unwrap_or_default())
    }

    /// An error when any partition of the tenant is halted.
    pub(crate) fn refuse_halted_tenant(&self, tenant_id: &str) -> Result<(), Problem> {
        self.partitions_of(tenant_id).into_iter().try_for_each(|partition| self.refuse_halted(partition))
    }

    /// An error when the partition is halted: its totals may lack what was acknowledged (G10).
    pub(crate) fn refuse_halted(&self, partition: u32) -> Result<(), Problem> {
        match halts::read(&*self.store, partition)? {
            None => Ok(()),
            Some(sentence) => {
                let place = partition_place(partition);
                Err(Problem::new(Code::PartitionHalted, format!("partition {place}: {sentence}")))
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
