//! The life of one seed: owners, zombies, background work and operators, one action at a time, in any order.
//!
//! Each call to the store is a moment at which another may act as a whole; so the borders between two calls of one actor
//! are tried too. What must never happen during a life is noted as its failure; totals are compared at its end.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Position, Rank};
use pulso_ingestor_consumer::fold::halt::{Halt, Stop};
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::partition::FoldConfig;
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::runs;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::store::{Flush, Flushed, Store, StoreError, Table};

use crate::border::Border;
use crate::dice::Dice;
use crate::faulty::{FaultyStore, NOBODY};
use crate::history::{History, LOG_ID, PARTITION, PARTITIONS};
use crate::mutant::Mutant;
use crate::oracle::{Truth, truth};
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
    pub(crate) history: History,
    pub(crate) truth: Truth,
    config: FoldConfig,
    first: FoldState,
    store: Mutex<FaultyStore>,
    pub(crate) owners: Mutex<Vec<Owner>>,
    pub(crate) life: Mutex<Life>,
}

/// One owner, real or zombie.
pub(crate) struct Owner {
    id: u32,
    pub(crate) worker: PartitionWorker,
}

/// What the world knows beside the store.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) next_owner: u32,
    /// The lowest offset that the log holds.
    pub(crate) lowest: u64,
    pub(crate) rewind_version: u64,
    /// Rewinds that may be asked for still: (version, from).
    pub(crate) rewinds: Vec<(u64, u64)>,
    /// The gap is declared.
    pub(crate) resumed: bool,
    /// The damage is mended, so that the gap could be read.
    pub(crate) mended: bool,
    pub(crate) failure: Option<String>,
    /// Someone acts within another's call.
    pub(crate) nested: bool,
}

/// What became of an owner's turn.
enum Turn {
    GoesOn,
    /// The log does not hold what it wants any more.
    CutOff,
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64, way: Way) -> Arc<Self> {
        let mut dice = Dice::new(seed);
        let history = History::write(&mut dice, way.records);
        let weather = if way.calm { Weather::calm() } else { Weather::of(&mut dice, way.mutant) };
        let config = FoldConfig {
            partition: PARTITION,
            partitions: PARTITIONS,
            topic: "resource-consumption".to_owned(),
            shape: SHAPE,
            hash_key: HashKey::new(dice.bits().to_le_bytes().repeat(2).try_into().unwrap_or_default()),
            rules: Mutant::rules(way.mutant),
        };
        let mut store = FaultyStore::new(dice, weather, way.mutant);
        store.crash_at = way.crash_at;
        Arc::new(Self {
            way,
            truth: truth(&history, &SHAPE),
            store: Mutex::new(store),
            history,
            config,
            first: FoldState::first(1, LOG_ID),
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

    /// The log.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// What must come out.
    #[must_use]
    pub const fn truth(&self) -> &Truth {
        &self.truth
    }

    /// What every owner's fold is told.
    #[must_use]
    pub const fn config(&self) -> &FoldConfig {
        &self.config
    }

    /// Below this, ids may be forgotten: what had expired at the lowest offset held.
    #[must_use]
    pub fn forgotten_below(&self) -> Rank {
        self.truth.expired_before[self.life.lock().lowest as usize]
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
        let remembered = self.forgotten_below();
        let store = Border::new(self, NOBODY);
        let counted = &self.truth.counted;
        let alone = |(tenant, id, _): &(String, String, Position)| {
            counted.iter().filter(|(of, other, _)| (of, other) == (tenant, id)).count() == 1
        };
        counted.iter().filter(|one| one.2.rank >= remembered && alone(one)).find_map(|(tenant, id, first)| {
            let hash = self.config.hash_key.id_hash(tenant, id);
            let found = match lookup::find_id(&store, &SHAPE, PARTITION, (id, hash)) {
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
            pulses: self.history.pulses(),
            zombie_writes: store.replicas.zombie_writes,
            late_writes: store.replicas.late_writes,
            ..store.tally
        }
    }

    fn fail(&self, sentence: String) {
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
        let steps = self.history.records.len() * 3;
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
        self.open();
        for _ in 0..1000 {
            if self.failed() || self.is_finished() {
                break;
            }
            self.turn(true, |world, worker| world.fold(worker));
            self.turn(true, |world, worker| world.flush_worker(worker));
            self.give_up_damage();
            if self.owners.lock().is_empty() {
                self.open();
            }
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
        let Some(last) = owners.last() else { return false };
        let fold = last.worker.fold();
        let end = self.history.records.len() as u64;
        fold.state().offset >= end && !fold.has_changes() && !last.worker.is_rewinding()
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
        let passed = passed.map(|(_, version)| *version);
        let flushed = self.store().flush(sender, flush);
        if let (Ok(Flushed::Done), Some(passed)) = (&flushed, passed) {
            self.life.lock().rewinds.retain(|(version, _)| *version > passed);
        }
        flushed
    }

    fn act(self: &Arc<Self>) {
        let action = {
            let mut store = self.store();
            let choices: Vec<_> = store.weather.actions.into_iter().zip(Action::ALL).collect();
            store.dice.weighted(&choices)
        };
        if self.owners.lock().is_empty() && matches!(action, Action::Fold | Action::Flush | Action::Open) {
            return self.open();
        }
        match action {
            Action::Fold => self.turn(false, |world, worker| world.fold(worker)),
            Action::Flush => self.turn(false, |world, worker| world.flush_worker(worker)),
            Action::Open => self.open(),
            Action::Crash => self.crash(),
            Action::Evict => self.turn(false, |world, worker| Ok(world.evict(worker))),
            Action::Merge => self.tend("merges", |store| runs::merge_once(store, PARTITION, &SHAPE)),
            Action::Remove => self.tend("removes", |store| runs::remove_leaving(store, PARTITION, &SHAPE)),
            Action::Expire => self.expire(),
            Action::Rewind => self.ask_for_rewind(),
            Action::Retain => self.drop_oldest(),
            Action::Replica => self.store().toggle_replica(),
            Action::Land => {
                let most = self.store().dice.below(12);
                self.land(most);
            }
        }
    }

    fn land(&self, most: usize) {
        let mut store = self.store();
        let FaultyStore { replicas, dice, .. } = &mut *store;
        replicas.land_late(dice, most);
    }

    pub(crate) fn open(self: &Arc<Self>) {
        let id = {
            let mut life = self.life.lock();
            life.next_owner += 1;
            life.next_owner - 1
        };
        let confirmed = self.store().confirmed;
        match self.open_as(id) {
            Err(Stop::Retry(why)) => self.note(format_args!("{id} cannot open: {why}")),
            Err(Stop::Halt(halt)) => self.fail(format!("owner {id} halts at its start: {halt}")),
            Ok(worker) => {
                let state = worker.fold().state();
                self.note(format_args!("{id} opens at {} rewinding {}", state.offset, worker.is_rewinding()));
                if worker.is_rewinding() {
                    self.store().tally.rewinds += 1;
                } else if state.rank().as_u64() < confirmed {
                    self.fail(format!("owner {id} starts at {}, below confirmed progress", state.rank()));
                }
                self.keep(Owner { id, worker });
            }
        }
    }

    pub(crate) fn open_as(self: &Arc<Self>, id: u32) -> Result<PartitionWorker, Stop> {
        let store: Arc<dyn Store> = Arc::new(Border::new(self, id));
        PartitionWorker::open(store, self.config.clone(), &self.first)
    }

    /// Keeps an owner among the others, the newest last; the oldest goes when there are too many.
    fn keep(&self, owner: Owner) {
        let most = self.store().weather.owners_max;
        let mut owners = self.owners.lock();
        let place = owners.partition_point(|other| other.id < owner.id);
        owners.insert(place, owner);
        let surplus = owners.len().saturating_sub(most);
        let gone: Vec<Owner> = owners.drain(..surplus).collect();
        drop(owners);
        drop(gone);
    }

    fn crash(&self) {
        let owner = self.pick(false);
        if let Some(owner) = owner {
            self.note(format_args!("{} dies", owner.id));
            self.store().tally.crashes += 1;
        }
    }

    fn pick(&self, newest: bool) -> Option<Owner> {
        let mut owners = self.owners.lock();
        if owners.is_empty() {
            return None;
        }
        let mut store = self.store.lock();
        let last = owners.len() - 1;
        let place = if newest || store.dice.chance(600) { last } else { store.dice.below(last + 1) };
        Some(owners.remove(place))
    }

    /// One owner's turn: the newest's, or anyone's.
    fn turn(
        self: &Arc<Self>,
        newest: bool,
        step: impl FnOnce(&Arc<Self>, &mut PartitionWorker) -> Result<Turn, Stop>,
    ) {
        let Some(mut owner) = self.pick(newest) else { return };
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
            Err(Stop::Halt(Halt::Forgotten { wanted, .. })) if wanted < self.life.lock().lowest => {
                self.note(format_args!("{id} is left behind at {to}"));
            }
            Err(Stop::Halt(halt)) => self.fail(format!("owner {id} halts at {to}: {halt}")),
        }
    }

    fn fold(self: &Arc<Self>, worker: &mut PartitionWorker) -> Result<Turn, Stop> {
        let count = 1 + self.store().dice.below(6);
        for _ in 0..count {
            let (offset, in_gap) = (worker.fold().state().offset, worker.fold().state().in_gap());
            let damaged = self.is_damaged(offset);
            if in_gap && (damaged || self.store().dice.chance(500)) {
                worker.pass_gap();
                continue;
            }
            let Some(record) = self.history.records.get(offset as usize) else { break };
            if offset < self.life.lock().lowest {
                return Ok(Turn::CutOff);
            }
            if damaged {
                break;
            }
            worker.fold_record(record)?;
            // Whoever folds may list what is complete at once, or leave it to the flush.
            if self.store().dice.chance(500) {
                worker.list_complete_runs()?;
            }
        }
        Ok(Turn::GoesOn)
    }

    fn is_damaged(&self, offset: u64) -> bool {
        let within = self.history.damage.is_some_and(|(from, to)| (from..to).contains(&offset));
        within && !self.life.lock().mended
    }

    fn flush_worker(&self, worker: &mut PartitionWorker) -> Result<Turn, Stop> {
        let flushed = worker.flush()?;
        self.note(format_args!("flushed {:?}", flushed.map(|changed| changed.through)));
        Ok(Turn::GoesOn)
    }

    fn evict(&self, worker: &mut PartitionWorker) -> Turn {
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
