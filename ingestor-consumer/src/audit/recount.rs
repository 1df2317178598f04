//! One reading of a group of partitions: adds up one slice of its ids and totals again, and compares.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulso_domain::fate::{Fate, FateCounts};
use pulso_domain::position::{Position, Rank, partition_place};
use pulso_domain::pulse::{Pulse, check};
use pulso_domain::reason::Reason;
use pulso_domain::usage::{RowKey, UsageRow, usage_partition_key};
use pulso_domain::window::{Level, Window};
use pulso_platform::store::{Table, keys};
use pulso_proto::walk;
use xxhash_rust::xxh3::xxh3_64;

use super::{AuditReport, Group, Step, each_cell};
use crate::archive::{ArchivedPulse, Kept, Next};
use crate::fold::halt::Stop;
use crate::fold::letters::WHOLE_RECORD;
use crate::fold::state::FoldState;

/// What one id takes in the map of first positions, with the map's own room.
pub(super) const ID_BYTES: usize = 96;
/// What one total takes with its key, about.
const ROW_BYTES: usize = 512;
/// More readings than these no audit does: a slice holds at least a whole month of one tenant.
const SLICES_MAX: u64 = 4096;
/// Records re-added between two reports of progress.
const RECORDS_PER_STEP: u64 = 256;

/// The share of ids and totals that one reading looks at.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    pub(super) number: u64,
    pub(super) of: u64,
}

impl Slice {
    /// Whether a thing with this hash belongs to it.
    const fn holds(self, hash: u64) -> bool {
        hash % self.of == self.number
    }

    /// Whether what belongs to no slice is looked at in this one.
    const fn is_first(self) -> bool {
        self.number == 0
    }

    fn holds_month(self, tenant_id: &str, month: Window) -> bool {
        self.holds(xxh3_64(&keys::month_clustering(tenant_id, month)))
    }
}

/// How a reading ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// At the end.
    Done,
    /// More would be held than is allowed.
    TooLarge,
}

type OwnedKey = (String, Window, String, String, String);

/// The totals of one slice, added up again.
pub(super) struct Recount<'a> {
    of: &'a Group<'a>,
    slice: Slice,
    /// The partition that is being read.
    partition: u32,
    rows: BTreeMap<OwnedKey, UsageRow>,
    /// Of each partition.
    counts: BTreeMap<u32, FateCounts>,
    first: HashMap<u128, (Position, u64)>,
}

impl<'a> Recount<'a> {
    pub(super) fn new(of: &'a Group<'a>, slice: Slice) -> Self {
        let (rows, counts, first) = (BTreeMap::new(), BTreeMap::new(), HashMap::new());
        Self { of, slice, partition: 0, rows, counts, first }
    }

    fn counts(&mut self) -> &mut FateCounts {
        self.counts.entry(self.partition).or_default()
    }

    /// Re-adds every record below the progress of each partition.
    pub(super) fn read(
        &mut self,
        report: &mut AuditReport,
        step: &mut impl FnMut(Step),
    ) -> Result<Pass, Stop> {
        for (partition, state) in self.of.partitions {
            self.partition = *partition;
            self.counts();
            if self.read_partition(state, report, step)? == Pass::TooLarge {
                return Ok(Pass::TooLarge);
            }
        }
        Ok(Pass::Done)
    }

    fn read_partition(
        &mut self,
        state: &FoldState,
        report: &mut AuditReport,
        step: &mut impl FnMut(Step),
    ) -> Result<Pass, Stop> {
        let partition = self.partition;
        // Behind the seal pulses are moved: they are read where they went.
        let sealed = state.sealed_at.map_or(u64::MAX, |sealed_at| sealed_at + 1);
        let mut offset = 0;
        while offset < state.offset {
            let is_sealed = offset >= sealed;
            let mut end = (offset + RECORDS_PER_STEP).min(state.offset);
            if !is_sealed {
                end = end.min(sealed);
            }
            let in_gap = |offset: &u64| state.gaps.iter().any(|gap| (gap.from..gap.to).contains(offset));
            let offsets = (offset..end).filter(|offset| !in_gap(offset));
            let ranks: Vec<Rank> = offsets.filter_map(|offset| Rank::new(state.generation, offset)).collect();
            if is_sealed {
                self.read_strays(&ranks)?;
            } else {
                self.read_records(&ranks, report)?;
            }
            if self.is_too_large() {
                return Ok(Pass::TooLarge);
            }
            offset = end;
            let Slice { number: slice, of: slices } = self.slice;
            step(Step { partition, offset, end: state.offset, slice, slices });
        }
        Ok(Pass::Done)
    }

    /// More is held than twice what was expected, and a smaller slice would hold less.
    fn is_too_large(&self) -> bool {
        let held = self.first.len() * ID_BYTES + self.rows.len() * ROW_BYTES;
        held / 2 > self.of.memory_bytes && self.slice.of < SLICES_MAX
    }

    fn read_strays(&mut self, ranks: &[Rank]) -> Result<(), Stop> {
        if !self.slice.is_first() {
            return Ok(());
        }
        let mut moved = 0;
        self.of.archive.visit_records(self.partition, ranks, Position::default(), &mut |_| {
            moved += 1;
            Next::More
        })?;
        self.counts().moved += moved;
        self.count_whole_records(ranks, ranks.len() as u64)
    }

    fn read_records(&mut self, ranks: &[Rank], report: &mut AuditReport) -> Result<(), Stop> {
        let archive = self.of.archive;
        let mut without_pulses = ranks.len() as u64;
        let mut last = None;
        archive.visit_records(self.partition, ranks, Position::default(), &mut |pulse| {
            if last != Some(pulse.position.rank) {
                last = Some(pulse.position.rank);
                without_pulses -= 1;
            }
            self.add(&pulse, report);
            Next::More
        })?;
        if self.slice.is_first() {
            report.records += ranks.len() as u64;
            self.count_whole_records(ranks, without_pulses)?;
        }
        Ok(())
    }

    /// Records without readable pulses are control records, or one dead letter each.
    fn count_whole_records(&mut self, ranks: &[Rank], without: u64) -> Result<(), Stop> {
        if without == 0 {
            return Ok(());
        }
        let letter = |rank: &Rank| keys::dead_letter(self.partition, Position::new(*rank, WHOLE_RECORD));
        let letters: Vec<_> = ranks.iter().map(letter).collect();
        let whole = self.of.archive.store.get(&letters)?.into_iter().flatten().count() as u64;
        self.counts().dead_lettered += whole;
        Ok(())
    }

    fn add(&mut self, archived: &ArchivedPulse<'_>, report: &mut AuditReport) {
        if self.slice.is_first() {
            self.counts().add(archived.fate);
            report.pulses += 1;
        }
        let raw = walk::pulse(archived.bytes).unwrap_or_default();
        match check(&raw) {
            Ok(pulse) => {
                self.check_fate(&pulse, archived, report);
                if archived.fate == Fate::Counted {
                    self.add_up(&pulse, archived.position);
                }
            }
            Err(rejection) => {
                let dead = matches!(archived.fate, Fate::DeadLettered(_));
                if !dead && self.slice.is_first() {
                    let (position, reason) = (archived.position, rejection.reason);
                    report.differ(format!("{position}: a {reason} pulse was not dead-lettered"));
                }
            }
        }
    }

    /// The fate must be the one that the earlier copies make it.
    fn check_fate(&mut self, pulse: &Pulse<'_>, archived: &ArchivedPulse<'_>, report: &mut AuditReport) {
        let hash_key = &self.of.hash_key;
        let id = hash_key.id_hash(pulse.tenant_id, pulse.id).0;
        if !self.slice.holds(id as u64) {
            return;
        }
        let payload = hash_key.payload_hash(pulse).0;
        let own = self.of.archive.partition_at(pulse.tenant_id, archived.position.rank);
        let misrouted = own != self.partition;
        let expected = match self.first.get(&id) {
            _ if misrouted => Fate::DeadLettered(Reason::Misrouted),
            Some((first, same)) if *same == payload => Fate::Duplicate { first: *first },
            Some((first, _)) => Fate::Conflict { first: *first },
            None => Fate::Counted,
        };
        let beyond = archived.fate == Fate::DeadLettered(Reason::BeyondHorizon);
        if archived.fate != expected && !beyond {
            let (position, stored) = (archived.position, archived.fate);
            report.differ(format!(
                "{position}: the pulse is stored as {stored:?}, and its earlier copies make it {expected:?}"
            ));
        }
        if archived.fate == Fate::Counted {
            self.first.insert(id, (archived.position, payload));
        }
    }

    fn add_up(&mut self, pulse: &Pulse<'_>, position: Position) {
        let (amount, at) = (pulse.used_amount, pulse.occurred_at);
        if !self.slice.holds_month(pulse.tenant_id, Window::containing(Level::Month, at)) {
            return;
        }
        for level in Level::ALL {
            let key = (
                pulse.tenant_id.to_owned(),
                Window::containing(level, at),
                pulse.product_sku.to_owned(),
                pulse.use_unit.to_owned(),
                pulse.region.to_owned(),
            );
            self.rows
                .entry(key)
                .and_modify(|row| row.add(amount, at, position))
                .or_insert_with(|| UsageRow::first(amount, at, position));
        }
    }

    /// Compares what was added up with what the store has.
    pub(super) fn compare(&self, report: &mut AuditReport) -> Result<(), Stop> {
        if self.slice.is_first() {
            self.compare_counts(report);
        }
        let months =
            self.rows.keys().map(|(tenant, window, ..)| (tenant.clone(), window.widen(Level::Month)));
        let mut months: BTreeSet<(String, Window)> = months.collect();
        for (partition, _) in self.of.partitions {
            let listed = keys::months_partition(*partition);
            each_cell(self.of.archive, (Table::Tenants, &listed), |clustering, _| {
                let of_slice = |(tenant, month): &(&str, Window)| self.slice.holds_month(tenant, *month);
                let month = keys::decode_month_clustering(clustering).filter(of_slice);
                months.extend(month.map(|(tenant, month)| (tenant.to_owned(), month)));
            })?;
        }
        for (tenant, month) in months {
            self.compare_month(&tenant, month, report)?;
        }
        Ok(())
    }

    fn compare_counts(&self, report: &mut AuditReport) {
        for (partition, state) in self.of.partitions {
            let (stored, counts) = (state.counts, self.counts.get(partition).copied().unwrap_or_default());
            if stored != counts {
                let place = partition_place(*partition);
                report
                    .differ(format!("partition {place}: the ledger says {stored:?}, the archive {counts:?}"));
            }
        }
    }

    fn compare_month(&self, tenant: &str, month: Window, report: &mut AuditReport) -> Result<(), Stop> {
        let partition = usage_partition_key(tenant, month);
        let mut expected = self.of_month(tenant, month);
        let is_shared = self.of.archive.kept == Kept::InStore;
        each_cell(self.of.archive, (Table::Usage, &partition), |clustering, cell| {
            let stored = UsageRow::decode(&cell.value);
            let again = expected.remove(clustering).copied();
            // Written by a consumer that has gone on since this audit began.
            let goes_on = |row: UsageRow| row.hwm >= self.of.folded_through(tenant, row.hwm);
            if is_shared && stored.is_some_and(goes_on) {
                report.moving_rows += 1;
                return;
            }
            report.rows += 1;
            if stored != again {
                let name = RowKey::decode(&partition, clustering);
                report.differ(format!("{name:?}: stored {stored:?}, the archive adds up to {again:?}"));
            }
        })?;
        for clustering in expected.keys() {
            let name = RowKey::decode(&partition, clustering);
            report.differ(format!("{name:?}: the archive has such pulses, the store no row"));
        }
        Ok(())
    }

    /// The totals of a tenant's month, by the key that their rows have in the store.
    fn of_month(&self, tenant: &str, month: Window) -> HashMap<Vec<u8>, &UsageRow> {
        let first = Window::from_index(Level::Hour, i32::MIN);
        let from = (tenant.to_owned(), first, String::new(), String::new(), String::new());
        let of_tenant = self.rows.range(from..).take_while(|((name, ..), _)| name == tenant);
        let of_month = of_tenant.filter(|((_, window, ..), _)| window.widen(Level::Month) == month);
        of_month
            .map(|((_, window, product_sku, use_unit, region), row)| {
                let key = RowKey { tenant_id: tenant, window: *window, product_sku, use_unit, region };
                (key.clustering_key(), row)
            })
            .collect()
    }
}
