//! The directory of the range being folded: which of its records hold pulses of which tenant, SKU, region and hour.
//!
//! It finds a tenant's pulses in the archive without a scan. One bit for each record of the range; written per tenant,
//! whole, so that the last flush of a range has all of it.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::Rank;
use pulso_platform::store::{Cell, Key, keys};
use pulso_proto::v1;

use super::rows::{RowTable, SlotId};

/// One hour's row that the range touched.
#[derive(Clone, Copy, Debug)]
struct Touched {
    slot: SlotId,
    /// The number that the record which touched it last gave it.
    number: u32,
    offsets: u128,
    /// The record that touched it last.
    latest: u8,
    changed: bool,
}

/// The directory of one range.
#[derive(Clone, Debug)]
pub struct RangeDirectory {
    start: Rank,
    touched: Vec<Touched>,
    /// What the store has of this range, when the fold began in the middle of it: by tenant, at its first touch.
    stored: Option<HashMap<String, v1::Directory>>,
    /// The records that were folded before the fold began. What the store has beyond them comes from an owner who was
    /// further, and is left out: the fold will note it itself, and the content stays a function of the log prefix.
    folded: u128,
}

impl RangeDirectory {
    /// An empty directory for the range that starts here, of which the fold begins at `next`.
    #[must_use]
    pub fn new(start: Rank, next: Rank) -> Self {
        let folded = (1_u128 << (next.as_u64() - start.as_u64())) - 1;
        Self { start, touched: Vec::new(), stored: (next > start).then(HashMap::new), folded }
    }

    /// The rank its range starts at.
    #[must_use]
    pub const fn start(&self) -> Rank {
        self.start
    }

    /// Whether the fold began behind the range's first record, so that the store may have something of it.
    #[must_use]
    pub const fn is_resumed(&self) -> bool {
        self.stored.is_some()
    }

    /// Whether what the store has of this tenant must be supplied first.
    #[must_use]
    pub fn wants(&self, tenant_id: &str) -> bool {
        self.stored.as_ref().is_some_and(|stored| !stored.contains_key(tenant_id))
    }

    /// Says what the store has of a tenant; `None` for nothing.
    pub fn supply(&mut self, tenant_id: &str, directory: Option<v1::Directory>) {
        if let Some(stored) = &mut self.stored {
            let mut directory = directory.unwrap_or_default();
            for entry in &mut directory.entries {
                entry.offsets_low &= self.folded as u64;
                entry.offsets_high &= (self.folded >> 64) as u64;
            }
            directory.entries.retain(|entry| entry_offsets(entry) != 0);
            stored.insert(tenant_id.to_owned(), directory);
        }
    }

    /// The number of this rank's record within the range.
    #[must_use]
    pub const fn record(&self, rank: Rank) -> u8 {
        (rank.as_u64() - self.start.as_u64()) as u8
    }

    /// Notes that the record of this number holds a pulse of the hour's row. Gives the hour's number within the record: `next` when this
    /// is its first pulse of the record.
    #[inline(always)]
    pub fn touch(&mut self, rows: &mut RowTable, slot: SlotId, record: u8, next: u32) -> u32 {
        let place = rows.directory_place(slot);
        match self.touched.get_mut(*place as usize) {
            Some(touched) if touched.slot == slot => {
                if touched.latest != record {
                    touched.latest = record;
                    touched.offsets |= 1 << record;
                    touched.changed = true;
                    touched.number = next;
                }
                touched.number
            }
            _ => {
                *place = self.touched.len() as u32;
                let offsets = 1 << record;
                self.touched.push(Touched { slot, number: next, offsets, latest: record, changed: true });
                next
            }
        }
    }

    /// The slots that must keep a number while this range is folded.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotId> {
        self.touched.iter().map(|touched| touched.slot).collect()
    }

    /// Takes over new slot numbers after an eviction that kept [`RangeDirectory::slots`].
    pub fn renumber(&mut self, numbers: &[Option<SlotId>]) {
        for touched in &mut self.touched {
            if let Some(number) = numbers[touched.slot as usize] {
                touched.slot = number;
            }
        }
    }

    /// The cells of the tenants that changed since the last call, each whole, at the version of the last folded record.
    #[must_use]
    pub fn take_changed(&mut self, rows: &RowTable, version: Rank) -> Vec<(Key, Cell)> {
        let mut by_tenant: Vec<_> =
            self.touched.iter().map(|touched| (rows.tenant_number(touched.slot), touched)).collect();
        by_tenant.sort_unstable_by_key(|(tenant, _)| *tenant);
        let tenants = by_tenant.chunk_by(|(one, _), (other, _)| one == other);
        let changed = tenants.filter(|tenant| tenant.iter().any(|(_, touched)| touched.changed));
        let cells = changed
            .map(|tenant| {
                let tenant_id = rows.tenant_of(tenant[0].0);
                let stored = self.stored.as_ref().and_then(|stored| stored.get(tenant_id));
                let touched = tenant.iter().map(|(_, touched)| *touched);
                let value = Bytes::from(directory_of(rows, touched, stored).encode_to_vec());
                (keys::directory(tenant_id, self.start), Cell { version: version.as_u64(), value })
            })
            .collect();
        self.touched.iter_mut().for_each(|touched| touched.changed = false);
        cells
    }

    /// Says that a flush failed: everything is changed still.
    pub fn restore_changed(&mut self) {
        self.touched.iter_mut().for_each(|touched| touched.changed = true);
    }
}

fn directory_of<'a>(
    rows: &RowTable,
    touched: impl Iterator<Item = &'a Touched>,
    stored: Option<&v1::Directory>,
) -> v1::Directory {
    let stored = stored
        .iter()
        .flat_map(|stored| &stored.entries)
        .map(|entry| ((entry.product_sku.as_str(), entry.region.as_str(), entry.hour), entry_offsets(entry)));
    let touched = touched.map(|touched| {
        let (series, hour) = rows.key(touched.slot);
        ((series.product_sku, series.region, hour.index()), touched.offsets)
    });
    let mut offsets: Vec<((&str, &str, i32), u128)> = stored.chain(touched).collect();
    offsets.sort_unstable_by_key(|(key, _)| *key);
    // Units are not told apart here, and what was stored is touched again.
    let entries = offsets.chunk_by(|(one, _), (other, _)| one == other).map(|same| {
        let (product_sku, region, hour) = same[0].0;
        let offsets = same.iter().fold(0, |all, (_, offsets)| all | offsets);
        v1::DirectoryEntry {
            product_sku: product_sku.to_owned(),
            region: region.to_owned(),
            hour,
            offsets_low: offsets as u64,
            offsets_high: (offsets >> 64) as u64,
        }
    });
    v1::Directory { entries: entries.collect() }
}

/// The records of the range that an entry names, one bit each.
#[must_use]
pub fn entry_offsets(entry: &v1::DirectoryEntry) -> u128 {
    u128::from(entry.offsets_low) | u128::from(entry.offsets_high) << 64
}
