//! The hand-off: what a checkpoint changed goes to pricing, and the progress passes only once it is there.
//!
//! In one process it is a channel, told after the checkpoint, since pricing catches up from the store after any crash. In the
//! cluster it is one of three that are confirmed by the other side: a topic, gRPC or HTTP. Each is given absolute usage
//! records and a marker, so that a second copy, after a crash or a rewind, is the same one.

pub mod direct;
pub mod grpc;
pub mod http;
#[cfg(feature = "kafka")]
pub mod topic;

use std::sync::Arc;

use crossbeam_channel::Sender;
use pulso_domain::position::Rank;
use pulso_domain::usage::{RowKey, UsageChanged, UsageRow};
use pulso_platform::store::{Cell, Key, Table};
use pulso_proto::{usage, v1};

use crate::fold::halt::Stop;

/// What one checkpoint of a partition changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Handover {
    /// The partition of the log.
    pub partition: u32,
    /// Where the one before ended.
    pub from: Rank,
    /// The first rank that is not in it.
    pub through: Rank,
    /// Every usage row that was written.
    pub records: Vec<v1::UsageRecord>,
}

impl Handover {
    /// Reads the rows out of what a flush writes.
    #[must_use]
    pub fn of_cells(partition: u32, (from, through): (Rank, Rank), cells: &[(Key, Cell)]) -> Self {
        let rows = cells.iter().filter(|(key, _)| key.table == Table::Usage);
        let records = rows.filter_map(|(key, cell)| {
            let name = RowKey::decode(&key.partition, &key.clustering)?;
            Some(usage::record(&name, &UsageRow::decode(&cell.value)?))
        });
        Self { partition, from, through, records: records.collect() }
    }

    /// The marker that ends it.
    #[must_use]
    pub const fn progress(&self) -> v1::UsageProgress {
        v1::UsageProgress {
            partition: self.partition,
            from: self.from.as_u64(),
            through: self.through.as_u64(),
        }
    }
}

/// A hand-off that the other side confirms. Blocks; called from fold workers, never from a thread that serves.
pub trait Handoff: Send + Sync + 'static {
    /// Hands over, and returns once the other side has it.
    ///
    /// # Errors
    /// [`Stop::Retry`] when it is not sure that the other side has it; the same handover comes again.
    fn deliver(&self, handover: &Handover) -> Result<(), Stop>;
}

/// How pricing hears of changes.
#[derive(Clone)]
pub enum Outlet {
    /// By a channel, after the checkpoint; a full one is back-pressure.
    InProcess(Sender<UsageChanged>),
    /// By a confirmed hand-off, before the checkpoint passes.
    Confirmed(Arc<dyn Handoff>),
}

impl Outlet {
    /// The hand-off that a checkpoint has to wait for.
    #[must_use]
    pub fn confirmed(&self) -> Option<Arc<dyn Handoff>> {
        match self {
            Self::InProcess(_) => None,
            Self::Confirmed(handoff) => Some(Arc::clone(handoff)),
        }
    }

    /// Tells pricing in this process of a change that is durable. When pricing is gone the process is ending; it catches up
    /// from the store at its next start.
    pub(crate) fn tell(&self, changed: UsageChanged) {
        if let Self::InProcess(channel) = self
            && channel.send(changed).is_err()
        {
            tracing::debug!("pricing has stopped taking changes");
        }
    }
}
