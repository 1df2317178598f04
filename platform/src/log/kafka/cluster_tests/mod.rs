//! Tests against real brokers. `make test-cluster` starts them and names them in the environment; without them these tests
//! fail, they never skip.

mod conforming;
mod foreign;
mod growing;
mod making;
mod secured;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::log::kafka::{KafkaLog, KafkaLogOptions, KafkaSettings, TopicPlan, init};
use crate::service::clock::Clock;

/// Partitions of a test's log: those of the conformance suite.
const PARTITIONS: u32 = crate::log::conformance::PARTITIONS;

/// The brokers of a variable, or a sentence that says how to start them.
fn named_brokers(variable: &str) -> KafkaSettings {
    let brokers = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} names no brokers; run make test-cluster"));
    KafkaSettings::plaintext(&brokers)
}

/// One broker.
fn one_broker() -> KafkaSettings {
    named_brokers("PULSO_TEST_KAFKA")
}

/// A plan for topics of a name that nobody had before.
fn plan() -> TopicPlan {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let name = format!("test-{}-{process}-{number}", uuid::Uuid::new_v4().simple());
    TopicPlan {
        handoff_topic: format!("{name}.usage"),
        topic: name,
        partitions: PARTITIONS,
        replication_factor: 1,
        id_horizon: Duration::ZERO,
        ..TopicPlan::default()
    }
}

fn options(plan: &TopicPlan) -> KafkaLogOptions {
    KafkaLogOptions { topic: plan.topic.clone(), ..KafkaLogOptions::default() }
}

fn make(settings: &KafkaSettings, plan: &TopicPlan) {
    init(settings, plan, &Clock::System).unwrap_or_else(|error| panic!("{error}"));
}

fn open(settings: &KafkaSettings, plan: &TopicPlan) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::open(settings, options(plan)).unwrap_or_else(|error| panic!("{error}")))
}

/// A new log.
fn fresh(settings: &KafkaSettings) -> (TopicPlan, Arc<KafkaLog>) {
    let plan = plan();
    make(settings, &plan);
    let log = open(settings, &plan);
    (plan, log)
}

/// Appends as a program that is not Pulso would.
fn foreign(settings: &KafkaSettings, topic: &str, partition: u32, value: Option<&[u8]>) {
    let producer: BaseProducer = settings.client().unwrap().create().unwrap();
    let record: BaseRecord<'_, str, [u8]> =
        BaseRecord::to(topic).partition(partition.cast_signed()).key("of its own");
    producer
        .send(value.iter().fold(record, |record, value| record.payload(value)))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(Duration::from_secs(20)).unwrap();
}
