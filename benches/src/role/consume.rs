//! From log bytes to durable totals: the pipeline over a log that is complete, into a new store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pulso_domain::fingerprint::HashKey;
use pulso_domain::usage::{UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_ingestor_consumer::halts::Halts;
use pulso_ingestor_consumer::handoff::Outlet;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::pipeline::{self, ConsumerConfig, ConsumerDeps};
use pulso_platform::log::Log;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::{Range, Store, Table, identity, keys};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::child::say;
use crate::mix::Totals;
use crate::{cpu, records};

/// How long a fold may take: far more than any does.
const DRAIN_MAX: Duration = Duration::from_secs(1800);

/// Arguments of [`consume`].
#[derive(clap::Args, Debug)]
pub struct ConsumeArgs {
    /// The folder of the log.
    #[arg(long)]
    pub log: PathBuf,
    /// The folder of the store.
    #[arg(long)]
    pub store: PathBuf,
}

/// What a fold cost and what came out.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Consumed {
    /// CPU time of all threads, from the opened log to totals on the disk.
    pub cpu_nanos: u64,
    /// What the month rows add up to.
    pub totals: Totals,
}

/// Folds a log into a new store and says what it cost.
///
/// # Errors
/// When it cannot be folded.
pub fn consume(args: &ConsumeArgs) -> anyhow::Result<()> {
    let log = records::open(&args.log)? as Arc<dyn Log>;
    let before = cpu::used();
    let store = Arc::new(EmbeddedStore::open(&args.store, EmbeddedOptions::default())?);
    let hash_key = HashKey::new(identity::hash_key(&*store)?);
    let folding = Folding::start(&log, Arc::clone(&store) as Arc<dyn Store>, hash_key);
    folding.drain(&*log, &*store)?;
    folding.stop()?;
    store.sync()?;
    let cpu_nanos = u64::try_from((cpu::used() - before).as_nanos())?;
    say(&Consumed { cpu_nanos, totals: month_totals(&*store, &*log)? })
}

/// A pipeline that runs on a thread of its own.
pub struct Folding {
    shutdown: CancellationToken,
    thread: std::thread::JoinHandle<()>,
    halts: Arc<Halts>,
}

impl Folding {
    /// Starts it as `pulso dev` does.
    #[must_use]
    pub fn start(log: &Arc<dyn Log>, store: Arc<dyn Store>, hash_key: HashKey) -> Self {
        Self::start_with(ConsumerConfig::default(), log, store, hash_key)
    }

    /// Starts it.
    #[must_use]
    pub fn start_with(
        config: ConsumerConfig,
        log: &Arc<dyn Log>,
        store: Arc<dyn Store>,
        hash_key: HashKey,
    ) -> Self {
        let (handoff, changes) = crossbeam_channel::unbounded();
        let halts = Arc::new(Halts::default());
        let deps = ConsumerDeps {
            log: Arc::clone(log),
            store,
            hash_key,
            handoff: Outlet::InProcess(handoff),
            letters: None,
            halts: Arc::clone(&halts),
        };
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let thread = std::thread::spawn(move || {
            // Pricing is not part of this; what is handed to it is let go when the pipeline ends.
            let _changes = changes;
            pipeline::run(&config, &deps, &token);
        });
        Self { shutdown, thread, halts }
    }

    /// Waits until all of the log is folded and flushed.
    ///
    /// # Errors
    /// When a partition halts, or it takes too long.
    pub fn drain(&self, log: &dyn Log, store: &dyn Store) -> anyhow::Result<()> {
        let since = Instant::now();
        for partition in 0..log.layout().partitions {
            let end = log.watermarks(partition)?.end_offset;
            while lookup::folded_through(store, partition)?.offset() < end {
                ensure!(!self.halts.is_halted(partition), "partition {partition} halted");
                ensure!(since.elapsed() < DRAIN_MAX, "the fold does not come to the end");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it had panicked.
    pub fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.thread.join().map_err(|_| anyhow::anyhow!("the pipeline panicked"))
    }
}

/// What the month rows of all tenants add up to.
///
/// # Errors
/// When the store cannot be read.
pub fn month_totals(store: &dyn Store, log: &dyn Log) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    for partition in 0..log.layout().partitions {
        let months =
            store.scan(Table::Tenants, &keys::months_partition(partition), &Range::all(), usize::MAX)?;
        for (key, _) in months {
            let (tenant, month) = keys::decode_month_clustering(&key).context("a tenant-month")?;
            let rows = Range::prefix(&usage_clustering_prefix(month));
            for (_, cell) in
                store.scan(Table::Usage, &usage_partition_key(tenant, month), &rows, usize::MAX)?
            {
                let row = UsageRow::decode(&cell.value).context("a usage row")?;
                totals.pulses += row.count;
                totals.steps += row.sum.steps().as_i128();
            }
        }
    }
    Ok(totals)
}
