//! What became of a pulse in the fold, and the count of each fate.

use crate::position::Position;
use crate::reason::Reason;

/// Every pulse in the log reaches exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Part of its tenant's totals.
    Counted,
    /// The same tenant, id and payload stand at an earlier position.
    Duplicate {
        /// The counted one.
        first: Position,
    },
    /// The same tenant and id stand at an earlier position with another payload; dead-lettered as `ID_CONFLICT`.
    Conflict {
        /// The counted one.
        first: Position,
    },
    /// Kept as a dead letter.
    DeadLettered(Reason),
}

impl Fate {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Duplicate { .. } => "duplicate",
            Self::Conflict { .. } => "conflict",
            Self::DeadLettered(_) => "dead_lettered",
        }
    }
}

/// How many pulses of a partition reached which fate. `pulses()` is their sum by construction, and is compared with an
/// independent count by the audit (promise G2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FateCounts {
    /// Counted pulses.
    pub counted: u64,
    /// Duplicates.
    pub duplicate: u64,
    /// Conflicts.
    pub conflict: u64,
    /// Dead letters that are no conflict.
    pub dead_lettered: u64,
    /// Pulses behind a seal; they get their fate in the next generation.
    pub moved: u64,
}

impl FateCounts {
    /// Counts one fate.
    #[inline]
    pub fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Counted => self.counted += 1,
            Fate::Duplicate { .. } => self.duplicate += 1,
            Fate::Conflict { .. } => self.conflict += 1,
            Fate::DeadLettered(_) => self.dead_lettered += 1,
        }
    }

    /// All pulses that reached a fate.
    #[must_use]
    pub const fn pulses(&self) -> u64 {
        self.counted + self.duplicate + self.conflict + self.dead_lettered
    }

    /// Adds the counts of another partition.
    pub fn add_counts(&mut self, other: &Self) {
        self.counted += other.counted;
        self.duplicate += other.duplicate;
        self.conflict += other.conflict;
        self.dead_lettered += other.dead_lettered;
        self.moved += other.moved;
    }
}
