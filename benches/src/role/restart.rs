//! A process that is killed while it folds, and the one that starts after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_platform::log::Log;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::{Store, identity};
use serde::{Deserialize, Serialize};

use super::consume::{Folding, month_totals};
use super::fold::worker;
use crate::child::{answer_until_the_end, say};
use crate::mix::{Mix, Totals};
use crate::records;

/// Arguments of [`run`].
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    /// The data folder.
    #[arg(long)]
    pub folder: PathBuf,
    /// Pulses that are folded before.
    #[arg(long)]
    pub before: u64,
    /// Pulses after whose last answer the process waits to be killed.
    #[arg(long)]
    pub pulses: u64,
    /// What they are like.
    #[command(flatten)]
    pub mix: Mix,
}

/// Arguments of [`start`].
#[derive(clap::Args, Debug)]
pub struct StartArgs {
    /// The data folder.
    #[arg(long)]
    pub folder: PathBuf,
}

/// What a started process found.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Started {
    /// Ids in closed runs.
    pub closed_ids: u64,
    /// Records that were in the log and not folded yet.
    pub behind: u64,
}

/// Folds while it appends, says what was acknowledged, and waits for its end.
///
/// # Errors
/// When something fails before.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let (log, store, hash_key) = open(&args.folder)?;
    let folding = Folding::start(&log, Arc::clone(&store), hash_key);
    let before = records::fill(&*log, args.mix, args.before, 1)?;
    folding.drain(&*log, &*store)?;
    let last = records::fill(&*log, args.mix, args.pulses, 2)?;
    say(&before.plus(last))?;
    answer_until_the_end()
}

/// Opens everything, says that it is ready, then folds to the end and says what that adds up to.
///
/// # Errors
/// When something cannot be opened.
pub fn start(args: &StartArgs) -> anyhow::Result<()> {
    let (log, store, hash_key) = open(&args.folder)?;
    let layout = log.layout();
    let mut started = Started { closed_ids: 0, behind: 0 };
    for partition in 0..layout.partitions {
        let worker = worker(&store, &layout, partition)?;
        started.closed_ids += worker.fold().index().filter_bytes().1;
        started.behind += log.watermarks(partition)?.end_offset - worker.fold().state().offset;
    }
    say(&started)?;
    let folding = Folding::start(&log, Arc::clone(&store), hash_key);
    folding.drain(&*log, &*store)?;
    folding.stop()?;
    say::<Totals>(&month_totals(&*store, &*log)?)
}

/// The log, the store, and the store's secret.
type Opened = (Arc<dyn Log>, Arc<dyn Store>, HashKey);

fn open(folder: &Path) -> anyhow::Result<Opened> {
    let log = records::open(&folder.join("log"))? as Arc<dyn Log>;
    let store = Arc::new(EmbeddedStore::open(folder.join("store"), EmbeddedOptions::default())?);
    let hash_key = HashKey::new(identity::hash_key(&*store)?);
    Ok((log, store, hash_key))
}
