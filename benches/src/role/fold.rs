//! From log bytes to flushed totals on one thread, with a flush after a fixed number of records: the same work whatever
//! the speed of the machine, so that its instructions can be counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulso_domain::fingerprint::HashKey;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::partition::{FoldConfig, FoldRules};
use pulso_ingestor_consumer::fold::state::FoldState;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::{Log, LogLayout, LogReader, LogRecord};
use pulso_platform::store::Store;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::memory::MemoryStore;

use super::consume::month_totals;
use crate::child::say;
use crate::records;

/// Records between two flushes: about what the pipeline folds in the second between two of its own.
const FLUSH_RECORDS: usize = 2048;

/// Arguments of [`fold`].
#[derive(clap::Args, Debug)]
pub struct FoldArgs {
    /// The folder of the log.
    #[arg(long)]
    pub log: PathBuf,
    /// The folder of the store; in memory when it is not given.
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// Only opens the log: what that costs grows with the log too.
    #[arg(long)]
    pub open: bool,
}

/// Folds a log into a new store and says what it adds up to.
///
/// # Errors
/// When it cannot be folded.
pub fn fold(args: &FoldArgs) -> anyhow::Result<()> {
    let log = records::open(&args.log)? as Arc<dyn Log>;
    let store: Arc<dyn Store> = match &args.store {
        Some(folder) => Arc::new(EmbeddedStore::open(folder, EmbeddedOptions::default())?),
        None => Arc::new(MemoryStore::new()),
    };
    if !args.open {
        fold_all(&*log, &store)?;
    }
    say(&month_totals(&*store, &*log)?)
}

fn fold_all(log: &dyn Log, store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let layout = log.layout();
    let mut workers = Vec::new();
    for partition in 0..layout.partitions {
        workers.push(worker(store, &layout, partition)?);
    }
    let starts: Vec<(u32, u64)> = (0..layout.partitions).map(|partition| (partition, 0)).collect();
    let mut reader = log.reader(&starts)?;
    let mut waiting = 0;
    loop {
        let records = read_some(&mut *reader)?;
        let drained = records.is_empty();
        for record in &records {
            let worker = workers.get_mut(record.partition as usize).context("a partition")?;
            fold_one(worker, record)?;
            worker.list_complete_runs().map_err(|stop| anyhow::anyhow!("{stop}"))?;
            waiting += 1;
        }
        if drained || waiting >= FLUSH_RECORDS {
            waiting = 0;
            for worker in &mut workers {
                worker.flush().map_err(|stop| anyhow::anyhow!("{stop}"))?;
            }
        }
        if drained {
            return Ok(());
        }
    }
}

/// Reads and verifies; a function of its own, so that callgrind can count what is within.
#[inline(never)]
fn read_some(reader: &mut dyn LogReader) -> anyhow::Result<Vec<LogRecord>> {
    Ok(reader.poll(Duration::ZERO)?)
}

/// Splits, decodes, dedups and adds one record; a function of its own as well.
#[inline(never)]
fn fold_one(worker: &mut PartitionWorker, record: &LogRecord) -> anyhow::Result<()> {
    worker.fold_record(record).map_err(|stop| anyhow::anyhow!("{stop}"))
}

/// The names of both, for callgrind.
pub const FOLD_STAGES: [&str; 2] =
    ["pulso_benches::role::fold::read_some*", "pulso_benches::role::fold::fold_one*"];

/// The worker of one partition, with the configuration of the pipeline.
///
/// # Errors
/// When the store cannot be read.
pub fn worker(store: &Arc<dyn Store>, layout: &LogLayout, partition: u32) -> anyhow::Result<PartitionWorker> {
    let config = FoldConfig {
        partition,
        partitions: layout.partitions,
        earlier: Vec::new(),
        topic: "resource-consumption".to_owned(),
        shape: RunShape::FORMAT,
        hash_key: HashKey::new(pulso_platform::store::identity::hash_key(&**store)?),
        rules: FoldRules::ALL,
    };
    let first = FoldState::first(layout.generation, layout.log_id);
    PartitionWorker::open(Arc::clone(store), config, &first).map_err(|stop| anyhow::anyhow!("{stop}"))
}
