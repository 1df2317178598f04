//! The end of a life: all that stands in the store against the oracle, to the last byte of each row.

use std::collections::BTreeMap;

use prost::Message;
use pulso_domain::fate::{Fate, FateCounts};
use pulso_domain::fingerprint::HashKey;
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
use crate::history::{partition_of_generation, rank};
use crate::mutant::Mutant;
use crate::oracle::{DirectoryName, Row, RowName, Truth};
use crate::world::{SHAPE, World};

/// Compares what a life left with the truth; the first difference, if any.
#[must_use]
pub fn difference(world: &World) -> Option<String> {
    let truth = world.truth();
    let places = 0..world.generations();
    let lengths: Vec<u64> = places.clone().map(|place| world.records(place)).collect();
    let forgotten_below: Vec<Rank> = places.clone().map(|place| world.forgotten_below(place)).collect();
    let mut end = End { store: &mut world.store(), truth: &truth };
    let sums_only = matches!(world.mutant(), Some(Mutant::Counters | Mutant::LooseDeltas));
    end.rows(sums_only)
        .or_else(|| places.clone().find_map(|place| end.progress(place, lengths[place])))
        .or_else(|| places.clone().find_map(|place| end.borders(place)))
        .or_else(|| end.fates())
        .or_else(|| end.traces())
        .or_else(|| end.letters())
        .or_else(|| end.directory())
        .or_else(|| end.months())
        .or_else(|| {
            let key = world.hash_key();
            places.clone().find_map(|place| end.ids(key, (place, lengths[place]), forgotten_below[place]))
        })
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

    fn progress(&mut self, place: usize, end: u64) -> Option<String> {
        let found = self
            .state(&keys::progress(partition_of_generation(place)))
            .map(|state| (state.offset, state.counts, state.floor_seconds));
        let truth = &self.truth.generations[place];
        difference_of("progress", &found, &Some((end, truth.counts, truth.floor)))
    }

    fn borders(&mut self, place: usize) -> Option<String> {
        let counts_before = &self.truth.generations[place].counts_before;
        let end = counts_before.len() as u64 - 1;
        let step = SHAPE.span(0) as usize;
        let truth: BTreeMap<u64, FateCounts> = (step as u64..=end)
            .step_by(step)
            .map(|offset| (offset, counts_before[offset as usize]))
            .collect();
        let mut found = BTreeMap::new();
        for offset in truth.keys() {
            let state = self.state(&keys::border(partition_of_generation(place), rank(place, *offset)));
            found.extend(state.map(|state| (*offset, state.counts)));
        }
        first_difference("border", &found, &truth)
    }

    fn fates(&mut self) -> Option<String> {
        let mut found: BTreeMap<Position, Fate> = BTreeMap::new();
        let cells = self.table(Table::Fates);
        for (key, cell) in cells.into_iter().filter(|(key, _)| !is_trace(key)) {
            let rank = rank_of(&key.clustering);
            let Ok(fates) = v1::RecordFates::decode(cell.value) else {
                return Some(format!("unreadable {key:?}"));
            };
            let fate = |fate: &v1::PulseFate| Some((Position::new(rank, fate.index), read_fate(fate)?));
            found.extend(fates.not_counted.iter().filter_map(fate));
        }
        first_difference("fate", &found, &self.truth.fates)
    }

    /// Where pulses behind the seal went.
    fn traces(&mut self) -> Option<String> {
        let mut found: BTreeMap<(Rank, u32), Rank> = BTreeMap::new();
        for (key, cell) in self.table(Table::Fates).into_iter().filter(|(key, _)| is_trace(key)) {
            let Ok(to) = v1::MovedTo::decode(cell.value) else {
                return Some(format!("unreadable {key:?}"));
            };
            let first = to.indexes.first().copied().unwrap_or(u32::MAX);
            found.insert((rank_of(&key.clustering), first), rank(to.generation as usize - 1, to.offset));
        }
        first_difference("trace", &found, &self.truth.traces)
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
    fn ids(&mut self, key: HashKey, (place, records): (usize, u64), forgotten_below: Rank) -> Option<String> {
        let partition = partition_of_generation(place);
        let generation = rank(place, 0).generation();
        let remembered = |position: &Position| {
            position.rank >= forgotten_below && position.rank.generation() == generation
        };
        let counted = self.truth.counted.iter().filter(|(_, _, position)| remembered(position));
        let truth = counted.map(|(tenant, id, position)| (*position, key.id_hash(tenant, id))).collect();
        let end = rank(place, records);
        let list = self.read(&keys::run_list(partition)).map(|cell| v1::RunList::decode(cell.value));
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
            let run = keys::run_partition(partition, level, start);
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

fn is_trace(key: &Key) -> bool {
    key.partition.starts_with(b"moved")
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
