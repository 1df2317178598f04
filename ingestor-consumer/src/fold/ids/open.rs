//! The id run that is still growing: the ids counted so far in the current range, and what of it is not stored yet.

use bytes::Bytes;
use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::{Position, Rank};

use super::cell::{self, Cell};
use super::table::{Place, Slot, SortedTable};
use super::{IdEntry, RunShape};

/// The cell number of a growing run's header: it exists as soon as the range has one folded record, also when no id was
/// counted, so that a missing run is never taken for an empty one.
pub const HEADER_PREFIX: u32 = u32::MAX;

/// The ids counted so far in one range of level 0.
#[derive(Clone, Debug)]
pub struct OpenRun {
    start: Rank,
    shape: RunShape,
    entries: SortedTable,
    /// One bit for each cell that has entries which are not in a confirmed flush.
    dirty_cells: u64,
    every_cell: u64,
    /// The times of its ids after each record that changed them: so that whoever continues the run from a header of an
    /// owner who was further knows what it said here.
    times: Vec<(Rank, IdTimes)>,
}

/// The times within a run's time-ordered ids, and whether it has other ids.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IdTimes {
    /// The smallest and the largest, in milliseconds.
    pub range: Option<(u64, u64)>,
    /// Whether any id has no time of its own.
    pub others: bool,
}

impl IdTimes {
    /// Takes in one id's time.
    #[inline]
    pub fn add(&mut self, time: Option<u64>) {
        match (time, &mut self.range) {
            (None, _) => self.others = true,
            (Some(time), Some((min, max))) => (*min, *max) = ((*min).min(time), (*max).max(time)),
            (Some(time), range) => *range = Some((time, time)),
        }
    }

    /// Takes in all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.others |= other.others;
        if let Some((min, max)) = other.range {
            self.add(Some(min));
            self.add(Some(max));
        }
    }

    /// Whether an id of the others may be among them.
    #[must_use]
    pub fn may_share(&self, other: &Self) -> bool {
        let overlap =
            self.range.zip(other.range).is_some_and(|((min, max), (from, to))| min <= to && from <= max);
        overlap || (self.others && other.others)
    }

    /// Whether an id of this time may be among them.
    #[must_use]
    #[inline]
    pub fn may_hold(&self, time: Option<u64>) -> bool {
        match time {
            None => self.others,
            Some(time) => self.range.is_some_and(|(min, max)| (min..=max).contains(&time)),
        }
    }
}

impl OpenRun {
    /// An empty run for the range that starts here.
    #[must_use]
    pub fn new(start: Rank, shape: RunShape) -> Self {
        Self::expecting(start, shape, 0)
    }

    /// An empty run for the range that starts here, with room for so many ids: a range is mostly like the one before.
    #[must_use]
    pub fn expecting(start: Rank, shape: RunShape, ids: usize) -> Self {
        debug_assert!(shape.cells(0) <= 64, "one bit for each cell of a growing run");
        Self {
            start,
            shape,
            entries: SortedTable::with_capacity(ids),
            dirty_cells: 0,
            every_cell: u64::MAX >> (64 - shape.cells(0)),
            times: Vec::new(),
        }
    }

    /// Continues a stored run from `next` on. Entries and times at or behind `next` come from an owner who was further;
    /// they are left out, since the fold will enter them itself: the content stays a function of the log prefix.
    #[must_use]
    pub fn resume(shape: RunShape, header: Header, cells: &[Cell], next: Position) -> Self {
        let mut run = Self::new(header.start, shape);
        let entries = cells.iter().flat_map(Cell::entries).filter(|entry| entry.first < next);
        entries.for_each(|entry| run.resume_entry(entry));
        run.times = header.times;
        run.times.retain(|(rank, _)| *rank < next.rank);
        run
    }

    /// The rank its range starts at.
    #[must_use]
    pub const fn start(&self) -> Rank {
        self.start
    }

    /// How many ids it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// The times of its ids.
    #[must_use]
    pub fn times(&self) -> IdTimes {
        self.times.last().map_or_else(IdTimes::default, |(_, times)| *times)
    }

    /// What is stored beside its cells.
    #[must_use]
    pub fn header(&self) -> Header {
        Header { start: self.start, times: self.times.clone() }
    }

    /// The entry of an id.
    #[must_use]
    #[inline]
    pub fn find(&self, id: IdHash) -> Option<(Position, PayloadHash)> {
        match self.entries.find(id) {
            Place::Found(slot) => Some(self.first(self.entries.slot(slot))),
            Place::Before(_) => None,
        }
    }

    /// Has the places of some ids at hand, so that entering or finding them next is quick. Changes nothing.
    #[inline]
    pub fn touch(&self, ids: impl Iterator<Item = IdHash>) {
        self.entries.touch(ids);
    }

    /// Enters the first position of an id; false when the id has one already, and then nothing changed. Its time is to be
    /// [noted](Self::note_times) before the run is stored.
    #[inline(always)]
    pub fn enter_new(&mut self, entry: IdEntry) -> bool {
        let Place::Before(slot) = self.entries.find(entry.id) else { return false };
        self.insert(slot, entry);
        // Ids are spread evenly: soon all cells are changed, and there is nothing left to note.
        if self.dirty_cells != self.every_cell {
            self.dirty_cells |= 1 << self.shape.prefix(0, entry.id);
        }
        true
    }

    /// Notes the times of the ids that the record of this rank entered.
    pub fn note_times(&mut self, rank: Rank, times: &IdTimes) {
        let before = self.times();
        let mut after = before;
        after.merge(times);
        if after == before {
            return;
        }
        match self.times.last_mut() {
            Some((last, times)) if *last == rank => *times = after,
            _ => self.times.push((rank, after)),
        }
    }

    fn resume_entry(&mut self, entry: IdEntry) {
        if let Place::Before(slot) = self.entries.find(entry.id) {
            self.insert(slot, entry);
        }
    }

    #[inline]
    fn insert(&mut self, before: usize, IdEntry { id, first, payload }: IdEntry) {
        let offset = (first.rank.as_u64() - self.start.as_u64()) as u32;
        self.entries.insert(before, Slot { id, payload, offset, index: first.index });
    }

    #[inline]
    const fn first(&self, slot: &Slot) -> (Position, PayloadHash) {
        let rank = Rank::from_u64(self.start.as_u64() + slot.offset as u64);
        (Position::new(rank, slot.index), slot.payload)
    }

    /// The ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = IdHash> {
        self.entries.iter().map(|slot| slot.id)
    }

    #[inline]
    fn entry(&self, slot: &Slot) -> IdEntry {
        let (first, payload) = self.first(slot);
        IdEntry { id: slot.id, first, payload }
    }

    /// The cells that changed since the last confirmed flush (all of them with `all`), each with its prefix.
    #[must_use]
    pub fn changed_cells(&self, all: bool) -> Vec<(u32, Bytes)> {
        let about = self.len() / self.shape.cells(0) as usize;
        let cells = 0..self.shape.cells(0);
        let changed = cells.filter(|prefix| all || self.dirty_cells >> prefix & 1 == 1);
        let encode = |prefix| {
            let entries = self.entries.range(self.shape.first_of(0, prefix)..=self.shape.last_of(0, prefix));
            (prefix, cell::encode(self.start, about, entries.map(|slot| self.entry(slot))))
        };
        changed.map(encode).collect()
    }

    /// Says that what [`OpenRun::changed_cells`] gave is about to be stored; returns what was changed, for a failure.
    pub fn take_changed(&mut self) -> u64 {
        std::mem::take(&mut self.dirty_cells)
    }

    /// Says that storing failed: those cells are changed still.
    pub fn restore_changed(&mut self, changed: u64) {
        self.dirty_cells |= changed;
    }
}

/// What is stored beside the cells of a growing run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    start: Rank,
    times: Vec<(Rank, IdTimes)>,
}

const HEADER_FORMAT: u8 = 1;
const STEP_BYTES: usize = 4 + 1 + 8 + 8;

impl Header {
    /// The stored form: a version byte, then per step the record relative to the run's start (u32 LE), a byte of flags
    /// (1: other ids, 2: timed ids), the smallest and the largest time (u64 LE).
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(1 + self.times.len() * STEP_BYTES);
        bytes.push(HEADER_FORMAT);
        for (rank, times) in &self.times {
            let (min, max) = times.range.unwrap_or_default();
            bytes.extend_from_slice(&((rank.as_u64() - self.start.as_u64()) as u32).to_le_bytes());
            bytes.push(u8::from(times.others) | u8::from(times.range.is_some()) << 1);
            bytes.extend_from_slice(&min.to_le_bytes());
            bytes.extend_from_slice(&max.to_le_bytes());
        }
        bytes.into()
    }

    /// Reads [`Header::encode`] back, for the run that starts at `start`; `None` when it is none of this version.
    #[must_use]
    pub fn decode(start: Rank, bytes: &[u8]) -> Option<Self> {
        let (&[HEADER_FORMAT], steps) = bytes.split_first_chunk()? else { return None };
        let (steps, []) = steps.as_chunks::<STEP_BYTES>() else { return None };
        let times = steps.iter().map(|step| {
            let (relative, rest) = step.split_first_chunk::<4>()?;
            let (&[flags @ 0..=3], rest) = rest.split_first_chunk()? else { return None };
            let (min, max) = rest.split_first_chunk::<8>()?;
            let range = (u64::from_le_bytes(*min), u64::from_le_bytes(max.try_into().ok()?));
            let rank = Rank::from_u64(start.as_u64() + u64::from(u32::from_le_bytes(*relative)));
            Some((rank, IdTimes { range: (flags & 2 != 0).then_some(range), others: flags & 1 != 0 }))
        });
        Some(Self { start, times: times.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u128, offset: u64) -> IdEntry {
        let first = Position::new(Rank::new(1, offset).expect("small"), 0);
        IdEntry { id: IdHash(id << 120 | id), first, payload: PayloadHash(7) }
    }

    fn enter(run: &mut OpenRun, entry: IdEntry, time: Option<u64>) {
        assert!(run.enter_new(entry));
        let mut times = IdTimes::default();
        times.add(time);
        run.note_times(entry.first.rank, &times);
    }

    #[test]
    fn an_id_keeps_the_position_it_was_entered_with() {
        let mut run = OpenRun::new(Rank::new(1, 0).expect("small"), RunShape::FORMAT);
        enter(&mut run, entry(7, 3), None);
        let first = (entry(7, 3).first, PayloadHash(7));
        assert!(!run.enter_new(entry(7, 5)));
        assert_eq!((run.find(entry(7, 0).id), run.len()), (Some(first), 1));
    }

    #[test]
    fn a_stored_run_is_continued_without_what_lies_ahead() {
        let shape = RunShape::FORMAT;
        let start = Rank::new(1, 128).expect("small");
        let mut run = OpenRun::new(start, shape);
        for (id, offset) in [(1, 128), (2, 129), (3, 140)] {
            enter(&mut run, entry(id, offset), Some(offset));
        }
        let cells: Vec<_> = run
            .changed_cells(false)
            .into_iter()
            .map(|(_, bytes)| Cell::decode(start, bytes).expect("own encoding"))
            .collect();
        let header = Header::decode(start, &run.header().encode()).expect("own encoding");
        assert_eq!(header, run.header());
        let next = Position::new(Rank::new(1, 130).expect("small"), 0);
        let resumed = OpenRun::resume(shape, header, &cells, next);
        assert_eq!(resumed.len(), 2);
        assert!(resumed.find(entry(1, 0).id).is_some() && resumed.find(entry(3, 0).id).is_none());
        assert_eq!(run.times().range, Some((128, 140)));
        assert_eq!(resumed.times().range, Some((128, 129)), "the times are those of the prefix too");
    }

    #[test]
    fn only_changed_cells_are_written_again() {
        let mut run = OpenRun::new(Rank::new(1, 0).expect("small"), RunShape::FORMAT);
        enter(&mut run, entry(0x10, 1), None);
        let changed = run.take_changed();
        assert!(run.changed_cells(false).is_empty());
        run.restore_changed(changed);
        assert_eq!(run.changed_cells(false).len(), 1);
        assert_eq!(run.changed_cells(true).len(), 16);
    }
}
