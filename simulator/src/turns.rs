//! What owners and background work do in one turn.

use std::sync::Arc;

use pulso_ingestor_consumer::fold::halt::{Halt, Stop};
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::store::Store;

use crate::border::Border;
use crate::faulty::NOBODY;
use crate::world::{Owner, Turn, World};

impl World {
    /// Takes an owner out: the newest of a generation, or anyone.
    pub(crate) fn pick(&self, newest_of: Option<usize>) -> Option<Owner> {
        let mut owners = self.owners.lock();
        if let Some(place) = newest_of {
            let at = owners.iter().rposition(|owner| owner.place == place)?;
            return Some(owners.remove(at));
        }
        let last = owners.len().checked_sub(1)?;
        let mut store = self.store();
        let at = if store.dice.chance(600) { last } else { store.dice.below(last + 1) };
        Some(owners.remove(at))
    }

    /// One owner's turn: the newest's of a generation, or anyone's.
    pub(crate) fn turn(
        self: &Arc<Self>,
        newest_of: Option<usize>,
        step: impl FnOnce(&Arc<Self>, &mut PartitionWorker) -> Result<Turn, Stop>,
    ) {
        let Some(mut owner) = self.pick(newest_of) else { return };
        let id = owner.id;
        let from = owner.worker.fold().state().offset;
        let taken = step(self, &mut owner.worker);
        let to = owner.worker.fold().state().offset;
        let died = self.store().crashed.take_if(|crashed| *crashed == id).is_some();
        match taken {
            _ if died => self.note(format_args!("{id} dies within a flush at {to}")),
            Ok(Turn::GoesOn) => {
                self.note(format_args!("{id} went {from} -> {to}"));
                self.keep(owner);
            }
            Ok(Turn::CutOff) => self.note(format_args!("{id} is cut off at {to}")),
            Err(Stop::Retry(why)) => {
                self.note(format_args!("{id} retries at {to}: {why}"));
                self.keep(owner);
            }
            Err(Stop::Halt(Halt::Forgotten { wanted, .. }))
                if wanted < self.life.lock().lowest[owner.place] =>
            {
                self.note(format_args!("{id} is left behind at {to}"));
            }
            Err(Stop::Halt(halt)) => self.fail(format!("owner {id} halts at {to}: {halt}")),
        }
    }

    pub(crate) fn fold(self: &Arc<Self>, worker: &mut PartitionWorker) -> Result<Turn, Stop> {
        let count = 1 + self.store().dice.below(6);
        let place = worker.fold().state().generation as usize - 1;
        for _ in 0..count {
            let (offset, in_gap) = (worker.fold().state().offset, worker.fold().state().in_gap());
            let damaged = self.is_damaged(place, offset);
            if in_gap && (damaged || self.store().dice.chance(500)) {
                worker.pass_gap();
                continue;
            }
            let Some(record) = self.record(place, offset) else { break };
            if offset < self.life.lock().lowest[place] {
                return Ok(Turn::CutOff);
            }
            if damaged {
                break;
            }
            worker.fold_record(&record)?;
            // Whoever folds may list what is complete at once, or leave it to the flush.
            if self.store().dice.chance(500) {
                worker.list_complete_runs()?;
            }
        }
        Ok(Turn::GoesOn)
    }

    fn is_damaged(&self, place: usize, offset: u64) -> bool {
        let within = place == 0 && self.damage().is_some_and(|(from, to)| (from..to).contains(&offset));
        within && !self.life.lock().mended
    }

    pub(crate) fn flush_worker(&self, worker: &mut PartitionWorker) -> Result<Turn, Stop> {
        let flushed = worker.flush()?;
        self.note(format_args!("flushed {:?}", flushed.map(|changed| changed.through)));
        Ok(Turn::GoesOn)
    }

    pub(crate) fn evict(&self, worker: &mut PartitionWorker) -> Turn {
        let before = worker.fold().rows().len();
        worker.evict(0);
        let gone = before.saturating_sub(worker.fold().rows().len());
        self.store().tally.evictions += gone as u64;
        Turn::GoesOn
    }

    /// Background work; gives whether it did something.
    pub(crate) fn tend(self: &Arc<Self>, what: &str, work: impl FnOnce(&dyn Store) -> Result<bool, Stop>) {
        let done = work(&Border::new(self, NOBODY));
        self.store().crashed.take_if(|crashed| *crashed == NOBODY);
        match done {
            Ok(false) | Err(Stop::Retry(_)) => {}
            Ok(true) => {
                self.note(format_args!("background work {what}"));
                let mut store = self.store();
                let tally = &mut store.tally;
                match what {
                    "merges" => tally.merges += 1,
                    "removes" => tally.removals += 1,
                    _ => tally.expiries += 1,
                }
            }
            Err(Stop::Halt(halt)) => self.fail(format!("background work that {what} halts: {halt}")),
        }
    }
}
