//! Readiness of a server in one process: whether its log takes records, and which partitions are halted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pulso_domain::position::partition_place;
use pulso_ingestor_consumer::halts::Halts;
use pulso_platform::log::Log;
use pulso_platform::service::health::{Health, Part};
use pulso_platform::service::tasks::TaskError;
use tokio_util::sync::CancellationToken;

/// How late `/readyz` may be.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is looked at.
pub(super) struct Watch {
    pub(super) log: Arc<dyn Log>,
    pub(super) halts: Arc<Halts>,
    pub(super) health: Health,
}

impl Watch {
    /// Looks until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        let log = self.health.part("log");
        let mut partitions: BTreeMap<u32, Part> = BTreeMap::new();
        loop {
            // They become more while generations follow.
            for partition in self.log.partitions() {
                let part = || self.health.part(format!("partition-{}", partition_place(partition)));
                partitions.entry(partition).or_insert_with(part);
            }
            self.look(&log, &partitions);
            if tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_ok() {
                return Ok(());
            }
        }
    }

    fn look(&self, log: &Part, partitions: &BTreeMap<u32, Part>) {
        if self.log.is_appendable() {
            log.ready();
        } else {
            log.not_ready("takes no records now; make room on the disk");
        }
        let halted = self.halts.list();
        for (number, part) in partitions {
            match halted.iter().find(|(partition, _)| partition == number) {
                Some((_, reason)) => part.not_ready(format!("halted: {reason}")),
                None => part.ready(),
            }
        }
    }
}
