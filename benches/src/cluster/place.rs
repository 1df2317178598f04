//! Where the servers are; topics of a run, and what stands in them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use prost::Message as _;
use pulso_domain::quantity::Quantity;
use pulso_platform::log::kafka::{
    KafkaCompression, KafkaGenerations, KafkaLogOptions, KafkaSettings, TopicPlan, init,
};
use pulso_platform::log::{Log, LogRecord};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::cql::{CqlSettings, CqlStore, schema};
use pulso_proto::v1;

use crate::mix::Totals;
use crate::records::PARTITIONS;

/// The keyspace of the measurements.
const KEYSPACE: &str = "pulso_bench";
/// How long the reader waits for one more record before it looks whether all are there.
const POLL: Duration = Duration::from_millis(100);
/// How long the partitions of a new topic may have no leader.
const LEADERS_MAX: Duration = Duration::from_secs(30);
/// Polls without a record, after which those that are missing are lost.
const EMPTY_POLLS_MAX: usize = 100;

/// The servers.
#[derive(clap::Args, Clone, Debug)]
pub struct Place {
    /// The brokers.
    #[arg(long, default_value = "127.0.0.1:19092")]
    pub brokers: String,
    /// The nodes of the store.
    #[arg(long, default_value = "127.0.0.1:19042", value_delimiter = ',')]
    pub nodes: Vec<String>,
    /// How both sides compress what they produce
    #[arg(long, value_enum, default_value = "none")]
    pub compression: KafkaCompression,
}

impl Place {
    /// The flags that say so to a process of a run.
    #[must_use]
    pub fn flags(&self) -> Vec<String> {
        let (brokers, nodes) = (self.brokers.clone(), self.nodes.join(","));
        let flags = [
            ("--brokers", brokers),
            ("--nodes", nodes),
            ("--compression", self.compression.name().to_owned()),
        ];
        flags.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn kafka(&self) -> KafkaSettings {
        KafkaSettings { kafka_compression: self.compression, ..KafkaSettings::plaintext(&self.brokers) }
    }

    /// Makes the topic of a new log.
    ///
    /// # Errors
    /// When the brokers do not.
    pub fn make_topic(&self, name: &str) -> anyhow::Result<String> {
        let topic = format!("bench-{name}-{}", Clock::System.now_nanos());
        let plan = TopicPlan {
            handoff_topic: format!("{topic}.usage"),
            topic: topic.clone(),
            partitions: PARTITIONS,
            replication_factor: 1,
            id_horizon: Duration::ZERO,
            ..TopicPlan::default()
        };
        init(&self.kafka(), &plan, &Clock::System)?;
        Ok(topic)
    }

    /// Opens the log of a topic, as every role of the cluster does. The partitions of a topic that was just made may have no
    /// leader for a moment.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn log(&self, topic: &str) -> anyhow::Result<Arc<KafkaGenerations>> {
        let end = Instant::now() + LEADERS_MAX;
        loop {
            let options = KafkaLogOptions { topic: topic.to_owned(), ..KafkaLogOptions::default() };
            match KafkaGenerations::open(&self.kafka(), options) {
                Ok(log) => return Ok(Arc::new(log)),
                Err(error) if error.is_retryable() && Instant::now() < end => std::thread::sleep(POLL),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How the store is reached.
    #[must_use]
    pub fn cql(&self) -> CqlSettings {
        CqlSettings::new(&self.nodes.iter().map(String::as_str).collect::<Vec<_>>(), KEYSPACE)
    }

    /// Makes the tables, when they are not there.
    ///
    /// # Errors
    /// When the nodes do not.
    pub fn make_tables(&self) -> anyhow::Result<()> {
        Ok(schema::init(&self.cql(), 1)?)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn store(&self) -> anyhow::Result<Arc<CqlStore>> {
        Ok(Arc::new(CqlStore::open(&self.cql())?))
    }
}

/// Visits all records of a log but those that begin its generation.
///
/// # Errors
/// When one is missing, or the visitor fails.
pub fn visit(log: &dyn Log, mut visit: impl FnMut(LogRecord) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let partitions = log.layout().partitions;
    let mut left = 0;
    for partition in 0..partitions {
        left += log.watermarks(partition)?.end_offset - 1;
    }
    let starts: Vec<(u32, u64)> = (0..partitions).map(|partition| (partition, 1)).collect();
    let mut reader = log.reader(&starts)?;
    let mut empty_polls = 0;
    while left > 0 {
        let records = reader.poll(POLL)?;
        empty_polls = if records.is_empty() { empty_polls + 1 } else { 0 };
        ensure!(empty_polls < EMPTY_POLLS_MAX, "{left} records are missing");
        left -= records.len() as u64;
        records.into_iter().try_for_each(&mut visit)?;
    }
    Ok(())
}

/// Adds up the pulses of packed records, with the generated decoder.
///
/// # Errors
/// When the log cannot be read or holds what is no record.
pub fn packed_totals(log: &dyn Log) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    visit(log, |record| {
        for pulse in v1::PulseBatch::decode(record.value)?.pulses {
            totals.add(Quantity::parse(pulse.used_amount.as_bytes())?);
        }
        Ok(())
    })?;
    Ok(totals)
}

/// Adds up records of one pulse each.
///
/// # Errors
/// When the log cannot be read or holds what is no pulse.
pub fn single_totals(log: &dyn Log) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    visit(log, |record| {
        totals.add(Quantity::parse(v1::Pulse::decode(record.value)?.used_amount.as_bytes())?);
        Ok(())
    })?;
    Ok(totals)
}
