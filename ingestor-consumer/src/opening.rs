//! Opening a partition: what the store has must belong to what the log holds, else the partition halts (G10).

use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::partition_generation;
use pulso_platform::log::{Log, LogError, LogLayout, generation_topic};

use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::RunShape;
use crate::fold::partition::{FoldConfig, FoldRules};
use crate::fold::state::{FoldState, chain};
use crate::pipeline::{ConsumerConfig, ConsumerDeps};
use crate::worker::PartitionWorker;
use crate::{generations, lookup, moving};

/// What opening a partition came to.
pub(crate) enum Opening {
    /// It is folded from now on.
    Open(Box<PartitionWorker>),
    /// The generation before its own is not folded past its seal.
    Waiting,
    /// Its rest is given up: nothing of it is folded any more.
    GivenUp,
}

/// Opens a partition: what is folded of it goes on from the progress.
///
/// # Errors
/// A retry while the store or the log cannot be used; a halt when it must not be folded.
pub(crate) fn open_partition(
    config: &ConsumerConfig,
    deps: &ConsumerDeps,
    partition: u32,
) -> Result<Opening, Stop> {
    let layouts = deps.log.generations();
    if lookup::load_state(&*deps.store, partition)?.is_some_and(|state| state.is_given_up()) {
        return Ok(Opening::GivenUp);
    }
    let Some(first) = generations::first_state(&*deps.store, &layouts, partition)? else {
        return Ok(Opening::Waiting);
    };
    let fold_config = fold_config(&layouts, partition, &config.topic, deps.hash_key);
    let mut worker = PartitionWorker::open(Arc::clone(&deps.store), fold_config, &first)?;
    worker.archive_in(config.archive);
    worker.hand_over_to(deps.handoff.confirmed());
    worker.send_letters_to(deps.letters.clone());
    worker.send_strays_to(Some(moving::outlet(Arc::clone(&deps.log))));
    verify(&*deps.log, partition, worker.fold().state())?;
    worker.pass_gap();
    Ok(Opening::Open(Box::new(worker)))
}

/// How a partition of a log is folded.
#[must_use]
pub fn fold_config(layouts: &[LogLayout], partition: u32, topic: &str, hash_key: HashKey) -> FoldConfig {
    let layout = generations::layout_of(layouts, partition);
    FoldConfig {
        partition,
        partitions: layout.map_or(1, |layout| layout.partitions),
        earlier: generations::earlier_partitions(layouts, partition),
        topic: generation_topic(topic, partition_generation(partition)),
        shape: RunShape::FORMAT,
        hash_key,
        rules: FoldRules::ALL,
    }
}

/// Reads the last folded record again and compares: another log, or one that lost records, is never folded on.
///
/// # Errors
/// A halt when the log does not hold what was folded.
pub(crate) fn verify(log: &dyn Log, partition: u32, state: &FoldState) -> Result<(), Stop> {
    let marks = log.watermarks(partition)?;
    let cut = Halt::LogCut { start: marks.start_offset, end: marks.end_offset, wanted: state.offset };
    if state.offset > marks.end_offset || state.offset < marks.start_offset {
        return Err(cut.into());
    }
    let Some(last) = state.offset.checked_sub(1) else { return Ok(()) };
    let given_up = state.gaps.iter().any(|gap| (gap.from..gap.to).contains(&last));
    if last < marks.start_offset || given_up {
        return Ok(());
    }
    let record = match log.fetch(partition, &[last]) {
        Ok(mut records) => records.pop(),
        Err(LogError::OffsetOutOfRange { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let record = record.ok_or(cut)?;
    if chain(state.chain_before, last, record.digest) == state.chain_after {
        return Ok(());
    }
    let sentence = format!("record {last} of partition {partition} differs from the one folded");
    Err(Halt::LogChanged(sentence).into())
}
