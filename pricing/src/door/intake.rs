//! Reads usage updates, from whichever way they come, into what the run loop rates.

use std::collections::BTreeMap;

use crossbeam_channel::{Sender, TrySendError};
use pulso_domain::ids::TenantId;
use pulso_domain::position::{Rank, partition_generation, partition_index};
use pulso_domain::usage::{RowSeen, UsageChanged};
use pulso_domain::window::Level;
use pulso_platform::log::LayoutBook;
use pulso_proto::{usage, v1};

/// Why an update is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is of a newer version.
    #[error("the update has format {0}, this binary reads up to {known}; start a newer one", known = usage::FORMAT)]
    NeedsUpgrade(u32),
    /// It makes no sense; the same update will be refused again.
    #[error("{0}")]
    Invalid(String),
    /// The queue is full, or the process is stopping.
    #[error("as many updates wait as may be held; send it again later")]
    Full,
}

/// The way into the run loop's queue. A clone leads to the same queue.
#[derive(Clone)]
pub struct Intake {
    changes: Sender<UsageChanged>,
    layouts: LayoutBook,
}

impl Intake {
    /// The way into a queue, for a log of these generations.
    #[must_use]
    pub const fn new(changes: Sender<UsageChanged>, layouts: LayoutBook) -> Self {
        Self { changes, layouts }
    }

    /// Takes an update without waiting, and says how many records it held.
    ///
    /// # Errors
    /// When it is refused; nothing of it is taken, or the same again changes nothing.
    pub fn take(&self, update: &v1::UsageUpdate) -> Result<u32, Refusal> {
        let changes = self.read(update)?;
        for change in changes {
            match self.changes.try_send(change) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return Err(Refusal::Full),
            }
        }
        Ok(u32::try_from(update.records.len()).unwrap_or(u32::MAX))
    }

    /// Takes an update, waiting for room. False when the run loop has ended.
    ///
    /// # Errors
    /// When it is refused.
    pub fn take_waiting(&self, update: &v1::UsageUpdate) -> Result<bool, Refusal> {
        let changes = self.read(update)?;
        Ok(changes.into_iter().all(|change| self.changes.send(change).is_ok()))
    }

    fn read(&self, update: &v1::UsageUpdate) -> Result<Vec<UsageChanged>, Refusal> {
        if update.format_version > usage::FORMAT {
            return Err(Refusal::NeedsUpgrade(update.format_version));
        }
        let mut changes = BTreeMap::new();
        if let Some(progress) = update.progress {
            self.check_partition(progress.partition)?;
            let (from, through) = (Rank::from_u64(progress.from), Rank::from_u64(progress.through));
            changes.insert(progress.partition, change(progress.partition, from, through));
        }
        for record in &update.records {
            let seen = read_record(record).map_err(Refusal::Invalid)?;
            let Some(seen) = seen else { continue };
            let of_tenant = || self.layouts.partition_of(&record.tenant_id);
            let partition = update.progress.map_or_else(of_tenant, |progress| progress.partition);
            let change =
                changes.entry(partition).or_insert_with(|| change(partition, Rank::ZERO, Rank::ZERO));
            change.rows.push(seen);
        }
        Ok(changes.into_values().collect())
    }

    /// A generation that is not known here yet will be.
    fn check_partition(&self, partition: u32) -> Result<(), Refusal> {
        let layouts = self.layouts.layouts();
        let generation = partition_generation(partition);
        let Some(layout) = layouts.iter().find(|layout| layout.generation == generation) else {
            return Err(Refusal::Full);
        };
        if partition_index(partition) < layout.partitions {
            return Ok(());
        }
        let last = layout.partitions.saturating_sub(1);
        Err(Refusal::Invalid(format!("progress.partition: generation {generation} has 0 to {last}")))
    }
}

const fn change(partition: u32, from: Rank, through: Rank) -> UsageChanged {
    UsageChanged { partition, from, through, months: Vec::new(), rows: Vec::new() }
}

/// A month's record; `None` for hours and days, which add up to it and are read with it.
fn read_record(record: &v1::UsageRecord) -> Result<Option<RowSeen>, String> {
    let tenant_id = TenantId::new(&record.tenant_id).ok_or("tenant_id: it is none")?;
    let month = usage::window(record).ok_or("level and window_start: they name no window")?;
    if month.level() != Level::Month {
        return Ok(None);
    }
    let row = (record.product_sku.clone(), record.use_unit.clone(), record.region.clone());
    Ok(Some(RowSeen { tenant_id, month, row, hwm: Rank::from_u64(record.hwm) }))
}

#[cfg(test)]
mod tests {
    use pulso_domain::partitioner::partition_of;
    use pulso_domain::position::partition_number;
    use pulso_domain::window::Window;
    use pulso_platform::log::LogLayout;

    use super::*;

    fn layouts() -> LayoutBook {
        LayoutBook::fixed(vec![LogLayout { generation: 1, partitions: 4, log_id: [0; 16] }])
    }

    fn month_record(tenant_id: &str, hwm: u64) -> v1::UsageRecord {
        let month = Window::parse_month("2026-01").expect("a month");
        v1::UsageRecord {
            tenant_id: tenant_id.to_owned(),
            product_sku: "a".to_owned(),
            level: v1::WindowLevel::Month.into(),
            window_start: Some(prost_types::Timestamp { seconds: month.start_seconds(), nanos: 0 }),
            hwm,
            ..Default::default()
        }
    }

    fn update(records: Vec<v1::UsageRecord>, progress: Option<v1::UsageProgress>) -> v1::UsageUpdate {
        v1::UsageUpdate { format_version: 1, records, progress }
    }

    #[test]
    fn an_update_with_a_marker_is_one_change_and_without_one_by_the_tenants_partitions() {
        let (sender, changes) = crossbeam_channel::unbounded();
        let intake = Intake::new(sender, layouts());
        let progress = Some(v1::UsageProgress { partition: 2, from: 5, through: 9 });
        let hour = v1::UsageRecord { level: v1::WindowLevel::Hour.into(), ..month_record("acme", 7) };
        assert_eq!(intake.take(&update(vec![month_record("acme", 7), hour], progress)), Ok(2));
        let change = changes.recv().expect("one");
        assert_eq!((change.partition, change.from.as_u64(), change.through.as_u64()), (2, 5, 9));
        assert_eq!(change.rows.iter().map(|row| row.hwm.as_u64()).collect::<Vec<_>>(), [7]);
        intake.take(&update(vec![month_record("acme", 8)], None)).expect("taken");
        let change = changes.recv().expect("one");
        assert_eq!((change.partition, change.through), (partition_of(b"acme", 4), Rank::ZERO));
    }

    #[test]
    fn what_makes_no_sense_or_finds_no_room_is_refused() {
        let (sender, changes) = crossbeam_channel::bounded(1);
        let intake = Intake::new(sender, layouts());
        let newer = v1::UsageUpdate { format_version: 2, ..Default::default() };
        assert_eq!(intake.take(&newer), Err(Refusal::NeedsUpgrade(2)));
        let progress = Some(v1::UsageProgress { partition: 4, from: 0, through: 1 });
        assert!(matches!(intake.take(&update(Vec::new(), progress)), Err(Refusal::Invalid(_))));
        let next = v1::UsageProgress { partition: partition_number(2, 0), from: 0, through: 1 };
        let refused = intake.take(&update(Vec::new(), Some(next)));
        assert_eq!(refused, Err(Refusal::Full), "a generation that is not known yet will be");
        for faulty in [month_record("", 1), v1::UsageRecord { level: 0, ..month_record("acme", 1) }] {
            assert!(matches!(intake.take(&update(vec![faulty], None)), Err(Refusal::Invalid(_))));
        }
        assert_eq!(intake.take(&update(vec![month_record("acme", 1)], None)), Ok(1));
        assert_eq!(intake.take(&update(vec![month_record("acme", 1)], None)), Err(Refusal::Full));
        drop(changes);
    }
}
