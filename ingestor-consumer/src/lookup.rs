//! Looking one id up in the stored id runs, as whoever asks for a pulse's fate does. Reads only what is confirmed.

use pulso_domain::fingerprint::IdHash;
use pulso_domain::position::Rank;
use pulso_platform::store::{Store, keys};
use pulso_proto::v1;

use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::filter::Filter;
use crate::fold::ids::list::ListedRun;
use crate::fold::ids::time::id_time;
use crate::fold::ids::{IdEntry, RunShape};
use crate::fold::state::FoldState;
use crate::runs;

/// The entry of an id in one partition; `None` when no counted pulse had it, or when it has expired and was removed.
///
/// # Errors
/// When the store cannot be read.
pub fn find_id(
    store: &dyn Store,
    shape: &RunShape,
    partition: u32,
    id: (&str, IdHash),
) -> Result<Option<IdEntry>, Stop> {
    let Some(state) = load_state(store, partition)? else { return Ok(None) };
    let rank = state.rank();
    if let Some(entry) = find_open(store, shape, (partition, rank), id.1)? {
        return Ok(Some(entry));
    }
    // A run may be merged and removed while it is looked at: then the list has changed, and is read again.
    for _ in 0..LISTED_MAX {
        let (list, version) = runs::load_list(store, partition)?;
        if let Some(found) = find_listed(store, shape, (partition, &list), id)? {
            // A complete run is listed ahead of the progress; what lies behind that is not folded yet.
            return Ok(found.filter(|entry| entry.first.rank < rank));
        }
        if runs::load_list(store, partition)?.1 == version {
            break;
        }
    }
    Err(Halt::StoreIncomplete("a listed id run".to_owned()).into())
}

/// The entry of an id in one of these partitions, those of its tenant in each generation, and which partition that is; the
/// first one where an id that was forgotten was counted again.
///
/// # Errors
/// As [`find_id`].
pub fn find_id_in(
    store: &dyn Store,
    shape: &RunShape,
    partitions: &[u32],
    id: (&str, IdHash),
) -> Result<Option<(u32, IdEntry)>, Stop> {
    for partition in partitions {
        if let Some(entry) = find_id(store, shape, *partition, id)? {
            return Ok(Some((*partition, entry)));
        }
    }
    Ok(None)
}

/// How often the list is read again.
const LISTED_MAX: u32 = 8;

/// Looks in all listed runs; `None` when a cell of one is missing, which is not "not found".
fn find_listed(
    store: &dyn Store,
    shape: &RunShape,
    (partition, list): (u32, &v1::RunList),
    (text, hash): (&str, IdHash),
) -> Result<Option<Option<IdEntry>>, Stop> {
    for run in &list.runs {
        let listed = ListedRun::from_proto(run, Vec::new());
        if !listed.times.may_hold(id_time(text)) {
            continue;
        }
        let name = keys::run_partition(partition, run.level, listed.start);
        let filter = store.get(&[keys::run_filter(&name, shape.filter_of(run.level, hash))])?.pop().flatten();
        if filter.and_then(|cell| Filter::decode(&cell.value)).is_some_and(|filter| !filter.may_hold(hash)) {
            continue;
        }
        let prefix = shape.prefix(run.level, hash);
        let cells = runs::load_cells(store, &name, listed.start, prefix..prefix + 1)?;
        let Some(cell) = cells.into_iter().next().flatten() else { return Ok(None) };
        if let Some(entry) = cell.find(hash) {
            return Ok(Some(Some(entry)));
        }
    }
    Ok(Some(None))
}

fn find_open(
    store: &dyn Store,
    shape: &RunShape,
    (partition, progress): (u32, Rank),
    hash: IdHash,
) -> Result<Option<IdEntry>, Stop> {
    let start = shape.range_start(progress, 0);
    let name = keys::run_partition(partition, 0, start);
    if runs::load_header(store, &name, start)?.is_none() {
        return Ok(None);
    }
    let prefix = shape.prefix(0, hash);
    let cells = runs::load_cells(store, &name, start, prefix..prefix + 1)?;
    let entry = cells.into_iter().flatten().find_map(|cell| cell.find(hash));
    Ok(entry.filter(|entry| entry.first.rank < progress))
}

/// The stored progress of a partition; `None` before its first checkpoint.
///
/// # Errors
/// When the store cannot be read, or the progress is of a newer version.
pub fn load_state(store: &dyn Store, partition: u32) -> Result<Option<FoldState>, Stop> {
    let cell = store.get(&[keys::progress(partition)])?.pop().flatten();
    Ok(cell.map(|cell| FoldState::decode(&cell.value)).transpose()?)
}

/// Whether a partition is known to be folded past its seal: a store that cannot say so does not know it.
#[must_use]
pub fn is_folded_past_its_seal(store: &dyn Store, partition: u32) -> bool {
    load_state(store, partition).is_ok_and(|state| state.is_some_and(|state| state.sealed_at.is_some()))
}

/// Everything below this rank is folded and durable.
///
/// # Errors
/// As [`load_state`].
pub fn folded_through(store: &dyn Store, partition: u32) -> Result<Rank, Stop> {
    Ok(load_state(store, partition)?.map_or(Rank::ZERO, |state| state.rank()))
}
