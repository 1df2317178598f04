//! `pulso log`: what an operator may do to the log of a cluster, or of a data folder that no server holds: look at it, have it
//! read again, have it grow, or go on after a halt.

mod grow;
mod resume;
mod status;

use pulso_domain::position::partition_number;
use pulso_ingestor_consumer::admin::{Actor, AdminError, request_rewind};
use pulso_ingestor_consumer::fold::partition::FoldConfig;
use pulso_ingestor_consumer::opening;
use pulso_ingestor_consumer::pipeline::ConsumerConfig;
use pulso_platform::service::clock::Clock;
use pulso_platform::service::settings::DataSettings;
use serde_json::json;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::roles::built::Elsewhere;
use crate::roles::place::Place;

/// What to do with the log.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Examples:\n  pulso log status\n  pulso log rewind --partition 0 --to 0")]
pub enum LogCommand {
    /// Shows where each partition begins and ends, how far it is folded, and what is wrong with it.
    Status(StatusArgs),
    /// Has a partition read again from an offset on; changes no total.
    Rewind(RewindArgs),
    /// Begins the next generation of the log, with another number of partitions.
    Grow(GrowArgs),
    /// Goes on after a halt: skips records for good, and notes what was lost.
    Resume(ResumeArgs),
}

/// Flags of `pulso log status`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
While a server holds the folder, its ledger is asked instead (--api). With --kafka-brokers the log of a cluster is looked at.

Examples:
  pulso log status
  pulso log status --data-dir /var/lib/pulso --output json
  pulso log status --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct StatusArgs {
    /// Which folder.
    #[command(flatten)]
    pub folder: DataSettings,
    /// Where the server is, when one holds the folder.
    #[command(flatten)]
    pub server: ApiAddress,
    /// The cluster, instead of the data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

/// Flags of `pulso log rewind`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The partition is read again from there at the next start of the server that folds it; what comes out is compared with what is
stored.

Examples:
  pulso log rewind --partition 0 --to 0
  pulso log rewind --partition 3 --to 1200 --data-dir /var/lib/pulso
  pulso log rewind --partition 3 --to 1200 --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct RewindArgs {
    /// Which partition.
    #[arg(long)]
    pub partition: u32,
    /// Of which generation; the newest when not given.
    #[arg(long)]
    pub generation: Option<u32>,
    /// The first offset to read again.
    #[arg(long, value_name = "OFFSET")]
    pub to: u64,
    /// Which folder.
    #[command(flatten)]
    pub folder: DataSettings,
    /// The cluster, instead of the data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

/// Flags of `pulso log grow`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The next generation takes what comes from then on; the one before ends with a seal in each partition and stays readable.
Duplicates are still found, and no total changes. Running it again changes nothing, or brings to its end what was cut off.
A folder grows while no server holds it; the roles of a cluster go on and follow by themselves.

Examples:
  pulso log grow --partitions 16
  pulso log grow --partitions 16 --data-dir /var/lib/pulso
  pulso log grow --partitions 48 --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct GrowArgs {
    /// How many partitions the next generation has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: u32,
    /// Which folder.
    #[command(flatten)]
    pub folder: DataSettings,
    /// The cluster, instead of the data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

/// Flags of `pulso log resume`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
With --skip-to the records from where the partition stands up to that offset are given up for good: the ledger keeps the gap
with your note. Without it, --note is put to every cut of the log that has none yet, so that the audit is green again.
Restore the log from a backup when you can: what is skipped is never billed.

With the flags of a cluster --skip-to is for a partition that its consumer has halted; start the consumer again behind it.
Where a topic was deleted, made again or cut, --note alone gives up the partitions that were lost, from where they are folded
on, and begins a next generation, in which everything goes on. Stop the consumers before, or see that they have halted them.

Examples:
  pulso log resume --partition 2 --skip-to 4711 --note 'disk 3 died, pulses sent again by their owners'
  pulso log resume --note 'power loss on May 3; senders repeated their last batches'
  pulso log resume --note 'topic deleted by mistake' --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct ResumeArgs {
    /// Which partition.
    #[arg(long, requires = "skip_to")]
    pub partition: Option<u32>,
    /// Of which generation; the newest when not given.
    #[arg(long, requires = "partition")]
    pub generation: Option<u32>,
    /// The first offset that is not given up.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub skip_to: Option<u64>,
    /// Why, for whoever reads the ledger later.
    #[arg(long, value_name = "TEXT")]
    pub note: String,
    /// Which folder.
    #[command(flatten)]
    pub folder: DataSettings,
    /// The cluster, instead of the data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

/// Does it.
///
/// # Errors
/// When the folder is in use, the partition or offset makes no sense, or log or store cannot be used.
pub fn run(command: &LogCommand, format: Format) -> Outcome {
    match command {
        LogCommand::Status(args) => status::run(args, format),
        LogCommand::Rewind(args) => rewind(args, format),
        LogCommand::Grow(args) => grow::run(args, format),
        LogCommand::Resume(args) => resume::run(args, format),
    }
}

fn rewind(args: &RewindArgs, format: Format) -> Outcome {
    let place = Place::open(&args.folder, &args.elsewhere)?;
    let partition = partition_of(&place, args.generation, args.partition)?;
    let wish = (partition, args.to);
    request_rewind(&*place.log, &*place.store, wish, &actor()).map_err(|error| refused(&error))?;
    let done = json!({ "partition": args.partition, "to": args.to });
    output::rows(format, &done, std::slice::from_ref(&done), &["partition", "to"])?;
    output::note("the partition is read again at the next start");
    place.close()?;
    Ok(Exit::Ok)
}

/// A partition's number over all generations.
fn partition_of(place: &Place, generation: Option<u32>, index: u32) -> Result<u32, Failure> {
    let layouts = place.log.generations();
    let newest = place.log.layout();
    let wanted = generation.unwrap_or(newest.generation);
    let Some(layout) = layouts.iter().find(|layout| layout.generation == wanted) else {
        let newest = newest.generation;
        return Err(Failure::not_found(format!("the log has no generation {wanted}, only 1 to {newest}")));
    };
    if index < layout.partitions {
        return Ok(partition_number(wanted, index));
    }
    let last = layout.partitions - 1;
    Err(Failure::not_found(format!("the log has no partition {index}, only 0 to {last}")))
}

/// How a partition of this log is folded, as the server does it.
fn fold_config(place: &Place, partition: u32) -> FoldConfig {
    let topic = ConsumerConfig::default().topic;
    opening::fold_config(&place.log.generations(), partition, &topic, place.hash_key)
}

/// Who is at the keyboard, as far as the system says.
pub(crate) fn actor() -> Actor {
    Actor { name: actor_name(), at_nanos: Clock::System.now_nanos() }
}

/// The name of whoever is at the keyboard.
pub(crate) fn actor_name() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let name = name.filter(|name| !name.trim().is_empty());
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

pub(crate) fn refused(error: &AdminError) -> Failure {
    match error {
        AdminError::Offset { .. } | AdminError::NoNote | AdminError::Log(_) => Failure::usage(error),
        AdminError::NothingLost => Failure::not_found(error),
        AdminError::Rewinding(_) | AdminError::Stop(_) => Failure::failed(error),
    }
}
