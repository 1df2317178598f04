//! Opening a partition: what the store has must belong to what the log holds, else the partition halts (G10).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pulso_platform::log::{Log, LogError};
use tokio_util::sync::CancellationToken;

use crate::archive::Kept;
use crate::fold::halt::{Halt, Stop};
use crate::fold::partition::FoldConfig;
use crate::fold::state::{FoldState, chain};
use crate::pipeline::ConsumerDeps;
use crate::worker::PartitionWorker;

const RETRY_WAIT: Duration = Duration::from_millis(200);

/// How opening a partition ended.
pub(crate) enum Opened {
    /// It can be folded.
    Ready(Box<PartitionWorker>),
    /// It must not be; why.
    Halted(String),
    /// Shutdown came first.
    Stopped,
}

/// Opens a partition, waiting while the store or the log cannot be used.
pub(crate) fn open_partition(
    deps: &ConsumerDeps,
    config: FoldConfig,
    archive: Kept,
    shutdown: &CancellationToken,
) -> Opened {
    while !shutdown.is_cancelled() {
        match try_open(deps, config.clone(), archive) {
            Ok(worker) => {
                deps.halts.clear(&*deps.store, config.partition);
                return Opened::Ready(Box::new(worker));
            }
            Err(Stop::Halt(halt)) => return Opened::Halted(halt.to_string()),
            Err(Stop::Retry(reason)) => {
                tracing::warn!(partition = config.partition, reason, "the partition cannot be opened now");
                thread::sleep(RETRY_WAIT);
            }
        }
    }
    Opened::Stopped
}

fn try_open(deps: &ConsumerDeps, config: FoldConfig, archive: Kept) -> Result<PartitionWorker, Stop> {
    let layout = deps.log.layout();
    let partition = config.partition;
    let first = FoldState::first(layout.generation, layout.log_id);
    let mut worker = PartitionWorker::open(Arc::clone(&deps.store), config, &first)?;
    worker.archive_in(archive);
    worker.hand_over_to(deps.handoff.confirmed());
    worker.send_letters_to(deps.letters.clone());
    verify(&*deps.log, partition, worker.fold().state())?;
    worker.pass_gap();
    Ok(worker)
}

/// Reads the last folded record again and compares: another log, or one that lost records, is never folded on.
///
/// # Errors
/// A halt when the log does not hold what was folded.
fn verify(log: &dyn Log, partition: u32, state: &FoldState) -> Result<(), Stop> {
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
