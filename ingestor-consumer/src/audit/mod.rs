//! The audit: re-adds the archive and compares with every total and with the equation of fates (G2).
//!
//! It shares the reading of records with the fold and nothing of the counting: sums are added here in their own map,
//! fates come from what the fold stored, and each is checked against the id that was first. It needs a bounded memory: ids
//! and totals are taken in slices, and the archive is read once for each.

mod recount;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Rank, partition_index};
use pulso_platform::log::LogLayout;
use pulso_platform::store::StoreError;

use crate::archive::Archive;
use crate::fold::halt::Stop;
use crate::fold::state::FoldState;
use crate::generations::greatest_common_divisor;
use crate::{generations, lookup};
use recount::{Pass, Recount, Slice};

/// Most differences that are told one by one.
const DIFFERENCES_MAX: usize = 20;
/// What an audit holds unless told otherwise.
pub const MEMORY_BYTES: usize = 1 << 30;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct AuditReport {
    /// Records re-added.
    pub records: u64,
    /// Pulses re-added.
    pub pulses: u64,
    /// Usage rows compared.
    pub rows: u64,
    /// Usage rows that were written while the audit ran: their sums are of another moment, and were not compared.
    pub moving_rows: u64,
    /// The first differences, as sentences.
    pub differences: Vec<String>,
    /// How many there are.
    pub difference_count: u64,
    /// Gaps that nobody has noted.
    pub unnoted_gaps: u64,
}

impl AuditReport {
    /// Whether everything adds up.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.difference_count == 0 && self.unnoted_gaps == 0
    }

    fn differ(&mut self, sentence: String) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(sentence);
        }
    }

    fn add(&mut self, partition: Self) {
        self.records += partition.records;
        self.pulses += partition.pulses;
        self.rows += partition.rows;
        self.moving_rows += partition.moving_rows;
        let room = DIFFERENCES_MAX.saturating_sub(self.differences.len());
        self.differences.extend(partition.differences.into_iter().take(room));
        self.difference_count += partition.difference_count;
        self.unnoted_gaps += partition.unnoted_gaps;
    }
}

/// How far an audit has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The partition.
    pub partition: u32,
    /// Records of this reading re-added.
    pub offset: u64,
    /// Records of this reading in all.
    pub end: u64,
    /// Which reading of the partition, from 0,
    pub slice: u64,
    /// and of how many.
    pub slices: u64,
}

/// Audits every partition up to its progress, holding about `memory_bytes` at most. `step` is told how far it is.
///
/// # Errors
/// When the archive or the store cannot be read.
pub fn audit(
    archive: &Archive<'_>,
    hash_key: HashKey,
    memory_bytes: usize,
    mut step: impl FnMut(Step),
) -> Result<AuditReport, Stop> {
    let mut report = AuditReport::default();
    let layouts = archive.log.generations();
    for partitions in groups(&layouts) {
        let mut folded = Vec::with_capacity(partitions.len());
        for partition in partitions {
            folded.extend(lookup::load_state(archive.store, partition)?.map(|state| (partition, state)));
        }
        let counted: u64 = folded.iter().map(|(_, state)| state.counts.counted).sum();
        let ids_bytes = (counted as usize).saturating_mul(recount::ID_BYTES);
        let mut slices = ids_bytes.div_ceil(memory_bytes.max(1)).max(1) as u64;
        let group = Group { archive, hash_key, memory_bytes, layouts: &layouts, partitions: &folded };
        let of_group = loop {
            match group.audit(slices, &mut step)? {
                Some(report) => break report,
                // There are more totals than the ids let expect.
                None => slices *= 2,
            }
        };
        report.add(of_group);
    }
    Ok(report)
}

/// Partitions whose tenants are in no others, in the order of generations: what can be audited by itself. With one
/// generation each partition is a group.
fn groups(layouts: &[LogLayout]) -> Vec<Vec<u32>> {
    let divisor =
        layouts.iter().fold(0, |divisor, layout| greatest_common_divisor(layout.partitions, divisor));
    let group = |rest: u32| {
        let all = generations::partitions(layouts);
        all.filter(|number| partition_index(*number) % divisor == rest).collect()
    };
    (0..divisor).map(group).collect()
}

/// What is audited, and with what.
struct Group<'a> {
    archive: &'a Archive<'a>,
    hash_key: HashKey,
    memory_bytes: usize,
    layouts: &'a [LogLayout],
    /// What is folded, in the order of generations.
    partitions: &'a [(u32, FoldState)],
}

impl Group<'_> {
    /// Everything of a tenant's pulses in the generation of a rank is folded below this rank.
    fn folded_through(&self, tenant_id: &str, rank: Rank) -> Rank {
        let layout = self.layouts.iter().find(|layout| layout.generation == rank.generation());
        let number = layout.map(|layout| generations::partition_of_tenant(layout, tenant_id));
        let found = self.partitions.iter().find(|(partition, _)| Some(*partition) == number);
        found.map_or(Rank::ZERO, |(_, state)| state.rank())
    }

    /// Reads the partitions once for each slice; `None` when a slice does not fit.
    fn audit(&self, slices: u64, step: &mut impl FnMut(Step)) -> Result<Option<AuditReport>, Stop> {
        let gaps = self.partitions.iter().flat_map(|(_, state)| &state.gaps);
        let unnoted = gaps.filter(|gap| gap.note.is_empty()).count() as u64;
        let mut report = AuditReport { unnoted_gaps: unnoted, ..AuditReport::default() };
        for number in 0..slices {
            let mut recount = Recount::new(self, Slice { number, of: slices });
            if recount.read(&mut report, step)? == Pass::TooLarge {
                return Ok(None);
            }
            recount.compare(&mut report)?;
        }
        Ok(Some(report))
    }
}

/// Reads a partition of the store in pages.
fn each_cell(
    archive: &Archive<'_>,
    (table, partition): (pulso_platform::store::Table, &[u8]),
    mut visit: impl FnMut(&[u8], &pulso_platform::store::Cell),
) -> Result<(), StoreError> {
    const PAGE_CELLS: usize = 1000;
    let mut range = pulso_platform::store::Range::all();
    loop {
        let page = archive.store.scan(table, partition, &range, PAGE_CELLS)?;
        for (clustering, cell) in &page {
            visit(clustering, cell);
        }
        let Some((last, _)) = page.last().filter(|_| page.len() == PAGE_CELLS) else { return Ok(()) };
        // The first key behind the last one.
        range.from = [last.as_slice(), &[0]].concat();
    }
}
