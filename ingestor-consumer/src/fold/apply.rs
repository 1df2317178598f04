//! The second half of folding a record: giving each of its pulses its fate, and counting those that are counted.
//!
//! Everything that this needs was named by [`prepare`](super::prepare) and supplied: nothing is read here. A fate is decided
//! once, by the entry of the pulse's id; what is not counted is kept as a letter, or told with its fate.

use pulso_domain::fate::Fate;
use pulso_domain::fingerprint::{IdHash, PayloadHash};
use pulso_domain::position::{Position, Rank};
use pulso_domain::reason::Reason;
use pulso_domain::usage::UsageRow;
use pulso_platform::log::LogRecord;
use pulso_proto::v1;

use super::actions;
use super::halt::Halt;
use super::ids::IdEntry;
use super::ids::open::IdTimes;
use super::letters::{self, Letter};
use super::moved::{self, Stray};
use super::partition::PartitionFold;
use super::prepare::{Item, Prepared};

/// Ids whose places in the open run are fetched at once, ahead of their entry: so many lines of memory fit a core's first
/// cache beside the items.
const TOUCHED_AHEAD: usize = 64;

impl PartitionFold {
    /// Folds the prepared record, for which everything was supplied.
    ///
    /// # Errors
    /// When a control record is of a newer version or of another log.
    pub fn apply(&mut self, record: &LogRecord) -> Result<(), Halt> {
        let prepared = std::mem::replace(&mut self.prepared, Prepared::Nothing);
        if matches!(prepared, Prepared::Gap) {
            self.state.skip();
        } else {
            self.state.step(record.digest, record.appended_at_nanos);
            if self.state.sealed_at.is_none() {
                self.state.expired_below = self.expired_below;
            }
            match &prepared {
                Prepared::Control(fact) => self.apply_control(fact)?,
                Prepared::Stray(pulses) => self.take_stray(record, *pulses),
                Prepared::Pulses { replays, moved } => {
                    if *moved {
                        let place = (self.config.partition, self.state.rank());
                        self.ready.extend(moved::trace(record, place, &self.config.shape));
                    }
                    if *replays {
                        self.keep_replays(record);
                    }
                    self.apply_pulses(record);
                }
                Prepared::Undecodable => self.apply_undecodable(record),
                Prepared::Nothing | Prepared::Gap => {}
            }
            self.state.offset += 1;
        }
        self.moved = true;
        self.cross_border();
        Ok(())
    }

    /// A record behind the seal: its pulses get their fate in the next generation.
    fn take_stray(&mut self, record: &LogRecord, pulses: u64) {
        self.state.counts.moved += pulses;
        let (partition, rank) = (self.config.partition, self.state.rank());
        self.strays.push(Stray { partition, rank, value: record.value.clone() });
    }

    fn apply_control(&mut self, fact: &v1::control::Fact) -> Result<(), Halt> {
        self.state.control(fact)?;
        self.ready.extend(letters::catalog_cells(fact));
        self.ready.extend(actions::control_cells(fact, self.config.partition, self.state.rank()));
        Ok(())
    }

    fn apply_pulses(&mut self, record: &LogRecord) {
        let rank = self.state.rank();
        let number = self.directory.record(rank);
        let (mut entered, mut others) = (0, 0);
        let mut not_counted = Vec::new();
        let mut items = std::mem::take(&mut self.items);
        self.enter_ids(&mut items, rank);
        for (index, item) in (0..).zip(&items) {
            let position = Position::new(rank, index);
            if item.is_entered {
                entered += 1;
                self.count(item, position, number);
                continue;
            }
            match self.fate(item, position) {
                Fate::Counted => {
                    others += 1;
                    self.count(item, position, number);
                }
                fate => {
                    self.state.counts.add(fate);
                    not_counted.push((index, fate));
                }
            }
        }
        self.items = items;
        self.state.counts.counted += entered + others;
        for (hour, pulses) in self.hours.drain(..) {
            self.rows.count(hour, &pulses);
        }
        self.note_times(rank, entered == self.items.len() as u64);
        if !not_counted.is_empty() {
            self.keep_not_counted(record, &not_counted);
        }
    }

    /// Enters the ids that only the open run could hold, which are nearly all, ahead of everything else: in a loop that does
    /// nothing more, their places are fetched while others are looked at. What stood there already, and what another run
    /// may hold, is left to [`fate`](Self::fate); equal ids are left to it alike, so that their order does not change.
    fn enter_ids(&mut self, items: &mut [Item], rank: Rank) {
        if !self.closing.is_empty() || self.looks_back() {
            return;
        }
        let Some(open) = &mut self.open else { return };
        for (from, block) in (0..).step_by(TOUCHED_AHEAD).zip(items.chunks_mut(TOUCHED_AHEAD)) {
            open.touch(block.iter().map(|item| item.id));
            for (index, item) in (from..).zip(block) {
                if item.reason.is_none() && !item.is_candidate {
                    let first = Position::new(rank, index);
                    item.is_entered = open.enter_new(IdEntry { id: item.id, first, payload: item.payload });
                }
            }
        }
    }

    /// Notes the times of the ids that the record entered in the open run.
    fn note_times(&mut self, rank: Rank, all_are_new: bool) {
        let Some(open) = &mut self.open else { return };
        let mut times = IdTimes::default();
        if all_are_new {
            times = self.times;
        } else {
            let own = |(index, item): &(u32, &Item)| {
                open.find(item.id).is_some_and(|(first, _)| first == Position::new(rank, *index))
            };
            (0..).zip(&self.items).filter(own).for_each(|(_, item)| times.add(item.time));
        }
        open.note_times(rank, &times);
    }

    /// Adds a pulse to what its record adds to its hour: the rows are touched once a record, not once a pulse.
    #[inline]
    fn count(&mut self, item: &Item, position: Position, record: u8) {
        let next = self.hours.len() as u32;
        let number = self.directory.touch(&mut self.rows, item.hour, record, next);
        match self.hours.get_mut(number as usize) {
            Some((_, pulses)) => pulses.add(item.amount, item.at, position),
            None => self.hours.push((item.hour, UsageRow::first(item.amount, item.at, position))),
        }
    }

    /// The one decision of the fold, and the entry of the id if it is counted.
    fn fate(&mut self, item: &Item, position: Position) -> Fate {
        if let Some(reason) = item.reason {
            if !self.config.rules.dead_letter_claims_nothing && item.id != IdHash(0) {
                self.enter(item, position);
            }
            return Fate::DeadLettered(reason);
        }
        let complete = self.find_complete(item, position.index);
        let own_is_entered = self.config.rules.own_entry_is_entered;
        let found = match complete {
            // What is not counted here enters nothing, so it is only looked up.
            Some((first, _)) if first < position || (first == position && !own_is_entered) => {
                self.open.as_ref().and_then(|open| open.find(item.id)).or(complete)
            }
            _ => self.enter(item, position).or(complete),
        };
        match found {
            Some((first, payload)) if first < position && payload == item.payload => {
                Fate::Duplicate { first }
            }
            Some((first, _)) if first < position => Fate::Conflict { first },
            _ => Fate::Counted,
        }
    }

    /// Enters an id in the open run, unless it stands there already: then that entry is given.
    fn enter(&mut self, item: &Item, first: Position) -> Option<(Position, PayloadHash)> {
        if self.enter_new(item, first) { None } else { self.open.as_ref()?.find(item.id) }
    }

    /// Enters an id in the open run, unless it stands there already or there is none.
    #[inline(always)]
    fn enter_new(&mut self, item: &Item, first: Position) -> bool {
        let Some(open) = &mut self.open else { return false };
        open.enter_new(IdEntry { id: item.id, first, payload: item.payload })
    }

    fn find_complete(&self, item: &Item, index: u32) -> Option<(Position, PayloadHash)> {
        if !item.is_candidate && self.closing.is_empty() && self.earlier.is_empty() {
            return None;
        }
        let (from, to) = (
            self.candidates.partition_point(|(of, _)| *of < index),
            self.candidates.partition_point(|(of, _)| *of <= index),
        );
        let closing = self.closing.iter().filter_map(|closing| closing.run.find(item.id));
        let listed = self.candidates[from..to].iter().filter_map(|(_, name)| {
            let entry = self.cells.get(name)?.find(item.id)?;
            Some((entry.first, entry.payload))
        });
        // At most one holds it, but for the moment in which a run is listed twice over; the smallest is the first.
        // Of an earlier generation only what is remembered was made a candidate.
        let generation = self.state.generation;
        let remembered =
            |first: Position| first.rank >= self.expired_below || first.rank.generation() < generation;
        closing
            .chain(listed)
            .chain(self.find_earlier_open(item.id))
            .filter(|(first, _)| remembered(*first))
            .min_by_key(|(first, _)| *first)
    }

    fn apply_undecodable(&mut self, record: &LogRecord) {
        let fate = Fate::DeadLettered(Reason::Undecodable);
        self.state.counts.add(fate);
        let letter = Letter { config: &self.config, record, rank: self.state.rank() };
        self.ready.push(letter.whole_record());
        self.ready.push(letter.fates(1, &[(0, fate)]));
    }

    fn keep_not_counted(&mut self, record: &LogRecord, not_counted: &[(u32, Fate)]) {
        let letter = Letter { config: &self.config, record, rank: self.state.rank() };
        self.ready.push(letter.fates(self.items.len() as u32, not_counted));
        self.ready.extend(letter.pulses(not_counted));
    }

    /// Whatever becomes of its pulses, the letters that they were are marked.
    fn keep_replays(&mut self, record: &LogRecord) {
        self.ready.extend(actions::replay_cells(&record.value, self.config.partition, self.state.rank()));
    }
}
