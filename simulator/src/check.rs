//! The end of a life: all that stands in the store against the oracle, to the last byte of each row.

use std::collections::BTreeMap;

use prost::Message;
use pulso_domain::fate::{Fate, FateCounts};
use pulso_domain::position::{Position, Rank};
use pulso_domain::reason::Reason;
use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::Level;
use pulso_ingestor_consumer::fold::directory::entry_offsets;
use pulso_ingestor_consumer::fold::ids::cell;
use pulso_ingestor_consumer::fold::ids::open::HEADER_PREFIX;
use pulso_ingestor_consumer::fold::letters::read_fate;
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_platform::store::{Cell, Key, Table, keys};
use pulso_proto::v1;

use crate::faulty::FaultyStore;
use crate::history::PARTITION;
use crate::mutant::Mutant;
use crate::oracle::{DirectoryName, Row, RowName, Truth, rank};
use crate::world::{SHAPE, World};

/// Compares what a life left with the truth; the first difference, if any.
#[must_use]
pub fn difference(world: &World) -> Option<String> {
    let mut end = End { store: &mut world.store(), truth: world.truth() };
    let sums_only = matches!(world.mutant(), Some(Mutant::Counters | Mutant::LooseDeltas));
    let forgotten_below = world.forgotten_below();
    end.rows(sums_only)
        .or_else(|| end.progress(world.history().records.len() as u64))
        .or_else(|| end.borders())
        .or_else(|| end.fates())
        .or_else(|| end.letters())
        .or_else(|| end.directory())
        .or_else(|| end.months())
        .or_else(|| end.ids(world, forgotten_below))
}

struct End<'a> {
    store: &'a mut FaultyStore,
    truth: &'a Truth,
}

/// The first place at which two maps differ.
fn first_difference<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    truth: &BTreeMap<K, V>,
) -> Option<String> {
    if let Some((key, value)) = truth.iter().find(|(key, value)| found.get(key) != Some(value)) {
        return Some(format!("{what} {key:?}: {:?}, not {value:?}", found.get(key)));
    }
    let (key, value) = found.iter().find(|(key, _)| !truth.contains_key(key))?;
    Some(format!("{what} {key:?}: {value:?} should not be there"))
}

fn difference_of<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, truth: &T) -> Option<String> {
    (found != truth).then(|| format!("{what}: {found:?}, not {truth:?}"))
}

impl End<'_> {
    fn read(&mut self, key: &Key) -> Option<Cell> {
        let FaultyStore { replicas, dice, .. } = &mut *self.store;
        replicas.read(dice, key)
    }

    fn table(&mut self, table: Table) -> Vec<(Key, Cell)> {
        let keys = self.store.replicas.keys(table);
        keys.into_iter().filter_map(|key| self.read(&key).map(|cell| (key, cell))).collect()
    }

    fn rows(&mut self, sums_only: bool) -> Option<String> {
        let mut merged: BTreeMap<RowName, UsageRow> = BTreeMap::new();
        for (key, cell) in self.table(Table::Usage) {
            let (Some(name), Some(row)) =
                (RowKey::decode(&key.partition, &key.clustering), UsageRow::decode(&cell.value))
            else {
                return Some(format!("unreadable row {key:?}"));
            };
            let known = |text: &str| ["vm", "disk", "br-se1", ""].into_iter().find(|known| *known == text);
            let (Some(sku), Some(region)) = (known(name.product_sku), known(name.region)) else {
                return Some(format!("a row that nobody used {name:?}"));
            };
            let level = name.window.level() as u8;
            let name = (name.tenant_id.to_owned(), level, name.window.index(), sku, region);
            merged.entry(name).and_modify(|old| old.merge(&row)).or_insert(row);
        }
        let truth = &self.truth.rows;
        if sums_only {
            let sums = |row: &Row| (row.sum, row.count);
            let truth = truth.iter().map(|(name, row)| (name, sums(row))).collect();
            let found = merged.iter().map(|(name, row)| (name, sums(&plain(row)))).collect();
            return first_difference("row", &found, &truth);
        }
        let found = merged.into_iter().map(|(name, row)| (name, plain(&row))).collect();
        first_difference("row", &found, truth)
    }

    fn state(&mut self, key: &Key) -> Option<FoldState> {
        FoldState::decode(&self.read(key)?.value).ok()
    }

    fn progress(&mut self, end: u64) -> Option<String> {
        let found = self
            .state(&keys::progress(PARTITION))
            .map(|state| (state.offset, state.counts, state.floor_seconds));
        difference_of("progress", &found, &Some((end, self.truth.counts, self.truth.floor)))
    }

    fn borders(&mut self) -> Option<String> {
        let end = self.truth.counts_before.len() as u64 - 1;
        let step = SHAPE.span(0) as usize;
        let truth: BTreeMap<u64, FateCounts> = (step as u64..=end)
            .step_by(step)
            .map(|offset| (offset, self.truth.counts_before[offset as usize]))
            .collect();
        let mut found = BTreeMap::new();
        for offset in truth.keys() {
            let state = self.state(&keys::border(PARTITION, rank(*offset)));
            found.extend(state.map(|state| (*offset, state.counts)));
        }
        first_difference("border", &found, &truth)
    }

    fn fates(&mut self) -> Option<String> {
        let mut found: BTreeMap<Position, Fate> = BTreeMap::new();
        for (key, cell) in self.table(Table::Fates) {
            let rank = rank_of(&key.clustering);
            let Ok(fates) = v1::RecordFates::decode(cell.value) else {
                return Some(format!("unreadable {key:?}"));
            };
            let fate = |fate: &v1::PulseFate| Some((Position::new(rank, fate.index), read_fate(fate)?));
            found.extend(fates.not_counted.iter().filter_map(fate));
        }
        first_difference("fate", &found, &self.truth.fates)
    }

    fn letters(&mut self) -> Option<String> {
        let mut found = BTreeMap::new();
        for (key, cell) in self.table(Table::DeadLetters) {
            let Ok(letter) = v1::DeadLetter::decode(cell.value) else {
                return Some(format!("unreadable {key:?}"));
            };
            let (rank, index) = key.clustering.split_at(8);
            let index = index.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            let reason = u8::try_from(letter.reason).ok().and_then(Reason::from_byte);
            let first = letter.first_rank.zip(letter.first_index);
            let first = first.map(|(rank, index)| Position::new(Rank::from_u64(rank), index));
            found.extend(reason.map(|reason| (Position::new(rank_of(rank), index), (reason, first))));
        }
        first_difference("dead letter", &found, &self.truth.letters)
    }

    fn directory(&mut self) -> Option<String> {
        let mut found: BTreeMap<DirectoryName, u128> = BTreeMap::new();
        for (key, cell) in self.table(Table::Directory) {
            let Ok(directory) = v1::Directory::decode(cell.value) else {
                return Some(format!("unreadable {key:?}"));
            };
            let tenant = String::from_utf8_lossy(&key.partition).into_owned();
            let range = rank_of(&key.clustering).as_u64();
            for entry in directory.entries {
                let offsets = entry_offsets(&entry);
                let name = (tenant.clone(), range, entry.product_sku, entry.region, entry.hour);
                found.insert(name, offsets);
            }
        }
        first_difference("directory", &found, &self.truth.directory)
    }

    fn months(&mut self) -> Option<String> {
        let months = |(tenant, level, window, ..): &RowName| {
            (*level == Level::Month as u8).then(|| ((tenant.clone(), *window), ()))
        };
        let truth = self.truth.rows.keys().filter_map(months).collect();
        let table = self.table(Table::Tenants);
        let decoded = table.iter().filter_map(|(key, _)| keys::decode_month_clustering(&key.clustering));
        let found = decoded.map(|(tenant, month)| ((tenant.to_owned(), month.index()), ())).collect();
        first_difference("tenant-month", &found, &truth)
    }

    /// Every id that was counted, where it was counted first; those that have expired at the lowest offset held may be
    /// forgotten.
    fn ids(&mut self, world: &World, forgotten_below: Rank) -> Option<String> {
        let key = world.config().hash_key;
        let remembered = |position: &Position| position.rank >= forgotten_below;
        let counted = self.truth.counted.iter().filter(|(_, _, position)| remembered(position));
        let truth = counted.map(|(tenant, id, position)| (*position, key.id_hash(tenant, id))).collect();
        let end = rank(world.history().records.len() as u64);
        let list = self.read(&keys::run_list(PARTITION)).map(|cell| v1::RunList::decode(cell.value));
        let Ok(list) = list.unwrap_or_else(|| Ok(v1::RunList::default())) else {
            return Some("unreadable list of runs".to_owned());
        };
        let mut runs: Vec<(u32, Rank)> =
            list.runs.iter().map(|run| (run.level, Rank::from_u64(run.start))).collect();
        let open = SHAPE.range_start(end, 0);
        let listed = list.runs.iter().any(|run| run.start + SHAPE.span(run.level) > open.as_u64());
        if open < end && !listed {
            runs.push((0, open));
        }
        let mut found = BTreeMap::new();
        for (level, start) in runs {
            let run = keys::run_partition(PARTITION, level, start);
            for prefix in 0..SHAPE.cells(level) {
                let cell = self.read(&keys::run_cell(&run, prefix));
                let Some(cell) = cell.and_then(|cell| cell::Cell::decode(start, cell.value)) else {
                    return Some(format!("cell {prefix} of the run {level}/{start} is missing"));
                };
                found.extend(cell.entries().map(|entry| (entry.first, entry.id)));
            }
            let header = keys::run_cell(&run, HEADER_PREFIX);
            if level == 0 && self.read(&header).is_none() {
                return Some(format!("the header of the run at {start} is missing"));
            }
        }
        found.retain(|position, _| remembered(position));
        first_difference("id entry", &found, &truth)
    }
}

fn rank_of(bytes: &[u8]) -> Rank {
    Rank::from_u64(bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

fn plain(row: &UsageRow) -> Row {
    Row {
        sum: i128::try_from(row.sum.steps()).unwrap_or(i128::MAX),
        count: row.count,
        min: row.min.steps(),
        max: row.max.steps(),
        last: (
            (row.last_at.seconds(), row.last_at.nanos().cast_signed()),
            row.last_position,
            row.last.steps(),
        ),
        hwm: row.hwm,
    }
}
