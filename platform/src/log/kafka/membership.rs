//! Membership in a consumer group, and nothing else: the member reads no records. Readers are made for what is assigned, so
//! back-pressure on them never costs the membership, and a rebalance never waits for a fetch.
//!
//! The group's committed offsets are for those who watch the lag. Where a partition goes on stands in the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::client;
use crate::log::LogError;
use crate::log::membership::{Change, Membership};

/// A member of a group.
pub(super) struct KafkaMembership {
    topic: String,
    rebalances: Arc<Rebalances>,
    consumer: BaseConsumer<Member>,
}

impl KafkaMembership {
    pub(super) fn join(
        mut config: ClientConfig,
        topic: &str,
        group: &str,
        member_timeout: Duration,
    ) -> Result<Self, LogError> {
        config
            .set("group.id", group)
            // The brokers assign (KIP-848): session and heartbeat times are theirs, too.
            .set("group.protocol", "consumer")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("max.poll.interval.ms", member_timeout.as_millis().to_string());
        let rebalances = Arc::new(Rebalances::default());
        let made = config.create_with_context(Member(Arc::clone(&rebalances)));
        let consumer: BaseConsumer<Member> =
            made.map_err(|error| LogError::Misconfigured(error.to_string()))?;
        consumer.subscribe(&[topic]).map_err(|error| LogError::Unavailable(error.to_string()))?;
        Ok(Self { topic: topic.to_owned(), rebalances, consumer })
    }

    fn list(&self, partitions: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, partition.cast_signed());
        }
        list
    }
}

impl Membership for KafkaMembership {
    fn changes(&mut self) -> Vec<Change> {
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
            if let Err(error) = list.add_partition_offset(&self.topic, partition.cast_signed(), offset) {
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

struct Member(Arc<Rebalances>);

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
        let partitions: Vec<u32> =
            list.elements().iter().map(|element| element.partition().cast_unsigned()).collect();
        let is_leaving = self.0.is_leaving.load(Ordering::Relaxed);
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
        self.0.changes.lock().push_back(change);
    }
}

/// Takes partitions without reading them: they are paused, and start at the end, where there is nothing to look for.
fn take(consumer: &BaseConsumer<Member>, list: &mut TopicPartitionList) -> KafkaResult<()> {
    list.set_all_offsets(Offset::End)?;
    consumer.incremental_assign(list)?;
    consumer.pause(list)
}
