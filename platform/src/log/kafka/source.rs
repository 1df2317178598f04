//! What readers, the watch and the log itself know of the topic together: its name, how to ask about it, and which of its
//! partitions are no longer what they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::Producer as _;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::client::{ASK_ANEW_EVERY_MS, ASK_TIMEOUT, Talk};
use super::producer::{Producer, nanos};
use crate::log::digest::value_digest;
use crate::log::{LogError, LogLayout, LogRecord, Watermarks};

/// The group that readers name: the client demands one for reading, although nobody ever joins or commits to it.
const READER_GROUP: &str = "pulso-reader";
/// Most bytes that a reader holds ahead of whoever polls it; beyond that it asks the brokers for no more.
const READ_AHEAD_KIB: &str = "32768";

/// How long brokers may say that they do not know the topic before it counts as deleted: one that starts, or that lost sight of
/// its controller, says so of every topic for a while.
const UNKNOWN_MAX: Duration = Duration::from_secs(60);

/// The topic of one generation.
pub(super) struct Source {
    pub(super) topic: String,
    pub(super) layout: LogLayout,
    /// What readers are made with.
    pub(super) config: ClientConfig,
    pub(super) producer: Arc<Producer>,
    /// Partitions that are not the ones that were opened, and why: nothing is appended to them or read from them.
    changed: Mutex<BTreeMap<u32, String>>,
    /// Since when the brokers have said that they do not know the topic, without a word to the contrary.
    unknown_since: Mutex<Option<Instant>>,
}

impl Source {
    pub(super) fn new(
        topic: String,
        layout: LogLayout,
        mut config: ClientConfig,
        producer: Arc<Producer>,
    ) -> Self {
        tune(&mut config);
        let (changed, unknown_since) = (Mutex::default(), Mutex::default());
        Self { topic, layout, config, producer, changed, unknown_since }
    }

    /// Whether the generation has the partition.
    pub(super) fn has(&self, partition: u32) -> Result<(), LogError> {
        if partition < self.layout.partitions { Ok(()) } else { Err(LogError::NoPartition(partition)) }
    }

    /// Where a partition begins and ends, by its leader.
    pub(super) fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        self.watermarks_within(partition, ASK_TIMEOUT)
    }

    /// As [`Self::watermarks`], but not waiting for longer.
    pub(super) fn watermarks_within(&self, partition: u32, wait: Duration) -> Result<Watermarks, LogError> {
        self.has(partition)?;
        let client = self.producer.client();
        let found = client.client().fetch_watermarks(&self.topic, partition.cast_signed(), wait);
        let (start, end) = found.map_err(|error| self.not_now(Some(partition), &error))?;
        self.note_known();
        Ok(Watermarks { start_offset: start.cast_unsigned(), end_offset: end.cast_unsigned() })
    }

    /// Refuses a topic that has more partitions than its generation, unless nothing stands in them: nobody reads there.
    pub(super) fn check_growth(&self, found: usize) -> Result<(), LogError> {
        let (topic, wanted) = (&self.topic, self.layout.partitions);
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        for partition in wanted..found {
            let client = self.producer.client();
            let marks = client.client().fetch_watermarks(topic, partition.cast_signed(), ASK_TIMEOUT);
            let (start, end) = marks.map_err(|error| self.not_now(None, &error))?;
            if start < end {
                return Err(LogError::Misconfigured(format!(
                    "topic {topic} was grown to {found} partitions and partition {partition} holds records that nobody folds, \
                     since its generation has {wanted}; have their producers send them again, delete them with \
                     kafka-delete-records, and grow with `pulso log grow` instead"
                )));
            }
        }
        if found > wanted {
            tracing::warn!(
                topic,
                found,
                wanted,
                "the topic was grown; what comes into its new partitions is not folded"
            );
        }
        Ok(())
    }

    /// A consumer that reads the given partitions from the given offsets on.
    pub(super) fn consumer(&self, from: &[(u32, u64)]) -> Result<BaseConsumer<Talk>, LogError> {
        let made = self.config.create_with_context(Talk::default());
        let consumer: BaseConsumer<Talk> =
            made.map_err(|error| LogError::Misconfigured(error.to_string()))?;
        self.assign(&consumer, from)?;
        Ok(consumer)
    }

    /// Has the consumer read these and no others. The list that is handed over is gone at once: one that lives longer than
    /// its consumer would keep the consumer's end from ever returning, and so would the lists that the client hands out, none
    /// of which is asked for here: where a reader stands is counted by itself.
    pub(super) fn assign(&self, consumer: &BaseConsumer<Talk>, from: &[(u32, u64)]) -> Result<(), LogError> {
        let mut list = TopicPartitionList::with_capacity(from.len());
        for (partition, offset) in from {
            let offset = Offset::Offset(offset.cast_signed());
            let added = list.add_partition_offset(&self.topic, partition.cast_signed(), offset);
            added.map_err(|error| self.not_now(None, &error))?;
        }
        consumer.assign(&list).map_err(|error| self.not_now(None, &error))
    }

    /// The record in a message.
    pub(super) fn record(message: &BorrowedMessage<'_>) -> LogRecord {
        // No value is an empty one: it is no pulse either way, and the fold says so.
        let value = message.payload().map(Bytes::copy_from_slice).unwrap_or_default();
        LogRecord {
            partition: message.partition().cast_unsigned(),
            offset: message.offset().cast_unsigned(),
            appended_at_nanos: nanos(message.timestamp()),
            digest: value_digest(&value),
            value,
        }
    }

    /// Marks a partition as not the one that was opened.
    pub(super) fn set_changed(&self, partition: u32, sentence: String) {
        if let std::collections::btree_map::Entry::Vacant(place) = self.changed.lock().entry(partition) {
            tracing::error!(
                topic = self.topic,
                partition,
                reason = sentence,
                "the log has changed under this process"
            );
            place.insert(sentence);
        }
    }

    /// Why a partition is not the one that was opened.
    pub(super) fn changed(&self, partition: u32) -> Option<String> {
        self.changed.lock().get(&partition).cloned()
    }

    /// Whether no partition is the one that was opened: the topic is gone, or another one.
    pub(super) fn is_lost(&self) -> bool {
        self.changed.lock().len() == self.layout.partitions as usize
    }

    /// Damage at an offset.
    pub(super) fn damaged(&self, (partition, offset): (u32, u64), detail: String) -> LogError {
        let place = format!("topic {} partition {partition} offset {offset}", self.topic);
        LogError::Damaged { place, partition: Some(partition), detail }
    }

    /// Notes that the brokers know the topic.
    pub(super) fn note_known(&self) {
        *self.unknown_since.lock() = None;
    }

    /// A call that failed and may succeed later; a topic that stays unknown is damage.
    pub(super) fn not_now(&self, partition: Option<u32>, error: &KafkaError) -> LogError {
        if !is_unknown(error) {
            return LogError::Unavailable(error.to_string());
        }
        let since = *self.unknown_since.lock().get_or_insert_with(Instant::now);
        if since.elapsed() < UNKNOWN_MAX {
            return LogError::Unavailable(format!("the brokers do not know topic {} now", self.topic));
        }
        LogError::Damaged {
            place: format!("topic {}", self.topic),
            partition,
            detail: "the brokers do not know it; it was deleted".to_owned(),
        }
    }
}

/// Whether the brokers say that there is no such topic or partition.
pub(super) fn is_unknown(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

fn tune(config: &mut ClientConfig) {
    config
        .set("group.id", READER_GROUP)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Never another offset than the one asked for: what is missing halts.
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        // Foreign producers may use transactions. Waiting for them would hold up all behind, and their pulses have ids.
        .set("isolation.level", "read_uncommitted")
        .set("topic.metadata.refresh.interval.ms", ASK_ANEW_EVERY_MS)
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", READ_AHEAD_KIB);
}
