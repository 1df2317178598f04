//! What an operator may do to a partition: read it again, or give up records that cannot be read.

use std::sync::Arc;

use prost::Message;
use pulso_platform::log::{Log, LogError};
use pulso_platform::store::{Cell, Flush, Store, keys};
use pulso_proto::v1;

use crate::fold::halt::Stop;
use crate::fold::partition::FoldConfig;
use crate::worker::PartitionWorker;
use crate::{generations, lookup};

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Who does something, and when.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Who.
    pub name: String,
    /// When, in nanoseconds since the Unix epoch.
    pub at_nanos: i64,
}

/// Why an operator's wish is not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The offset makes no sense.
    #[error("partition {partition} is folded up to offset {folded} and ends at {end}; {wish}")]
    Offset {
        /// The partition.
        partition: u32,
        /// The next offset to fold.
        folded: u64,
        /// One above the last offset of the log.
        end: u64,
        /// What to give instead.
        wish: &'static str,
    },
    /// Records that were folded before would be given up too.
    #[error("partition {0} is being read again; let it come to its end, then give records up")]
    Rewinding(u32),
    /// Nothing was lost that giving up would be for.
    #[error(
        "the log of every partition is the one that was folded; to skip records of a halted one give --partition and --skip-to"
    )]
    NothingLost,
    /// The brokers refuse, or do not answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A note is missing.
    #[error("say why with --note: the ledger keeps it for good")]
    NoNote,
    /// The log or the store cannot be used, or is damaged.
    #[error(transparent)]
    Stop(#[from] Stop),
}

/// Asks for a partition to be read again from `to` on: done at the next start of its owner, changes no total (G4).
///
/// # Errors
/// When the offset is not below what is folded, or the store cannot be used.
pub fn request_rewind(
    log: &dyn Log,
    store: &dyn Store,
    (partition, to): (u32, u64),
    actor: &Actor,
) -> Result<(), AdminError> {
    let state = lookup::load_state(store, partition)?;
    let folded = state.as_ref().map_or(0, |state| state.offset);
    if state.is_some_and(|state| state.is_given_up()) {
        let wish = "its rest was given up, so that it is read no more";
        return Err(AdminError::Offset { partition, folded, end: folded, wish });
    }
    let marks = log.watermarks(partition).map_err(Stop::from)?;
    if to >= folded || to < marks.start_offset {
        let wish = "give an offset that is folded and still held";
        return Err(AdminError::Offset { partition, folded, end: marks.end_offset, wish });
    }
    let key = keys::rewind(partition);
    let found = store.get(std::slice::from_ref(&key)).map_err(Stop::from)?;
    let version = found.into_iter().flatten().next().map_or(0, |cell| cell.version) + 1;
    // Above every request before, also one that was removed, since a removal outlives what it removed. In milliseconds:
    // in nanoseconds it would not be a version.
    let version = version.max((actor.at_nanos / NANOS_PER_MILLI).try_into().unwrap_or(0));
    let request = v1::Rewind { from: to, to: folded, actor: actor.name.clone(), at_nanos: actor.at_nanos };
    let cells = vec![(key, Cell { version, value: request.encode_to_vec().into() })];
    store.flush(Flush { cells, ..Flush::default() }).map_err(Stop::from)?;
    Ok(())
}

/// Gives up the records from where the fold stands up to `skip_to`, for good: the ledger shows the gap with its note.
///
/// # Errors
/// When the offset is not ahead of the fold, the note is empty, or the store cannot be used.
pub fn skip(
    log: &dyn Log,
    store: &Arc<dyn Store>,
    config: FoldConfig,
    wish: (u64, &str),
    actor: &Actor,
) -> Result<v1::Gap, AdminError> {
    let (skip_to, note) = wish;
    let partition = config.partition;
    if note.trim().is_empty() {
        return Err(AdminError::NoNote);
    }
    let waits = || Stop::Retry("the generation before it is not folded past its seal".to_owned());
    let first = generations::first_state(&**store, &log.generations(), partition)?.ok_or_else(waits)?;
    let mut worker = PartitionWorker::open(Arc::clone(store), config, &first)?;
    if worker.is_rewinding() {
        return Err(AdminError::Rewinding(partition));
    }
    let folded = worker.fold().state().offset;
    let end = log.watermarks(partition).map_err(Stop::from)?.end_offset;
    if skip_to <= folded || skip_to > end {
        let wish = "give an offset behind what is folded, at most the end";
        return Err(AdminError::Offset { partition, folded, end, wish });
    }
    let gap = v1::Gap {
        from: folded,
        to: skip_to,
        actor: actor.name.clone(),
        at_nanos: actor.at_nanos,
        note: note.to_owned(),
        rest: false,
    };
    worker.declare_gap(gap.clone());
    worker.flush()?;
    Ok(gap)
}
