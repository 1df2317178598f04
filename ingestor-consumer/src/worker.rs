//! The thin shell around one partition's fold: loads what a record needs, writes what a checkpoint says. Synchronous and
//! without a clock, so that the simulator drives this very code.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::{Position, Rank};
use pulso_domain::usage::{UsageChanged, UsageRow};
use pulso_platform::log::LogRecord;
use pulso_platform::store::{Flush, Flushed, Key, Store, Table, keys};
use pulso_proto::v1;

use crate::archive::Kept;
use crate::blobs::Blobs;
use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::RunShape;
use crate::fold::ids::cell::Cell;
use crate::fold::ids::open::OpenRun;
use crate::fold::letter_message::{LetterMessage, LetterOutlet};
use crate::fold::moved::{Stray, StrayOutlet};
use crate::fold::partition::{FoldConfig, PartitionFold, Start};
use crate::fold::prepare::CellName;
use crate::fold::rows::row_key;
use crate::fold::state::FoldState;
use crate::handoff::{Handoff, Handover};
use crate::{generations, runs};

/// How often a lost compare-and-set is tried again before the step is given back: each loss means that someone else won.
const LOST_MAX: u32 = 16;

/// One partition's fold with its store.
pub struct PartitionWorker {
    store: Arc<dyn Store>,
    fold: PartitionFold,
    rewind: Option<Rewind>,
    /// Folded records on their way into the archive; `None` where the log is the archive.
    blobs: Option<Blobs>,
    /// What the progress has to wait for; `None` where pricing is told afterwards.
    handoff: Option<Arc<dyn Handoff>>,
    /// The rank that everything is handed over through.
    handed: Rank,
    /// Who takes dead letters before the progress passes them; `None` where the store's are enough.
    letters: Option<Arc<LetterOutlet>>,
    /// The rank that dead letters were sent through: a store that fails does not have them sent at each try.
    letters_sent: Rank,
    /// Who appends what arrived behind a seal to the next generation.
    strays: Option<Arc<StrayOutlet>>,
    /// The rank that it was appended through, so that a store that fails does not have it appended at each try.
    strays_sent: Rank,
}

/// A rewind that is under way: what stands in the store must come out again.
struct Rewind {
    /// Where the fold stood: the end of the rewind.
    stored: FoldState,
    /// The request's cell and version, removed when it is passed.
    request: (Key, u64),
}

impl PartitionWorker {
    /// Goes on from what the store has: from `progress`, or from the border below a rewind that is not passed yet.
    ///
    /// # Errors
    /// When the store cannot be read, is of a newer version, or lacks a part.
    pub fn open(store: Arc<dyn Store>, config: FoldConfig, first: &FoldState) -> Result<Self, Stop> {
        let partition = config.partition;
        let found = store.get(&[keys::progress(partition), keys::rewind(partition)])?;
        let [progress, request] =
            <[_; 2]>::try_from(found).map_err(|_| Stop::Retry("short answer".to_owned()))?;
        let stored = match &progress {
            Some(cell) => FoldState::decode(&cell.value)?,
            None => first.clone(),
        };
        if stored.log_id != first.log_id || stored.generation != first.generation {
            return Err(Halt::LogChanged("the store was folded from another log".to_owned()).into());
        }
        // Its writer may have died before a quorum had it. Before anyone builds on it, every later read sees it: so that it
        // never falls, and since a gap is what the log does not say.
        let checkpoint: Vec<_> = progress.into_iter().map(|cell| (keys::progress(partition), cell)).collect();
        if !checkpoint.is_empty() {
            store.flush(Flush { checkpoint, ..Flush::default() })?;
        }
        let request = request.filter(|cell| !cell.value.is_empty());
        let (state, rewind) = match request {
            None => (stored, None),
            Some(cell) => {
                let mut state = rewound(&*store, &config, &cell.value, first)?;
                state.gaps.clone_from(&stored.gaps);
                (state, Some(Rewind { stored, request: (keys::rewind(partition), cell.version) }))
            }
        };
        // The list is read behind the open run: a run that was listed, merged and removed meanwhile is then covered.
        let open = load_open(&*store, &config.shape, partition, &state)?;
        let earlier = generations::load_earlier(&*store, &config, &[])?;
        let (index, list) = runs::load_index(&*store, partition, &config.shape, &[])?;
        let mut fold = PartitionFold::start(config, Start { state, index, list, open })?;
        fold.look_back(earlier);
        let handed = fold.state().rank();
        Ok(Self {
            store,
            fold,
            rewind,
            blobs: None,
            handoff: None,
            handed,
            letters: None,
            letters_sent: Rank::ZERO,
            strays: None,
            strays_sent: Rank::ZERO,
        })
    }

    /// Says where folded records are archived; without a word, nowhere but in the log.
    pub fn archive_in(&mut self, kept: Kept) {
        self.blobs = (kept == Kept::InStore).then(Blobs::default);
    }

    /// Says to whom usage is handed over before the progress passes it; without a word, to nobody.
    pub fn hand_over_to(&mut self, handoff: Option<Arc<dyn Handoff>>) {
        self.handoff = handoff;
    }

    /// Says who takes dead letters, as messages, before the progress passes them; without a word, nobody.
    pub fn send_letters_to(&mut self, outlet: Option<Arc<LetterOutlet>>) {
        self.letters = outlet;
    }

    /// Says who moves records behind a seal on; without a word, a sealed partition waits at the first of them.
    pub fn send_strays_to(&mut self, outlet: Option<Arc<StrayOutlet>>) {
        self.strays = outlet;
    }

    /// Bytes of the archive, and of records behind a seal, that wait for a flush: what the shell bounds, besides what the
    /// fold holds.
    #[must_use]
    pub fn archive_bytes(&self) -> usize {
        let strays: usize = self.fold.strays().iter().map(|stray| stray.value.len()).sum();
        self.blobs.as_ref().map_or(0, Blobs::bytes) + strays
    }

    /// The fold.
    #[must_use]
    pub const fn fold(&self) -> &PartitionFold {
        &self.fold
    }

    /// Whether it reads again what was folded before.
    #[must_use]
    pub const fn is_rewinding(&self) -> bool {
        self.rewind.is_some()
    }

    /// Folds one record: the next of its partition.
    ///
    /// # Errors
    /// A retry leaves the fold as it was; a halt ends it.
    pub fn fold_record(&mut self, record: &LogRecord) -> Result<(), Stop> {
        for relisted in [false, true] {
            let complete = self.supply(record)?;
            if complete {
                let rank = self.fold.state().rank();
                self.fold.apply(record)?;
                if let Some(blobs) = &mut self.blobs {
                    blobs.keep(&self.fold.config().shape, rank, record);
                }
                return self.compare_with_stored();
            }
            if relisted {
                return Err(Halt::StoreIncomplete("a cell of a listed id run".to_owned()).into());
            }
            // A listed run that is missing was merged meanwhile: list again, then halt, never "not found".
            self.relist()?;
        }
        Ok(())
    }

    /// Passes over a gap that an operator declared, without reading it.
    pub fn pass_gap(&mut self) {
        self.fold.pass_gap();
    }

    /// Declares records given up, from where the fold stands, and passes over them.
    pub fn declare_gap(&mut self, gap: v1::Gap) {
        self.fold.declare_gap(gap);
    }

    /// Gives up everything from where the fold stands on, for good.
    pub fn give_up(&mut self, gap: v1::Gap) {
        self.fold.give_up(gap);
    }

    /// Loads what the record needs; false when a cell of a listed run is missing.
    fn supply(&mut self, record: &LogRecord) -> Result<bool, Stop> {
        let needs = self.fold.prepare(record)?;
        if needs.is_empty() {
            return Ok(true);
        }
        let (rows, cells) = (needs.rows.clone(), needs.cells.clone());
        let directories = needs.directories.clone();
        let range = self.fold.config().shape.range_start(self.fold.state().rank(), 0);
        let mut names = Vec::with_capacity(rows.len() + cells.len() + directories.len());
        names.extend(rows.iter().map(|slot| {
            let key = row_key(self.fold.rows().key(*slot));
            Key::new(Table::Usage, key.partition_key(), key.clustering_key())
        }));
        names.extend(cells.iter().map(|name| {
            keys::run_cell(&keys::run_partition(name.partition, name.level, name.start), name.prefix)
        }));
        names.extend(directories.iter().map(|tenant| keys::directory(tenant, range)));
        let mut found = self.store.get(&names)?.into_iter().map(|cell| cell.map(|cell| cell.value));
        for (slot, value) in rows.into_iter().zip(found.by_ref()) {
            let row = value.map(|value| UsageRow::decode(&value).ok_or_else(|| unreadable("a usage row")));
            self.fold.supply_row(slot, row.transpose()?);
        }
        let mut complete = true;
        for (name, value) in cells.into_iter().zip(found.by_ref()) {
            complete &= self.supply_cell(name, value)?;
        }
        for (tenant, value) in directories.iter().zip(found) {
            let directory =
                value.map(|value| v1::Directory::decode(value).map_err(|_| unreadable("a directory")));
            self.fold.supply_directory(tenant, directory.transpose()?);
        }
        Ok(complete)
    }

    fn supply_cell(&mut self, name: CellName, value: Option<Bytes>) -> Result<bool, Halt> {
        let Some(value) = value else { return Ok(false) };
        let cell = Cell::decode(name.start, value).ok_or_else(|| unreadable("a cell of an id run"))?;
        self.fold.supply_cell(name, cell);
        Ok(true)
    }

    fn relist(&mut self) -> Result<(), Stop> {
        let config = self.fold.config();
        let (index, list) =
            runs::load_index(&*self.store, config.partition, &config.shape, &self.fold.index().runs)?;
        let earlier = generations::load_earlier(&*self.store, config, self.fold.earlier())?;
        self.fold.look_back(earlier);
        Ok(self.fold.adopt(index, list)?)
    }

    /// Writes all that changed since the last flush. Gives what changed in usage, for the hand-off; `None` when no
    /// record was folded.
    ///
    /// # Errors
    /// A retry leaves everything to be written again.
    pub fn flush(&mut self) -> Result<Option<UsageChanged>, Stop> {
        for _ in 0..LOST_MAX {
            if !self.fold.has_changes() {
                return Ok(None);
            }
            let (mut flush, checkpoint) = self.fold.checkpoint();
            flush.cells.extend(self.blobs.iter().flat_map(|blobs| blobs.waiting().iter().cloned()));
            let sent = self.send_letters(&flush, checkpoint.through);
            let sent = sent.and_then(|()| self.move_strays(checkpoint.through));
            match sent.and_then(|()| self.write(flush, checkpoint.through)) {
                Ok(Flushed::Done) => {
                    self.handed = checkpoint.through;
                    self.fold.forget_strays(checkpoint.through);
                    let changed = self.fold.confirm(checkpoint);
                    self.blobs.iter_mut().for_each(Blobs::confirm);
                    self.pass_rewind()?;
                    return Ok(Some(changed));
                }
                Ok(Flushed::Lost(_)) => {
                    self.fold.fail(checkpoint);
                    self.relist()?;
                }
                Err(stop) => {
                    self.fold.fail(checkpoint);
                    return Err(stop);
                }
            }
        }
        Err(lost())
    }

    /// Writes and lists the runs that are complete, ahead of the next flush.
    ///
    /// # Errors
    /// A retry leaves them to the next flush.
    pub fn list_complete_runs(&mut self) -> Result<(), Stop> {
        for _ in 0..LOST_MAX {
            let Some((flush, listing)) = self.fold.listing() else { return Ok(()) };
            match self.store.flush(flush) {
                Ok(Flushed::Done) => {
                    self.fold.confirm_listing(listing);
                    return Ok(());
                }
                Ok(Flushed::Lost(_)) => {
                    self.fold.fail_listing();
                    self.relist()?;
                }
                Err(error) => {
                    self.fold.fail_listing();
                    return Err(error.into());
                }
            }
        }
        Err(lost())
    }

    /// Sends the dead letters of a flush, those that were not sent before, and waits until they are durable.
    fn send_letters(&mut self, flush: &Flush, through: Rank) -> Result<(), Stop> {
        let Some(outlet) = &self.letters else { return Ok(()) };
        let sent = self.letters_sent.as_u64();
        let fresh = |(key, cell): &&(Key, pulso_platform::store::Cell)| {
            key.table == Table::DeadLetters && cell.version >= sent
        };
        let letters = flush.cells.iter().filter(fresh).map(|(_, cell)| {
            let letter = v1::DeadLetter::decode(cell.value.clone());
            letter.map(|letter| LetterMessage::of(&letter)).map_err(|_| unreadable("a dead letter"))
        });
        let letters = letters.collect::<Result<Vec<_>, _>>()?;
        if !letters.is_empty() {
            outlet(&letters).map_err(Stop::Retry)?;
        }
        self.letters_sent = through;
        Ok(())
    }

    /// Appends what arrived behind the seal to the next generation, what was not appended before, and waits until it is
    /// durable there: before the progress passes it. What a rewind reads again was moved the first time.
    fn move_strays(&mut self, through: Rank) -> Result<(), Stop> {
        let passed = self.rewind.as_ref().map_or(Rank::ZERO, |rewind| rewind.stored.rank());
        let from = self.strays_sent.max(passed);
        let strays: Vec<Stray> =
            self.fold.strays().iter().filter(|stray| stray.rank >= from).cloned().collect();
        if !strays.is_empty() {
            let nobody = || Stop::Retry("nobody moves records behind the seal".to_owned());
            self.strays.as_ref().ok_or_else(nobody)?(&strays)?;
        }
        self.strays_sent = through;
        Ok(())
    }

    /// Makes a flush durable. With a hand-off: rows and runs first, then what they changed is handed over, then the progress,
    /// so that a crash in between hands the same over again.
    fn write(&self, mut flush: Flush, through: Rank) -> Result<Flushed, Stop> {
        let Some(handoff) = &self.handoff else { return Ok(self.store.flush(flush)?) };
        let behind = Flush {
            checkpoint: std::mem::take(&mut flush.checkpoint),
            removals: std::mem::take(&mut flush.removals),
            ..Flush::default()
        };
        let handover = Handover::of_cells(self.fold.config().partition, (self.handed, through), &flush.cells);
        if let Flushed::Lost(key) = self.store.flush(flush)? {
            return Ok(Flushed::Lost(key));
        }
        handoff.deliver(&handover)?;
        Ok(self.store.flush(behind)?)
    }

    /// Forgets confirmed rows while more than `rows_max` are held.
    pub fn evict(&mut self, rows_max: usize) {
        for keep_flushes in [8, 2, 0] {
            if self.fold.rows().len() <= rows_max {
                return;
            }
            self.fold.evict(keep_flushes);
        }
    }

    /// While rewinding: what comes out must be what the store has, at each border and at the end.
    fn compare_with_stored(&self) -> Result<(), Stop> {
        let Some(rewind) = &self.rewind else { return Ok(()) };
        let state = self.fold.state();
        let expected = if state.offset == rewind.stored.offset {
            rewind.stored.clone()
        } else if self.fold.config().shape.is_border(state.rank()) {
            let key = keys::border(self.fold.config().partition, state.rank());
            match self.store.get(&[key])?.pop().flatten() {
                Some(cell) => FoldState::decode(&cell.value)?,
                None => return Ok(()),
            }
        } else {
            return Ok(());
        };
        if (expected.chain_after, expected.counts) == (state.chain_after, state.counts) {
            return Ok(());
        }
        let place = state.rank();
        Err(Halt::LogChanged(format!(
            "read again up to {place}, its records differ from those folded before"
        ))
        .into())
    }

    /// Removes the request once the rewind is behind the fold, durably.
    fn pass_rewind(&mut self) -> Result<(), Stop> {
        let passed = |rewind: &mut Rewind| self.fold.state().offset >= rewind.stored.offset;
        let Some(rewind) = self.rewind.take_if(passed) else { return Ok(()) };
        let removals = vec![rewind.request.clone()];
        if let Err(error) = self.store.flush(Flush { removals, ..Flush::default() }) {
            self.rewind = Some(rewind);
            return Err(error.into());
        }
        Ok(())
    }
}

fn lost() -> Stop {
    Stop::Retry("the list of id runs keeps changing".to_owned())
}

fn unreadable(what: &str) -> Halt {
    Halt::StoreIncomplete(format!("{what} that can be read"))
}

/// The state at the range border at or below the first offset to read again.
fn rewound(
    store: &dyn Store,
    config: &FoldConfig,
    request: &[u8],
    first: &FoldState,
) -> Result<FoldState, Stop> {
    let request = v1::Rewind::decode(request).map_err(|_| unreadable("a rewind"))?;
    let from = Rank::from_u64(first.rank().as_u64() + request.from);
    let border = config.shape.range_start(from, 0);
    if border == first.rank() {
        return Ok(first.clone());
    }
    let cell = store.get(&[keys::border(config.partition, border)])?.pop().flatten();
    let cell = cell.ok_or_else(|| Halt::StoreIncomplete(format!("the range border {border}")))?;
    Ok(FoldState::decode(&cell.value)?)
}

/// The growing run of the range that the state stands in; `None` at a border, or when the store lacks any of it.
pub(crate) fn load_open(
    store: &dyn Store,
    shape: &RunShape,
    partition: u32,
    state: &FoldState,
) -> Result<Option<OpenRun>, Stop> {
    let start = shape.range_start(state.rank(), 0);
    if start == state.rank() {
        return Ok(None);
    }
    let run = keys::run_partition(partition, 0, start);
    let Some(header) = runs::load_header(store, &run, start)? else { return Ok(None) };
    let cells = runs::load_cells(store, &run, start, 0..shape.cells(0))?;
    let Some(cells) = cells.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    Ok(Some(OpenRun::resume(*shape, header, &cells, Position::new(state.rank(), 0))))
}
