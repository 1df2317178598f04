//! What a partition's fold knows beside rows and ids: where it stands, the four counts, what control records said, the
//! chain over all records so far. A function of the log prefix alone.

use bytes::Bytes;
use prost::Message;
use pulso_domain::fate::FateCounts;
use pulso_domain::position::Rank;
use pulso_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use super::halt::Halt;

/// The version of the stored progress that this binary reads and writes.
pub const PROGRESS_FORMAT: u32 = 1;
/// The version of the fold's rules that this binary knows.
pub const FOLD_VERSION: u32 = 1;
/// The floor lies this far above expiry, so that clocks that differ cannot open a hole between the two.
pub(crate) const FLOOR_MARGIN_SECONDS: i64 = 86_400;

/// Where a partition's fold stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoldState {
    /// The generation being folded.
    pub generation: u32,
    /// The next offset to fold.
    pub offset: u64,
    /// What became of the pulses so far.
    pub counts: FateCounts,
    /// The largest `appended_at` so far, in nanoseconds since the Unix epoch.
    pub appended_at_max_nanos: i64,
    /// How long ids are remembered, in seconds; 0 means always.
    pub id_horizon_seconds: u64,
    /// Pulses that occurred before this second are beyond the horizon; it never falls.
    pub floor_seconds: Option<i64>,
    /// Ids first counted below this rank are forgotten; it never falls, also when the horizon is raised.
    pub expired_below: Rank,
    /// The rules in force.
    pub fold_version: u32,
    /// The chain digest before the last folded record.
    pub chain_before: u64,
    /// The chain digest after it.
    pub chain_after: u64,
    /// The offset of the first seal: pulses behind it are moved to the next generation. What decides about fates stays as
    /// it was there, since the next generation builds on it while records still arrive behind the seal.
    pub sealed_at: Option<u64>,
    /// What an operator skipped, for good.
    pub gaps: Vec<v1::Gap>,
    /// The log that is folded.
    pub log_id: [u8; 16],
}

impl FoldState {
    /// The state before the first record of a generation's log.
    #[must_use]
    pub fn first(generation: u32, log_id: [u8; 16]) -> Self {
        Self {
            generation,
            offset: 0,
            counts: FateCounts::default(),
            appended_at_max_nanos: i64::MIN,
            id_horizon_seconds: 0,
            floor_seconds: None,
            expired_below: Rank::ZERO,
            fold_version: FOLD_VERSION,
            chain_before: 0,
            chain_after: 0,
            sealed_at: None,
            gaps: Vec::new(),
            log_id,
        }
    }

    /// The rank of the next record.
    #[must_use]
    pub fn rank(&self) -> Rank {
        Rank::from_u64((u64::from(self.generation) << pulso_domain::position::OFFSET_BITS) | self.offset)
    }

    /// Takes one record's place: time, floor and chain. Its content is folded by the caller.
    pub fn step(&mut self, digest: u64, appended_at_nanos: i64) {
        if self.sealed_at.is_none() {
            self.appended_at_max_nanos = self.appended_at_max_nanos.max(appended_at_nanos);
            self.raise_floor();
        }
        self.chain_before = self.chain_after;
        self.chain_after = chain(self.chain_before, self.offset, digest);
    }

    /// Passes over one record that an operator gave up: only the place is taken, so that the chain stays comparable.
    pub fn skip(&mut self) {
        self.chain_before = self.chain_after;
        self.chain_after = chain(self.chain_before, self.offset, 0);
        self.offset += 1;
    }

    /// Whether the next record lies in a gap. A gap stays a gap, also when its records become readable.
    #[must_use]
    pub fn in_gap(&self) -> bool {
        self.gaps.iter().any(|gap| (gap.from..gap.to).contains(&self.offset))
    }

    /// Whether the rest of the partition is given up: its log was lost, and nothing of it is read any more.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.gaps.iter().any(|gap| gap.rest)
    }

    /// Whether an offset lies in the rest that is given up.
    #[must_use]
    pub fn is_given_up_at(&self, offset: u64) -> bool {
        self.gaps.iter().any(|gap| gap.rest && offset >= gap.from)
    }

    /// Takes over what a control record says.
    ///
    /// # Errors
    /// When the fact is of a newer version, or names another log.
    pub fn control(&mut self, fact: &v1::control::Fact) -> Result<(), Halt> {
        use v1::control::Fact;
        if self.sealed_at.is_some() {
            return Ok(());
        }
        match fact {
            Fact::GenerationStart(start) => {
                if start.generation != self.generation || start.log_id.as_ref() != self.log_id {
                    return Err(Halt::LogChanged("its first record names another log".to_owned()));
                }
                self.id_horizon_seconds = start.id_horizon_seconds;
                self.set_fold_version(start.fold_version)?;
            }
            Fact::IdHorizon(horizon) => self.id_horizon_seconds = horizon.seconds,
            Fact::FoldVersion(version) => self.set_fold_version(version.version)?,
            Fact::Seal(_) => self.sealed_at = Some(self.offset),
            // These matter to others; their cells are written, the state only passes by.
            Fact::CatalogApplied(_) | Fact::InvoiceFinalized(_) | Fact::DeadLetterActions(_) => {}
        }
        self.raise_floor();
        Ok(())
    }

    fn set_fold_version(&mut self, version: u32) -> Result<(), Halt> {
        if version > FOLD_VERSION {
            return Err(Halt::NeedsUpgrade { what: "the fold", found: version, known: FOLD_VERSION });
        }
        self.fold_version = version;
        Ok(())
    }

    fn raise_floor(&mut self) {
        self.floor_seconds = self.floor_at(self.appended_at_max_nanos);
    }

    /// The floor for the pulses of a record that was appended then. A record's own time counts already: what expires
    /// by it must not be counted by guess within it.
    #[must_use]
    pub fn floor_at(&self, appended_at_nanos: i64) -> Option<i64> {
        let largest = self.appended_at_max_nanos.max(appended_at_nanos);
        if self.id_horizon_seconds == 0 || largest == i64::MIN {
            return self.floor_seconds;
        }
        let horizon = i64::try_from(self.id_horizon_seconds).unwrap_or(i64::MAX);
        let expiry = largest.div_euclid(1_000_000_000).saturating_sub(horizon);
        let floor = expiry.saturating_add(FLOOR_MARGIN_SECONDS);
        Some(self.floor_seconds.map_or(floor, |old| old.max(floor)))
    }

    /// The stored form. Gaps further on are left out: the state at a place is the same bytes whoever comes by, also one who
    /// reads the log again and knows of them.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        v1::Progress {
            format_version: PROGRESS_FORMAT,
            generation: self.generation,
            offset: self.offset,
            counted: self.counts.counted,
            duplicate: self.counts.duplicate,
            conflict: self.counts.conflict,
            dead_lettered: self.counts.dead_lettered,
            moved: self.counts.moved,
            appended_at_max_nanos: self.appended_at_max_nanos,
            id_horizon_seconds: self.id_horizon_seconds,
            floor_seconds: self.floor_seconds,
            fold_version: self.fold_version,
            chain_before: self.chain_before,
            chain_after: self.chain_after,
            sealed: self.sealed_at.is_some(),
            sealed_at: self.sealed_at,
            gaps: self.gaps.iter().filter(|gap| gap.from < self.offset).cloned().collect(),
            log_id: Bytes::copy_from_slice(&self.log_id),
            expired_below: self.expired_below.as_u64(),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is of a newer version or no progress at all.
    pub fn decode(bytes: &[u8]) -> Result<Self, Halt> {
        let broken = || Halt::StoreIncomplete("a readable progress".to_owned());
        let progress = v1::Progress::decode(bytes).map_err(|_| broken())?;
        let found = progress.format_version;
        if found > PROGRESS_FORMAT {
            return Err(Halt::NeedsUpgrade { what: "the progress", found, known: PROGRESS_FORMAT });
        }
        if progress.fold_version > FOLD_VERSION {
            let found = progress.fold_version;
            return Err(Halt::NeedsUpgrade { what: "the fold", found, known: FOLD_VERSION });
        }
        Ok(Self {
            generation: progress.generation,
            offset: progress.offset,
            counts: FateCounts {
                counted: progress.counted,
                duplicate: progress.duplicate,
                conflict: progress.conflict,
                dead_lettered: progress.dead_lettered,
                moved: progress.moved,
            },
            appended_at_max_nanos: progress.appended_at_max_nanos,
            id_horizon_seconds: progress.id_horizon_seconds,
            floor_seconds: progress.floor_seconds,
            expired_below: Rank::from_u64(progress.expired_below),
            fold_version: progress.fold_version,
            chain_before: progress.chain_before,
            chain_after: progress.chain_after,
            sealed_at: progress.sealed_at,
            gaps: progress.gaps,
            log_id: progress.log_id.as_ref().try_into().map_err(|_| broken())?,
        })
    }
}

/// The digest of all records up to and with this one.
#[must_use]
pub fn chain(before: u64, offset: u64, digest: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&before.to_le_bytes());
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    bytes[16..].copy_from_slice(&digest.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_back_as_it_was_and_a_newer_one_halts() {
        let mut state = FoldState::first(1, [9; 16]);
        state.step(7, 5_000_000_000);
        state.offset = 1;
        state.counts.counted = 3;
        assert_eq!(FoldState::decode(&state.encode()).expect("own encoding"), state);
        let mut newer = v1::Progress::decode(state.encode()).expect("own encoding");
        newer.format_version = 2;
        assert!(matches!(
            FoldState::decode(&newer.encode_to_vec()),
            Err(Halt::NeedsUpgrade { found: 2, .. })
        ));
        assert!(matches!(FoldState::decode(b"\xff"), Err(Halt::StoreIncomplete(_))));
    }

    #[test]
    fn behind_a_seal_nothing_moves_that_decides_about_fates() {
        let mut state = FoldState::first(1, [9; 16]);
        let horizon = |days: u64| v1::control::Fact::IdHorizon(v1::IdHorizon { seconds: days * 86_400 });
        state.step(0, 10 * 86_400 * 1_000_000_000);
        state.control(&horizon(3)).expect("known");
        state.offset = 7;
        state.control(&v1::control::Fact::Seal(v1::Seal { next_generation: 2 })).expect("known");
        let sealed = state.clone();
        state.step(0, 99 * 86_400 * 1_000_000_000);
        state.control(&horizon(1)).expect("known");
        state.offset = 9;
        state.control(&v1::control::Fact::Seal(v1::Seal { next_generation: 2 })).expect("known");
        assert_eq!(state.sealed_at, Some(7), "the first seal counts");
        assert_eq!(
            (state.floor_seconds, state.appended_at_max_nanos, state.id_horizon_seconds),
            (sealed.floor_seconds, sealed.appended_at_max_nanos, sealed.id_horizon_seconds)
        );
        assert_ne!(state.chain_after, sealed.chain_after, "what is read is still told by its digest");
        assert_eq!(FoldState::decode(&state.encode()).expect("own encoding"), state);
    }

    #[test]
    fn the_floor_follows_the_append_times_and_never_falls() {
        let mut state = FoldState::first(1, [9; 16]);
        state.step(0, 10 * 86_400 * 1_000_000_000);
        assert_eq!(state.floor_seconds, None, "no horizon, no floor");
        let horizon = |days: u64| v1::control::Fact::IdHorizon(v1::IdHorizon { seconds: days * 86_400 });
        state.control(&horizon(3)).expect("known");
        assert_eq!(state.floor_seconds, Some(8 * 86_400));
        state.control(&horizon(9)).expect("known");
        assert_eq!(state.floor_seconds, Some(8 * 86_400), "raising the horizon opens nothing");
    }
}
