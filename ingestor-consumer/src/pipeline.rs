//! The journey of a pulse from the log to its totals, top to bottom:
//!
//! ```text
//! join      the log says which partitions are this process's: in one process all, in a cluster its share, as others come and go
//! open      each partition: progress, id runs, rewind; its last folded record is read again and compared
//! read      one reader over the open partitions, only durable records
//! route     records by partition into bounded channels, a batch per message: back-pressure reaches the reader
//! fold      one thread per shard of partitions: load what a record needs, decide each fate, count
//! flush     rows, runs, directories, dead letters, progress: one atomic batch in one process
//! hand off  what changed goes to pricing
//! let go    what goes to another process is flushed first; what another has already is dropped, without writing
//! tend      in the background: merge id runs, let expired ones go
//! ```
//!
//! `reading` joins, opens, reads and gives back on this thread, `routes` lies between, `fold_loop` is the rest.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pulso_domain::fingerprint::HashKey;
use pulso_platform::log::Log;
use pulso_platform::log::membership::Membership;
use pulso_platform::store::Store;
use tokio_util::sync::CancellationToken;

use crate::archive::Kept;
use crate::fold::letter_message::LetterOutlet;
use crate::fold_loop::FoldLoop;
use crate::halts::Halts;
use crate::handoff::Outlet;
use crate::owned::Owned;
use crate::reading::Reading;
use crate::routes::Routes;
use crate::schedule::Schedule;
use crate::tending;

/// How long it waits before a group that could not be joined is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// The consumer's settings.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The log's topic, for dead letters.
    pub topic: String,
    /// The name under which consumers share the log.
    pub group: String,
    /// Fold workers; partitions are spread over them.
    pub workers: usize,
    /// Longest time between two flushes while records come.
    pub flush_every: Duration,
    /// Where folded records are archived: the fold writes them to the store where the log does not keep them for good.
    pub archive: Kept,
    /// When it reads; always when there is none.
    pub schedule: Option<Schedule>,
    /// Usage rows that each worker holds in RAM at most, about; more are evicted after a flush.
    pub rows_max: usize,
    /// Undecodable records among the last 1000 of a partition before it halts; 0 for no limit.
    pub undecodable_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            topic: "resource-consumption".to_owned(),
            group: "pulso-consumer".to_owned(),
            workers: 1,
            flush_every: Duration::from_secs(1),
            archive: Kept::InLog,
            schedule: None,
            // About 200 bytes a row with its key and indexes: 200 MB.
            rows_max: 1_000_000,
            // A hand can mend these; more of them mean a producer that is set up wrongly.
            undecodable_max: 100,
        }
    }
}

/// What the consumer works on.
#[derive(Clone)]
pub struct ConsumerDeps {
    /// Where pulses come from.
    pub log: Arc<dyn Log>,
    /// Where totals go.
    pub store: Arc<dyn Store>,
    /// The store's secret for id hashes.
    pub hash_key: HashKey,
    /// How changes are handed to pricing.
    pub handoff: Outlet,
    /// Who takes dead letters as messages before the progress passes them; `None` where the store's are enough.
    pub letters: Option<Arc<LetterOutlet>>,
    /// Where halted partitions are told.
    pub halts: Arc<Halts>,
}

/// Folds until `shutdown`: reads no more, flushes what was folded, leaves the group, and returns. Blocks; give it its own
/// thread.
///
/// # Panics
/// When any of its threads does: a fold that has died must not look like one that has nothing to do.
pub fn run(config: &ConsumerConfig, deps: &ConsumerDeps, shutdown: &CancellationToken) {
    let Some(mut membership) = join(config, deps, shutdown) else { return };
    let owned = Owned::default();
    let workers = config.workers.clamp(1, deps.log.layout().partitions as usize);
    // The end of one, however it comes, ends all.
    let end = &shutdown.child_token();
    thread::scope(|scope| {
        let (routes, ends) = Routes::new(workers);
        for (number, work) in ends.into_iter().enumerate() {
            let fold_loop = FoldLoop::new(number, (config, deps), &owned);
            scope.spawn(move || {
                let _ends_all = end.clone().drop_guard();
                fold_loop.run(&work, end);
            });
        }
        scope.spawn(|| tending::run(&deps.log, &*deps.store, &owned, end));
        // Its end closes the routes, which ends the workers, each after its last flush.
        Reading::new((config, deps), &owned, &mut *membership, routes).run(end);
    });
}

/// Joins those who fold the log; `None` when shutdown came first.
fn join(
    config: &ConsumerConfig,
    deps: &ConsumerDeps,
    shutdown: &CancellationToken,
) -> Option<Box<dyn Membership>> {
    while !shutdown.is_cancelled() {
        match deps.log.join(&config.group) {
            Ok(membership) => return Some(membership),
            Err(error) => tracing::warn!(%error, "the group cannot be joined now"),
        }
        thread::sleep(RETRY_WAIT);
    }
    None
}
