//! What operators and time do to a life: rewinds, the log's retention, expiry, records that are given up.

use std::sync::Arc;

use prost::Message;
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::runs;
use pulso_platform::store::{Cell, Flush, keys};
use pulso_proto::v1;

use crate::faulty::NOBODY;
use crate::history::{partition_of_generation, rank};
use crate::mutant::Mutant;
use crate::world::{Owner, SHAPE, World};

impl World {
    pub(crate) fn expire(self: &Arc<Self>, place: usize) {
        let confirmed = self.confirmed_offset(place);
        let lowest = self.life.lock().lowest[place];
        let at = if self.mutant() == Some(Mutant::ExpiryAboveRewind) { confirmed } else { lowest };
        let border = self.truth().generations[place].expired_before[at as usize];
        let partition = partition_of_generation(place);
        self.tend("expires", |store| runs::expire_once(store, partition, &SHAPE, border));
    }

    fn confirmed_offset(&self, place: usize) -> u64 {
        self.store().confirmed[place].saturating_sub(rank(place, 0).as_u64())
    }

    /// An operator asks for a rewind to any offset held that is folded.
    pub(crate) fn ask_for_rewind(self: &Arc<Self>, place: usize) {
        let to = self.confirmed_offset(place);
        let (from, version) = {
            let mut life = self.life.lock();
            let lowest = life.lowest[place];
            if to <= lowest {
                return;
            }
            let from = lowest + self.store().dice.below((to - lowest) as usize) as u64;
            life.rewind_version += 1;
            let version = life.rewind_version;
            life.rewinds.push((version, place, from));
            (from, version)
        };
        let value = v1::Rewind { from, to, ..Default::default() }.encode_to_vec().into();
        let cells = vec![(keys::rewind(partition_of_generation(place)), Cell { version, value })];
        let asked = self.flush(NOBODY, Flush { cells, ..Flush::default() });
        self.store().crashed.take_if(|crashed| *crashed == NOBODY);
        self.note(format_args!("a rewind to {from} is asked for: {asked:?}"));
        if asked.is_ok() && self.store().dice.chance(500) {
            self.open(place);
        }
    }

    /// The log drops its oldest ranges, but what a rewind may still read.
    pub(crate) fn drop_oldest(&self, place: usize) {
        let confirmed = self.confirmed_offset(place);
        let mut life = self.life.lock();
        let rewinds = life.rewinds.iter().filter(|(_, of, _)| *of == place).map(|(_, _, from)| *from);
        let wanted = rewinds.min().unwrap_or(confirmed).min(confirmed);
        let highest = SHAPE.range_start(rank(place, wanted), 0).offset();
        let lowest = life.lowest[place];
        if highest > lowest {
            let span = ((highest - lowest) / SHAPE.span(0)) as usize;
            life.lowest[place] += (1 + self.store().dice.below(span) as u64) * SHAPE.span(0);
        }
        let lowest = life.lowest[place];
        drop(life);
        self.note(format_args!("the log of {place} begins at {lowest}"));
    }

    /// When the progress stands before records that cannot be read, an operator stops all owners and gives them up; later
    /// someone may mend them, and they stay given up.
    pub(crate) fn give_up_damage(self: &Arc<Self>) {
        let Some((from, to)) = self.damage() else { return };
        if self.life.lock().resumed {
            let mends = self.store().dice.chance(50);
            self.life.lock().mended |= mends;
            return;
        }
        // An owner that stands there has flushed all it can, also when the answer never came.
        let stands = |owner: &Owner| owner.place == 0 && owner.worker.fold().state().offset == from;
        let reached = self.confirmed_offset(0) == from || self.owners.lock().iter().any(stands);
        if !reached || !self.store().dice.chance(100) {
            return;
        }
        self.owners.lock().retain(|owner| owner.place > 0);
        self.life.lock().nested = true;
        let usual = self.store().weather.clone();
        for attempt in 0..20 {
            if attempt == 10 {
                self.store().calm_down();
            }
            if self.declare_gap(from, to).is_ok() {
                self.life.lock().resumed = true;
                self.store().tally.gaps += 1;
                break;
            }
        }
        self.store().weather = usual;
        self.life.lock().nested = false;
    }

    fn declare_gap(self: &Arc<Self>, from: u64, to: u64) -> Result<(), Stop> {
        let id = {
            let mut life = self.life.lock();
            life.next_owner += 1;
            life.next_owner - 1
        };
        let waits = || Stop::Retry("the first generation waits for none".to_owned());
        let mut worker = self.open_as(id, 0)?.ok_or_else(waits)?;
        let state = worker.fold().state();
        if worker.is_rewinding() {
            return Err(Stop::Retry("a rewind is under way".to_owned()));
        }
        let offset = state.offset;
        if offset < from {
            return Err(Stop::Retry("the fold has not come to the damage".to_owned()));
        }
        if offset == from {
            worker.declare_gap(v1::Gap { from, to, note: "lost".to_owned(), ..Default::default() });
            worker.flush()?;
        }
        self.note(format_args!("{from}..{to} is given up"));
        Ok(())
    }
}
