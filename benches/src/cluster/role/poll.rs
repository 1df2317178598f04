//! librdkafka alone: all records of a topic, one poll after the other, none decoded.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::{Consumed, Place};
use crate::child::answer_each;
use crate::cpu;
use crate::records::PARTITIONS;

/// How long the next record may take.
const POLL_MAX: Duration = Duration::from_secs(60);
const ASK_MAX: Duration = Duration::from_secs(30);

/// Reads the topic once for each `work`, from its first record to its end, and says what it cost.
pub(super) fn poll(place: &Place, topic: &str) -> anyhow::Result<()> {
    answer_each("work", || read(place, topic))
}

fn read(place: &Place, topic: &str) -> anyhow::Result<Consumed> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &place.brokers)
        .set("group.id", "bench-poll")
        .set("enable.auto.commit", "false");
    let before = cpu::used();
    let consumer: BaseConsumer = config.create()?;
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in 0..PARTITIONS {
        let partition = partition.cast_signed();
        let (_, end) = consumer.fetch_watermarks(topic, partition, ASK_MAX)?;
        // The first record begins the generation, and is no pulse.
        list.add_partition_offset(topic, partition, Offset::Offset(1))?;
        left += end - 1;
    }
    consumer.assign(&list)?;
    // A list that lives on keeps the consumer from ever ending.
    drop(list);
    let (pulses, mut bytes) = (left.cast_unsigned(), 0);
    while left > 0 {
        let message = consumer.poll(POLL_MAX).context("no record comes any more")??;
        bytes += message.payload().map_or(0, <[u8]>::len);
        left -= 1;
    }
    let cpu_nanos = u64::try_from((cpu::used() - before).as_nanos())?;
    ensure!(bytes > 0, "records without bytes");
    Ok(Consumed { cpu_nanos, pulses, totals: None })
}
