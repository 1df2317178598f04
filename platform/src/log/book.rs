//! The generations of a log, for whoever must know them and not read it: they become more while a process runs.

use std::sync::Arc;

use pulso_domain::partitioner::partition_of;
use pulso_domain::position::partition_number;

use super::{Log, LogLayout};

/// Says which generations a log has now.
#[derive(Clone)]
pub struct LayoutBook(Arc<dyn Fn() -> Vec<LogLayout> + Send + Sync>);

impl LayoutBook {
    /// Of an open log.
    #[must_use]
    pub fn of(log: Arc<dyn Log>) -> Self {
        Self(Arc::new(move || log.generations()))
    }

    /// Of a log that stays as it is.
    #[must_use]
    pub fn fixed(layouts: Vec<LogLayout>) -> Self {
        Self(Arc::new(move || layouts.clone()))
    }

    /// Every generation, the oldest first.
    #[must_use]
    pub fn layouts(&self) -> Vec<LogLayout> {
        (self.0)()
    }

    /// The partitions of all generations.
    #[must_use]
    pub fn partitions(&self) -> Vec<u32> {
        let numbers = |layout: LogLayout| {
            (0..layout.partitions).map(move |index| partition_number(layout.generation, index))
        };
        self.layouts().into_iter().flat_map(numbers).collect()
    }

    /// The partition of a tenant in the newest generation.
    #[must_use]
    pub fn partition_of(&self, tenant_id: &str) -> u32 {
        let layouts = self.layouts();
        let number = |layout: &LogLayout| {
            partition_number(layout.generation, partition_of(tenant_id.as_bytes(), layout.partitions))
        };
        layouts.last().map_or(0, number)
    }
}
