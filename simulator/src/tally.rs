//! What happened in a run of seeds: proof that its faults were there.

use std::fmt;

/// Counts over seeds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Seeds.
    pub seeds: u64,
    /// Pulses in their logs.
    pub pulses: u64,
    /// Owners and background workers that died.
    pub crashes: u64,
    /// Writes of superseded owners that changed a replica.
    pub zombie_writes: u64,
    /// Writes that landed late and changed a replica.
    pub late_writes: u64,
    /// Times that no quorum was there when it was needed.
    pub quorum_losses: u64,
    /// Rows evicted.
    pub evictions: u64,
    /// Rewinds begun.
    pub rewinds: u64,
    /// Merges.
    pub merges: u64,
    /// Times that runs left the list because they had expired.
    pub expiries: u64,
    /// Times that cells of runs were removed.
    pub removals: u64,
    /// Gaps declared.
    pub gaps: u64,
    /// Records behind a seal that were moved.
    pub moved: u64,
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for ((_, mine), (_, more)) in self.fields_mut().into_iter().zip(other.fields()) {
            *mine += more;
        }
    }

    /// Each count with its name.
    #[must_use]
    pub const fn fields(&self) -> [(&'static str, u64); 13] {
        [
            ("seeds", self.seeds),
            ("pulses", self.pulses),
            ("crashes", self.crashes),
            ("zombie writes landed", self.zombie_writes),
            ("late writes landed", self.late_writes),
            ("quorum losses", self.quorum_losses),
            ("evictions", self.evictions),
            ("rewinds", self.rewinds),
            ("merges", self.merges),
            ("expiries", self.expiries),
            ("removals", self.removals),
            ("gaps", self.gaps),
            ("records moved", self.moved),
        ]
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("seeds", &mut self.seeds),
            ("pulses", &mut self.pulses),
            ("crashes", &mut self.crashes),
            ("zombie writes landed", &mut self.zombie_writes),
            ("late writes landed", &mut self.late_writes),
            ("quorum losses", &mut self.quorum_losses),
            ("evictions", &mut self.evictions),
            ("rewinds", &mut self.rewinds),
            ("merges", &mut self.merges),
            ("expiries", &mut self.expiries),
            ("removals", &mut self.removals),
            ("gaps", &mut self.gaps),
            ("records moved", &mut self.moved),
        ]
    }

    /// What a run must have had at least once in 10 seeds and had not: its faults were too few to prove anything.
    #[must_use]
    pub fn too_few(&self) -> Vec<&'static str> {
        let needed = [
            ("landed zombie writes", self.zombie_writes),
            ("quorum losses", self.quorum_losses),
            ("evictions", self.evictions),
            ("rewinds", self.rewinds),
            ("records moved", self.moved),
        ];
        needed.into_iter().filter(|(_, count)| count * 10 < self.seeds).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, count)) in self.fields().into_iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(formatter, "{comma}{name} {count}")?;
        }
        Ok(())
    }
}
