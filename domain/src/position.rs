//! Where a pulse stands in the log: [`Rank`] grows over all generations, a [`Position`] names one pulse, and a partition has
//! one number over all generations.

use std::fmt;

/// Offsets of one generation lie below 2^40: at a million records a second, 34 years.
pub const OFFSET_BITS: u32 = 40;

/// The partitions of one generation have numbers below 2^16.
pub const PARTITION_BITS: u32 = 16;
/// More generations than this have no rank that a store takes as a version.
pub const GENERATIONS_MAX: u32 = 1023;

/// `(generation - 1) * 2^16 + index`: one number for each partition of each generation, so that nothing that is kept by
/// partition ever mixes two generations. Those of the first are their indexes.
#[must_use]
pub const fn partition_number(generation: u32, index: u32) -> u32 {
    (generation.saturating_sub(1) << PARTITION_BITS) | index
}

/// The generation of a partition's number.
#[must_use]
pub const fn partition_generation(number: u32) -> u32 {
    (number >> PARTITION_BITS) + 1
}

/// The index of a partition's number within its generation.
#[must_use]
pub const fn partition_index(number: u32) -> u32 {
    number & ((1 << PARTITION_BITS) - 1)
}

/// A partition's number as it is said to people: its index, behind its generation unless that is the first.
#[must_use]
pub fn partition_place(number: u32) -> String {
    match partition_generation(number) {
        1 => number.to_string(),
        generation => format!("{generation}:{}", partition_index(number)),
    }
}

/// `generation * 2^40 + offset`: one growing number for the records of a partition's tenants over all generations.
/// It is also the write timestamp of what the fold stores, so that a later truth always wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Rank(u64);

impl Rank {
    /// Below every record.
    pub const ZERO: Self = Self(0);

    /// `None` when the offset does not fit 40 bits or the generation 23.
    #[must_use]
    pub const fn new(generation: u32, offset: u64) -> Option<Self> {
        if offset >> OFFSET_BITS != 0 || generation >> 23 != 0 {
            return None;
        }
        Some(Self(((generation as u64) << OFFSET_BITS) | offset))
    }

    /// From its stored number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// As a number, below 2^63, so that it is also a good CQL timestamp.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The generation it lies in.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32
    }

    /// The offset within that generation.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }

    /// The rank of the next offset.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.generation(), self.offset())
    }
}

/// One pulse within its partition: the record's rank and the pulse's index in the record. Ordered as the log is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Position {
    /// The record.
    pub rank: Rank,
    /// The pulse's place in the record, from 0.
    pub index: u32,
}

impl Position {
    /// The position of a pulse.
    #[must_use]
    pub const fn new(rank: Rank, index: u32) -> Self {
        Self { rank, index }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.rank, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_one_number_over_all_generations() {
        assert_eq!(partition_number(1, 7), 7, "what the first generation left is found as it was");
        let number = partition_number(GENERATIONS_MAX, 11);
        assert_eq!((partition_generation(number), partition_index(number)), (GENERATIONS_MAX, 11));
        assert_eq!([partition_place(7), partition_place(number)], ["7", "1023:11"]);
        assert!(partition_number(2, 0) > partition_number(1, (1 << PARTITION_BITS) - 1));
    }

    #[test]
    fn ranks_grow_over_generations() {
        let last = Rank::new(1, (1 << OFFSET_BITS) - 1).expect("fits");
        let first = Rank::new(2, 0).expect("fits");
        assert!(last < first);
        assert_eq!((first.generation(), first.offset()), (2, 0));
        assert!(Rank::new(1, 1 << OFFSET_BITS).is_none());
    }
}
