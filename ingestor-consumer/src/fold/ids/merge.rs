//! Merging complete runs into one of the next level, and letting expired ones go: pure, the shell moves the bytes.
//!
//! The list first says what is merged (compare-and-set), only then are the old cells removed; until then both are there
//! and equal. A run that has expired is removed only when it has expired at the lowest retained offset too, since a
//! rewind can reach down to there.

use bytes::Bytes;
use pulso_domain::position::Rank;
use pulso_proto::v1;

use super::cell::{self, Cell};
use super::filter::Filter;
use super::open::IdTimes;
use super::{IdEntry, RunShape};

/// The runs that can become one: all of one coarser range, complete and next to each other.
#[derive(Clone, PartialEq, Debug)]
pub struct MergePlan {
    /// The parts, ordered.
    pub parts: Vec<v1::Run>,
    /// The merged run's entry; `entries` is the sum of the parts.
    pub merged: v1::Run,
}

/// The first merge that the list allows, finest level first.
#[must_use]
pub fn plan(list: &v1::RunList, shape: &RunShape) -> Option<MergePlan> {
    (0..shape.level_max).find_map(|level| {
        let fan_in = 1_usize << shape.fan_in_bits;
        let whole = |parts: &&[v1::Run]| {
            let first = Rank::from_u64(parts[0].start);
            first == shape.range_start(first, level + 1)
                && parts.iter().zip(0..).all(|(part, place)| {
                    part.level == level && part.start == first.as_u64() + place * shape.span(level)
                })
        };
        let parts = list.runs.windows(fan_in).find(whole)?.to_vec();
        let merged = merged_entry(&parts, level + 1);
        Some(MergePlan { parts, merged })
    })
}

fn merged_entry(parts: &[v1::Run], level: u32) -> v1::Run {
    let mut times = IdTimes::default();
    for part in parts {
        times.merge(&IdTimes { range: part.id_time_min.zip(part.id_time_max), others: part.other_ids });
    }
    v1::Run {
        start: parts[0].start,
        level,
        entries: parts.iter().map(|part| part.entries).sum(),
        id_time_min: times.range.map(|(min, _)| min),
        id_time_max: times.range.map(|(_, max)| max),
        appended_at_max_nanos: parts.iter().map(|part| part.appended_at_max_nanos).max().unwrap_or(i64::MIN),
        other_ids: times.others,
    }
}

impl MergePlan {
    /// The list with the merged run in its parts' place, and the parts leaving; `None` when a part is not listed any
    /// more (someone else merged).
    #[must_use]
    pub fn apply(&self, list: &v1::RunList) -> Option<v1::RunList> {
        let place = list.runs.iter().position(|run| run == &self.parts[0])?;
        let end = place + self.parts.len();
        if list.runs.get(place..end)? != self.parts {
            return None;
        }
        let mut shorter = list.clone();
        shorter.runs.splice(place..end, [self.merged]);
        shorter.leaving.extend_from_slice(&self.parts);
        Some(shorter)
    }
}

/// Merges the cells of one prefix of the parts into the cells below it: `parts[n]` is the n-th part's cell. Gives the
/// cells of the merged run with their prefixes, in order.
#[must_use]
pub fn merge_cells(plan: &MergePlan, shape: &RunShape, prefix: u32, parts: &[Cell]) -> Vec<(u32, Bytes)> {
    let mut entries: Vec<IdEntry> = parts.iter().flat_map(Cell::entries).collect();
    // An own entry may stand in two parts only if it was counted in both, which the fold never does.
    entries.sort_unstable_by_key(|entry| (entry.id, entry.first));
    entries.dedup_by_key(|entry| entry.id);
    let level = plan.merged.level;
    let start = Rank::from_u64(plan.merged.start);
    let first = prefix << shape.fan_in_bits;
    let mut rest = entries.as_slice();
    (first..first + (1 << shape.fan_in_bits))
        .map(|below| {
            let end = rest.partition_point(|entry| shape.prefix(level, entry.id) <= below);
            let (cell_entries, behind) = rest.split_at(end);
            rest = behind;
            (below, cell::encode(start, cell_entries.len(), cell_entries.iter().copied()))
        })
        .collect()
}

/// The filter over some cells of a run, in their order.
#[must_use]
pub fn filter_of_cells(cells: &[Cell]) -> Filter {
    Filter::build(cells.iter().flat_map(Cell::entries).map(|entry| entry.id))
}

/// The list without the runs that no position can need any more: those that end at or below `border`, the expiry border
/// at the *lowest retained* offset. `None` when there are none.
#[must_use]
pub fn expire(list: &v1::RunList, shape: &RunShape, border: Rank) -> Option<v1::RunList> {
    let gone = |run: &v1::Run| run.start + shape.span(run.level) <= border.as_u64();
    if !list.runs.iter().any(gone) {
        return None;
    }
    let mut shorter = list.clone();
    let (leaving, staying) = shorter.runs.into_iter().partition(gone);
    shorter.runs = staying;
    shorter.leaving.extend::<Vec<_>>(leaving);
    shorter.expired_below = shorter.expired_below.max(border.as_u64());
    Some(shorter)
}

#[cfg(test)]
mod tests {
    use pulso_domain::fingerprint::{HashKey, PayloadHash};
    use pulso_domain::position::Position;

    use super::super::list::with_run;
    use super::*;

    const SHAPE: RunShape = RunShape { range_bits: 2, fan_in_bits: 1, level_max: 2, cell_bits: 1 };

    fn run(start: u64, level: u32) -> v1::Run {
        v1::Run { start, level, entries: 3, ..Default::default() }
    }

    #[test]
    fn runs_are_merged_when_all_of_a_coarser_range_are_there() {
        let list = |runs: &[v1::Run]| v1::RunList { runs: runs.to_vec(), ..Default::default() };
        assert!(plan(&list(&[run(0, 0)]), &SHAPE).is_none());
        assert!(plan(&list(&[run(4, 0), run(8, 0)]), &SHAPE).is_none(), "not one coarser range");
        let before = list(&[run(0, 0), run(4, 0), run(8, 0)]);
        let found = plan(&before, &SHAPE).expect("two parts");
        assert_eq!((found.merged.start, found.merged.level, found.merged.entries), (0, 1, 6));
        let after = found.apply(&before).expect("still listed");
        assert_eq!(after.runs, [found.merged, run(8, 0)]);
        assert_eq!(after.leaving, [run(0, 0), run(4, 0)]);
        assert!(found.apply(&after).is_none(), "merged already");
    }

    #[test]
    fn merged_cells_hold_every_entry_once_under_its_own_prefix() {
        let key = HashKey::new([3; 16]);
        let entry = |number: u64| IdEntry {
            id: key.id_hash("acme", &number.to_string()),
            first: Position::new(Rank::from_u64(number % 8), number as u32),
            payload: PayloadHash(number),
        };
        let mut entries: Vec<_> = (0..200).map(entry).collect();
        entries.sort_unstable_by_key(|entry| entry.id);
        let plan = MergePlan { parts: vec![run(0, 0), run(4, 0)], merged: run(0, 1) };
        let mut merged = Vec::new();
        for prefix in 0..SHAPE.cells(0) {
            let part = |start: u64| {
                let own: Vec<_> = entries
                    .iter()
                    .filter(|entry| SHAPE.prefix(0, entry.id) == prefix)
                    .filter(|entry| entry.first.rank.as_u64() / 4 * 4 == start)
                    .copied()
                    .collect();
                Cell::decode(
                    Rank::from_u64(start),
                    cell::encode(Rank::from_u64(start), own.len(), own.iter().copied()),
                )
                .expect("own encoding")
            };
            merged.extend(merge_cells(&plan, &SHAPE, prefix, &[part(0), part(4)]));
        }
        assert_eq!(merged.iter().map(|(prefix, _)| *prefix).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let cells: Vec<_> = merged
            .into_iter()
            .map(|(_, bytes)| Cell::decode(Rank::ZERO, bytes).expect("own encoding"))
            .collect();
        assert_eq!(cells.iter().flat_map(Cell::entries).collect::<Vec<_>>(), entries);
        for entry in &entries {
            assert_eq!(cells[SHAPE.prefix(1, entry.id) as usize].find(entry.id), Some(*entry));
        }
        let filter = filter_of_cells(&cells);
        assert!(entries.iter().all(|entry| filter.may_hold(entry.id)));
    }

    #[test]
    fn only_runs_below_the_border_leave() {
        let list = v1::RunList { runs: vec![run(0, 1), run(8, 0), run(12, 0)], ..Default::default() };
        assert!(expire(&list, &SHAPE, Rank::from_u64(7)).is_none());
        let shorter = expire(&list, &SHAPE, Rank::from_u64(12)).expect("two");
        assert_eq!((shorter.runs.len(), shorter.leaving.len()), (1, 2));
        assert_eq!(shorter.expired_below, 12, "none of them is ever listed again");
        assert!(with_run(&shorter, run(8, 0), &SHAPE).is_none());
    }
}
