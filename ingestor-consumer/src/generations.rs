//! Generations: when the next one may be folded, which earlier partitions its tenants had, and their ids.
//!
//! A generation is folded once every partition of the one before it is checkpointed past its seal. Then all that it builds
//! on is confirmed: each row that a tenant had, and each id. Until then its records wait in the log.

use std::sync::Arc;

use pulso_domain::partitioner::partition_of;
use pulso_domain::position::{Rank, partition_generation, partition_index, partition_number};
use pulso_platform::log::LogLayout;
use pulso_platform::store::{Range, Store, Table, keys};
use pulso_proto::v1;

use prost::Message;

use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::RunShape;
use crate::fold::ids::earlier::EarlierPartition;
use crate::fold::partition::FoldConfig;
use crate::fold::state::FoldState;
use crate::worker::load_open;
use crate::{lookup, runs};

/// Traces of one record that are read at a time.
const TRACES_PER_READ: usize = 1024;

/// The generation of a partition, among those of the log.
#[must_use]
pub fn layout_of(layouts: &[LogLayout], partition: u32) -> Option<LogLayout> {
    layouts.iter().copied().find(|layout| layout.generation == partition_generation(partition))
}

/// The numbers of all partitions of all generations.
pub fn partitions(layouts: &[LogLayout]) -> impl Iterator<Item = u32> {
    layouts.iter().flat_map(partitions_of)
}

/// The numbers of the partitions of one generation.
pub fn partitions_of(layout: &LogLayout) -> impl Iterator<Item = u32> + use<> {
    let generation = layout.generation;
    (0..layout.partitions).map(move |index| partition_number(generation, index))
}

/// The partition of a tenant in each generation, the oldest first.
#[must_use]
pub fn partitions_of_tenant(layouts: &[LogLayout], tenant_id: &str) -> Vec<u32> {
    layouts.iter().map(|layout| partition_of_tenant(layout, tenant_id)).collect()
}

/// The partition of a tenant in a generation.
#[must_use]
pub fn partition_of_tenant(layout: &LogLayout, tenant_id: &str) -> u32 {
    partition_number(layout.generation, partition_of(tenant_id.as_bytes(), layout.partitions))
}

/// The state before the first record of a partition; `None` while the generation before it is not folded past its seal.
///
/// The floor goes over from all partitions of the generation before: it never falls, also when the new generation has
/// another horizon.
///
/// # Errors
/// When the store cannot be read.
pub fn first_state(
    store: &dyn Store,
    layouts: &[LogLayout],
    partition: u32,
) -> Result<Option<FoldState>, Stop> {
    let generation = partition_generation(partition);
    let unknown =
        || Stop::Retry(format!("generation {generation} of the log, or the one before it, is not known yet"));
    let layout = layout_of(layouts, partition).ok_or_else(unknown)?;
    let mut first = FoldState::first(generation, layout.log_id);
    if generation == 1 {
        return Ok(Some(first));
    }
    let before = layouts.iter().find(|before| before.generation + 1 == generation).ok_or_else(unknown)?;
    for earlier in partitions_of(before) {
        let state = lookup::load_state(store, earlier)?.filter(|state| state.sealed_at.is_some());
        let Some(state) = state else { return Ok(None) };
        first.floor_seconds = first.floor_seconds.max(state.floor_seconds);
    }
    Ok(Some(first))
}

/// The partitions of earlier generations that tenants of this one may have had: a tenant's hash leaves the same rest in both
/// counts, as far as they have a common divisor.
#[must_use]
pub fn earlier_partitions(layouts: &[LogLayout], partition: u32) -> Vec<u32> {
    let Some(own) = layout_of(layouts, partition) else { return Vec::new() };
    let earlier = layouts.iter().filter(|layout| layout.generation < own.generation);
    let shared = |layout: &LogLayout| {
        let divisor = greatest_common_divisor(layout.partitions, own.partitions);
        partitions_of(layout)
            .filter(move |number| number_rest(*number, divisor) == number_rest(partition, divisor))
    };
    earlier.flat_map(shared).collect()
}

const fn number_rest(partition: u32, divisor: u32) -> u32 {
    partition_index(partition) % divisor
}

/// The greatest number that divides both; of 0 and another, that other.
pub(crate) const fn greatest_common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// The ids of the earlier partitions that a fold is told to look in. What is `known` of them is taken from there as far as it
/// is still so: what was growing at the seal does not change.
///
/// # Errors
/// When the store cannot be read or lacks a part.
pub fn load_earlier(
    store: &dyn Store,
    config: &FoldConfig,
    known: &[Arc<EarlierPartition>],
) -> Result<Vec<Arc<EarlierPartition>>, Stop> {
    let mut earlier = Vec::with_capacity(config.earlier.len());
    for number in &config.earlier {
        let state = lookup::load_state(store, *number)?;
        // What one read has seen, the next may miss while that write is not whole: without the seal, ids would be missed too.
        let is_sealed = state.as_ref().is_some_and(|state| state.sealed_at.is_some());
        if config.rules.next_waits_for_the_seal && !is_sealed {
            return Err(Stop::Retry(format!("partition {number} is not seen folded past its seal")));
        }
        let Some(state) = state else { continue };
        let before = known.iter().find(|one| one.number == *number);
        let open = match before {
            Some(before) => before.open.clone(),
            None => load_open(store, &config.shape, *number, &state)?,
        };
        // Read behind the growing run: one that was listed, merged and removed meanwhile is then covered.
        let filters = before.map_or(&[][..], |before| &before.index.runs);
        let (index, _) = runs::load_index(store, *number, &config.shape, filters)?;
        let range = config.shape.range_start(state.rank(), 0);
        if before.is_none() && open.is_none() && range != state.rank() && !index.covers(&config.shape, range)
        {
            return Err(Halt::StoreIncomplete(format!("the id run of the records from {range}")).into());
        }
        earlier.push(Arc::new(EarlierPartition::new(*number, &state, index, open)));
    }
    Ok(earlier)
}

/// Where the pulses of a record behind a seal went, as far as they are folded there: one place for each record that it became.
///
/// # Errors
/// When the store cannot be read.
pub fn moved_to(
    store: &dyn Store,
    shape: &RunShape,
    (partition, rank): (u32, Rank),
) -> Result<Vec<v1::MovedTo>, Stop> {
    let name = keys::moved_partition(partition, shape.range_start(rank, 0));
    let range = Range::prefix(&rank.as_u64().to_be_bytes());
    let found = store.scan(Table::Fates, &name, &range, TRACES_PER_READ)?;
    let traces = found.into_iter().map(|(_, cell)| v1::MovedTo::decode(cell.value));
    let traces = traces.collect::<Result<Vec<_>, _>>();
    Ok(traces.map_err(|_| Halt::StoreIncomplete("a readable trace of a moved record".to_owned()))?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pulso_platform::store::memory::MemoryStore;
    use pulso_platform::store::{Cell, Flush};

    use super::*;

    fn layout(generation: u32, partitions: u32) -> LogLayout {
        LogLayout { generation, partitions, log_id: [generation as u8; 16] }
    }

    #[test]
    fn a_tenants_earlier_partitions_are_among_those_looked_in() {
        for counts in [[4, 8, 12], [3, 7, 5], [6, 9, 2], [1, 1, 16]] {
            let layouts: Vec<_> = (1..).zip(counts).map(|(number, count)| layout(number, count)).collect();
            for tenant in (0..200).map(|number| format!("tenant-{number}")) {
                let of = |layout: &LogLayout| partition_of_tenant(layout, &tenant);
                let looked: BTreeSet<u32> =
                    earlier_partitions(&layouts, of(&layouts[2])).into_iter().collect();
                assert!(looked.contains(&of(&layouts[0])) && looked.contains(&of(&layouts[1])), "{counts:?}");
                assert!(!looked.contains(&of(&layouts[2])));
            }
        }
        let doubled = [layout(1, 4), layout(2, 8)];
        assert_eq!(earlier_partitions(&doubled, partition_number(2, 6)), [2], "no more than needed");
    }

    #[test]
    fn a_generation_begins_once_every_partition_before_it_is_checkpointed_past_its_seal() {
        let store = MemoryStore::new();
        let layouts = [layout(1, 2), layout(2, 3)];
        let first = |partition| first_state(&store, &layouts, partition).expect("the store can be read");
        let write = |partition, floor_seconds, sealed_at| {
            let mut state = FoldState::first(1, [1; 16]);
            (state.offset, state.floor_seconds, state.sealed_at) = (9, floor_seconds, sealed_at);
            let version = state.rank().as_u64() + u64::from(sealed_at.is_some());
            let cells = vec![(keys::progress(partition), Cell { version, value: state.encode() })];
            store.flush(Flush { cells, ..Flush::default() }).expect("writes");
        };
        assert!(first(1).is_some(), "the first one waits for nothing");
        let second = partition_number(2, 0);
        assert!(first(second).is_none(), "nothing is folded");
        write(0, Some(5), Some(7));
        assert!(first(second).is_none(), "partition 1 is not folded");
        write(1, Some(8), None);
        assert!(first(second).is_none(), "partition 1 is not sealed");
        write(1, Some(8), Some(3));
        let state = first(second).expect("all are sealed");
        assert_eq!((state.generation, state.offset, state.floor_seconds), (2, 0, Some(8)));
    }
}
