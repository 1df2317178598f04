//! `pulso init`: makes or checks topics, keyspace, tables and the first generation. Running it again changes nothing.

use std::time::Duration;

use pulso_platform::log::kafka::{self, TopicPlan};
use pulso_platform::service::clock::Clock;
use pulso_platform::service::settings::parse_duration;
use pulso_platform::store::cql::schema;
use pulso_platform::store::{Store, identity};
use serde_json::json;

use super::settings::ClusterFlags;
use super::shared::{log_failure, open_store, store_failure};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};

/// Flags of `pulso init`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
What is missing is made, what is there is checked: a topic with other settings, tables of a newer version, or a log that is
not the one that was folded is told in one sentence, exit 2. Partitions, copies and horizon hold for what is made now.

Examples:
  pulso init --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042 --replication-factor 1
  pulso init --kafka-brokers k1:9092,k2:9092,k3:9092 --cql-nodes c1:9042,c2:9042 --partitions 48")]
pub struct InitArgs {
    /// Where log and store are.
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Partitions of the first generation; `pulso log grow` changes them later
    #[arg(long, env = "PULSO_PARTITIONS", value_name = "NUMBER", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: u32,
    /// Copies of each partition of a topic and of each row of the store
    #[arg(long, env = "PULSO_REPLICATION_FACTOR", value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub replication_factor: u16,
    /// How long an id is remembered behind the newest record: longer than the acceptance limit and the log's retention together
    #[arg(long, env = "PULSO_ID_HORIZON", value_name = "DURATION", default_value = "60d", value_parser = parse_duration)]
    pub id_horizon: Duration,
    /// How long the log keeps a record; the archive in the store has no end
    #[arg(long, env = "PULSO_LOG_RETENTION", value_name = "DURATION", default_value = "7d", value_parser = parse_duration)]
    pub log_retention: Duration,
}

/// Makes or checks it.
///
/// # Errors
/// One sentence with the mend.
pub(super) fn run(args: &InitArgs, format: Format) -> Outcome {
    let plan = TopicPlan {
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        id_horizon: args.id_horizon,
        retention: args.log_retention,
        ..TopicPlan::default()
    };
    let ClusterFlags { kafka, cql } = &args.cluster;
    // The store first: a log that begins is bound to it.
    schema::init(cql, args.replication_factor.into()).map_err(|error| store_failure(&error))?;
    let (store, _) = open_store(cql).map_err(|error| store_failure(&error))?;
    let report = kafka::init(kafka, &plan, &Clock::System).map_err(|error| log_failure(&error))?;
    let layout = report.layout;
    if layout.generation == 1 {
        bind(&*store, layout.log_id)?;
    }
    let made = if report.created.is_empty() { "nothing".to_owned() } else { report.created.join(" ") };
    let row = json!({
        "generation": layout.generation, "partitions": layout.partitions,
        "keyspace": cql.cql_keyspace, "made": made,
    });
    output::rows(
        format,
        &row,
        std::slice::from_ref(&row),
        &["generation", "partitions", "keyspace", "made"],
    )?;
    Ok(Exit::Ok)
}

/// A store belongs to one log for ever.
fn bind(store: &dyn Store, log_id: [u8; 16]) -> Result<(), Failure> {
    identity::bind_log(store, log_id).map_err(Failure::usage)
}
