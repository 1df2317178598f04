//! The cluster for commands that also work on a data folder: its flags are given, or the folder is meant.

use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use pulso_ingestor_consumer::handoff::Handoff;
use pulso_platform::log::Log;
use pulso_platform::log::kafka::{KafkaLog, KafkaLogOptions};
use pulso_platform::store::Store;

use super::consumer::HandoffFlags;
use super::doctor;
use super::settings::ClusterFlags;
use super::shared::{log_failure, open_store, store_failure};
use crate::cli::exit::Failure;
use crate::doctor::Finding;
use crate::roles::place::Place;

/// The flag that says that the cluster is meant.
const BROKERS: &str = "kafka_brokers";

/// Where a cluster is, when its brokers are given.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere(Option<ClusterFlags>);

/// How usage is handed over, in a cluster.
pub type Handing = HandoffFlags;

impl Elsewhere {
    /// Opens it, when it is meant. Blocks.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn open(&self) -> Result<Option<Place>, Failure> {
        let Some(ClusterFlags { kafka, cql }) = &self.0 else { return Ok(None) };
        let log = KafkaLog::open(kafka, KafkaLogOptions::default()).map_err(|error| log_failure(&error))?;
        let (store, hash_key) = open_store(cql).map_err(|error| store_failure(&error))?;
        let (log, store) = (Arc::new(log) as Arc<dyn Log>, store as Arc<dyn Store>);
        Ok(Some(Place::of_cluster(log, store, hash_key)))
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
