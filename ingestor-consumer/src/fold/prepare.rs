//! The first half of folding a record: reading it, and saying what must be known before it can be applied.
//!
//! Each pulse is reduced to an item here: its hashes, its amount, the slot of its hour, and the cells of listed runs that
//! may hold its id. Nothing is decided yet but what the pulse's bytes and the floor decide alone.

use pulso_domain::fingerprint::{IdHash, PayloadHash, tagged_payload_hash, untagged_payload_hash};
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::{Rank, partition_index};
use pulso_domain::pulse::{Pulse, check};
use pulso_domain::quantity::Quantity;
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_domain::usage::UsageRow;
use pulso_platform::log::LogRecord;
use pulso_proto::plain;
use pulso_proto::{v1, walk};

use super::halt::Halt;
use super::ids::RunShape;
use super::ids::cell::Cell;
use super::ids::list::{ListedRun, expiry_border};
use super::ids::open::IdTimes;
use super::partition::PartitionFold;
use super::record::{RECORD_FORMAT, RecordParts, split};
use super::rows::{SeriesId, SeriesKey, SlotId};

/// Bytes of run cells that are kept for the next look-ups.
const CELL_CACHE_BYTES_MAX: usize = 64 << 20;

/// Most tags of a pulse that is read the quick way.
const QUICK_TAGS_MAX: usize = 16;

/// Names a cell of a listed run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CellName {
    /// The partition, over all generations.
    pub partition: u32,
    /// The run's level.
    pub level: u32,
    /// The run's first rank.
    pub start: Rank,
    /// The cell.
    pub prefix: u32,
}

/// What must be supplied before a prepared record can be applied.
#[derive(Debug, Default)]
pub struct Needs {
    /// Rows to load, by slot.
    pub rows: Vec<SlotId>,
    /// Cells of listed runs.
    pub cells: Vec<CellName>,
    /// Tenants whose directory of the current range is to be loaded.
    pub directories: Vec<String>,
}

impl Needs {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.cells.is_empty() && self.directories.is_empty()
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.cells.clear();
        self.directories.clear();
    }
}

/// One pulse of the prepared record, reduced to what counting needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) id: IdHash,
    pub(super) payload: PayloadHash,
    pub(super) amount: Quantity,
    pub(super) at: Instant,
    pub(super) hour: SlotId,
    pub(super) time: Option<u64>,
    /// The pulse is a dead letter for this reason, whatever its id.
    pub(super) reason: Option<Reason>,
    /// Whether a listed run may hold its id.
    pub(super) is_candidate: bool,
    /// Whether its id is new, and stands in the open run now.
    pub(super) is_entered: bool,
}

/// What the current record is.
#[derive(Debug)]
pub(super) enum Prepared {
    Nothing,
    Gap,
    Control(v1::control::Fact),
    /// Pulses, and whether they are dead letters that are sent again.
    Pulses {
        replays: bool,
        /// Whether they were moved here.
        moved: bool,
    },
    /// So many pulses behind a seal.
    Stray(u64),
    Undecodable,
}

impl PartitionFold {
    /// Reads one record and says what must be supplied before it can be applied. May be called again for the same
    /// record, as after the list of runs changed.
    ///
    /// # Errors
    /// When the record is of a newer version or not the next one.
    pub fn prepare(&mut self, record: &LogRecord) -> Result<&Needs, Halt> {
        self.items.clear();
        self.candidates.clear();
        self.needs.clear();
        self.rows.ask_again();
        if record.offset != self.state.offset {
            return Err(Halt::LogCut { start: record.offset, end: record.offset, wanted: self.state.offset });
        }
        self.prepared = self.read(record)?;
        self.needs.rows.sort_unstable();
        self.needs.rows.dedup();
        Ok(&self.needs)
    }

    fn read(&mut self, record: &LogRecord) -> Result<Prepared, Halt> {
        if self.state.in_gap() {
            return Ok(Prepared::Gap);
        }
        self.expired_below = self.state.expired_below.max(self.expiry(record.appended_at_nanos));
        self.floor_seconds = self.state.floor_at(record.appended_at_nanos);
        let mut parts = RecordParts::default();
        let read = split(&record.value, &mut parts);
        if parts.format_version > RECORD_FORMAT {
            let found = parts.format_version;
            return Err(Halt::NeedsUpgrade { what: "a record", found, known: RECORD_FORMAT });
        }
        if read.is_err() {
            return Ok(Prepared::Undecodable);
        }
        if let Some(fact) = parts.control {
            return Ok(Prepared::Control(fact));
        }
        if self.state.sealed_at.is_some() {
            return Ok(Prepared::Stray(parts.pulses.len() as u64));
        }
        let mut tenant = TenantMemo::default();
        let moved = parts.moved_from.is_some();
        let replays = !parts.replays.is_empty();
        self.items.reserve(parts.pulses.len());
        for bytes in parts.pulses {
            if !self.add_known(bytes) {
                self.add_any(bytes, &mut tenant);
            }
        }
        self.note_candidates();
        Ok(Prepared::Pulses { replays, moved })
    }

    fn expiry(&self, appended_at_nanos: i64) -> Rank {
        let largest = self.state.appended_at_max_nanos.max(appended_at_nanos);
        expiry_border(&self.range_ends, largest, self.state.id_horizon_seconds)
    }

    fn want_directory(&mut self, series: SeriesId) {
        let tenant_id = self.rows.tenant_of(series);
        if self.directory.wants(tenant_id) && !self.needs.directories.iter().any(|one| one == tenant_id) {
            self.needs.directories.push(tenant_id.to_owned());
        }
    }

    /// Adds a plain pulse of a series that is known: it is good and in its partition, as the pulse was that made it known,
    /// when what is its own is good. False when it is another pulse.
    #[inline(always)]
    fn add_known(&mut self, bytes: &[u8]) -> bool {
        let Some(fields) = plain::split(bytes) else { return false };
        if !fields.names_are_plain() {
            return false;
        }
        let texts = [fields.tenant_id, fields.product_sku, fields.use_unit, fields.region];
        let Some((series, hash)) = self.rows.known_series(texts) else { return false };
        let Ok(amount) = Quantity::parse(fields.used_amount) else { return false };
        let Some(id) = self.rows.id_hash(fields.id) else { return false };
        let mut payload = untagged_payload_hash(hash, amount, fields.resource_id);
        if fields.tags != 0 {
            let Some(tagged) = with_tags(payload, bytes) else { return false };
            payload = tagged;
        }
        let time = self.id_times.time(fields.id);
        let (reason, hour) = self.place(series, fields.occurred_at);
        let at = fields.occurred_at;
        let (is_candidate, is_entered) = (false, false);
        self.items.push(Item { id, payload, amount, at, hour, time, reason, is_candidate, is_entered });
        true
    }

    /// Adds any pulse; one that is none to be counted as a dead letter.
    fn add_any(&mut self, bytes: &[u8], tenant: &mut TenantMemo) {
        let item = self.any_item(bytes, tenant).unwrap_or_else(Item::dead);
        self.items.push(item);
    }

    fn any_item(&mut self, bytes: &[u8], tenant: &mut TenantMemo) -> Result<Item, Reason> {
        let raw = walk::pulse(bytes).map_err(|_| Reason::Undecodable)?;
        let pulse = check(&raw).map_err(|rejection| rejection.reason)?;
        let index = partition_index(self.config.partition);
        if tenant.partition(pulse.tenant_id, self.config.partitions) != index {
            return Err(Reason::Misrouted);
        }
        let series = self.rows.series(SeriesKey::from(&pulse));
        let (reason, hour) = self.place(series, pulse.occurred_at);
        Ok(Item {
            id: self.config.hash_key.id_hash(pulse.tenant_id, pulse.id),
            payload: self.config.hash_key.payload_hash(&pulse),
            amount: pulse.used_amount,
            at: pulse.occurred_at,
            hour,
            time: self.id_times.time(pulse.id.as_bytes()),
            reason,
            is_candidate: false,
            is_entered: false,
        })
    }

    /// Where a pulse of the series counts, or why it does not.
    #[inline(always)]
    fn place(&mut self, series: SeriesId, at: Instant) -> (Option<Reason>, SlotId) {
        if self.floor_seconds.is_some_and(|floor| at.seconds() < floor) {
            return (Some(Reason::BeyondHorizon), 0);
        }
        if self.directory.is_resumed() {
            self.want_directory(series);
        }
        (None, self.rows.hour_slot(series, at, &mut self.needs.rows))
    }

    /// Notes the cells of listed runs that may hold an id of the record. Most runs hold other times than the record's
    /// ids, and are passed over once for all of them.
    fn note_candidates(&mut self) {
        let mut times = IdTimes::default();
        self.items.iter().filter(|item| item.reason.is_none()).for_each(|item| times.add(item.time));
        self.times = times;
        self.note_own_candidates(&times);
        if !self.earlier.is_empty() {
            self.note_earlier_candidates(&times);
        }
        self.need_cells();
    }

    // Apart from the walk over the pulses: within it, it costs every pulse registers.
    #[inline(never)]
    fn note_own_candidates(&mut self, times: &IdTimes) {
        let shape = self.config.shape;
        let alive = |run: &&ListedRun| run.end(&shape) > self.expired_below && run.times.may_share(times);
        let runs: Vec<&ListedRun> = self.index.runs.iter().filter(alive).collect();
        if runs.is_empty() {
            return;
        }
        let wanted = wanted_cells(self.config.shape, &self.items, (self.config.partition, &runs));
        self.candidates.extend(wanted);
    }

    /// Marks the candidates, and asks for their cells that are not there.
    #[inline(never)]
    fn need_cells(&mut self) {
        for (item, name) in &self.candidates {
            self.items[*item as usize].is_candidate = true;
            if !self.cells.contains_key(name) && !self.needs.cells.contains(name) {
                self.needs.cells.push(*name);
            }
        }
    }

    /// Says what the store has for a row that [`Needs::rows`] named.
    pub fn supply_row(&mut self, slot: SlotId, row: Option<UsageRow>) {
        self.rows.supply(slot, row);
    }

    /// Says what the store has for a cell that [`Needs::cells`] named. A cell that is missing is the shell's to deal
    /// with: list again, then halt.
    pub fn supply_cell(&mut self, name: CellName, cell: Cell) {
        if self.cell_bytes > CELL_CACHE_BYTES_MAX {
            // Cells of the record at hand may be among them; they are asked for again by the next `prepare`.
            let wanted = |name: &CellName| self.candidates.iter().any(|(_, candidate)| candidate == name);
            self.cells.retain(|name, _| wanted(name));
            self.cell_bytes = self.cells.values().map(Cell::bytes).sum();
        }
        self.cell_bytes += cell.bytes();
        self.cells.insert(name, cell);
    }

    /// Says what the store has for a tenant that [`Needs::directories`] named.
    pub fn supply_directory(&mut self, tenant_id: &str, directory: Option<v1::Directory>) {
        self.directory.supply(tenant_id, directory);
    }
}

/// The cells of a partition's runs that may hold ids of the items, each with its item's place.
pub(super) fn wanted_cells<'a>(
    shape: RunShape,
    items: &'a [Item],
    (partition, runs): (u32, &'a [&'a ListedRun]),
) -> impl Iterator<Item = (u32, CellName)> + 'a {
    let items = (0..).zip(items).filter(|(_, item)| item.reason.is_none());
    items.flat_map(move |(place, item)| {
        let may_hold = runs.iter().filter(move |run| run.may_hold(&shape, item.id, item.time));
        may_hold.map(move |run| {
            let prefix = shape.prefix(run.level, item.id);
            (place, CellName { partition, level: run.level, start: run.start, prefix })
        })
    })
}

/// The payload hash with the plain pulse's tags in the order of their keys; `None` when they are many, or a key repeats.
#[inline(never)]
fn with_tags(untagged: PayloadHash, bytes: &[u8]) -> Option<PayloadHash> {
    let mut places: [(&[u8], &[u8]); QUICK_TAGS_MAX] = [(&[], &[]); QUICK_TAGS_MAX];
    let mut count = 0;
    for tag in plain::tags(bytes) {
        *places.get_mut(count)? = tag;
        count += 1;
    }
    let sorted = &mut places[..count];
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let repeats = sorted.windows(2).any(|pair| pair[0].0 == pair[1].0);
    (!repeats).then(|| tagged_payload_hash(untagged, sorted.iter().copied()))
}

impl Item {
    const fn dead(reason: Reason) -> Self {
        Self {
            id: IdHash(0),
            payload: PayloadHash(0),
            amount: Quantity::ZERO,
            at: Instant::EPOCH,
            hour: 0,
            time: None,
            reason: Some(reason),
            is_candidate: false,
            is_entered: false,
        }
    }
}

impl<'a> From<&Pulse<'a>> for SeriesKey<'a> {
    fn from(pulse: &Pulse<'a>) -> Self {
        Self {
            tenant_id: pulse.tenant_id,
            product_sku: pulse.product_sku,
            use_unit: pulse.use_unit,
            region: pulse.region,
        }
    }
}

/// The partition of the last tenant: pulses of one tenant come together.
#[derive(Default)]
struct TenantMemo {
    tenant_id: String,
    partition: u32,
}

impl TenantMemo {
    #[inline]
    fn partition(&mut self, tenant_id: &str, partitions: u32) -> u32 {
        if self.tenant_id != tenant_id {
            self.tenant_id.clear();
            self.tenant_id.push_str(tenant_id);
            self.partition = partition_of(tenant_id.as_bytes(), partitions);
        }
        self.partition
    }
}
