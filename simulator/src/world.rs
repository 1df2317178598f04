//! The life of one seed: owners, zombies, background work and operators, one action at a time, in any order.
//!
//! Each call to the store is a moment at which another may act as a whole; so the borders between two calls of one actor
//! are tried too. What must never happen during a life is noted as its failure; totals are compared at its end.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Position, Rank, partition_number};
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::moved::Stray;
use pulso_ingestor_consumer::fold::partition::FoldConfig;
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::opening::fold_config;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_ingestor_consumer::{generations, lookup, runs};
use pulso_platform::store::{Flush, Flushed, Store, StoreError, Table};

use crate::border::Border;
use crate::dice::Dice;
use crate::faulty::{FaultyStore, NOBODY};
use crate::history::{History, INDEX, LAYOUTS, partition_of_generation};
use crate::logs::Logs;
use crate::mutant::Mutant;
use crate::tally::Tally;
use crate::weather::{Action, Weather};

/// The shape of the id runs: all levels within few records.
pub const SHAPE: RunShape = RunShape { range_bits: 2, fan_in_bits: 1, level_max: 2, cell_bits: 1 };

/// How a life is to be led.
#[derive(Clone, Copy, Default, Debug)]
pub struct Way {
    /// The shortcut taken.
    pub mutant: Option<Mutant>,
    /// No faults at all.
    pub calm: bool,
    /// Say each action on stderr.
    pub trace: bool,
    /// A sender dies exactly at these effects, counted over the whole life.
    pub crash_at: Option<[u64; 2]>,
    /// How many records the log has, if not as many as the seed says.
    pub records: Option<usize>,
}

/// One seed's world.
pub struct World {
    way: Way,
    /// The logs of the generations, and what must come out of them as far as they go.
    pub(crate) logs: Mutex<Logs>,
    hash_key: HashKey,
    store: Mutex<FaultyStore>,
    pub(crate) owners: Mutex<Vec<Owner>>,
    pub(crate) life: Mutex<Life>,
}

/// One owner, real or zombie.
pub(crate) struct Owner {
    pub(crate) id: u32,
    /// Of which generation, by its place.
    pub(crate) place: usize,
    pub(crate) worker: PartitionWorker,
}

/// What the world knows beside the store.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) next_owner: u32,
    /// The lowest offset that each generation's log holds.
    pub(crate) lowest: [u64; 2],
    pub(crate) rewind_version: u64,
    /// Rewinds that may be asked for still: (version, generation, from).
    pub(crate) rewinds: Vec<(u64, usize, u64)>,
    /// The gap is declared.
    pub(crate) resumed: bool,
    /// The damage is mended, so that the gap could be read.
    pub(crate) mended: bool,
    pub(crate) failure: Option<String>,
    /// Someone acts within another's call.
    pub(crate) nested: bool,
}

/// What became of an owner's turn.
pub(crate) enum Turn {
    GoesOn,
    /// The log does not hold what it wants any more.
    CutOff,
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64, way: Way) -> Arc<Self> {
        let mut dice = Dice::new(seed);
        // A next generation is another owner, and that alone is a fault to some mutants.
        let may_grow = !(way.calm && way.mutant.is_some());
        let histories = History::write(&mut dice, way.records, may_grow);
        let weather = if way.calm { Weather::calm() } else { Weather::of(&mut dice, way.mutant) };
        let hash_key = HashKey::new(dice.bits().to_le_bytes().repeat(2).try_into().unwrap_or_default());
        let mut store = FaultyStore::new(dice, weather, way.mutant);
        store.crash_at = way.crash_at;
        store.know_quiet_partition();
        Arc::new(Self {
            way,
            logs: Mutex::new(Logs::new(histories)),
            hash_key,
            store: Mutex::new(store),
            owners: Mutex::default(),
            life: Mutex::new(Life { next_owner: 1, ..Life::default() }),
        })
    }

    /// The store.
    pub fn store(&self) -> MutexGuard<'_, FaultyStore> {
        self.store.lock()
    }

    /// The shortcut taken.
    #[must_use]
    pub const fn mutant(&self) -> Option<Mutant> {
        self.way.mutant
    }

    /// The store's secret.
    #[must_use]
    pub const fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// What an owner's fold of a generation is told.
    pub(crate) fn config(&self, place: usize) -> FoldConfig {
        let partition = partition_of_generation(place);
        let topic = "resource-consumption";
        let config = fold_config(&LAYOUTS, partition, topic, self.hash_key);
        FoldConfig { shape: SHAPE, rules: Mutant::rules(self.way.mutant), ..config }
    }

    /// Below this, ids of a generation may be forgotten: what had expired at the lowest offset held.
    #[must_use]
    pub fn forgotten_below(&self, place: usize) -> Rank {
        let lowest = self.life.lock().lowest[place];
        self.truth().generations[place].expired_before[lowest as usize]
    }

    /// What went wrong during the life, if anything: a halt without a cause, progress that fell, no end.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.life.lock().failure.clone()
    }

    /// Where equal versions had unequal bytes, if anywhere.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        self.store().replicas.violation.clone()
    }

    /// The first counted pulse that is not looked up where it was counted, if any. Ids that were counted again after they
    /// were forgotten have several places, and are left out.
    #[must_use]
    pub fn lookup_difference(self: &Arc<Self>) -> Option<String> {
        let store = Border::new(self, NOBODY);
        let truth = self.truth();
        let forgotten_below: Vec<Rank> =
            (0..self.generations()).map(|place| self.forgotten_below(place)).collect();
        let counted = &truth.counted;
        let alone = |(tenant, id, _): &(String, String, Position)| {
            counted.iter().filter(|(of, other, _)| (of, other) == (tenant, id)).count() == 1
        };
        let remembered = |rank: Rank| rank >= forgotten_below[rank.generation() as usize - 1];
        let wanted = counted.iter().filter(|one| remembered(one.2.rank) && alone(one));
        wanted.into_iter().find_map(|(tenant, id, first)| {
            let hash = self.hash_key.id_hash(tenant, id);
            let partition = partition_number(first.rank.generation(), INDEX);
            let found = match lookup::find_id(&store, &SHAPE, partition, (id, hash)) {
                Ok(entry) => entry.map(|entry| entry.first),
                Err(stop) => return Some(format!("looking up {tenant} {id} fails: {stop}")),
            };
            (found != Some(*first)).then(|| format!("{tenant} {id} is looked up at {found:?}, not {first:?}"))
        })
    }

    /// What happened.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let store = self.store();
        Tally {
            seeds: 1,
            pulses: self.logs.lock().histories.iter().map(History::pulses).sum(),
            zombie_writes: store.replicas.zombie_writes,
            late_writes: store.replicas.late_writes,
            ..store.tally
        }
    }

    pub(crate) fn fail(&self, sentence: String) {
        self.note(format_args!("FAILED: {sentence}"));
        self.life.lock().failure.get_or_insert(sentence);
    }

    fn failed(&self) -> bool {
        self.life.lock().failure.is_some()
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        if self.way.trace {
            use std::io::Write;
            let nested = if self.life.lock().nested { "    " } else { "" };
            // A trace that nobody reads is no failure.
            let _ = writeln!(std::io::stderr(), "{nested}{what}");
        }
    }

    /// Lives: acts until the log is folded, then ends all faults and lets one last owner finish.
    pub fn live(self: &Arc<Self>) {
        let records: u64 = (0..self.generations()).map(|place| self.records(place)).sum();
        let steps = 3 * records + if self.is_all_sent() { 0 } else { 100 };
        for _ in 0..steps {
            if self.failed() {
                return self.end();
            }
            if self.is_finished() && self.store().dice.chance(60) {
                break;
            }
            self.act();
            self.give_up_damage();
        }
        self.finish();
        self.end();
    }

    /// Owners hold the world, and the world its owners.
    fn end(&self) {
        self.owners.lock().clear();
    }

    fn finish(self: &Arc<Self>) {
        let all_land = {
            let mut store = self.store();
            store.calm_down();
            store.dice.chance(500)
        };
        if all_land {
            self.land(usize::MAX);
        }
        (0..self.generations()).for_each(|place| self.open(place));
        for _ in 0..1000 {
            if self.failed() || self.is_finished() {
                break;
            }
            self.append();
            for place in 0..self.generations() {
                if !self.is_owned(place) {
                    self.open(place);
                }
                self.turn(Some(place), |world, worker| world.fold(worker));
                self.turn(Some(place), |world, worker| world.flush_worker(worker));
            }
            self.give_up_damage();
        }
        if !self.failed() && !self.is_finished() {
            self.fail("the last owner does not come to the end".to_owned());
        }
        self.owners.lock().clear();
        self.land(usize::MAX);
        self.store().weather = Weather::calm();
    }

    fn is_finished(&self) -> bool {
        let owners = self.owners.lock();
        let is_done = |place: usize| {
            let Some(last) = owners.iter().rfind(|owner| owner.place == place) else { return false };
            let fold = last.worker.fold();
            let is_at_end = fold.state().offset >= self.records(place);
            is_at_end && !fold.has_changes() && !last.worker.is_rewinding()
        };
        self.is_all_sent() && (0..self.generations()).all(is_done)
    }

    fn is_owned(&self, place: usize) -> bool {
        self.owners.lock().iter().any(|owner| owner.place == place)
    }

    /// Called before each call to the store: now and then someone else acts first.
    pub fn someone_else_acts(self: &Arc<Self>) {
        let chance = {
            let mut store = self.store();
            let permille = store.weather.interleave;
            store.dice.chance(permille)
        };
        if !chance || std::mem::replace(&mut self.life.lock().nested, true) {
            return;
        }
        self.act();
        self.life.lock().nested = false;
    }

    /// Sends an owner's flush.
    ///
    /// # Errors
    /// As [`FaultyStore::flush`].
    pub fn flush(&self, sender: u32, flush: Flush) -> Result<Flushed, StoreError> {
        let passed = flush.removals.iter().find(|(key, _)| key.table == Table::Rewinds);
        let place = passed.is_some_and(|(key, _)| key.partition != 0_u32.to_be_bytes());
        let (place, passed) = (usize::from(place), passed.map(|(_, version)| *version));
        let flushed = self.store().flush(sender, flush);
        if let (Ok(Flushed::Done), Some(passed)) = (&flushed, passed) {
            // Their versions are unique over both generations.
            self.life.lock().rewinds.retain(|(version, of, _)| *of != place || *version > passed);
        }
        flushed
    }

    fn act(self: &Arc<Self>) {
        let action = {
            let mut store = self.store();
            let choices: Vec<_> = store.weather.actions.into_iter().zip(Action::ALL).collect();
            store.dice.weighted(&choices)
        };
        let place = self.any_place();
        let partition = partition_of_generation(place);
        if !self.is_owned(place) && matches!(action, Action::Fold | Action::Flush | Action::Open) {
            return self.open(place);
        }
        match action {
            Action::Fold => self.turn(None, |world, worker| world.fold(worker)),
            Action::Flush => self.turn(None, |world, worker| world.flush_worker(worker)),
            Action::Open => self.open(place),
            Action::Crash => self.crash(),
            Action::Evict => self.turn(None, |world, worker| Ok(world.evict(worker))),
            Action::Merge => self.tend("merges", |store| runs::merge_once(store, partition, &SHAPE)),
            Action::Remove => self.tend("removes", |store| runs::remove_leaving(store, partition, &SHAPE)),
            Action::Expire => self.expire(place),
            Action::Rewind => self.ask_for_rewind(place),
            Action::Retain => self.drop_oldest(place),
            Action::Append => self.append(),
            Action::Replica => self.store().toggle_replica(),
            Action::Land => {
                let most = self.store().dice.below(12);
                self.land(most);
            }
        }
    }

    /// A generation, by its place.
    fn any_place(&self) -> usize {
        match self.generations() {
            1 => 0,
            count => self.store().dice.below(count),
        }
    }

    fn land(&self, most: usize) {
        let mut store = self.store();
        let FaultyStore { replicas, dice, .. } = &mut *store;
        replicas.land_late(dice, most);
    }

    pub(crate) fn open(self: &Arc<Self>, place: usize) {
        let id = {
            let mut life = self.life.lock();
            life.next_owner += 1;
            life.next_owner - 1
        };
        let confirmed = self.store().confirmed[place];
        match self.open_as(id, place) {
            Err(Stop::Retry(why)) => self.note(format_args!("{id} cannot open: {why}")),
            Err(Stop::Halt(halt)) => self.fail(format!("owner {id} halts at its start: {halt}")),
            Ok(None) => self.note(format_args!("{id} waits for the generation before")),
            Ok(Some(worker)) => {
                let state = worker.fold().state();
                self.note(format_args!(
                    "{id} opens {place} at {} rewinding {}",
                    state.offset,
                    worker.is_rewinding()
                ));
                if worker.is_rewinding() {
                    self.store().tally.rewinds += 1;
                } else if state.rank().as_u64() < confirmed {
                    self.fail(format!("owner {id} starts at {}, below confirmed progress", state.rank()));
                }
                self.keep(Owner { id, place, worker });
            }
        }
    }

    /// Opens a generation; `None` while the one before it is not folded past its seal.
    pub(crate) fn open_as(self: &Arc<Self>, id: u32, place: usize) -> Result<Option<PartitionWorker>, Stop> {
        let store: Arc<dyn Store> = Arc::new(Border::new(self, id));
        let config = self.config(place);
        let mut first = generations::first_state(&*store, &LAYOUTS[..], config.partition)?;
        if self.mutant() == Some(Mutant::NextBeforeCheckpointed) {
            let layout = LAYOUTS[place];
            first.get_or_insert_with(|| FoldState::first(layout.generation, layout.log_id));
        }
        let Some(first) = first else { return Ok(None) };
        let mut worker = PartitionWorker::open(store, config, &first)?;
        let world = Arc::downgrade(self);
        let take = move |strays: &[Stray]| world.upgrade().map_or(Ok(()), |world| world.take_strays(strays));
        worker.send_strays_to(Some(Arc::new(take)));
        Ok(Some(worker))
    }

    /// Keeps an owner among the others, the newest last; the oldest of its generation goes when there are too many.
    pub(crate) fn keep(&self, owner: Owner) {
        let most = self.store().weather.owners_max;
        let mut owners = self.owners.lock();
        let place = owner.place;
        let at = owners.partition_point(|other| other.id < owner.id);
        owners.insert(at, owner);
        let count = owners.iter().filter(|owner| owner.place == place).count();
        let oldest = owners.iter().position(|owner| owner.place == place).filter(|_| count > most);
        let gone = oldest.map(|oldest| owners.remove(oldest));
        drop(owners);
        drop(gone);
    }

    fn crash(&self) {
        let owner = self.pick(None);
        if let Some(owner) = owner {
            self.note(format_args!("{} dies", owner.id));
            self.store().tally.crashes += 1;
        }
    }
}
