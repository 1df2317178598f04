//! A growing run's entries, always in order of their ids: a hash table whose slots are the ids' own first bits.
//!
//! Ids are keyed hashes, spread evenly. Each belongs into the slot that its first bits name, the next ones are taken by
//! whoever comes after it in order, so whoever reads the slots one after the other reads the ids sorted: nothing is ever
//! sorted for a flush. At most two of three slots are taken, so that hardly any entry is far from its slot.

use std::hint::black_box;
use std::ops::RangeInclusive;

use pulso_domain::fingerprint::{IdHash, PayloadHash};

/// The smallest table's slots, as bits.
const BITS_MIN: u32 = 6;
/// Slots behind the last one that first bits can name, for what does not fit any more at the end. More than hashes ever
/// need; a table that runs out of them gets as many again.
const SPARE_SLOTS: usize = 64;
/// The index that marks a free slot: no record holds so many pulses.
const FREE: u32 = u32::MAX;

/// An entry as it lies in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub(super) id: IdHash,
    pub(super) payload: PayloadHash,
    /// The offset, relative to the run's start.
    pub(super) offset: u32,
    pub(super) index: u32,
}

impl Slot {
    const FREE: Self = Self { id: IdHash(0), payload: PayloadHash(0), offset: 0, index: FREE };

    #[inline]
    const fn is_free(&self) -> bool {
        self.index == FREE
    }
}

/// Entries in order of their ids.
#[derive(Clone, Debug)]
pub(super) struct SortedTable {
    slots: Vec<Slot>,
    /// What shifts all bits of an id away but those that name its slot.
    shift: u32,
    len: usize,
    /// With more entries it grows.
    len_max: usize,
}

/// Where an id stands, or would.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// In this slot.
    Found(usize),
    /// Not there; it belongs right before what is in this slot.
    Before(usize),
}

impl SortedTable {
    /// An empty table with room for so many entries.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let bits = (entries + entries / 2).next_power_of_two().ilog2().max(BITS_MIN);
        Self { slots: Self::free_slots(bits), shift: 64 - bits, len: 0, len_max: Self::len_max(bits) }
    }

    /// Two of three slots.
    const fn len_max(bits: u32) -> usize {
        (2 << bits) / 3
    }

    fn free_slots(bits: u32) -> Vec<Slot> {
        vec![Slot::FREE; (1 << bits) + SPARE_SLOTS]
    }

    /// How many entries it holds.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// All entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| !slot.is_free())
    }

    /// The entries of a range of ids, in order.
    pub(super) fn range(&self, ids: RangeInclusive<IdHash>) -> impl Iterator<Item = &Slot> {
        let (Place::Found(from) | Place::Before(from)) = self.find(*ids.start());
        let last = *ids.end();
        let taken = self.slots[from..].iter().filter(|slot| !slot.is_free());
        taken.take_while(move |slot| slot.id <= last)
    }

    /// The entry in a slot.
    #[inline]
    pub(super) fn slot(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    /// Looks an id up.
    #[inline(always)]
    pub(super) fn find(&self, id: IdHash) -> Place {
        let first = own_slot(id, self.shift);
        let mut place = first;
        // The last slot is always free, so the end of the slots is never reached.
        for slot in &self.slots[first..] {
            if slot.is_free() || slot.id > id {
                return Place::Before(place);
            }
            if slot.id == id {
                return Place::Found(place);
            }
            place += 1;
        }
        Place::Before(place)
    }

    /// Looks at the slots of some ids, so that they are near when [`SortedTable::find`] comes. The table is larger than a
    /// core's caches and ids are spread over all of it: looked at one after the other, with nothing between them, many
    /// slots are fetched at the same time, and else each would be waited for. What an entry displaces mostly ends within
    /// the next line of memory, two slots on.
    #[inline]
    pub(super) fn touch(&self, ids: impl Iterator<Item = IdHash>) {
        let near = ids.filter_map(|id| self.slots.get(own_slot(id, self.shift)..)?.first_chunk::<3>());
        black_box(near.fold(0, |seen, [own, _, next]| seen ^ own.index ^ next.index));
    }

    /// Puts an entry where [`SortedTable::find`] said that it belongs.
    #[inline(always)]
    pub(super) fn insert(&mut self, before: usize, entry: Slot) {
        debug_assert!(!entry.is_free(), "a record holds fewer pulses");
        let to_the_end = self.put(before, entry);
        self.len += 1;
        if to_the_end || self.len > self.len_max {
            self.make_room();
        }
    }

    /// Says whether the last slot was taken, which was free.
    #[inline(always)]
    fn put(&mut self, before: usize, mut entry: Slot) -> bool {
        let mut slots = self.slots[before..].iter_mut();
        // Whoever stands there makes room, up to the next free slot.
        for slot in slots.by_ref() {
            let moved = std::mem::replace(slot, entry);
            if moved.is_free() {
                break;
            }
            entry = moved;
        }
        slots.as_slice().is_empty()
    }

    #[cold]
    fn make_room(&mut self) {
        if self.len > self.len_max {
            self.grow();
        }
        if self.slots.last().is_none_or(|slot| !slot.is_free()) {
            self.slots.resize(self.slots.len() + SPARE_SLOTS, Slot::FREE);
        }
    }

    fn grow(&mut self) {
        self.shift -= 1;
        let bits = 64 - self.shift;
        self.len_max = Self::len_max(bits);
        let smaller = std::mem::replace(&mut self.slots, Self::free_slots(bits));
        let mut end = 0;
        for entry in smaller.into_iter().filter(|slot| !slot.is_free()) {
            // In order they come, so each stands in its own slot or right behind the one before.
            let place = end.max(own_slot(entry.id, self.shift));
            if place >= self.slots.len() {
                self.slots.resize(place + 1, Slot::FREE);
            }
            self.slots[place] = entry;
            end = place + 1;
        }
    }
}

/// The slot that the id's first bits name.
#[inline]
const fn own_slot(id: IdHash, shift: u32) -> usize {
    ((id.0 >> 64) as u64 >> shift) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(id: u128, index: u32) -> Slot {
        Slot { id: IdHash(id), payload: PayloadHash(id as u64), offset: index, index }
    }

    /// Enters them all, the first of each id; the table must be the ordered map at the end.
    fn check(ids: &[u128], capacity: usize) {
        let mut table = SortedTable::with_capacity(capacity);
        let mut map = BTreeMap::new();
        for (index, id) in (0..).zip(ids) {
            match table.find(IdHash(*id)) {
                Place::Found(slot) => assert_eq!(table.slot(slot), &map[id]),
                Place::Before(slot) => {
                    assert!(!map.contains_key(id));
                    table.insert(slot, entry(*id, index));
                    map.insert(*id, entry(*id, index));
                }
            }
        }
        assert_eq!(table.len(), map.len());
        assert!(table.iter().eq(map.values()));
        let (from, to) = (1 << 90, u128::MAX - 50);
        assert!(table.range(IdHash(from)..=IdHash(to)).eq(map.range(from..=to).map(|(_, entry)| entry)));
        for id in ids {
            assert!(matches!(table.find(IdHash(*id)), Place::Found(slot) if table.slot(slot).id.0 == *id));
        }
    }

    proptest! {
        #[test]
        fn the_table_is_an_ordered_map_also_for_ids_that_are_no_hashes(
            spread in prop::collection::vec(any::<u128>(), 0..300),
            low in prop::collection::vec(0_u128..100, 0..150),
            high in prop::collection::vec((0_u128..100).prop_map(|id| u128::MAX - id), 0..150),
            capacity in 0_usize..200,
        ) {
            check(&[spread, low, high].concat(), capacity);
        }
    }

    #[test]
    fn many_hashes_are_kept_in_order() {
        let spread = |number: u128| number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        check(&(0..20_000).map(spread).collect::<Vec<_>>(), 0);
    }
}
