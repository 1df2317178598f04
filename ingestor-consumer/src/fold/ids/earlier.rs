//! The ids of an earlier generation: what was counted before its seal, looked up and never added to.
//!
//! A partition of an earlier generation is sealed before the next generation is folded, so its entries are frozen. What of
//! them has expired follows from the floor of the fold that asks, which never falls: so it is by the log prefix alone, too.

use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::{Position, Rank};

use super::super::state::{FLOOR_MARGIN_SECONDS, FoldState};
use super::RunShape;
use super::list::{ListedRun, RunIndex};
use super::open::OpenRun;

const NANOS: i64 = 1_000_000_000;

/// One partition of an earlier generation, as whoever folds a later one knows it.
#[derive(Clone, Debug)]
pub struct EarlierPartition {
    /// Its number over all generations.
    pub number: u32,
    /// Its complete runs.
    pub index: RunIndex,
    /// The run that was growing when it was sealed; listed too once records behind the seal complete its range.
    pub open: Option<OpenRun>,
    /// The largest `appended_at` up to the seal.
    appended_at_max_nanos: i64,
    /// What had expired at the seal.
    expired_below: Rank,
}

impl EarlierPartition {
    /// From its state at or behind the seal and its ids.
    #[must_use]
    pub const fn new(number: u32, state: &FoldState, index: RunIndex, open: Option<OpenRun>) -> Self {
        let (appended_at_max_nanos, expired_below) = (state.appended_at_max_nanos, state.expired_below);
        Self { number, index, open, appended_at_max_nanos, expired_below }
    }

    /// The first rank that is remembered by a fold with this floor.
    #[must_use]
    pub fn border(&self, shape: &RunShape, floor_seconds: Option<i64>) -> Rank {
        let Some(floor) = floor_seconds else { return self.expired_below };
        let limit = floor.saturating_sub(FLOOR_MARGIN_SECONDS);
        let expired = |appended_at_nanos: i64| appended_at_nanos.div_euclid(NANOS) < limit;
        if expired(self.appended_at_max_nanos) {
            return Rank::from_u64(u64::MAX);
        }
        // Entries expire by whole ranges of the coarsest level, whatever is merged already.
        let top = |rank: Rank| shape.range_start(rank, shape.level_max) == rank;
        let ends = self.index.runs.iter().filter(|run| expired(run.appended_at_max_nanos));
        let last = ends.map(|run| run.end(shape)).filter(|end| top(*end)).max();
        self.expired_below.max(last.unwrap_or(Rank::ZERO))
    }

    /// The complete runs of which a fold with this floor remembers any id.
    pub(in crate::fold) fn alive(
        &self,
        shape: RunShape,
        floor_seconds: Option<i64>,
    ) -> impl Iterator<Item = &ListedRun> {
        let border = self.border(&shape, floor_seconds);
        self.index.runs.iter().filter(move |run| run.end(&shape) > border)
    }

    /// An id among those that were in no complete run at the seal.
    pub(in crate::fold) fn find_open(
        &self,
        shape: &RunShape,
        floor_seconds: Option<i64>,
        id: IdHash,
    ) -> Option<(Position, PayloadHash)> {
        let found = self.open.as_ref()?.find(id)?;
        (found.0.rank >= self.border(shape, floor_seconds)).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::IdTimes;
    use super::*;

    const SHAPE: RunShape = RunShape { range_bits: 2, fan_in_bits: 1, level_max: 2, cell_bits: 1 };

    fn run(start: u64, appended_at_seconds: i64) -> ListedRun {
        ListedRun {
            start: Rank::from_u64((1 << 40) + start),
            level: 0,
            entries: 0,
            times: IdTimes::default(),
            appended_at_max_nanos: appended_at_seconds * NANOS,
            filters: Vec::new(),
        }
    }

    #[test]
    fn what_expired_at_the_seal_stays_forgotten_and_the_rest_follows_the_floor() {
        let mut state = FoldState::first(1, [0; 16]);
        (state.appended_at_max_nanos, state.expired_below) = (500 * NANOS, Rank::from_u64(3));
        let index = RunIndex { runs: vec![run(8, 100), run(12, 200), run(28, 300)], ..RunIndex::default() };
        let earlier = EarlierPartition::new(0, &state, index, None);
        let border =
            |expired_before: i64| earlier.border(&SHAPE, Some(expired_before + FLOOR_MARGIN_SECONDS));
        assert_eq!(earlier.border(&SHAPE, None), Rank::from_u64(3));
        assert_eq!(border(100), Rank::from_u64(3), "nothing is older than that");
        assert_eq!(border(201), Rank::from_u64((1 << 40) + 16), "the range that ended at 200 s is forgotten");
        assert_eq!(border(301), Rank::from_u64((1 << 40) + 32));
        assert_eq!(border(501), Rank::from_u64(u64::MAX), "all of it is older than the horizon");
    }
}
