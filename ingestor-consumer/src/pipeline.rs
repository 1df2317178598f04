//! The journey of a pulse from the log to its totals, top to bottom:
//!
//! ```text
//! open      each partition: progress, id runs, rewind; its last folded record is read again and compared
//! read      one reader over all partitions, only durable records
//! route     records by partition into bounded channels, a batch per message: back-pressure reaches the reader
//! fold      one thread per shard of partitions: load what a record needs, decide each fate, count
//! flush     rows, runs, directories, dead letters, progress: one atomic batch in one process
//! hand off  what changed goes to pricing
//! tend      in the background: merge id runs, let expired ones go
//! ```

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use pulso_domain::fingerprint::HashKey;
use pulso_platform::log::{Log, LogError, LogReader, LogRecord};
use pulso_platform::store::Store;
use tokio_util::sync::CancellationToken;

use crate::archive::Kept;
use crate::fold::ids::RunShape;
use crate::fold::letter_message::LetterOutlet;
use crate::fold::partition::{FoldConfig, FoldRules};
use crate::fold_loop::{FoldLoop, OpenPartition};
use crate::halts::Halts;
use crate::handoff::Outlet;
use crate::opening::{Opened, open_partition};
use crate::tending;

/// How long the reader waits for records before it looks whether it shall stop.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Batches between the reader and each fold worker: enough to hide a flush, few enough to bound memory.
const QUEUE_BATCHES: usize = 8;

/// The consumer's settings.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The log's topic, for dead letters.
    pub topic: String,
    /// Fold workers; partitions are spread over them.
    pub workers: usize,
    /// Longest time between two flushes while records come.
    pub flush_every: Duration,
    /// Where folded records are archived: the fold writes them to the store where the log does not keep them for good.
    pub archive: Kept,
    /// Usage rows that each worker holds in RAM at most, about; more are evicted after a flush.
    pub rows_max: usize,
    /// Undecodable records among the last 1000 of a partition before it halts; 0 for no limit.
    pub undecodable_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            topic: "resource-consumption".to_owned(),
            workers: 1,
            flush_every: Duration::from_secs(1),
            archive: Kept::InLog,
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

/// Folds until `shutdown`: reads no more, flushes what was folded, and returns. Blocks; give it its own thread.
pub fn run(config: &ConsumerConfig, deps: &ConsumerDeps, shutdown: &CancellationToken) {
    let shards = open(config, deps, shutdown);
    let starts: Vec<(u32, u64)> =
        shards.iter().flatten().map(|open| (open.partition, open.worker.fold().state().offset)).collect();
    thread::scope(|scope| {
        let mut routes = Vec::with_capacity(shards.len());
        for (number, shard) in shards.into_iter().enumerate() {
            let (sender, receiver): (Sender<Vec<LogRecord>>, Receiver<_>) = bounded(QUEUE_BATCHES);
            routes.push(sender);
            let fold_loop = FoldLoop::new(number, shard, config, deps);
            scope.spawn(move || fold_loop.run(&receiver, shutdown));
        }
        scope.spawn(|| tending::run(&deps.log, &*deps.store, shutdown));
        read_and_route(&starts, &routes, deps, shutdown);
        // Dropping the routes ends the workers, each after its last flush.
        drop(routes);
    });
}

/// Opens every partition, spread over the workers. A partition that cannot be opened halts; the others go on.
fn open(
    config: &ConsumerConfig,
    deps: &ConsumerDeps,
    shutdown: &CancellationToken,
) -> Vec<Vec<OpenPartition>> {
    let layout = deps.log.layout();
    let mut shards: Vec<Vec<OpenPartition>> = Vec::new();
    shards.resize_with(config.workers.clamp(1, layout.partitions as usize), Vec::new);
    for partition in 0..layout.partitions {
        let fold_config = FoldConfig {
            partition,
            partitions: layout.partitions,
            topic: config.topic.clone(),
            shape: RunShape::FORMAT,
            hash_key: deps.hash_key,
            rules: FoldRules::ALL,
        };
        match open_partition(deps, fold_config, config.archive, shutdown) {
            Opened::Ready(worker) => {
                let shard = partition as usize % shards.len();
                shards[shard].push(OpenPartition { partition, worker: *worker });
            }
            Opened::Halted(sentence) => deps.halts.halt(&*deps.store, partition, &sentence),
            Opened::Stopped => break,
        }
    }
    shards
}

/// Reads until shutdown and sends each worker its partitions' records.
fn read_and_route(
    starts: &[(u32, u64)],
    routes: &[Sender<Vec<LogRecord>>],
    deps: &ConsumerDeps,
    shutdown: &CancellationToken,
) {
    let Some(mut reader) = open_reader(starts, deps, shutdown) else { return };
    while !shutdown.is_cancelled() {
        match reader.poll(POLL_WAIT) {
            Ok(records) => {
                if !route(records, routes) {
                    return;
                }
            }
            Err(error) => reader_failed(&error, deps),
        }
    }
}

fn open_reader(
    starts: &[(u32, u64)],
    deps: &ConsumerDeps,
    shutdown: &CancellationToken,
) -> Option<Box<dyn LogReader>> {
    while !shutdown.is_cancelled() {
        match deps.log.reader(starts) {
            Ok(reader) => return Some(reader),
            Err(error) => reader_failed(&error, deps),
        }
    }
    None
}

/// Sends the records on; false when a worker is gone, which its thread's end reports.
fn route(records: Vec<LogRecord>, routes: &[Sender<Vec<LogRecord>>]) -> bool {
    let mut batches: Vec<Vec<LogRecord>> = Vec::new();
    batches.resize_with(routes.len(), Vec::new);
    for record in records {
        batches[record.partition as usize % routes.len()].push(record);
    }
    let full = batches.into_iter().zip(routes).filter(|(batch, _)| !batch.is_empty());
    full.fold(true, |alive, (batch, route)| route.send(batch).is_ok() && alive)
}

/// Damage halts the partition named, or all of them; anything else is tried again after a while.
fn reader_failed(error: &LogError, deps: &ConsumerDeps) {
    match error {
        LogError::Damaged { partition, .. } => {
            let sentence = format!("{error}; restore the file, or see `pulso log resume --help`");
            let all = 0..deps.log.layout().partitions;
            let halted = partition.map_or(all, |one| one..one + 1);
            halted.for_each(|partition| deps.halts.halt(&*deps.store, partition, &sentence));
        }
        other => tracing::warn!(error = %other, "the log cannot be read now"),
    }
    thread::sleep(POLL_WAIT);
}
