//! From the records of a topic to totals, by the pipeline of `pulso consumer`.

use std::sync::Arc;
use std::time::Instant;

use pulso_domain::fingerprint::HashKey;
use pulso_ingestor_consumer::archive::Kept;
use pulso_ingestor_consumer::pipeline::ConsumerConfig;
use pulso_platform::log::Log;
use pulso_platform::service::clock::Clock;
use pulso_platform::store::Store;
use pulso_platform::store::cql::apart::Apart;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::child::answer_each;
use crate::cluster::held_log::HeldLog;
use crate::cluster::ram_store::RamStore;
use crate::cpu;
use crate::mix::Totals;
use crate::role::consume::{Folding, month_totals};

/// Which topic, and where totals go.
#[derive(clap::Args, Clone, Debug)]
pub struct ConsumeArgs {
    #[command(flatten)]
    place: Place,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Into the nodes, with the archive, as `pulso consumer` does; into RAM without it.
    #[arg(long)]
    to_nodes: bool,
}

/// What reading a topic cost and what came out.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Consumed {
    /// CPU time of all threads.
    pub cpu_nanos: u64,
    /// Pulses that were read.
    pub pulses: u64,
    /// What the month rows add up to, where there are any.
    pub totals: Option<Totals>,
}

/// Folds the topic once for each `work`, from its first record to its end, and says what it cost.
pub(super) fn consume(args: &ConsumeArgs) -> anyhow::Result<()> {
    let log = args.place.log(&args.topic)? as Arc<dyn Log>;
    answer_each("work", || {
        let (store, archive): (Arc<dyn Store>, Kept) = if args.to_nodes {
            (Arc::new(Apart::new(args.place.store()?)), Kept::InStore)
        } else {
            (Arc::new(RamStore::new()), Kept::InLog)
        };
        // A group of its own, since one that went before may still be taken for alive.
        let group = format!("bench-{}", Clock::System.now_nanos());
        let config =
            ConsumerConfig { topic: args.topic.clone(), group, archive, ..ConsumerConfig::default() };
        let before = cpu::used();
        let folding = Folding::start_with(config, &log, Arc::clone(&store), HashKey::new([7; 16]));
        folding.drain(&*log, &*store)?;
        folding.stop()?;
        let cpu_nanos = u64::try_from((cpu::used() - before).as_nanos())?;
        let totals = month_totals(&*store, &*log)?;
        Ok(Consumed { cpu_nanos, pulses: totals.pulses, totals: Some(totals) })
    })
}

/// Which topic, and how many workers.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkersArgs {
    #[command(flatten)]
    place: Place,
    /// The topic, whose records are taken into RAM first.
    #[arg(long)]
    topic: String,
    /// Fold workers.
    #[arg(long)]
    workers: usize,
}

/// How long folding took once.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Workers {
    /// By the clock.
    pub wall_nanos: u64,
    /// CPU time of all threads.
    pub cpu_nanos: u64,
    /// What came out.
    pub totals: Totals,
}

/// Folds the records once for each `work`, into a store in RAM.
pub(super) fn workers(args: &WorkersArgs) -> anyhow::Result<()> {
    let log = Arc::new(HeldLog::of(&*args.place.log(&args.topic)?)?) as Arc<dyn Log>;
    answer_each("work", || {
        let store = Arc::new(RamStore::new()) as Arc<dyn Store>;
        let config = ConsumerConfig { workers: args.workers, ..ConsumerConfig::default() };
        let (begun, before) = (Instant::now(), cpu::used());
        let folding = Folding::start_with(config, &log, Arc::clone(&store), HashKey::new([7; 16]));
        folding.drain(&*log, &*store)?;
        let wall_nanos = u64::try_from(begun.elapsed().as_nanos())?;
        folding.stop()?;
        let cpu_nanos = u64::try_from((cpu::used() - before).as_nanos())?;
        Ok(Workers { wall_nanos, cpu_nanos, totals: month_totals(&*store, &*log)? })
    })
}
