//! What `pulso doctor` looks at in a cluster: brokers, topics, the generation, the store, its schema, halted partitions.

use pulso_domain::position::partition_place;
use pulso_ingestor_consumer::halts;
use pulso_platform::log::Log;
use pulso_platform::log::kafka::{
    self, DEFAULT_TOPIC, HANDOFF_TOPIC, KafkaLog, KafkaLogOptions, KafkaSettings,
};
use pulso_platform::store::{Store, identity};
use uuid::Uuid;

use super::settings::ClusterFlags;
use super::shared::open_store;
use crate::doctor::Finding;

/// Looks at both, each fault with its mend.
pub(super) fn look(flags: &ClusterFlags) -> Vec<Finding> {
    let mut findings = Vec::new();
    let log = match KafkaLog::open(&flags.kafka, KafkaLogOptions::default()) {
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

/// Whether log and store belong together, and what of them is halted.
fn together(log: &KafkaLog, store: &dyn Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(first) = log.generations().first()
        && let Err(error) = identity::bind_log(store, first.log_id)
    {
        let mend = "use the brokers and the keyspace that belong together";
        findings.push(Finding::fault("log and store", error.to_string(), mend));
    }
    for partition in log.partitions() {
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
