//! Tends the id runs in the background: merges them, lets expired ones go, removes what has left the lists. Safe beside
//! the fold workers: the lists change by compare-and-set, and a worker that misses a cell lists again.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use metrics::counter;
use pulso_domain::position::Rank;
use pulso_platform::log::Log;
use pulso_platform::store::{Store, keys};
use tokio_util::sync::CancellationToken;

use crate::fold::halt::Stop;
use crate::fold::ids::RunShape;
use crate::fold::state::FoldState;
use crate::metrics::MAINTENANCE_FAILURES;
use crate::owned::Owned;
use crate::{lookup, runs};

/// Time between two rounds over all partitions. Cells of merged runs stay a round longer than the merge, so that readers
/// of the old list mostly find them.
const ROUND_EVERY: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(50);

/// Tends what this process folds, until shutdown. That someone else has come to fold it meanwhile harms nothing.
pub(crate) fn run(log: &Arc<dyn Log>, store: &dyn Store, owned: &Owned, shutdown: &CancellationToken) {
    while wait(shutdown) {
        for (partition, _) in owned.list() {
            if let Err(stop) = tend(&**log, store, partition, shutdown) {
                counter!(MAINTENANCE_FAILURES).increment(1);
                tracing::warn!(partition, reason = %stop, "id runs could not be tended; they will be later");
            }
        }
    }
}

fn wait(shutdown: &CancellationToken) -> bool {
    let mut waited = Duration::ZERO;
    while waited < ROUND_EVERY && !shutdown.is_cancelled() {
        thread::sleep(STEP);
        waited += STEP;
    }
    !shutdown.is_cancelled()
}

fn tend(log: &dyn Log, store: &dyn Store, partition: u32, shutdown: &CancellationToken) -> Result<(), Stop> {
    let shape = RunShape::FORMAT;
    runs::remove_leaving(store, partition, &shape)?;
    while !shutdown.is_cancelled() && runs::merge_once(store, partition, &shape)? {}
    if let Some(border) = lowest_expiry(log, store, partition, &shape)? {
        runs::expire_once(store, partition, &shape, border)?;
    }
    Ok(())
}

/// What has expired at the lowest offset that the log still holds: a rewind can reach down to there, and must find the
/// ids that were remembered then. `None` while ids are remembered for ever.
fn lowest_expiry(
    log: &dyn Log,
    store: &dyn Store,
    partition: u32,
    shape: &RunShape,
) -> Result<Option<Rank>, Stop> {
    let Some(state) = lookup::load_state(store, partition)?.filter(|state| state.id_horizon_seconds > 0)
    else {
        return Ok(None);
    };
    let start = log.watermarks(partition)?.start_offset;
    let Some(lowest) = Rank::new(state.generation, start) else { return Ok(None) };
    let border = shape.range_start(lowest, 0);
    let Some(cell) = store.get(&[keys::border(partition, border)])?.pop().flatten() else { return Ok(None) };
    Ok(Some(FoldState::decode(&cell.value)?.expired_below))
}
