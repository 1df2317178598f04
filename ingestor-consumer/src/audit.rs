//! The audit: re-adds the archive and compares with every total and with the equation of fates (G2).
//!
//! It shares the reading of records with the fold and nothing of the counting: sums are added here in their own map,
//! fates come from what the fold stored, and each is checked against the id that was first.

use std::collections::{BTreeMap, HashMap};

use pulso_domain::fate::{Fate, FateCounts};
use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Position, Rank};
use pulso_domain::pulse::check;
use pulso_domain::reason::Reason;
use pulso_domain::usage::{RowKey, UsageRow, usage_partition_key};
use pulso_domain::window::{Level, Window};
use pulso_platform::log::Log;
use pulso_platform::store::{Range, Store, Table, keys};
use pulso_proto::walk;

use crate::archive::{Archive, ArchivedPulse, Next};
use crate::fold::halt::Stop;
use crate::fold::ids::RunShape;
use crate::fold::state::FoldState;
use crate::lookup;

/// Most differences that are told one by one.
const DIFFERENCES_MAX: usize = 20;
/// Records re-added between two reports of progress.
const RECORDS_PER_STEP: u64 = 256;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct AuditReport {
    /// Records re-added.
    pub records: u64,
    /// Pulses re-added.
    pub pulses: u64,
    /// Usage rows compared.
    pub rows: u64,
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
}

/// Audits every partition up to its progress. `step` is told (partition, offset, end) now and then.
///
/// # Errors
/// When the log or the store cannot be read.
pub fn audit(
    log: &dyn Log,
    store: &dyn Store,
    hash_key: HashKey,
    mut step: impl FnMut(u32, u64, u64),
) -> Result<AuditReport, Stop> {
    let mut report = AuditReport::default();
    for partition in 0..log.layout().partitions {
        let Some(state) = lookup::load_state(store, partition)? else { continue };
        report.unnoted_gaps += state.gaps.iter().filter(|gap| gap.note.is_empty()).count() as u64;
        let archive = Archive { log, store, shape: RunShape::FORMAT };
        let mut recount = Recount::new(hash_key, partition, log.layout().partitions);
        recount.read(&archive, &state, &mut report, &mut step)?;
        recount.compare_counts(&state, &mut report);
        recount.compare_rows(store, &mut report)?;
    }
    Ok(report)
}

type OwnedKey = (String, Window, String, String, String);

/// The totals of one partition, added up again.
struct Recount {
    hash_key: HashKey,
    partition: u32,
    partitions: u32,
    rows: BTreeMap<OwnedKey, UsageRow>,
    counts: FateCounts,
    first: HashMap<u128, (Position, u64)>,
}

impl Recount {
    fn new(hash_key: HashKey, partition: u32, partitions: u32) -> Self {
        Self {
            hash_key,
            partition,
            partitions,
            rows: BTreeMap::new(),
            counts: FateCounts::default(),
            first: HashMap::new(),
        }
    }

    fn read(
        &mut self,
        archive: &Archive<'_>,
        state: &FoldState,
        report: &mut AuditReport,
        step: &mut impl FnMut(u32, u64, u64),
    ) -> Result<(), Stop> {
        let mut offset = 0;
        while offset < state.offset {
            let end = (offset + RECORDS_PER_STEP).min(state.offset);
            let in_gap = |offset: &u64| state.gaps.iter().any(|gap| (gap.from..gap.to).contains(offset));
            let offsets = (offset..end).filter(|offset| !in_gap(offset));
            let ranks: Vec<Rank> = offsets.filter_map(|offset| Rank::new(state.generation, offset)).collect();
            let mut undecodable = ranks.len() as u64;
            let mut last = None;
            archive.visit_records(self.partition, &ranks, Position::default(), &mut |pulse| {
                if last != Some(pulse.position.rank) {
                    last = Some(pulse.position.rank);
                    undecodable -= 1;
                }
                report.pulses += 1;
                self.add(&pulse, report);
                Next::More
            })?;
            self.count_whole_records(archive, &ranks, undecodable)?;
            report.records += ranks.len() as u64;
            offset = end;
            step(self.partition, offset, state.offset);
        }
        Ok(())
    }

    /// Records without readable pulses are control records, or one dead letter each.
    fn count_whole_records(
        &mut self,
        archive: &Archive<'_>,
        ranks: &[Rank],
        without: u64,
    ) -> Result<(), Stop> {
        if without == 0 {
            return Ok(());
        }
        let letters: Vec<_> = ranks
            .iter()
            .map(|rank| {
                keys::dead_letter(self.partition, Position::new(*rank, crate::fold::letters::WHOLE_RECORD))
            })
            .collect();
        let whole = archive.store.get(&letters)?.into_iter().flatten().count() as u64;
        self.counts.dead_lettered += whole;
        Ok(())
    }

    fn add(&mut self, archived: &ArchivedPulse<'_>, report: &mut AuditReport) {
        self.counts.add(archived.fate);
        let raw = walk::pulse(archived.bytes).unwrap_or_default();
        let pulse = match check(&raw) {
            Ok(pulse) => pulse,
            Err(rejection) => {
                let dead = matches!(archived.fate, Fate::DeadLettered(_));
                if !dead {
                    report.differ(format!(
                        "{}: a {} pulse was not dead-lettered",
                        archived.position, rejection.reason
                    ));
                }
                return;
            }
        };
        let id = self.hash_key.id_hash(pulse.tenant_id, pulse.id).0;
        let payload = self.hash_key.payload_hash(&pulse).0;
        let misrouted = pulso_domain::partitioner::partition_of(pulse.tenant_id.as_bytes(), self.partitions)
            != self.partition;
        let expected = match self.first.get(&id) {
            _ if misrouted => Fate::DeadLettered(Reason::Misrouted),
            Some((first, same)) if *same == payload => Fate::Duplicate { first: *first },
            Some((first, _)) => Fate::Conflict { first: *first },
            None => Fate::Counted,
        };
        let beyond = archived.fate == Fate::DeadLettered(Reason::BeyondHorizon);
        if archived.fate != expected && !beyond {
            report.differ(format!(
                "{}: the pulse is stored as {:?}, and its earlier copies make it {expected:?}",
                archived.position, archived.fate
            ));
        }
        if archived.fate != Fate::Counted {
            return;
        }
        self.first.insert(id, (archived.position, payload));
        for level in Level::ALL {
            let window = Window::containing(level, pulse.occurred_at);
            let key = (
                pulse.tenant_id.to_owned(),
                window,
                pulse.product_sku.to_owned(),
                pulse.use_unit.to_owned(),
                pulse.region.to_owned(),
            );
            let (amount, at, position) = (pulse.used_amount, pulse.occurred_at, archived.position);
            self.rows
                .entry(key)
                .and_modify(|row| row.add(amount, at, position))
                .or_insert_with(|| UsageRow::first(amount, at, position));
        }
    }

    fn compare_counts(&self, state: &FoldState, report: &mut AuditReport) {
        let stored = FateCounts { moved: 0, ..state.counts };
        if stored != self.counts {
            report.differ(format!(
                "partition {}: the ledger says {stored:?}, the archive {:?}",
                self.partition, self.counts
            ));
        }
    }

    fn compare_rows(&self, store: &dyn Store, report: &mut AuditReport) -> Result<(), Stop> {
        let mut months: Vec<(String, Window)> = self
            .rows
            .keys()
            .map(|(tenant, window, ..)| (tenant.clone(), window.widen(Level::Month)))
            .collect();
        months.extend(stored_months(store, self.partition)?);
        months.sort();
        months.dedup();
        for (tenant, month) in months {
            self.compare_month(store, &tenant, month, report)?;
        }
        Ok(())
    }

    fn compare_month(
        &self,
        store: &dyn Store,
        tenant: &str,
        month: Window,
        report: &mut AuditReport,
    ) -> Result<(), Stop> {
        let partition = usage_partition_key(tenant, month);
        let mut expected: HashMap<Vec<u8>, &UsageRow> = HashMap::new();
        let first = Window::from_index(Level::Hour, i32::MIN);
        let from = (tenant.to_owned(), first, String::new(), String::new(), String::new());
        let of_tenant = self.rows.range(from..).take_while(|((name, ..), _)| name == tenant);
        let of_tenant = of_tenant.filter(|((_, window, ..), _)| window.widen(Level::Month) == month);
        for ((_, window, product_sku, use_unit, region), row) in of_tenant {
            let key = RowKey { tenant_id: tenant, window: *window, product_sku, use_unit, region };
            expected.insert(key.clustering_key(), row);
        }
        for (clustering, cell) in store.scan(Table::Usage, &partition, &Range::all(), usize::MAX)? {
            report.rows += 1;
            let stored = UsageRow::decode(&cell.value);
            let again = expected.remove(&clustering).copied();
            if stored != again {
                let name = RowKey::decode(&partition, &clustering);
                report.differ(format!("{name:?}: stored {stored:?}, the archive adds up to {again:?}"));
            }
        }
        for clustering in expected.keys() {
            let name = RowKey::decode(&partition, clustering);
            report.differ(format!("{name:?}: the archive has such pulses, the store no row"));
        }
        Ok(())
    }
}

fn stored_months(store: &dyn Store, partition: u32) -> Result<Vec<(String, Window)>, Stop> {
    let cells = store.scan(Table::Tenants, &keys::months_partition(partition), &Range::all(), usize::MAX)?;
    let months = cells.iter().filter_map(|(key, _)| keys::decode_month_clustering(key));
    Ok(months.map(|(tenant, month)| (tenant.to_owned(), month)).collect())
}
