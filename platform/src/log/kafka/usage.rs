//! The topic of usage records, `usage-aggregates`: what consumers write for pricing, keyed by tenant, and pricing's share of
//! it as a member of a group.
//!
//! It carries copies of what stands in the store, named by key and rank. So a message twice is one, only the marker must come
//! behind its records, and where a reader begins is a matter of work spared, not of right or wrong. The producer needs no
//! idempotence for that, and one with it could end for good at a fault of its numbering.

use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::HANDOFF_TOPIC;
use super::brokers::Brokers;
use super::client::{ASK_ANEW_EVERY_MS, Talk};
use super::settings::KafkaSettings;
use crate::log::LogError;

/// Most bytes of one message's value, below the million that every broker takes.
pub const USAGE_MESSAGE_BYTES_MAX: usize = 900 * 1024;
/// After this a message is not confirmed, and the hand-off is tried again.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// A full queue is waited for in steps like this.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);
/// Most messages that one poll gives.
const POLL_MESSAGES_MAX: usize = 1000;

/// One message to be written.
#[derive(Clone, Debug)]
pub struct UsageMessage {
    /// The partition of the topic.
    pub partition: u32,
    /// The tenant; empty for a marker.
    pub key: String,
    /// A `pulso.v1.UsageUpdate`.
    pub value: Vec<u8>,
}

/// Writes usage records.
pub struct UsageProducer {
    client: FutureProducer<Talk>,
    partitions: u32,
}

impl UsageProducer {
    /// Connects to the topic that `pulso init` has made. Blocks.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn open(settings: &KafkaSettings) -> Result<Self, LogError> {
        let brokers = Brokers::connect(settings)?;
        let partitions = found(&brokers)?;
        let mut config = brokers.config;
        config
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("topic.metadata.refresh.interval.ms", ASK_ANEW_EVERY_MS)
            // A flush writes many small messages at once.
            .set("linger.ms", "2")
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string());
        let client = config.create_with_context(Talk::default());
        Ok(Self { client: client.map_err(|error| LogError::Misconfigured(error.to_string()))?, partitions })
    }

    /// Partitions of the topic.
    #[must_use]
    pub const fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Writes all of them, and returns once each is confirmed. Blocks.
    ///
    /// # Errors
    /// [`LogError::Unknown`] when one is not confirmed; any of them may be there.
    pub fn write(&self, messages: &[UsageMessage]) -> Result<(), LogError> {
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            deliveries.push(self.send(message)?);
        }
        for delivered in block_on(join_all(deliveries)) {
            let delivered = delivered.map_err(|_| LogError::Unknown("the producer was closed".to_owned()))?;
            delivered.map_err(|(error, _)| LogError::Unknown(error.to_string()))?;
        }
        Ok(())
    }

    fn send(&self, message: &UsageMessage) -> Result<rdkafka::producer::DeliveryFuture, LogError> {
        let record = FutureRecord::to(HANDOFF_TOPIC).partition(message.partition.cast_signed());
        let mut record = record.key(&message.key).payload(&message.value);
        loop {
            record = match self.client.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => record,
                Err((error, _)) => return Err(LogError::Unavailable(error.to_string())),
            };
            std::thread::sleep(QUEUE_PAUSE);
        }
    }
}

impl Drop for UsageProducer {
    /// Dropping the client purges its queue.
    fn drop(&mut self) {
        if let Err(error) = self.client.flush(DELIVERY_TIMEOUT) {
            tracing::debug!(%error, "usage was not confirmed in time; it is handed over again");
        }
    }
}

/// One message as it was read.
#[derive(Clone, Debug)]
pub struct UsageRead {
    /// The partition of the topic.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// A `pulso.v1.UsageUpdate`.
    pub value: Bytes,
}

/// Reads this member's share of the topic.
pub struct UsageReader {
    consumer: BaseConsumer<Talk>,
}

impl UsageReader {
    /// Joins a group. Blocks while the brokers are asked.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn join(settings: &KafkaSettings, group: &str) -> Result<Self, LogError> {
        let brokers = Brokers::connect(settings)?;
        found(&brokers)?;
        let mut config = brokers.config;
        config
            .set("group.id", group)
            .set("group.protocol", "consumer")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("check.crcs", "true")
            // What is older than the topic holds is found in the store.
            .set("auto.offset.reset", "earliest");
        let made = config.create_with_context(Talk::default());
        let consumer: BaseConsumer<Talk> =
            made.map_err(|error| LogError::Misconfigured(error.to_string()))?;
        consumer.subscribe(&[HANDOFF_TOPIC]).map_err(|error| LogError::Unavailable(error.to_string()))?;
        Ok(Self { consumer })
    }

    /// The next messages, in order within each partition; empty when none came within `wait`.
    pub fn poll(&mut self, wait: Duration) -> Vec<UsageRead> {
        let mut read = Vec::new();
        let mut wait = wait;
        while read.len() < POLL_MESSAGES_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => read.push(UsageRead {
                    partition: message.partition().cast_unsigned(),
                    offset: message.offset().cast_unsigned(),
                    value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
                }),
                Some(Err(error)) => {
                    tracing::debug!(%error, "usage cannot be read from the topic for a moment");
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        read
    }

    /// Says that everything of a partition below this offset need not be read again.
    pub fn done(&mut self, partition: u32, offset: u64) {
        let mut list = TopicPartitionList::with_capacity(1);
        let added = list.add_partition_offset(
            HANDOFF_TOPIC,
            partition.cast_signed(),
            Offset::Offset(offset.cast_signed()),
        );
        if let Err(error) = added.and_then(|()| self.consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(partition, %error, "the offset is not committed; usage is read once more");
        }
    }
}

/// The partitions of the topic.
fn found(brokers: &Brokers) -> Result<u32, LogError> {
    match brokers.partitions(HANDOFF_TOPIC)? {
        Some(partitions) => Ok(u32::try_from(partitions.len()).unwrap_or(u32::MAX)),
        None => Err(LogError::Misconfigured(format!("topic {HANDOFF_TOPIC} is not there; run pulso init"))),
    }
}
