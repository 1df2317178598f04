//! The fold of one partition: a deterministic state machine of the log prefix. It does no I/O and reads no clock.
//!
//! For each record the shell calls [`PartitionFold::prepare`], supplies what that asks for, and calls
//! [`PartitionFold::apply`]; now and then it takes a [checkpoint](super::checkpoint) and writes it. A fate depends only on
//! the pulse's bytes, its position, earlier id entries and control records.

use std::collections::HashMap;
use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::Rank;
use pulso_domain::usage::UsageRow;
use pulso_platform::store::{Cell as StoreCell, Key, keys};
use pulso_proto::v1;

use super::directory::RangeDirectory;
use super::halt::Halt;
use super::ids::RunShape;
use super::ids::cell::Cell;
use super::ids::earlier::EarlierPartition;
use super::ids::list::RunIndex;
use super::ids::open::{IdTimes, OpenRun};
use super::ids::time::TimeReader;
use super::moved::Stray;
use super::prepare::{CellName, Item, Needs, Prepared};
use super::rows::{RowTable, SlotId};
use super::state::FoldState;

/// What a partition's fold is told once.
#[derive(Clone, Debug)]
pub struct FoldConfig {
    /// The partition of the log, over all generations.
    pub partition: u32,
    /// How many its generation has, to tell a misrouted pulse.
    pub partitions: u32,
    /// The partitions of earlier generations that pulses of the same tenants may stand in.
    pub earlier: Vec<u32>,
    /// The log's topic, for dead letters.
    pub topic: String,
    /// How id ranges are cut.
    pub shape: RunShape,
    /// The store's secret for id hashes.
    pub hash_key: HashKey,
    /// The rules; always [`FoldRules::ALL`] outside the simulator.
    pub rules: FoldRules,
}

/// Rules of the fold that the simulator breaks one at a time, to prove that it would notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoldRules {
    /// An entry found elsewhere with its own position is entered in the open run all the same.
    pub own_entry_is_entered: bool,
    /// A range that the list has come to cover is no longer open here, and is not written again.
    pub covered_range_is_closed: bool,
    /// A dead letter does not claim its id.
    pub dead_letter_claims_nothing: bool,
    /// A complete run is looked up until the list has it.
    pub run_is_kept_until_listed: bool,
    /// Rows are evicted only when confirmed.
    pub only_confirmed_is_evicted: bool,
    /// A generation is folded only once the ones before it are seen folded past their seals.
    pub next_waits_for_the_seal: bool,
}

impl FoldRules {
    /// The protocol.
    pub const ALL: Self = Self {
        own_entry_is_entered: true,
        covered_range_is_closed: true,
        dead_letter_claims_nothing: true,
        run_is_kept_until_listed: true,
        only_confirmed_is_evicted: true,
        next_waits_for_the_seal: true,
    };
}

/// A run that is complete and not listed yet.
#[derive(Debug)]
pub(super) struct ClosingRun {
    pub(super) run: OpenRun,
    pub(super) stored_before: bool,
    pub(super) appended_at_max_nanos: i64,
}

/// The fold of one partition.
#[derive(Debug)]
pub struct PartitionFold {
    pub(super) config: FoldConfig,
    pub(super) state: FoldState,
    pub(super) rows: RowTable,
    pub(super) open: Option<OpenRun>,
    /// Whether the open run has been stored, so that its next flush needs only what changed.
    pub(super) open_stored: bool,
    pub(super) closing: Vec<ClosingRun>,
    pub(super) index: RunIndex,
    pub(super) list: v1::RunList,
    pub(super) directory: RangeDirectory,
    /// Cells that are ready to be written with the next checkpoint.
    pub(super) ready: Vec<(Key, StoreCell)>,
    /// Whether a record was folded since the last checkpoint was taken.
    pub(super) moved: bool,
    pub(super) range_ends: Vec<(Rank, i64)>,
    pub(super) earlier: Vec<Arc<EarlierPartition>>,
    /// Records behind the seal that are not in the next generation yet.
    pub(super) strays: Vec<Stray>,
    /// What has expired at the prepared record, by its own time too.
    pub(super) expired_below: Rank,
    /// The floor at the prepared record, by its own time too.
    pub(super) floor_seconds: Option<i64>,
    pub(super) cells: HashMap<CellName, Cell>,
    pub(super) cell_bytes: usize,
    pub(super) id_times: TimeReader,
    pub(super) prepared: Prepared,
    pub(super) items: Vec<Item>,
    /// What the record adds to each hour it holds pulses of.
    pub(super) hours: Vec<(SlotId, UsageRow)>,
    /// The times of the prepared record's ids, but for dead letters.
    pub(super) times: IdTimes,
    /// For items that may stand in listed runs: (item, cell), ordered by item.
    pub(super) candidates: Vec<(u32, CellName)>,
    pub(super) needs: Needs,
}

/// What the store has when a fold starts.
#[derive(Debug)]
pub struct Start {
    /// The progress, or the state at the border that a rewind begins at.
    pub state: FoldState,
    /// The complete runs.
    pub index: RunIndex,
    /// The stored list they came from.
    pub list: v1::RunList,
    /// The open run of the range that `state` stands in; `None` at a border or in a listed range.
    pub open: Option<OpenRun>,
}

impl PartitionFold {
    /// A fold that goes on from what the store has.
    ///
    /// # Errors
    /// When the state lies inside a range whose run is neither open nor listed: ids would be forgotten.
    pub fn start(config: FoldConfig, start: Start) -> Result<Self, Halt> {
        let rank = start.state.rank();
        let shape = config.shape;
        let range = shape.range_start(rank, 0);
        let listed = start.index.covers(&shape, range);
        let open = match start.open {
            _ if listed => None,
            Some(run) if run.start() == range => Some(run),
            None if rank == range => Some(OpenRun::new(range, shape)),
            _ => return Err(Halt::StoreIncomplete(format!("the id run of the records from {range}"))),
        };
        let hash_key = config.hash_key;
        let mut fold = Self {
            open_stored: rank != range,
            directory: RangeDirectory::new(range, rank),
            config,
            state: start.state,
            rows: RowTable::new(hash_key),
            open,
            closing: Vec::new(),
            index: RunIndex::default(),
            list: v1::RunList::default(),
            ready: Vec::new(),
            moved: false,
            range_ends: Vec::new(),
            earlier: Vec::new(),
            strays: Vec::new(),
            expired_below: Rank::ZERO,
            floor_seconds: None,
            cells: HashMap::new(),
            cell_bytes: 0,
            id_times: TimeReader::default(),
            prepared: Prepared::Nothing,
            items: Vec::new(),
            hours: Vec::new(),
            times: IdTimes::default(),
            candidates: Vec::new(),
            needs: Needs::default(),
        };
        fold.adopt(start.index, start.list)?;
        Ok(fold)
    }

    /// Where the fold stands.
    #[must_use]
    pub const fn state(&self) -> &FoldState {
        &self.state
    }

    /// The rows it holds.
    #[must_use]
    pub const fn rows(&self) -> &RowTable {
        &self.rows
    }

    /// The complete runs it looks up.
    #[must_use]
    pub const fn index(&self) -> &RunIndex {
        &self.index
    }

    /// What it was told once.
    #[must_use]
    pub const fn config(&self) -> &FoldConfig {
        &self.config
    }

    /// Takes over the list of runs as it is stored now. A range that the list has come to cover is no longer open here,
    /// else two owners would write different bytes at one rank.
    ///
    /// # Errors
    /// When the list has forgotten what the fold would have to look up.
    pub fn adopt(&mut self, index: RunIndex, list: v1::RunList) -> Result<(), Halt> {
        index.remembers(self.state.rank())?;
        let shape = self.config.shape;
        let closed = |start| self.config.rules.covered_range_is_closed && index.covers(&shape, start);
        self.open.take_if(|open| closed(open.start()));
        self.closing.retain(|closing| !closed(closing.run.start()));
        let top = |rank: Rank| shape.range_start(rank, shape.level_max);
        let ends = index.runs.iter().map(|run| (run.end(&shape), run.appended_at_max_nanos));
        let mut ends: Vec<_> = ends.filter(|(end, _)| top(*end) == *end).collect();
        let listed = ends.last().map_or(Rank::ZERO, |(end, _)| *end);
        // Ranges that are complete here and not listed yet have ended too.
        ends.extend(self.range_ends.iter().filter(|(end, _)| *end > listed));
        self.range_ends = ends;
        self.cells.clear();
        self.cell_bytes = 0;
        self.index = index;
        self.list = list;
        Ok(())
    }

    /// Declares records given up for good, from where the fold stands, and passes over them.
    pub fn declare_gap(&mut self, gap: v1::Gap) {
        debug_assert_eq!(gap.from, self.state.offset, "a gap begins where the fold stands");
        self.state.gaps.push(gap);
        self.pass_gap();
    }

    /// Passes over the gap that the fold stands in, without reading it.
    pub fn pass_gap(&mut self) {
        while self.state.in_gap() {
            self.state.skip();
            self.moved = true;
            self.cross_border();
        }
    }

    /// Records behind the seal that wait to be moved: the shell appends them to the next generation before it writes the
    /// checkpoint that passes them.
    #[must_use]
    pub fn strays(&self) -> &[Stray] {
        &self.strays
    }

    /// Says that a checkpoint passed all records below this rank.
    pub fn forget_strays(&mut self, through: Rank) {
        self.strays.retain(|stray| stray.rank >= through);
    }

    /// At a range border the open run is complete and the state is kept for rewinds.
    pub(super) fn cross_border(&mut self) {
        let rank = self.state.rank();
        if !self.config.shape.is_border(rank) {
            return;
        }
        let version = rank.as_u64();
        let border = StoreCell { version, value: self.state.encode() };
        self.ready.push((keys::border(self.config.partition, rank), border));
        let changed = self.directory.take_changed(&self.rows, rank);
        self.ready.extend(changed);
        self.directory = RangeDirectory::new(rank, rank);
        let appended_at_max_nanos = self.state.appended_at_max_nanos;
        let complete = self.open.take();
        let ids = complete.as_ref().map_or(0, OpenRun::len);
        if let Some(run) = complete.filter(|_| self.config.rules.run_is_kept_until_listed) {
            self.closing.push(ClosingRun { run, stored_before: self.open_stored, appended_at_max_nanos });
        }
        if self.config.shape.range_start(rank, self.config.shape.level_max) == rank
            && self.range_ends.last().is_none_or(|(end, _)| *end < rank)
        {
            self.range_ends.push((rank, appended_at_max_nanos));
        }
        self.open_stored = false;
        let covered =
            self.config.rules.covered_range_is_closed && self.index.covers(&self.config.shape, rank);
        self.open = (!covered).then(|| OpenRun::expecting(rank, self.config.shape, ids));
    }
}
