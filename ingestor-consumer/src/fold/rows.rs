//! The usage rows in RAM: one slot per row, loaded at first touch, kept hot, evicted only once what it holds is confirmed.
//!
//! A *series* is (tenant, SKU, unit, region); a slot is one of its windows. Finding a series' current hour is one hash
//! and one comparison; the hour's slot knows its day's and month's, so a pulse costs one look-up for three rows.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use pulso_domain::fingerprint::{HashKey, IdHash};
use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;
use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::{Level, Window};

use super::chunks::Chunks;
use super::narrow::RowCell;
use super::series::SeriesTable;
pub use super::series::{SeriesId, SeriesKey, SeriesTexts};

/// Number of a slot; good until the next eviction.
pub type SlotId = u32;

/// No slot.
const NONE: SlotId = u32::MAX;

/// What is known of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// The store has not been asked yet.
    Nothing,
    /// The store has no such row, and no pulse was counted into it.
    Absent,
    /// The slot's row is the truth.
    Row,
}

#[derive(Debug)]
struct Slot {
    row: RowCell,
    /// The row's high-water rank when it was loaded: records at or below it are in the row already, every one above it
    /// comes by here. It stands still, since within one record the row's own rank does too.
    loaded_hwm: Rank,
    series: SeriesId,
    /// The window's index within its level.
    index: i32,
    /// The slot of the hour's day, or of the day's month.
    parent: SlotId,
    /// The slot's place in the directory of the current range.
    directory: u32,
    /// When it was last touched, in flushes.
    touched_flush: u32,
    level: Level,
    known: Known,
    /// Touched by a folded record since the last flush began, also when nothing was applied.
    dirty: bool,
    /// In a flush that is not confirmed yet.
    pending: bool,
}

impl Slot {
    fn window(&self) -> Window {
        Window::from_index(self.level, self.index)
    }
}

/// All rows that a partition's fold holds.
#[derive(Debug)]
pub struct RowTable {
    series: SeriesTable,
    slots: Chunks<Slot>,
    slot_index: HashTable<SlotId>,
    hasher: foldhash::fast::FixedState,
    /// Slots with `dirty` set, in the order of their first touch.
    dirty: Vec<SlotId>,
    flush: u32,
    /// Series whose latest hour was asked for since [`RowTable::ask_again`].
    asked: Vec<SeriesId>,
}

/// A row's key, borrowed from the table.
pub type RowKeyRef<'a> = (SeriesKey<'a>, Window);

/// The key of a row in the store.
#[must_use]
pub fn row_key<'a>((series, window): RowKeyRef<'a>) -> RowKey<'a> {
    let SeriesKey { tenant_id, product_sku, use_unit, region } = series;
    RowKey { tenant_id, window, product_sku, use_unit, region }
}

impl RowTable {
    /// An empty table of a store with this secret.
    #[must_use]
    pub fn new(hash_key: HashKey) -> Self {
        // The order of nothing that is written depends on this hash; a fixed one keeps runs alike.
        let hasher = foldhash::fast::FixedState::with_seed(0x9e37_79b9);
        Self {
            series: SeriesTable::new(hash_key),
            slots: Chunks::new(),
            slot_index: HashTable::new(),
            hasher,
            dirty: Vec::new(),
            flush: 0,
            asked: Vec::new(),
        }
    }

    /// How many rows are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// How many rows wait for a flush.
    #[must_use]
    pub fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Bytes of RAM, close enough for a ceiling: slots, series and both indexes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.bytes() + self.series.bytes() + self.slot_index.capacity() * 5
    }

    /// Says that what was asked for may never have been answered: it is asked for again when it is still not known.
    pub fn ask_again(&mut self) {
        while let Some(series) = self.asked.pop() {
            if self.series.latest_slot(series).is_some_and(|hour| self.unknown_of(hour).next().is_some()) {
                self.series.forget_latest(series);
            }
        }
    }

    /// The slots of an hour, its day and its month that nobody knows yet.
    fn unknown_of(&self, hour: SlotId) -> impl Iterator<Item = SlotId> {
        let parent = |slot: &SlotId| Some(self.slots[*slot].parent).filter(|parent| *parent != NONE);
        std::iter::successors(Some(hour), parent).filter(|slot| self.slots[*slot].known == Known::Nothing)
    }

    /// The slot of a series' hour, with its day and month behind it. Slots that nobody knows yet are added to `unknown`,
    /// mostly once: they must be supplied before anything is applied to them.
    #[inline(always)]
    pub fn hour_slot(&mut self, series: SeriesId, at: Instant, unknown: &mut Vec<SlotId>) -> SlotId {
        if let Some(slot) = self.series.latest(series, at) {
            return slot;
        }
        let hour = at.seconds().div_euclid(3600) as i32;
        self.other_hour(series, Window::from_index(Level::Hour, hour), unknown)
    }

    fn other_hour(&mut self, series: u32, hour: Window, unknown: &mut Vec<SlotId>) -> SlotId {
        let slot = self.slot(series, hour);
        if self.slots[slot].parent == NONE {
            let day = self.slot(series, hour.widen(Level::Day));
            let month = self.slot(series, hour.widen(Level::Month));
            self.slots[slot].parent = day;
            self.slots[day].parent = month;
        }
        let already = unknown.len();
        unknown.extend(self.unknown_of(slot));
        if unknown.len() > already {
            self.asked.push(series);
        }
        self.series.set_latest(series, hour.index(), slot);
        slot
    }

    /// The series with these texts, if there is one, and their [hash](HashKey::series_hash). Then they are good, since only
    /// good ones become a series.
    #[must_use]
    #[inline(always)]
    pub fn known_series(&mut self, texts: SeriesTexts<'_>) -> Option<(SeriesId, u64)> {
        let (found, hash) = self.series.find(texts);
        Some((found?, hash))
    }

    /// The hash of an id of the tenant whose series was looked for last; `None` when no checked pulse has it.
    #[must_use]
    #[inline(always)]
    pub fn id_hash(&mut self, id: &[u8]) -> Option<IdHash> {
        self.series.id_hash(id)
    }

    /// The series with this key, made when it is not there.
    pub fn series(&mut self, key: SeriesKey<'_>) -> SeriesId {
        self.series.intern(key)
    }

    /// A number that a slot shares with those of its tenant: a series of the tenant.
    pub(super) fn tenant_number(&self, slot: SlotId) -> SeriesId {
        self.series.tenant_number(self.slots[slot].series)
    }

    /// The tenant of a series.
    #[must_use]
    pub fn tenant_of(&self, series: SeriesId) -> &str {
        self.series.key(series).tenant_id
    }

    fn slot(&mut self, series: SeriesId, window: Window) -> SlotId {
        let hash = slot_hash(&self.hasher, series, window);
        let same = |id: &SlotId| {
            let slot = &self.slots[*id];
            (slot.series, slot.level, slot.index) == (series, window.level(), window.index())
        };
        match self.slot_index.find(hash, same) {
            Some(id) => *id,
            None => self.add_slot(series, window),
        }
    }

    fn add_slot(&mut self, series: SeriesId, window: Window) -> SlotId {
        let id = self.slots.len() as SlotId;
        self.slots.push(Slot {
            row: UsageRow::first(Quantity::ZERO, Instant::EPOCH, Position::default()).into(),
            series,
            index: window.index(),
            level: window.level(),
            parent: NONE,
            directory: NONE,
            touched_flush: self.flush,
            loaded_hwm: Rank::ZERO,
            known: Known::Nothing,
            dirty: false,
            pending: false,
        });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_of = |id: &SlotId| slot_hash(hasher, slots[*id].series, slots[*id].window());
        self.slot_index.insert_unique(hash_of(&id), id, hash_of);
        id
    }

    /// The key of a slot's row.
    #[must_use]
    pub fn key(&self, slot: SlotId) -> RowKeyRef<'_> {
        let slot = &self.slots[slot];
        (self.series.key(slot.series), slot.window())
    }

    /// Says what the store has for a slot. A slot that is known already keeps what it knows.
    pub fn supply(&mut self, slot: SlotId, row: Option<UsageRow>) {
        let slot = &mut self.slots[slot];
        if slot.known == Known::Nothing {
            slot.known = if row.is_some() { Known::Row } else { Known::Absent };
            slot.loaded_hwm = row.map_or(Rank::ZERO, |row| row.hwm);
            if let Some(row) = row {
                slot.row = row.into();
            }
        }
    }

    /// Counts the pulses of one record that lie in an hour into the hour, its day and its month: each row only if the
    /// record lies above the high-water rank that it was loaded with. All three become dirty either way.
    pub fn count(&mut self, hour: SlotId, pulses: &UsageRow) {
        let cell = RowCell::from(*pulses);
        let mut next = hour;
        while next != NONE {
            let id = next;
            let slot = &mut self.slots[id];
            next = slot.parent;
            debug_assert!(slot.known != Known::Nothing, "rows are supplied before a record is applied");
            match slot.known {
                Known::Row if pulses.hwm > slot.loaded_hwm => slot.row.merge(&cell),
                Known::Row => {}
                Known::Nothing | Known::Absent => {
                    slot.row = cell.clone();
                    slot.known = Known::Row;
                }
            }
            if !slot.dirty {
                slot.dirty = true;
                self.dirty.push(id);
            }
            slot.touched_flush = self.flush;
        }
    }

    /// The place of an hour's slot in the directory of the current range.
    pub fn directory_place(&mut self, slot: SlotId) -> &mut u32 {
        &mut self.slots[slot].directory
    }

    /// The rows to write: all that a folded record touched since the last call. They stay until the flush is confirmed.
    pub fn take_dirty(&mut self) -> Vec<SlotId> {
        let dirty = std::mem::take(&mut self.dirty);
        for id in &dirty {
            let slot = &mut self.slots[*id];
            (slot.dirty, slot.pending) = (false, true);
        }
        self.flush += 1;
        dirty
    }

    /// A slot's row as it stands.
    #[must_use]
    pub fn row(&self, slot: SlotId) -> UsageRow {
        self.slots[slot].row.row()
    }

    /// Says that the flush with these rows is durable.
    pub fn confirm(&mut self, flushed: &[SlotId]) {
        for id in flushed {
            self.slots[*id].pending = false;
        }
    }

    /// Says that the flush with these rows failed: they are dirty still.
    pub fn fail(&mut self, flushed: &[SlotId]) {
        for id in flushed {
            let slot = &mut self.slots[*id];
            slot.pending = false;
            if !slot.dirty {
                slot.dirty = true;
                self.dirty.push(*id);
            }
        }
    }

    /// Forgets rows that are confirmed, were not touched in the last `keep_flushes`, and do not stand in `keep`. With
    /// `unconfirmed` it forgets rows that no store has yet: the simulator's mutant. Gives each old slot's new number.
    pub fn evict(&mut self, keep_flushes: u32, keep: &[SlotId], unconfirmed: bool) -> Vec<Option<SlotId>> {
        let mut kept = Self { flush: self.flush, ..Self::new(self.series.hash_key()) };
        let mut numbers = vec![None; self.slots.len()];
        let mut wanted = vec![false; self.slots.len()];
        keep.iter().for_each(|slot| wanted[*slot as usize] = true);
        for (old, slot) in self.slots.iter().enumerate() {
            let settled = unconfirmed || !(slot.dirty || slot.pending);
            let idle = self.flush.saturating_sub(slot.touched_flush) >= keep_flushes;
            if !wanted[old] && (slot.known == Known::Nothing || (settled && idle)) {
                continue;
            }
            let series = kept.series(self.series.key(slot.series));
            let id = kept.slot(series, slot.window());
            numbers[old] = Some(id);
            let copy = &mut kept.slots[id];
            copy.row = slot.row.clone();
            copy.loaded_hwm = slot.loaded_hwm;
            (copy.known, copy.dirty, copy.pending) = (slot.known, slot.dirty, slot.pending);
            (copy.touched_flush, copy.directory) = (slot.touched_flush, slot.directory);
        }
        kept.dirty = self.dirty.iter().filter_map(|old| numbers[*old as usize]).collect();
        *self = kept;
        numbers
    }
}

fn slot_hash(hasher: &foldhash::fast::FixedState, series: u32, window: Window) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u64(u64::from(series) << 32 | u64::from(window.index().cast_unsigned()));
    state.write_u8(window.level() as u8);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SeriesKey<'static> =
        SeriesKey { tenant_id: "acme", product_sku: "vm", use_unit: "Hours", region: "br" };

    fn at(hour: i64) -> Instant {
        Instant::new(hour * 3600 + 5, 0).expect("small")
    }

    fn position(offset: u64, index: u32) -> Position {
        Position::new(Rank::new(1, offset).expect("small"), index)
    }

    fn amount(number: i128) -> Quantity {
        Quantity::from_steps(number)
    }

    #[test]
    fn a_row_is_asked_for_until_the_store_has_answered() {
        let mut table = RowTable::new(HashKey::new([1; 16]));
        let series = table.series(KEY);
        for _ in 0..3 {
            let mut unknown = Vec::new();
            table.ask_again();
            table.hour_slot(series, at(0), &mut unknown);
            assert_eq!(unknown.len(), 3, "a read that failed left all three unknown");
            table.hour_slot(series, at(0), &mut unknown);
            assert_eq!(unknown.len(), 3, "once is enough");
        }
        let mut unknown = Vec::new();
        let slot = table.hour_slot(series, at(0), &mut unknown);
        table.supply(slot, None);
        table.ask_again();
        table.hour_slot(series, at(0), &mut unknown);
        unknown.dedup();
        assert_eq!(unknown.len(), 2, "its day and month are still to come");
    }

    fn counted(table: &mut RowTable, hour: i64, place: Position) -> SlotId {
        let mut unknown = Vec::new();
        let series = table.series(KEY);
        let slot = table.hour_slot(series, at(hour), &mut unknown);
        unknown.into_iter().for_each(|slot| table.supply(slot, None));
        table.count(slot, &UsageRow::first(amount(2), at(hour), place));
        slot
    }

    #[test]
    fn a_pulse_is_counted_into_its_hour_day_and_month() {
        let mut table = RowTable::new(HashKey::new([1; 16]));
        counted(&mut table, 0, position(0, 0));
        counted(&mut table, 1, position(0, 1));
        counted(&mut table, 24, position(1, 0));
        let mut rows: Vec<_> = table
            .take_dirty()
            .into_iter()
            .map(|slot| (table.key(slot).1.level(), table.row(slot).sum.to_string(), table.row(slot).count))
            .collect();
        rows.sort();
        let steps = |number: i128| amount(number).to_string();
        let expected = [
            (Level::Hour, steps(2), 1),
            (Level::Hour, steps(2), 1),
            (Level::Hour, steps(2), 1),
            (Level::Day, steps(2), 1),
            (Level::Day, steps(4), 2),
            (Level::Month, steps(6), 3),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn g04_a_record_at_or_below_the_loaded_rank_changes_nothing_but_is_written_again() {
        let mut table = RowTable::new(HashKey::new([1; 16]));
        let mut unknown = Vec::new();
        let series = table.series(KEY);
        let slot = table.hour_slot(series, at(0), &mut unknown);
        let stored = UsageRow::first(amount(10), at(0), position(5, 0));
        unknown.into_iter().for_each(|slot| table.supply(slot, Some(stored)));
        table.count(slot, &UsageRow::first(amount(1), at(0), position(5, 0)));
        assert_eq!((table.row(slot).count, table.dirty_len()), (1, 3));
        let mut both = UsageRow::first(amount(1), at(0), position(6, 0));
        both.add(amount(1), at(0), position(6, 1));
        table.count(slot, &both);
        assert_eq!(table.row(slot).count, 3, "both pulses of one record count");
    }

    #[test]
    fn only_confirmed_rows_are_evicted() {
        let mut table = RowTable::new(HashKey::new([1; 16]));
        counted(&mut table, 0, position(0, 0));
        let flushed = table.take_dirty();
        table.evict(0, &[], false);
        assert_eq!(table.len(), 3, "pending rows stay");
        table.confirm(&flushed);
        let kept = counted(&mut table, 1, position(1, 0));
        let numbers = table.evict(0, &[], false);
        assert_eq!(table.len(), 3, "the first hour went, its day and month are dirty again");
        let kept = numbers[kept as usize].expect("kept");
        assert_eq!(table.key(kept).1, Window::from_index(Level::Hour, 1));
        assert_eq!(table.take_dirty().len(), 3);
    }

    #[test]
    fn a_failed_flush_leaves_its_rows_dirty() {
        let mut table = RowTable::new(HashKey::new([1; 16]));
        counted(&mut table, 0, position(0, 0));
        let flushed = table.take_dirty();
        table.fail(&flushed);
        assert_eq!(table.take_dirty().len(), 3);
    }
}
