//! What a checkpoint makes durable, and in which order: the one ordering rule.
//!
//! The progress may pass a record only after its rows, id runs, directory and dead letters are confirmed. What a folded
//! record touched is written again also when nothing was applied to it: what one quorum read saw, every later one sees.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::Rank;
use pulso_domain::usage::UsageChanged;
use pulso_domain::window::{Level, Window};
use pulso_platform::store::{Cell as StoreCell, CompareAndSet, Flush, Key, Table, keys};
use pulso_proto::v1;

use super::ids::filter::Filter;
use super::ids::list::{ListedRun, with_run};
use super::ids::open::{HEADER_PREFIX, OpenRun};
use super::partition::{ClosingRun, PartitionFold};
use super::rows::{SlotId, row_key};

/// A checkpoint that was taken and is not confirmed yet. Exactly one of [`PartitionFold::confirm`] and
/// [`PartitionFold::fail`] must follow.
#[derive(Debug)]
pub struct Checkpoint {
    /// The first rank that is not in it.
    pub through: Rank,
    rows: Vec<SlotId>,
    open_changed: u64,
    /// The runs that this checkpoint lists.
    listing: Option<Listing>,
    ready: Vec<(Key, StoreCell)>,
    changed: UsageChanged,
}

/// Complete runs that are about to be listed ahead of the checkpoint. Exactly one of [`PartitionFold::confirm_listing`] and
/// [`PartitionFold::fail_listing`] must follow.
#[derive(Debug)]
pub struct Listing {
    runs: Vec<ListedRun>,
    list: v1::RunList,
}

impl PartitionFold {
    /// How much a flush would write, and whether any record was folded since the last one.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.moved
    }

    /// Rows, and ids of complete runs, that wait for a flush: what the shell bounds.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.rows.dirty_len(), self.closing.iter().map(|closing| closing.run.len()).sum())
    }

    /// Takes all that changed since the last checkpoint, as one flush.
    pub fn checkpoint(&mut self) -> (Flush, Checkpoint) {
        let through = self.state.rank();
        let last = through.as_u64() - 1;
        let mut flush = Flush::default();
        let rows = self.rows.take_dirty();
        self.row_cells(&rows, &mut flush);
        let open_changed = self.open_cells(last, &mut flush);
        let listing = self.list_complete_runs(&mut flush);
        let ready = std::mem::take(&mut self.ready);
        flush.cells.extend(ready.iter().cloned());
        flush.cells.extend(self.directory.take_changed(&self.rows, Rank::from_u64(last)));
        let progress = StoreCell { version: through.as_u64(), value: self.state.encode() };
        flush.checkpoint.push((keys::progress(self.config.partition), progress));
        self.moved = false;
        let changed = self.changed(&rows, through);
        (flush, Checkpoint { through, rows, open_changed, listing, ready, changed })
    }

    /// Takes the runs that are complete and not listed yet, as one flush that may go ahead of the checkpoint: a run is a
    /// function of the log prefix, so whoever folds its records again finds its own entries. Thus a run is written once,
    /// however often the rest is. `None` when there is none.
    #[must_use]
    pub fn listing(&self) -> Option<(Flush, Listing)> {
        let mut flush = Flush::default();
        let listing = self.list_complete_runs(&mut flush)?;
        Some((flush, listing))
    }

    /// Says that the runs are stored and listed.
    pub fn confirm_listing(&mut self, listing: Listing) {
        self.list = listing.list;
        self.index.version += 1;
        for run in listing.runs {
            self.closing.retain(|closing| closing.run.start() != run.start);
            if !self.index.covers(&self.config.shape, run.start) {
                let place = self.index.runs.partition_point(|listed| listed.start < run.start);
                self.index.runs.insert(place, run);
            }
        }
    }

    /// Says that it is not sure that they are: they come again, whole.
    pub fn fail_listing(&mut self) {
        self.closing.iter_mut().for_each(|closing| closing.stored_before = false);
    }

    fn row_cells(&self, rows: &[SlotId], flush: &mut Flush) {
        // A tenant's month has many rows and one cell.
        let mut months: BTreeMap<(&str, Window), u64> = BTreeMap::new();
        for slot in rows {
            let key = row_key(self.rows.key(*slot));
            let row = self.rows.row(*slot);
            let version = row.hwm.as_u64();
            let cell = StoreCell { version, value: Bytes::copy_from_slice(&row.encode()) };
            let name = Key::new(Table::Usage, key.partition_key(), key.clustering_key());
            flush.cells.push((name, cell));
            if key.window.level() == Level::Month {
                let month = months.entry((key.tenant_id, key.window)).or_default();
                *month = version.max(*month);
            }
        }
        for ((tenant_id, month), version) in months {
            let name = keys::month(self.config.partition, tenant_id, month);
            flush.cells.push((name, StoreCell { version, value: Bytes::new() }));
        }
    }

    fn open_cells(&mut self, last: u64, flush: &mut Flush) -> u64 {
        let partition = self.config.partition;
        let stored = self.open_stored;
        let begun = self.open.as_ref().is_some_and(|open| open.start() < self.state.rank());
        let Some(open) = self.open.as_mut().filter(|_| begun) else { return 0 };
        let run = keys::run_partition(partition, 0, open.start());
        let cells = open.changed_cells(!stored);
        push_run_cells(open, &run, (last, cells), flush);
        self.open_stored = true;
        open.take_changed()
    }

    fn list_complete_runs(&self, flush: &mut Flush) -> Option<Listing> {
        if self.closing.is_empty() {
            return None;
        }
        let mut list = self.list.clone();
        let mut runs = Vec::new();
        for closing in &self.closing {
            let run = ListedRun {
                start: closing.run.start(),
                level: 0,
                entries: closing.run.len() as u64,
                times: closing.run.times(),
                appended_at_max_nanos: closing.appended_at_max_nanos,
                filters: vec![Filter::build(closing.run.ids())],
            };
            let Some(longer) = with_run(&list, run.to_proto(), &self.config.shape) else {
                if !self.config.rules.covered_range_is_closed {
                    self.push_complete_run(closing, &run, flush);
                }
                continue;
            };
            list = longer;
            self.push_complete_run(closing, &run, flush);
            runs.push(run);
        }
        if runs.is_empty() {
            return None;
        }
        let value = Bytes::from(list.encode_to_vec());
        let key = keys::run_list(self.config.partition);
        flush.sets.push(CompareAndSet { key, expected: self.index.version, value });
        Some(Listing { runs, list })
    }

    fn push_complete_run(&self, closing: &ClosingRun, run: &ListedRun, flush: &mut Flush) {
        let name = keys::run_partition(self.config.partition, 0, run.start);
        let last = run.end(&self.config.shape).as_u64() - 1;
        let cells = closing.run.changed_cells(!closing.stored_before);
        push_run_cells(&closing.run, &name, (last, cells), flush);
        for (prefix, filter) in (0..).zip(&run.filters) {
            let cell = StoreCell { version: last, value: filter.encode() };
            flush.cells.push((keys::run_filter(&name, prefix), cell));
        }
    }

    fn changed(&self, rows: &[SlotId], through: Rank) -> UsageChanged {
        let months =
            rows.iter().map(|slot| self.rows.key(*slot)).filter(|(_, window)| window.level() == Level::Month);
        let mut months: Vec<(&str, Window)> =
            months.map(|(series, window)| (series.tenant_id, window)).collect();
        months.sort_unstable();
        months.dedup();
        let owned =
            |(tenant, month): (&str, Window)| Some((pulso_domain::ids::TenantId::new(tenant)?, month));
        UsageChanged {
            partition: self.config.partition,
            through,
            months: months.into_iter().filter_map(owned).collect(),
            from: Rank::ZERO,
            rows: Vec::new(),
        }
    }

    /// Says that the checkpoint is durable. Gives what changed, for the hand-off to pricing.
    pub fn confirm(&mut self, checkpoint: Checkpoint) -> UsageChanged {
        self.rows.confirm(&checkpoint.rows);
        if let Some(listing) = checkpoint.listing {
            self.confirm_listing(listing);
        }
        checkpoint.changed
    }

    /// Says that it is not sure that the checkpoint is durable: all of it is changed still, and comes again.
    pub fn fail(&mut self, checkpoint: Checkpoint) {
        self.rows.fail(&checkpoint.rows);
        if let Some(open) = &mut self.open {
            open.restore_changed(checkpoint.open_changed);
        }
        self.open_stored = false;
        self.fail_listing();
        self.directory.restore_changed();
        let later = std::mem::replace(&mut self.ready, checkpoint.ready);
        self.ready.extend(later);
        self.moved = true;
    }

    /// Forgets confirmed rows that were not touched in the last `keep_flushes` flushes.
    pub fn evict(&mut self, keep_flushes: u32) {
        let keep = self.directory.slots();
        let numbers = self.rows.evict(keep_flushes, &keep, !self.config.rules.only_confirmed_is_evicted);
        self.directory.renumber(&numbers);
    }
}

fn push_run_cells(run: &OpenRun, name: &[u8], (last, cells): (u64, Vec<(u32, Bytes)>), flush: &mut Flush) {
    let header = StoreCell { version: last, value: run.header().encode() };
    flush.cells.push((keys::run_cell(name, HEADER_PREFIX), header));
    for (prefix, value) in cells {
        flush.cells.push((keys::run_cell(name, prefix), StoreCell { version: last, value }));
    }
}
