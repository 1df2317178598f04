//! What must come out of a log: a plain model of the rules in the design, which knows nothing of the fold.
//!
//! It reads the whole log once, in order, one generation behind the other, with every id ever counted in one map.

use std::collections::{BTreeMap, HashMap};

use pulso_domain::fate::{Fate, FateCounts};
use pulso_domain::position::{Position, Rank};
use pulso_domain::reason::Reason;
use pulso_ingestor_consumer::fold::ids::RunShape;

use crate::history::{DAY, Entry, History, Spec};

const NANOS: i64 = 1_000_000_000;

/// Names a row: tenant, level, window, SKU, region.
pub type RowName = (String, u8, i32, &'static str, &'static str);
/// Names a directory's entry: tenant, first rank of the range, SKU, region, hour.
pub type DirectoryName = (String, u64, String, String, i32);

/// One usage row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The sum, in steps.
    pub sum: i128,
    /// How many pulses.
    pub count: u64,
    /// The smallest amount.
    pub min: i128,
    /// The largest amount.
    pub max: i128,
    /// The amount with the greatest (time, position), and both.
    pub last: ((i64, i32), Position, i128),
    /// The rank of the last record counted.
    pub hwm: Rank,
}

/// All that must come out.
#[derive(Debug, Default)]
pub struct Truth {
    /// Every row.
    pub rows: BTreeMap<RowName, Row>,
    /// What is kept of each generation.
    pub generations: Vec<OfGeneration>,
    /// Every fate that is not "counted", by position; a record that is no batch has one under index 0.
    pub fates: BTreeMap<Position, Fate>,
    /// The dead letters: conflicts and bad pulses; a whole record has the index `u32::MAX`.
    pub letters: BTreeMap<Position, (Reason, Option<Position>)>,
    /// Every counted pulse: tenant, id, position.
    pub counted: Vec<(String, String, Position)>,
    /// Offsets of the range, one bit each.
    pub directory: BTreeMap<DirectoryName, u128>,
    /// Where pulses behind the seal went last: by their record and the first of them.
    pub traces: BTreeMap<(Rank, u32), Rank>,
}

/// What must come out of one generation.
#[derive(Debug, Default)]
pub struct OfGeneration {
    /// The counts.
    pub counts: FateCounts,
    /// The counts before each record, by offset; the last is `counts`.
    pub counts_before: Vec<FateCounts>,
    /// What had expired right before each record, by offset.
    pub expired_before: Vec<Rank>,
    /// The last floor.
    pub floor: Option<i64>,
}

struct Model<'a> {
    generation: OfGeneration,
    sealed: bool,
    /// Of the generation before: what had expired at its seal, the ends of its complete ranges, its largest append time.
    before: (Rank, Vec<(Rank, i64)>, i64),
    truth: Truth,
    shape: &'a RunShape,
    /// The first position of each (tenant, id), and what it said.
    first: HashMap<(&'a str, &'a str), (Position, &'a Spec)>,
    horizon: u64,
    appended_max: i64,
    /// Largest append time up to the end of each complete range of the coarsest level.
    ends: Vec<(Rank, i64)>,
    expired: Rank,
}

/// Reads a log.
#[must_use]
pub fn truth(histories: &[History], shape: &RunShape) -> Truth {
    let mut model = Model {
        generation: OfGeneration::default(),
        sealed: false,
        before: (Rank::ZERO, Vec::new(), i64::MIN),
        truth: Truth::default(),
        shape,
        first: HashMap::new(),
        horizon: 0,
        appended_max: i64::MIN,
        ends: Vec::new(),
        expired: Rank::ZERO,
    };
    for history in histories {
        model.read_generation(history);
    }
    model.truth
}

impl<'a> Model<'a> {
    fn read_generation(&mut self, history: &'a History) {
        for (entry, record) in history.entries.iter().zip(&history.records) {
            self.generation.counts_before.push(self.generation.counts);
            self.generation.expired_before.push(self.expired);
            let gap = history.damage.is_some_and(|(from, to)| (from..to).contains(&record.offset));
            if !gap {
                self.read(entry, history.rank(record.offset), record.appended_at_nanos);
            }
            let next = history.rank(record.offset + 1);
            if self.shape.range_start(next, self.shape.level_max) == next && !self.sealed {
                self.ends.push((next, self.appended_max));
            }
        }
        self.generation.counts_before.push(self.generation.counts);
        self.generation.expired_before.push(self.expired);
        self.before = (self.expired, std::mem::take(&mut self.ends), self.appended_max);
        (self.sealed, self.appended_max, self.expired, self.horizon) = (false, i64::MIN, Rank::ZERO, 0);
        let floor = self.generation.floor;
        let next = OfGeneration { floor, ..OfGeneration::default() };
        self.truth.generations.push(std::mem::replace(&mut self.generation, next));
    }

    /// A record behind the seal: what it says has no say, and its pulses go elsewhere.
    fn read_behind_seal(&mut self, entry: &'a Entry, rank: Rank) {
        match entry {
            Entry::Garbage => self.garbage(rank),
            Entry::Pulses(specs) => self.generation.counts.moved += specs.len() as u64,
            _ => {}
        }
    }

    fn garbage(&mut self, rank: Rank) {
        let fate = Fate::DeadLettered(Reason::Undecodable);
        self.generation.counts.add(fate);
        self.truth.fates.insert(Position::new(rank, 0), fate);
        self.truth.letters.insert(Position::new(rank, u32::MAX), (Reason::Undecodable, None));
    }

    fn read(&mut self, entry: &'a Entry, rank: Rank, appended_at: i64) {
        if self.sealed {
            return self.read_behind_seal(entry, rank);
        }
        self.appended_max = self.appended_max.max(appended_at);
        self.forget();
        self.raise_floor();
        match entry {
            Entry::Start { horizon } | Entry::Horizon(horizon) => {
                self.horizon = *horizon;
                self.raise_floor();
            }
            Entry::FoldVersion => {}
            Entry::Seal => self.sealed = true,
            Entry::Garbage => self.garbage(rank),
            Entry::Pulses(specs) | Entry::Moved { specs, .. } => {
                if let Entry::Moved { from, .. } = entry {
                    self.truth.traces.insert(*from, rank);
                }
                for (spec, index) in specs.iter().zip(0..) {
                    self.pulse(spec, Position::new(rank, index));
                }
            }
        }
    }

    /// Entries expire the horizon behind the largest append time, by whole ranges; what has expired stays so.
    fn forget(&mut self) {
        if self.horizon == 0 {
            return;
        }
        let limit = self.appended_max - self.horizon.cast_signed() * NANOS;
        for (end, appended_at) in &self.ends {
            if *appended_at < limit {
                self.expired = self.expired.max(*end);
            }
        }
    }

    /// A day above expiry; never falls.
    fn raise_floor(&mut self) {
        if self.horizon > 0 {
            let floor = self.appended_max.div_euclid(NANOS) - self.horizon.cast_signed() + DAY;
            self.generation.floor = Some(self.generation.floor.map_or(floor, |old| old.max(floor)));
        }
    }

    fn pulse(&mut self, spec: &'a Spec, position: Position) {
        let fate = self.fate(spec, position.rank);
        self.generation.counts.add(fate);
        match fate {
            Fate::Counted => {
                self.first.insert((&spec.tenant, &spec.id), (position, spec));
                self.count(spec, position);
                return;
            }
            Fate::Duplicate { .. } => {}
            Fate::Conflict { first } => {
                self.truth.letters.insert(position, (Reason::IdConflict, Some(first)));
            }
            Fate::DeadLettered(reason) => {
                self.truth.letters.insert(position, (reason, None));
            }
        }
        self.truth.fates.insert(position, fate);
    }

    /// Whether an id that was first counted there is remembered at a record.
    fn remembers(&self, first: Rank, at: Rank) -> bool {
        if first.generation() == at.generation() {
            return first >= self.expired;
        }
        let (expired, ends, appended_max) = &self.before;
        let Some(floor) = self.generation.floor else { return first >= *expired };
        // To the second, since that is how a floor is kept; a day below it, since that is how far it lies above expiry.
        let is_old = |appended_at: i64| appended_at.div_euclid(NANOS) < floor - DAY;
        let forgotten =
            ends.iter().filter(|(_, appended_at)| is_old(*appended_at)).map(|(end, _)| *end).max();
        !is_old(*appended_max) && first >= *expired && forgotten.is_none_or(|end| first >= end)
    }

    fn fate(&self, spec: &Spec, at: Rank) -> Fate {
        if let Some(reason) = spec.bad {
            return Fate::DeadLettered(reason);
        }
        if self.generation.floor.is_some_and(|floor| spec.at.0 < floor) {
            return Fate::DeadLettered(Reason::BeyondHorizon);
        }
        match self.first.get(&(spec.tenant.as_str(), spec.id.as_str())) {
            Some((first, said)) if self.remembers(first.rank, at) => {
                let same = (said.sku, said.region, said.steps) == (spec.sku, spec.region, spec.steps);
                let first = *first;
                if same { Fate::Duplicate { first } } else { Fate::Conflict { first } }
            }
            _ => Fate::Counted,
        }
    }

    fn count(&mut self, spec: &Spec, position: Position) {
        self.truth.counted.push((spec.tenant.clone(), spec.id.clone(), position));
        let hour = spec.at.0.div_euclid(3600) as i32;
        let day = hour.div_euclid(24);
        for (level, window) in [(1, hour), (2, day), (3, month_of_day(day))] {
            let name = (spec.tenant.clone(), level, window, spec.sku, spec.region);
            let last = (spec.at, position, spec.steps);
            let row = self.truth.rows.entry(name).or_insert(Row {
                sum: 0,
                count: 0,
                min: spec.steps,
                max: spec.steps,
                last,
                hwm: position.rank,
            });
            row.sum += spec.steps;
            row.count += 1;
            row.min = row.min.min(spec.steps);
            row.max = row.max.max(spec.steps);
            row.last = row.last.max(last);
            row.hwm = position.rank;
        }
        let range = self.shape.range_start(position.rank, 0).as_u64();
        let name = (spec.tenant.clone(), range, spec.sku.to_owned(), spec.region.to_owned(), hour);
        *self.truth.directory.entry(name).or_default() |= 1 << (position.rank.as_u64() - range);
    }
}

/// `12 * year + month - 1` of a day since 1970-01-01, by the days-to-civil algorithm of Howard Hinnant.
fn month_of_day(day: i32) -> i32 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i32::from(month <= 2);
    year * 12 + month - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_the_calendar() {
        for (day, year, month) in
            [(0, 1970, 1), (58, 1970, 2), (59, 1970, 3), (20_542, 2026, 3), (20_544, 2026, 4)]
        {
            assert_eq!(month_of_day(day), year * 12 + month - 1, "{day}");
        }
    }
}
