//! Fills a log with the pulses of a mix and ends: what a profiler then folds, again and again.

use std::path::PathBuf;

use crate::child::say;
use crate::mix::Mix;
use crate::records;

/// Arguments of [`fill`].
#[derive(clap::Args, Debug)]
pub struct FillArgs {
    /// The folder of the log.
    #[arg(long)]
    pub log: PathBuf,
    /// Pulses.
    #[arg(long)]
    pub pulses: u64,
    #[command(flatten)]
    mix: Mix,
}

/// Fills a log and says what it adds up to.
///
/// # Errors
/// When the log does not take them.
pub fn fill(args: &FillArgs) -> anyhow::Result<()> {
    let log = records::open(&args.log)?;
    let totals = records::fill(&*log, args.mix, args.pulses, 1)?;
    log.close();
    say(&totals)
}
