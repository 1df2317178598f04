//! The first half of folding a record: reading it, and saying what must be known before it can be applied.
//!
//! Each pulse is reduced to an item here: its hashes, its amount, the slot of its hour, and the cells of listed runs that
//! may hold its id. Nothing is decided yet but what the pulse's bytes and the floor decide alone.

use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::Rank;
use pulso_domain::pulse::{Pulse, check};
use pulso_domain::quantity::Quantity;
use pulso_domain::reason::Reason;
use pulso_domain::time::Instant;
use pulso_domain::usage::UsageRow;
use pulso_platform::log::LogRecord;
use pulso_proto::{v1, walk};

use super::halt::Halt;
use super::ids::cell::Cell;
use super::ids::list::expiry_border;
use super::ids::time::id_time;
use super::partition::PartitionFold;
use super::record::{RECORD_FORMAT, RecordParts, split};
use super::rows::{SeriesKey, SlotId};

/// Bytes of run cells that are kept for the next look-ups.
const CELL_CACHE_BYTES_MAX: usize = 64 << 20;

/// Names a cell of a listed run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CellName {
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
}

/// What the current record is.
#[derive(Debug)]
pub(super) enum Prepared {
    Nothing,
    Gap,
    Control(v1::control::Fact),
    Pulses,
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
        let mut tenant = TenantMemo::default();
        for bytes in parts.pulses {
            let item = self.item(bytes, &mut tenant);
            self.items.push(item);
        }
        Ok(Prepared::Pulses)
    }

    fn expiry(&self, appended_at_nanos: i64) -> Rank {
        let largest = self.state.appended_at_max_nanos.max(appended_at_nanos);
        expiry_border(&self.range_ends, largest, self.state.id_horizon_seconds)
    }

    #[inline]
    fn item(&mut self, bytes: &[u8], tenant: &mut TenantMemo) -> Item {
        let Ok(raw) = walk::pulse(bytes) else { return Item::dead(Reason::Undecodable) };
        let pulse = match check(&raw) {
            Ok(pulse) => pulse,
            Err(rejection) => return Item::dead(rejection.reason),
        };
        if tenant.partition(pulse.tenant_id, self.config.partitions) != self.config.partition {
            return Item::dead(Reason::Misrouted);
        }
        let id = self.config.hash_key.id_hash(pulse.tenant_id, pulse.id);
        let time = id_time(pulse.id);
        let mut item = Item {
            id,
            payload: self.config.hash_key.payload_hash(&pulse),
            amount: pulse.used_amount,
            at: pulse.occurred_at,
            hour: 0,
            time,
            reason: None,
        };
        if self.floor_seconds.is_some_and(|floor| pulse.occurred_at.seconds() < floor) {
            item.reason = Some(Reason::BeyondHorizon);
            return item;
        }
        self.note_candidates(id, time);
        if self.directory.wants(pulse.tenant_id)
            && !self.needs.directories.iter().any(|one| one == pulse.tenant_id)
        {
            self.needs.directories.push(pulse.tenant_id.to_owned());
        }
        let key = SeriesKey::from(&pulse);
        item.hour = self.rows.hour_slot(key, pulse.occurred_at, &mut self.needs.rows);
        item
    }

    /// Notes the cells of listed runs that may hold the id. An id in the open run needs no further look: what it holds
    /// is the first position.
    #[inline]
    fn note_candidates(&mut self, id: IdHash, time: Option<u64>) {
        let shape = self.config.shape;
        for run in &self.index.runs {
            if run.may_hold(&shape, id, time) && run.end(&shape) > self.expired_below {
                let prefix = shape.prefix(run.level, id);
                let name = CellName { level: run.level, start: run.start, prefix };
                self.candidates.push((self.items.len() as u32, name));
                if !self.cells.contains_key(&name) && !self.needs.cells.contains(&name) {
                    self.needs.cells.push(name);
                }
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
