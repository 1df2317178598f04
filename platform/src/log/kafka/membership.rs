//! Membership in a consumer group, and nothing else: the member reads no records. Readers are made for what is assigned, so
//! back-pressure on them never costs the membership, and a rebalance never waits for a fetch.
//!
//! It is one membership in the topics of all generations: when one follows, it is subscribed to as well. A member that does not
//! know of it yet is given none of its partitions.
//!
//! The group's committed offsets are for those who watch the lag. Where a partition goes on stands in the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pulso_domain::position::{partition_generation, partition_index, partition_number};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::client;
use crate::log::membership::{Change, Membership};
use crate::log::{LayoutBook, LogError, generation_topic};

/// How a member joins.
pub(super) struct Joining<'a> {
    /// The log's topic; those of later generations are named after it.
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
    /// A member that does not look after its assignment for so long is taken out of its group.
    pub(super) member_timeout: Duration,
    /// The generations, which become more.
    pub(super) book: LayoutBook,
}

/// A member of a group.
pub(super) struct KafkaMembership {
    topic: String,
    book: LayoutBook,
    /// How many generations it is subscribed to.
    generations: usize,
    rebalances: Arc<Rebalances>,
    consumer: BaseConsumer<Member>,
}

impl KafkaMembership {
    pub(super) fn join(mut config: ClientConfig, joining: Joining<'_>) -> Result<Self, LogError> {
        let Joining { topic, group, member_timeout, book } = joining;
        config
            .set("group.id", group)
            // The brokers assign (KIP-848): session and heartbeat times are theirs, too.
            .set("group.protocol", "consumer")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("max.poll.interval.ms", member_timeout.as_millis().to_string());
        let rebalances = Arc::new(Rebalances::default());
        let member = Member { topic: topic.to_owned(), rebalances: Arc::clone(&rebalances) };
        let made = config.create_with_context(member);
        let consumer: BaseConsumer<Member> =
            made.map_err(|error| LogError::Misconfigured(error.to_string()))?;
        let mut joined = Self { topic: topic.to_owned(), book, generations: 0, rebalances, consumer };
        joined.subscribe().map_err(|error| LogError::Unavailable(error.to_string()))?;
        Ok(joined)
    }

    /// Subscribes to the topics of all generations, when there are more than before. What is assigned stays so.
    fn subscribe(&mut self) -> KafkaResult<()> {
        let layouts = self.book.layouts();
        if layouts.len() == self.generations {
            return Ok(());
        }
        let topics: Vec<String> =
            layouts.iter().map(|layout| generation_topic(&self.topic, layout.generation)).collect();
        self.consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.generations = layouts.len();
        Ok(())
    }

    fn list(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            let (topic, index) = self.place(*partition);
            list.add_partition(&topic, index);
        }
        list
    }

    /// A partition's topic, and its index there.
    fn place(&self, partition: u32) -> (String, i32) {
        let topic = generation_topic(&self.topic, partition_generation(partition));
        (topic, partition_index(partition).cast_signed())
    }
}

impl Membership for KafkaMembership {
    fn changes(&mut self) -> Vec<Change> {
        if let Err(error) = self.subscribe() {
            tracing::warn!(%error, "the next generation cannot be subscribed to now");
        }
        // Rebalances are served by polling; whatever else comes out is not wanted here.
        while let Some(outcome) = self.consumer.poll(Duration::ZERO) {
            if let Err(error) = outcome {
                tracing::debug!(%error, "the group cannot be reached for a moment");
            }
        }
        self.rebalances.changes.lock().drain(..).collect()
    }

    fn let_go(&mut self, partitions: &[u32]) {
        if let Err(error) = self.consumer.incremental_unassign(&self.list(partitions)) {
            tracing::debug!(?partitions, %error, "the partitions were not held any more");
        }
    }

    fn folded(&mut self, through: &[(u32, u64)]) {
        let mut list = TopicPartitionList::with_capacity(through.len());
        for (partition, offset) in through {
            let offset = Offset::Offset(offset.cast_signed());
            let (topic, index) = self.place(*partition);
            if let Err(error) = list.add_partition_offset(&topic, index, offset) {
                tracing::debug!(partition, %error, "an offset cannot be committed");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "the group's offsets cannot be committed now; only lag tools miss them");
        }
    }
}

impl Drop for KafkaMembership {
    /// Leaving takes the rest away at once: nobody is there any more to let it go.
    fn drop(&mut self) {
        self.rebalances.is_leaving.store(true, Ordering::Relaxed);
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "nothing was assigned any more");
        }
    }
}

/// What the brokers have assigned and taken since it was last asked.
#[derive(Default)]
struct Rebalances {
    changes: Mutex<VecDeque<Change>>,
    is_leaving: AtomicBool,
}

struct Member {
    /// The log's topic.
    topic: String,
    rebalances: Arc<Rebalances>,
}

impl Member {
    /// The partition's number over all generations; `None` of a topic that is not this log's.
    fn number(&self, topic: &str, index: i32) -> Option<u32> {
        let rest = topic.strip_prefix(&self.topic)?;
        let generation = if rest.is_empty() { 1 } else { rest.strip_prefix(".g")?.parse().ok()? };
        Some(partition_number(generation, index.cast_unsigned()))
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the kafka client complains");
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        // The numbers are copied out: a list that outlived its consumer would keep it from ever ending.
        let elements = list.elements();
        let number = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            self.number(element.topic(), element.partition())
        };
        let partitions: Vec<u32> = elements.iter().filter_map(number).collect();
        let is_leaving = self.rebalances.is_leaving.load(Ordering::Relaxed);
        let (change, answered) = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            (Change::Assigned(partitions), take(consumer, list))
        } else if consumer.assignment_lost() {
            (Change::Lost(partitions), consumer.incremental_unassign(list))
        } else if is_leaving {
            (Change::Revoked(partitions), consumer.incremental_unassign(list))
        } else {
            // Answered once the partitions are let go; the brokers wait for that as long as for a member that is silent.
            (Change::Revoked(partitions), Ok(()))
        };
        tracing::info!(?change, "the group's partitions are shared anew");
        if let Err(error) = answered {
            tracing::warn!(%error, "a change of the group could not be followed");
        }
        self.rebalances.changes.lock().push_back(change);
    }
}

/// Takes partitions without reading them: they are paused, and start at the end, where there is nothing to look for.
fn take(consumer: &BaseConsumer<Member>, list: &mut TopicPartitionList) -> KafkaResult<()> {
    list.set_all_offsets(Offset::End)?;
    consumer.incremental_assign(list)?;
    consumer.pause(list)
}
