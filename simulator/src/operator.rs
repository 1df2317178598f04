//! What operators and time do to a life: rewinds, the log's retention, expiry, records that are given up.

use std::sync::Arc;

use prost::Message;
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::runs;
use pulso_platform::store::{Cell, Flush, keys};
use pulso_proto::v1;

use crate::faulty::NOBODY;
use crate::history::PARTITION;
use crate::mutant::Mutant;
use crate::oracle::rank;
use crate::world::{Owner, SHAPE, World};

impl World {
    pub(crate) fn expire(self: &Arc<Self>) {
        let confirmed = self.confirmed_offset();
        let lowest = self.life.lock().lowest;
        let at = if self.mutant() == Some(Mutant::ExpiryAboveRewind) { confirmed } else { lowest };
        let border = self.truth.expired_before[at as usize];
        self.tend("expires", |store| runs::expire_once(store, PARTITION, &SHAPE, border));
    }

    fn confirmed_offset(&self) -> u64 {
        self.store().confirmed.saturating_sub(rank(0).as_u64())
    }

    /// An operator asks for a rewind to any offset held that is folded.
    pub(crate) fn ask_for_rewind(self: &Arc<Self>) {
        let to = self.confirmed_offset();
        let (from, version) = {
            let mut life = self.life.lock();
            if to <= life.lowest {
                return;
            }
            let from = life.lowest + self.store().dice.below((to - life.lowest) as usize) as u64;
            life.rewind_version += 1;
            let version = life.rewind_version;
            life.rewinds.push((version, from));
            (from, version)
        };
        let value = v1::Rewind { from, to, ..Default::default() }.encode_to_vec().into();
        let cells = vec![(keys::rewind(PARTITION), Cell { version, value })];
        let asked = self.flush(NOBODY, Flush { cells, ..Flush::default() });
        self.store().crashed.take_if(|crashed| *crashed == NOBODY);
        self.note(format_args!("a rewind to {from} is asked for: {asked:?}"));
        if asked.is_ok() && self.store().dice.chance(500) {
            self.open();
        }
    }

    /// The log drops its oldest ranges, but what a rewind may still read.
    pub(crate) fn drop_oldest(&self) {
        let confirmed = self.confirmed_offset();
        let mut life = self.life.lock();
        let wanted = life.rewinds.iter().map(|(_, from)| *from).min().unwrap_or(confirmed).min(confirmed);
        let highest = SHAPE.range_start(rank(wanted), 0).offset();
        if highest > life.lowest {
            let span = ((highest - life.lowest) / SHAPE.span(0)) as usize;
            life.lowest += (1 + self.store().dice.below(span) as u64) * SHAPE.span(0);
        }
        let lowest = life.lowest;
        drop(life);
        self.note(format_args!("the log begins at {lowest}"));
    }

    /// When the progress stands before records that cannot be read, an operator stops all owners and gives them up; later
    /// someone may mend them, and they stay given up.
    pub(crate) fn give_up_damage(self: &Arc<Self>) {
        let Some((from, to)) = self.history.damage else { return };
        if self.life.lock().resumed {
            let mends = self.store().dice.chance(50);
            self.life.lock().mended |= mends;
            return;
        }
        // An owner that stands there has flushed all it can, also when the answer never came.
        let stands = |owner: &Owner| owner.worker.fold().state().offset == from;
        let reached = self.confirmed_offset() == from || self.owners.lock().iter().any(stands);
        if !reached || !self.store().dice.chance(100) {
            return;
        }
        self.owners.lock().clear();
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
        let mut worker = self.open_as(id)?;
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
