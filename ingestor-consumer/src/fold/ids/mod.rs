//! The dedup index: `hash(tenant, id) -> first position, payload`, kept as sorted *id runs* per aligned range of offsets.
//!
//! A pulse is a duplicate iff the stored first position is smaller than its own; equal means "my own replay". A run's
//! content is a function of the log prefix alone, so whoever writes it, and how often, writes the same bytes.

pub mod cell;
pub mod earlier;
pub mod filter;
pub mod list;
pub mod merge;
pub mod open;
mod table;
pub mod time;

use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::{Position, Rank};

/// One entry of the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IdEntry {
    /// Which (tenant, id).
    pub id: IdHash,
    /// Where it was first counted.
    pub first: Position,
    /// What was counted.
    pub payload: PayloadHash,
}

/// How ranges are cut: constants of the format, small in simulations only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunShape {
    /// A range of level 0 holds 2^this offsets.
    pub range_bits: u32,
    /// A range of the next level holds 2^this ranges of the level below.
    pub fan_in_bits: u32,
    /// The coarsest level that runs are merged to; entries expire by whole ranges of this level.
    pub level_max: u32,
    /// A run of level 0 has 2^this cells by hash prefix; each level above has `fan_in_bits` more.
    pub cell_bits: u32,
}

impl RunShape {
    /// The format: 128 records a range, 16 ranges merged to one, 16 cells in a run of level 0. With at most 2,048 pulses
    /// a record a cell holds about 2^14 entries of 32 bytes, half a MiB, at every level.
    pub const FORMAT: Self = Self { range_bits: 7, fan_in_bits: 4, level_max: 2, cell_bits: 4 };

    /// Offsets of a range, as bits.
    #[must_use]
    pub const fn span_bits(&self, level: u32) -> u32 {
        self.range_bits + self.fan_in_bits * level
    }

    /// Offsets in a range of the level.
    #[must_use]
    pub const fn span(&self, level: u32) -> u64 {
        1 << self.span_bits(level)
    }

    /// The first rank of the range that holds the rank.
    #[must_use]
    pub const fn range_start(&self, rank: Rank, level: u32) -> Rank {
        Rank::from_u64(rank.as_u64() >> self.span_bits(level) << self.span_bits(level))
    }

    /// Whether a range of level 0 begins at the rank.
    #[must_use]
    pub const fn is_border(&self, rank: Rank) -> bool {
        rank.as_u64() & (self.span(0) - 1) == 0
    }

    /// How many bits of the hash choose the cell.
    #[must_use]
    pub const fn prefix_bits(&self, level: u32) -> u32 {
        self.cell_bits + self.fan_in_bits * level
    }

    /// How many cells a run has.
    #[must_use]
    pub const fn cells(&self, level: u32) -> u32 {
        1 << self.prefix_bits(level)
    }

    /// The cell of an id.
    #[must_use]
    pub const fn prefix(&self, level: u32, id: IdHash) -> u32 {
        let bits = self.prefix_bits(level);
        if bits == 0 { 0 } else { ((id.0 >> 64) as u64 >> (64 - bits)) as u32 }
    }

    /// The smallest id of a cell.
    #[must_use]
    pub const fn first_of(&self, level: u32, prefix: u32) -> IdHash {
        let bits = self.prefix_bits(level);
        IdHash(if bits == 0 { 0 } else { (prefix as u128) << (128 - bits) })
    }

    /// The largest id of a cell.
    #[must_use]
    pub const fn last_of(&self, level: u32, prefix: u32) -> IdHash {
        let bits = self.prefix_bits(level);
        IdHash(self.first_of(level, prefix).0 | if bits == 0 { u128::MAX } else { u128::MAX >> bits })
    }

    /// How many filters a run has: one for each `2^cell_bits` cells, so that none covers more ids than a run of level 0.
    #[must_use]
    pub const fn filters(&self, level: u32) -> u32 {
        1 << (self.fan_in_bits * level)
    }

    /// The filter of an id.
    #[must_use]
    pub const fn filter_of(&self, level: u32, id: IdHash) -> u32 {
        self.prefix(level, id) >> self.cell_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cells_and_filters_nest_over_the_levels() {
        let shape = RunShape::FORMAT;
        let rank = Rank::new(3, 40_000).expect("small");
        assert_eq!(shape.range_start(rank, 0), Rank::new(3, 39_936).expect("small"));
        assert_eq!(shape.range_start(rank, 2), Rank::new(3, 32_768).expect("small"));
        assert_eq!((shape.cells(0), shape.cells(1), shape.cells(2)), (16, 256, 4096));
        let id = IdHash(0xabcd << 112);
        assert_eq!((shape.prefix(0, id), shape.prefix(1, id), shape.prefix(2, id)), (0xa, 0xab, 0xabc));
        for level in 0..3 {
            let (first, last) = (shape.first_of(level, 0xa), shape.last_of(level, 0xa));
            assert_eq!((shape.prefix(level, first), shape.prefix(level, last)), (0xa, 0xa));
            assert_eq!(last.0.wrapping_add(1), shape.first_of(level, 0xb).0);
        }
        assert_eq!((shape.filter_of(0, id), shape.filter_of(1, id), shape.filter_of(2, id)), (0, 0xa, 0xab));
    }
}
