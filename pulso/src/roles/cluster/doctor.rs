//! What `pulso doctor` looks at in a cluster: brokers, topics, the generation, the store, its schema, halted partitions.

use pulso_domain::position::partition_place;
use pulso_ingestor_consumer::{halts, lookup};
use pulso_platform::log::Log;
use pulso_platform::log::kafka::{
    self, DEFAULT_TOPIC, HANDOFF_TOPIC, KafkaGenerations, KafkaLogOptions, KafkaSettings, Unfinished,
};
use pulso_platform::store::{Store, identity};
use uuid::Uuid;

use super::settings::ClusterFlags;
use super::shared::open_store;
use crate::doctor::Finding;

/// Looks at both, each fault with its mend.
pub(super) fn look(flags: &ClusterFlags) -> Vec<Finding> {
    let mut findings = Vec::new();
    let log = match KafkaGenerations::open(&flags.kafka, KafkaLogOptions::default()) {
        Ok(log) => {
            let layout = log.layout();
            let (topic, id) = (log.topic(), Uuid::from_bytes(layout.log_id));
            let detail = format!(
                "{topic}, generation {}, {} partitions, log {id}",
                layout.generation, layout.partitions
            );
            findings.push(Finding::good("kafka", detail));
            findings.push(beside(&flags.kafka));
            Some(log)
        }
        Err(error) => {
            let mend = "make what is missing with pulso init; the sentence names what else to change";
            findings.push(Finding::fault("kafka", error.to_string(), mend));
            None
        }
    };
    match open_store(&flags.cql) {
        Ok((store, _)) => {
            findings.push(Finding::good("store", format!("keyspace {}", flags.cql.cql_keyspace)));
            if let Some(log) = &log {
                findings.extend(together(log, &*store));
                findings.extend(grown(log, &*store));
            }
        }
        Err(error) => {
            let mend = "check --cql-nodes, --cql-user and --cql-ca; pulso init makes keyspace and tables";
            findings.push(Finding::fault("store", error.to_string(), mend));
        }
    }
    findings
}

/// The topics that stand beside the log's.
fn beside(kafka: &KafkaSettings) -> Finding {
    let (letters, usage) = (kafka::dead_letter_topic(DEFAULT_TOPIC), HANDOFF_TOPIC);
    match kafka::check_beside(kafka, DEFAULT_TOPIC) {
        Ok(()) => Finding::good("topics", format!("{letters} and {usage} are there")),
        Err(error) => {
            let mend = "make what is missing with pulso init; set what is set otherwise as the sentence says";
            Finding::fault("topics", error.to_string(), mend)
        }
    }
}

/// What of growing the log was not brought to its end.
fn grown(log: &KafkaGenerations, store: &dyn Store) -> Option<Finding> {
    let check = "generations";
    let newest = log.layout();
    let mend = |partitions: u32| format!("bring it to its end with pulso log grow --partitions {partitions}");
    match kafka::unfinished(log.settings(), DEFAULT_TOPIC, &|partition| {
        lookup::is_folded_past_its_seal(store, partition)
    }) {
        Err(error) => Some(Finding::fault(check, error.to_string(), "look again when the brokers answer")),
        Ok(Unfinished { begun: Some(next), .. }) => {
            let detail =
                format!("generation {} was begun and has not begun in every partition", next.generation);
            Some(Finding::fault(check, detail, mend(next.partitions)))
        }
        Ok(Unfinished { unsealed, .. }) if !unsealed.is_empty() => {
            let places: Vec<String> = unsealed.iter().map(|partition| partition_place(*partition)).collect();
            let detail = format!(
                "generation {} was begun, and before it these partitions have no seal: {}",
                newest.generation,
                places.join(", ")
            );
            Some(Finding::fault(check, detail, mend(newest.partitions)))
        }
        Ok(_) => None,
    }
}

/// Whether log and store belong together, and what of them is halted.
fn together(log: &KafkaGenerations, store: &dyn Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(first) = log.generations().first()
        && let Err(error) = identity::bind_log(store, first.log_id)
    {
        let mend = "use the brokers and the keyspace that belong together";
        findings.push(Finding::fault("log and store", error.to_string(), mend));
    }
    let is_given_up = |partition: &u32| {
        lookup::load_state(store, *partition)
            .is_ok_and(|state| state.is_some_and(|state| state.is_given_up()))
    };
    for partition in log.partitions().into_iter().filter(|partition| !is_given_up(partition)) {
        let check = format!("partition {}", partition_place(partition));
        let mend = "pulso log status says more; pulso log resume goes on";
        match (log.watermarks(partition), halts::read(store, partition)) {
            (Err(error), _) => findings.push(Finding::fault(&check, error.to_string(), mend)),
            (_, Err(error)) => findings.push(Finding::fault(&check, error.to_string(), mend)),
            (_, Ok(Some(sentence))) => {
                findings.push(Finding::fault(&check, format!("halted: {sentence}"), mend))
            }
            (Ok(_), Ok(None)) => {}
        }
    }
    findings
}
