//! The topic of dead letters: what consumers write there before their progress passes the record that a letter came from.
//!
//! A letter is named by its key, so that a message twice is one letter. That is why this producer is not an idempotent one:
//! that kind ends for good at a fault in its numbering, and all that it would spare here is a second copy.

use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use super::brokers::Brokers;
use super::client::{ASK_ANEW_EVERY_MS, Talk};
use super::settings::KafkaSettings;
use super::topics::{check_letters, dead_letter_topic};
use crate::log::LogError;

/// After this a letter is not confirmed, and is written again.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// A full queue is waited for in steps like this.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);
/// The client's own bound on one message, as high as it goes: it counts what is not compressed yet, and the broker decides
/// on what is.
const CLIENT_BYTES_MAX: u32 = 1_000_000_000;

/// One message to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LetterRecord {
    /// The partition of the log that the letter came from; its letters stand together and in order.
    pub partition: u32,
    /// Names the letter.
    pub key: String,
    /// Its original bytes.
    pub value: Bytes,
    /// What is known of them.
    pub headers: Vec<(&'static str, String)>,
}

/// Writes dead letters.
pub struct LetterProducer {
    client: FutureProducer<Talk>,
    topic: String,
    partitions: u32,
}

impl LetterProducer {
    /// Connects to the topic of the dead letters of a log's topic, and checks that it takes whatever the log takes. Blocks.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn open(settings: &KafkaSettings, log_topic: &str) -> Result<Self, LogError> {
        let brokers = Brokers::connect(settings)?;
        let bytes = check_letters(&brokers, log_topic)?;
        let topic = dead_letter_topic(log_topic);
        let partitions = brokers.partitions(&topic)?.map_or(0, |found| found.len());
        let mut config = brokers.config;
        config
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("topic.metadata.refresh.interval.ms", ASK_ANEW_EVERY_MS)
            // A flush writes its letters at once.
            .set("linger.ms", "2")
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
            .set("message.max.bytes", CLIENT_BYTES_MAX.to_string())
            // Holds for what goes together: more than one letter never exceeds what the topic takes.
            .set("batch.size", bytes.to_string());
        let client = config.create_with_context(Talk::default());
        let client = client.map_err(|error| LogError::Misconfigured(error.to_string()))?;
        Ok(Self { client, topic, partitions: u32::try_from(partitions).unwrap_or(u32::MAX) })
    }

    /// Writes all of them, and returns once each is confirmed. Blocks.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] or [`LogError::Unknown`] when one is not confirmed, with what to look at; any of them may be
    /// there.
    pub fn write(&self, letters: &[LetterRecord]) -> Result<(), LogError> {
        let mut deliveries = Vec::with_capacity(letters.len());
        for letter in letters {
            deliveries.push(self.send(letter)?);
        }
        for delivered in block_on(join_all(deliveries)) {
            let delivered = delivered.map_err(|_| LogError::Unknown("the producer was closed".to_owned()))?;
            delivered.map_err(|(error, _)| self.refused(&error))?;
        }
        Ok(())
    }

    fn send(&self, letter: &LetterRecord) -> Result<DeliveryFuture, LogError> {
        let partition = (letter.partition % self.partitions).cast_signed();
        let mut headers = OwnedHeaders::new_with_capacity(letter.headers.len());
        for (key, value) in &letter.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = FutureRecord::to(&self.topic).partition(partition).headers(headers);
        let mut record = record.key(&letter.key).payload(&letter.value[..]);
        loop {
            record = match self.client.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => record,
                Err((error, _)) => return Err(self.refused(&error)),
            };
            std::thread::sleep(QUEUE_PAUSE);
        }
    }

    fn refused(&self, error: &KafkaError) -> LogError {
        let topic = &self.topic;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                LogError::Unavailable(format!(
                    "a letter is too large for {topic}; raise max.message.bytes on it"
                ))
            }
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition,
            ) => LogError::Unavailable(format!("topic {topic} is not there; run pulso init")),
            _ => LogError::Unknown(format!("topic {topic} did not confirm in time ({error})")),
        }
    }
}

impl Drop for LetterProducer {
    /// Dropping the client purges its queue.
    fn drop(&mut self) {
        if let Err(error) = self.client.flush(DELIVERY_TIMEOUT) {
            tracing::debug!(%error, "letters were not confirmed in time; they are written again");
        }
    }
}
