//! Reading the id runs of a partition from the store, and tending them in the background: merging, expiry, removal.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::Rank;
use pulso_platform::store::{Cell as StoreCell, CompareAndSet, Flush, Flushed, Key, Store, keys};
use pulso_proto::v1;

use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::RunShape;
use crate::fold::ids::cell::Cell;
use crate::fold::ids::filter::Filter;
use crate::fold::ids::list::{LIST_FORMAT, ListedRun, RunIndex};
use crate::fold::ids::merge::{self, MergePlan};
use crate::fold::ids::open::{HEADER_PREFIX, Header};

/// The stored list of runs with its version; empty with version 0 when there is none yet.
///
/// # Errors
/// When it cannot be read or is of a newer version.
pub fn load_list(store: &dyn Store, partition: u32) -> Result<(v1::RunList, u64), Stop> {
    let Some(cell) = store.get(&[keys::run_list(partition)])?.pop().flatten() else {
        return Ok((v1::RunList::default(), 0));
    };
    let list = v1::RunList::decode(cell.value)
        .map_err(|_| Halt::StoreIncomplete("a readable list of id runs".to_owned()))?;
    let found = list.format_version;
    if found > LIST_FORMAT {
        return Err(Halt::NeedsUpgrade { what: "the list of id runs", found, known: LIST_FORMAT }.into());
    }
    Ok((list, cell.version))
}

/// The complete runs with their filters. Filters of runs in `known` are taken from there.
///
/// # Errors
/// When the list or a run cannot be read.
pub fn load_index(
    store: &dyn Store,
    partition: u32,
    shape: &RunShape,
    known: &[ListedRun],
) -> Result<(RunIndex, v1::RunList), Stop> {
    // A run may be merged while its filters are read; then the list has changed, and is read again.
    for _ in 0..8 {
        let (list, version) = load_list(store, partition)?;
        let mut runs = Vec::with_capacity(list.runs.len());
        for run in &list.runs {
            let same = |one: &&ListedRun| one.to_proto() == *run && !one.filters.is_empty();
            let filters = match known.iter().find(same) {
                Some(one) => Some(one.filters.clone()),
                None => load_filters(store, partition, shape, run)?,
            };
            let Some(filters) = filters else { break };
            runs.push(ListedRun::from_proto(run, filters));
        }
        if runs.len() == list.runs.len() {
            return Ok((RunIndex { runs, version, expired_below: Rank::from_u64(list.expired_below) }, list));
        }
        if load_list(store, partition)?.1 == version {
            break;
        }
    }
    Err(Halt::StoreIncomplete("a listed id run".to_owned()).into())
}

/// A run's filters; built again from its cells when one is missing. `None` when its cells are missing too.
fn load_filters(
    store: &dyn Store,
    partition: u32,
    shape: &RunShape,
    run: &v1::Run,
) -> Result<Option<Vec<Filter>>, Stop> {
    let name = keys::run_partition(partition, run.level, Rank::from_u64(run.start));
    let count = shape.filters(run.level);
    let wanted: Vec<Key> = (0..count).map(|prefix| keys::run_filter(&name, prefix)).collect();
    let mut filters = Vec::with_capacity(wanted.len());
    for (number, found) in (0..count).zip(store.get(&wanted)?) {
        let filter = match found.and_then(|cell| Filter::decode(&cell.value)) {
            Some(filter) => Some(filter),
            None => {
                let first = number << shape.cell_bits;
                let cells =
                    load_cells(store, &name, Rank::from_u64(run.start), first..first + shape.cells(0))?;
                let cells: Option<Vec<Cell>> = cells.into_iter().collect();
                cells.map(|cells| merge::filter_of_cells(&cells))
            }
        };
        let Some(filter) = filter else { return Ok(None) };
        filters.push(filter);
    }
    Ok(Some(filters))
}

/// Cells of a run; `None` for one that is missing.
///
/// # Errors
/// When the store cannot be read, or a cell is none of this version.
pub fn load_cells(
    store: &dyn Store,
    run: &[u8],
    start: Rank,
    prefixes: Range<u32>,
) -> Result<Vec<Option<Cell>>, Stop> {
    let wanted: Vec<Key> = prefixes.map(|prefix| keys::run_cell(run, prefix)).collect();
    let mut cells = Vec::with_capacity(wanted.len());
    for found in store.get(&wanted)? {
        let cell = found.map(|found| {
            Cell::decode(start, found.value)
                .ok_or_else(|| Halt::StoreIncomplete("a readable cell of an id run".to_owned()))
        });
        cells.push(cell.transpose()?);
    }
    Ok(cells)
}

/// The header of a growing run; `None` when the run does not exist.
///
/// # Errors
/// When the store cannot be read, or the header is none of this version.
pub fn load_header(store: &dyn Store, run: &[u8], start: Rank) -> Result<Option<Header>, Stop> {
    let Some(cell) = store.get(&[keys::run_cell(run, HEADER_PREFIX)])?.pop().flatten() else {
        return Ok(None);
    };
    let header = Header::decode(start, &cell.value)
        .ok_or_else(|| Halt::StoreIncomplete("a readable header of an id run".to_owned()))?;
    Ok(Some(header))
}

/// Merges the first runs that can become one, if any: writes the merged run, then changes the list. Safe beside any
/// number of owners and of itself. Gives whether it did something.
///
/// # Errors
/// When the store cannot be used, or a part of a listed run is missing.
pub fn merge_once(store: &dyn Store, partition: u32, shape: &RunShape) -> Result<bool, Stop> {
    let (list, version) = load_list(store, partition)?;
    let Some(plan) = merge::plan(&list, shape) else { return Ok(false) };
    if !write_merged(store, partition, shape, &plan)? {
        // The parts are gone: someone else merged them meanwhile, or the list lies.
        return if load_list(store, partition)?.1 == version {
            Err(Halt::StoreIncomplete("a listed id run".to_owned()).into())
        } else {
            Ok(true)
        };
    }
    if let Some(after) = plan.apply(&list) {
        set_list(store, partition, version, &after)?;
    }
    Ok(true)
}

fn write_merged(store: &dyn Store, partition: u32, shape: &RunShape, plan: &MergePlan) -> Result<bool, Stop> {
    let level = plan.merged.level;
    let start = Rank::from_u64(plan.merged.start);
    let name = keys::run_partition(partition, level, start);
    let version = start.as_u64() + shape.span(level) - 1;
    let part_name = |part: &v1::Run| keys::run_partition(partition, part.level, Rank::from_u64(part.start));
    for filter in 0..shape.filters(level) {
        // One filter's worth of cells at a time: memory stays at a run of level 0, whatever the level.
        let first = filter << shape.cell_bits;
        let last = first + shape.cells(0);
        let below = first >> shape.fan_in_bits..((last - 1) >> shape.fan_in_bits) + 1;
        let mut merged = Vec::new();
        for prefix in below {
            let mut parts = Vec::with_capacity(plan.parts.len());
            for part in &plan.parts {
                let found =
                    load_cells(store, &part_name(part), Rank::from_u64(part.start), prefix..prefix + 1)?;
                let Some(cell) = found.into_iter().next().flatten() else { return Ok(false) };
                parts.push(cell);
            }
            merged.extend(merge::merge_cells(plan, shape, prefix, &parts));
        }
        merged.retain(|(prefix, _)| (first..last).contains(prefix));
        let cells: Vec<Cell> =
            merged.iter().filter_map(|(_, bytes)| Cell::decode(start, bytes.clone())).collect();
        let mut flush = Flush::default();
        let built = merge::filter_of_cells(&cells).encode();
        flush.cells.push((keys::run_filter(&name, filter), StoreCell { version, value: built }));
        for (prefix, value) in merged {
            flush.cells.push((keys::run_cell(&name, prefix), StoreCell { version, value }));
        }
        store.flush(flush)?;
    }
    Ok(true)
}

/// Lets runs go that no position can need any more: those below `border`, the expiry border at the *lowest retained*
/// offset. Gives whether the list changed.
///
/// # Errors
/// When the store cannot be used.
pub fn expire_once(store: &dyn Store, partition: u32, shape: &RunShape, border: Rank) -> Result<bool, Stop> {
    let (list, version) = load_list(store, partition)?;
    let Some(after) = merge::expire(&list, shape, border) else { return Ok(false) };
    set_list(store, partition, version, &after)
}

/// Removes the cells of runs that have left the list, by exact key and version, then forgets them. Called a while after
/// they left, so that whoever still reads the old list finds them mostly. Gives whether there was any.
///
/// # Errors
/// When the store cannot be used.
pub fn remove_leaving(store: &dyn Store, partition: u32, shape: &RunShape) -> Result<bool, Stop> {
    let (list, version) = load_list(store, partition)?;
    if list.leaving.is_empty() {
        return Ok(false);
    }
    for run in &list.leaving {
        let name = keys::run_partition(partition, run.level, Rank::from_u64(run.start));
        let last = run.start + shape.span(run.level) - 1;
        let mut removals: Vec<(Key, u64)> =
            (0..shape.cells(run.level)).map(|prefix| (keys::run_cell(&name, prefix), last)).collect();
        removals.extend((0..shape.filters(run.level)).map(|number| (keys::run_filter(&name, number), last)));
        removals.push((keys::run_cell(&name, HEADER_PREFIX), last));
        store.flush(Flush { removals, ..Flush::default() })?;
    }
    let after = v1::RunList { leaving: Vec::new(), ..list };
    set_list(store, partition, version, &after)
}

fn set_list(store: &dyn Store, partition: u32, expected: u64, list: &v1::RunList) -> Result<bool, Stop> {
    let list = v1::RunList { format_version: LIST_FORMAT, ..list.clone() };
    let value = Bytes::from(list.encode_to_vec());
    let sets = vec![CompareAndSet { key: keys::run_list(partition), expected, value }];
    Ok(store.flush(Flush { sets, ..Flush::default() })? == Flushed::Done)
}
