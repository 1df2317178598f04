//! The cluster for commands that also work on a data folder: its flags are given, or the folder is meant.

use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use pulso_domain::position::{partition_generation, partition_index};
use pulso_ingestor_consumer::handoff::Handoff;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::mending::{GivenUp, Mending, mend};
use pulso_platform::log::Log;
use pulso_platform::log::generations::GrowReport;
use pulso_platform::log::kafka::{self, DEFAULT_TOPIC, GrowStep, Growth, KafkaGenerations, KafkaLogOptions};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::Store;
use serde_json::{Value, json};

use super::consumer::HandoffFlags;
use super::doctor;
use super::settings::ClusterFlags;
use super::shared::{log_failure, open_store, store_failure};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::doctor::Finding;
use crate::log_admin::{actor, refused};
use crate::roles::place::Place;

/// The flag that says that the cluster is meant.
const BROKERS: &str = "kafka_brokers";

/// Where a cluster is, when its brokers are given.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere(Option<ClusterFlags>);

/// How usage is handed over, in a cluster.
pub type Handing = HandoffFlags;

impl Elsewhere {
    /// Whether a cluster is meant.
    #[must_use]
    pub const fn is_meant(&self) -> bool {
        self.0.is_some()
    }

    /// Opens it, when it is meant. Blocks.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn open(&self) -> Result<Option<Place>, Failure> {
        self.open_with(KafkaLogOptions::default())
    }

    /// As [`Self::open`], also when the log is not what it was.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn open_to_mend(&self) -> Result<Option<Place>, Failure> {
        self.open_with(KafkaLogOptions { to_mend: true, ..KafkaLogOptions::default() })
    }

    fn open_with(&self, options: KafkaLogOptions) -> Result<Option<Place>, Failure> {
        let Some(ClusterFlags { kafka, cql }) = &self.0 else { return Ok(None) };
        let log = KafkaGenerations::open(kafka, options).map_err(|error| log_failure(&error))?;
        let (store, hash_key) = open_store(cql).map_err(|error| store_failure(&error))?;
        let (log, store) = (Arc::new(log) as Arc<dyn Log>, store as Arc<dyn Store>);
        Ok(Some(Place::of_cluster(log, store, hash_key)))
    }

    /// Begins the next generation of its log with so many partitions; `None` when the cluster is not meant. Says on stderr how
    /// far it is.
    ///
    /// # Errors
    /// One sentence with the mend; another run goes on from there.
    pub fn grow(&self, partitions: u32) -> Result<Option<GrowReport>, Failure> {
        let Some(ClusterFlags { kafka, cql }) = &self.0 else { return Ok(None) };
        let (store, _) = open_store(cql).map_err(|error| store_failure(&error))?;
        let growth = Growth {
            topic: DEFAULT_TOPIC,
            clock: &Clock::System,
            is_folded: &|partition| lookup::is_folded_past_its_seal(&*store, partition),
            told: &mut |step: GrowStep| {
                output::note(step);
                Ok(())
            },
        };
        kafka::grow(kafka, growth, partitions).map(Some).map_err(|error| log_failure(&error))
    }

    /// Goes on after a loss of its log; `None` when the cluster is not meant. Says on stderr how far it is, and gives what was
    /// given up.
    ///
    /// # Errors
    /// When nothing is lost, or log or store cannot be used.
    pub fn mend(&self, note: &str) -> Result<Option<Value>, Failure> {
        let Some(ClusterFlags { kafka, cql }) = &self.0 else { return Ok(None) };
        let (store, hash_key) = open_store(cql).map_err(|error| store_failure(&error))?;
        let (settings, topic, actor) = (kafka, DEFAULT_TOPIC, actor());
        let mending = Mending { settings, topic, store, hash_key, actor, note };
        let mended = mend(&mending, &mut output::note).map_err(|error| refused(&error))?;
        let given_up = mended.given_up.iter().map(|GivenUp { partition, reason, gap }| {
            json!({
                "partition": partition_index(*partition), "generation": partition_generation(*partition),
                "from": gap.from, "actor": gap.actor, "note": gap.note, "reason": reason,
            })
        });
        Ok(Some(json!({
            "generation": mended.layout.generation, "partitions": mended.layout.partitions, "begun": mended.begun,
            "given_up": given_up.collect::<Vec<_>>(),
        })))
    }

    /// What `pulso doctor` finds there; `None` when the cluster is not meant.
    #[must_use]
    pub fn findings(&self) -> Option<Vec<Finding>> {
        self.0.as_ref().map(doctor::look)
    }
}

impl HandoffFlags {
    /// The hand-off of a cluster; `None` when it is not meant.
    ///
    /// # Errors
    /// When the address is none, or the topic is not there.
    pub fn open(&self, elsewhere: &Elsewhere) -> Result<Option<Arc<dyn Handoff>>, Failure> {
        elsewhere.0.as_ref().map(|flags| self.to(&flags.kafka)).transpose()
    }
}

impl FromArgMatches for Elsewhere {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_meant = matches.contains_id(BROKERS);
        let flags = is_meant.then(|| ClusterFlags::from_arg_matches(matches));
        Ok(Self(flags.transpose()?))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Elsewhere {
    fn augment_args(command: Command) -> Command {
        ClusterFlags::augment_args(command).mut_arg(BROKERS, |brokers| brokers.required(false))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Look {
        #[command(flatten)]
        elsewhere: Elsewhere,
    }

    #[test]
    fn the_cluster_is_meant_when_its_brokers_are_given() {
        let meant = |arguments: &[&str]| Look::try_parse_from(arguments).expect("parses").elsewhere.0;
        assert!(meant(&["look"]).is_none());
        let flags = meant(&["look", "--kafka-brokers", "k:9092", "--cql-nodes", "c:9042"]).expect("meant");
        assert_eq!(flags.kafka.kafka_brokers, "k:9092");
        assert_eq!(flags.cql.cql_nodes, ["c:9042"]);
    }
}
