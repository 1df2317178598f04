//! The list of a partition's complete id runs, as the fold knows it: what may hold an id, and what has expired.
//!
//! The stored list changes by compare-and-set only, and a range once merged is never listed apart again. Whoever finds a
//! listed run's cell missing reads the list again (it was merged meanwhile); a cell that is missing still halts.

use pulso_domain::fingerprint::IdHash;
use pulso_domain::position::Rank;
use pulso_proto::v1;

use super::super::halt::Halt;
use super::RunShape;
use super::filter::Filter;
use super::open::IdTimes;

/// The version of the stored list that this binary reads and writes.
pub const LIST_FORMAT: u32 = 1;

/// One complete run with its filters in RAM.
#[derive(Clone, Debug)]
pub struct ListedRun {
    /// The first rank of its range.
    pub start: Rank,
    /// Its level.
    pub level: u32,
    /// How many ids it holds.
    pub entries: u64,
    /// The times of its ids.
    pub times: IdTimes,
    /// The largest `appended_at` of the log up to its end, in nanoseconds.
    pub appended_at_max_nanos: i64,
    /// Its filters, by hash prefix.
    pub filters: Vec<Filter>,
}

impl ListedRun {
    /// The first rank behind its range.
    #[must_use]
    pub fn end(&self, shape: &RunShape) -> Rank {
        Rank::from_u64(self.start.as_u64() + shape.span(self.level))
    }

    /// Whether an id of this time may be in it: false is certain.
    #[must_use]
    #[inline]
    pub fn may_hold(&self, shape: &RunShape, id: IdHash, time: Option<u64>) -> bool {
        self.times.may_hold(time)
            && self
                .filters
                .get(shape.filter_of(self.level, id) as usize)
                .is_none_or(|filter| filter.may_hold(id))
    }

    /// The entry of the stored list.
    #[must_use]
    pub fn to_proto(&self) -> v1::Run {
        v1::Run {
            start: self.start.as_u64(),
            level: self.level,
            entries: self.entries,
            id_time_min: self.times.range.map(|(min, _)| min),
            id_time_max: self.times.range.map(|(_, max)| max),
            appended_at_max_nanos: self.appended_at_max_nanos,
            other_ids: self.times.others,
        }
    }

    /// From an entry of the stored list and its filters.
    #[must_use]
    pub fn from_proto(run: &v1::Run, filters: Vec<Filter>) -> Self {
        Self {
            start: Rank::from_u64(run.start),
            level: run.level,
            entries: run.entries,
            times: IdTimes { range: run.id_time_min.zip(run.id_time_max), others: run.other_ids },
            appended_at_max_nanos: run.appended_at_max_nanos,
            filters,
        }
    }
}

/// The complete runs that the fold looks ids up in, ordered by start.
#[derive(Clone, Debug, Default)]
pub struct RunIndex {
    /// The runs as last read, ordered and never overlapping.
    pub runs: Vec<ListedRun>,
    /// The version of the stored list they were read at.
    pub version: u64,
    /// Runs below this rank have expired and left the list.
    pub expired_below: Rank,
}

impl RunIndex {
    /// Whether the list covers the range of level 0 that starts here, or did until it expired.
    #[must_use]
    pub fn covers(&self, shape: &RunShape, start: Rank) -> bool {
        if start < self.expired_below {
            return true;
        }
        let behind = self.runs.partition_point(|run| run.start <= start);
        behind > 0 && start < self.runs[behind - 1].end(shape)
    }

    /// Whether a fold that stands here finds every id it must.
    ///
    /// # Errors
    /// When ids above what has expired here have left the list: only the log's oldest offset bounds what is removed.
    pub fn remembers(&self, rank: Rank) -> Result<(), Halt> {
        if rank < self.expired_below {
            return Err(Halt::Forgotten { wanted: rank.offset(), border: self.expired_below });
        }
        Ok(())
    }

    /// Bytes of RAM that the filters take, and the ids they cover.
    #[must_use]
    pub fn filter_bytes(&self) -> (usize, u64) {
        let bytes = self.runs.iter().flat_map(|run| &run.filters).map(Filter::bytes).sum();
        (bytes, self.runs.iter().map(|run| run.entries).sum())
    }
}

/// The stored list with one more run; `None` when the list covers the run's range already, or did until it expired: the
/// cells of such a run are removed for good.
#[must_use]
pub fn with_run(list: &v1::RunList, run: v1::Run, shape: &RunShape) -> Option<v1::RunList> {
    let start = run.start;
    let holds = |listed: &v1::Run| listed.start <= start && start < listed.start + shape.span(listed.level);
    if start < list.expired_below || list.runs.iter().any(holds) {
        return None;
    }
    let mut longer = list.clone();
    longer.format_version = LIST_FORMAT;
    let place = longer.runs.partition_point(|listed| listed.start < start);
    longer.runs.insert(place, run);
    Some(longer)
}

/// The first rank that has not expired, by the log prefix alone: entries below it are forgotten.
///
/// Entries expire by whole ranges of the coarsest level, so that it does not matter which runs are merged already: such a
/// range has expired when the `appended_at` at its end lies the horizon behind the largest so far. `ends` are the
/// (end, largest `appended_at` up to there) of complete ranges, ordered.
#[must_use]
pub fn expiry_border(ends: &[(Rank, i64)], appended_at_max_nanos: i64, horizon_seconds: u64) -> Rank {
    if horizon_seconds == 0 {
        return Rank::ZERO;
    }
    let horizon_nanos = i64::try_from(horizon_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    let limit = appended_at_max_nanos.saturating_sub(horizon_nanos);
    let expired = ends.iter().take_while(|(_, appended_at)| *appended_at < limit).last();
    expired.map_or(Rank::ZERO, |(end, _)| *end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, level: u32) -> v1::Run {
        v1::Run { start, level, ..Default::default() }
    }

    #[test]
    fn a_range_that_is_covered_is_never_listed_again() {
        let shape = RunShape::FORMAT;
        let list = v1::RunList { runs: vec![run(0, 1), run(2048, 0)], ..Default::default() };
        for start in [0, 128, 1920, 2048] {
            assert!(with_run(&list, run(start, 0), &shape).is_none(), "{start}");
        }
        let longer = with_run(&list, run(2176, 0), &shape).expect("not covered");
        assert_eq!(longer.runs.iter().map(|run| run.start).collect::<Vec<_>>(), [0, 2048, 2176]);
        let index = RunIndex {
            runs: list.runs.iter().map(|run| ListedRun::from_proto(run, Vec::new())).collect(),
            version: 1,
            expired_below: Rank::ZERO,
        };
        assert!(index.covers(&shape, Rank::from_u64(1920)));
        assert!(!index.covers(&shape, Rank::from_u64(2176)));
    }

    #[test]
    fn entries_expire_by_whole_ranges_behind_the_largest_append_time() {
        let second = 1_000_000_000;
        let ends = [(Rank::from_u64(100), 10 * second), (Rank::from_u64(200), 20 * second)];
        assert_eq!(expiry_border(&ends, 1000 * second, 0), Rank::ZERO);
        assert_eq!(expiry_border(&ends, 39 * second, 30), Rank::ZERO);
        assert_eq!(expiry_border(&ends, 41 * second, 30), Rank::from_u64(100));
        assert_eq!(expiry_border(&ends, 51 * second, 30), Rank::from_u64(200));
    }
}
