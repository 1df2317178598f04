//! Hands usage over by the topic `usage-aggregates`: messages of one tenant each, keyed by it as Java clients would, then the
//! marker.

use prost::Message;
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::partition_index;
use pulso_platform::log::LogError;
use pulso_platform::log::kafka::KafkaSettings;
use pulso_platform::log::kafka::usage::{USAGE_MESSAGE_BYTES_MAX, UsageMessage, UsageProducer};
use pulso_proto::{usage, v1};

use super::{Handoff, Handover};
use crate::fold::halt::Stop;

/// A hand-off by the topic.
pub struct TopicHandoff {
    producer: UsageProducer,
}

impl TopicHandoff {
    /// Connects to the topic that `pulso init` has made. Blocks.
    ///
    /// # Errors
    /// One sentence with the mend.
    pub fn open(settings: &KafkaSettings) -> Result<Self, LogError> {
        Ok(Self { producer: UsageProducer::open(settings)? })
    }
}

impl Handoff for TopicHandoff {
    fn deliver(&self, handover: &Handover) -> Result<(), Stop> {
        let partitions = self.producer.partitions();
        let messages = messages(&handover.records, partitions);
        let waiting = |error: LogError| Stop::Retry(format!("usage cannot be handed over: {error}"));
        self.producer.write(&messages).map_err(waiting)?;
        let marker = marker(handover, &messages, partitions);
        self.producer.write(std::slice::from_ref(&marker)).map_err(waiting)
    }
}

/// The messages of records, which lie together by tenant.
fn messages(records: &[v1::UsageRecord], partitions: u32) -> Vec<UsageMessage> {
    let mut messages = Vec::new();
    let mut sorted: Vec<&v1::UsageRecord> = records.iter().collect();
    sorted.sort_by(|one, other| one.tenant_id.cmp(&other.tenant_id));
    for of_tenant in sorted.chunk_by(|one, other| one.tenant_id == other.tenant_id) {
        let tenant_id = &of_tenant[0].tenant_id;
        let partition = partition_of(tenant_id.as_bytes(), partitions);
        let mut update = v1::UsageUpdate { format_version: usage::FORMAT, ..Default::default() };
        let mut bytes = 0;
        let mut push = |update: &v1::UsageUpdate| {
            messages.push(UsageMessage { partition, key: tenant_id.clone(), value: update.encode_to_vec() });
        };
        for record in of_tenant {
            let length = record.encoded_len() + 8;
            if bytes + length > USAGE_MESSAGE_BYTES_MAX {
                push(&update);
                update.records.clear();
                bytes = 0;
            }
            bytes += length;
            update.records.push((*record).clone());
        }
        push(&update);
    }
    messages
}

/// The marker, behind the records. One whose records are not all in its own partition, as when the log has grown beyond the
/// topic, claims none of them: a reader may not have seen them yet, and looks them up in the store.
fn marker(handover: &Handover, messages: &[UsageMessage], partitions: u32) -> UsageMessage {
    let partition = partition_index(handover.partition) % partitions;
    let mut progress = handover.progress();
    if messages.iter().any(|message| message.partition != partition) {
        progress.from = progress.through;
    }
    let update =
        v1::UsageUpdate { format_version: usage::FORMAT, records: Vec::new(), progress: Some(progress) };
    UsageMessage { partition, key: String::new(), value: update.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use pulso_domain::position::Rank;

    use super::*;

    fn handover(tenants: &[&str]) -> Handover {
        let record =
            |tenant: &&str| v1::UsageRecord { tenant_id: (*tenant).to_owned(), ..Default::default() };
        let records = tenants.iter().map(record).collect();
        Handover { partition: 1, from: Rank::from_u64(5), through: Rank::from_u64(9), records }
    }

    fn read(message: &UsageMessage) -> v1::UsageUpdate {
        v1::UsageUpdate::decode(&message.value[..]).expect("an update")
    }

    #[test]
    fn a_tenants_records_are_together_under_its_key_where_java_clients_would_put_them() {
        let all = handover(&["b", "a", "b"]);
        let messages = messages(&all.records, 4);
        let shape = messages.iter().map(|one| (one.key.as_str(), one.partition, read(one).records.len()));
        let expected = [("a", partition_of(b"a", 4), 1), ("b", partition_of(b"b", 4), 2)];
        assert_eq!(shape.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_marker_claims_only_records_of_its_own_partition() {
        let here = ["a", "b", "c", "d", "e"].into_iter().find(|one| partition_of(one.as_bytes(), 4) == 1);
        let here = handover(&[here.expect("one of five")]);
        let progress = |of: &Handover, partitions| {
            let marker = marker(of, &messages(&of.records, partitions), partitions);
            (marker.partition, read(&marker).progress.expect("a marker").from)
        };
        assert_eq!(progress(&here, 4), (1, 5));
        assert_eq!(progress(&handover(&["a", "b", "c", "d", "e"]), 4), (1, 9));
        assert_eq!(progress(&handover(&[]), 1), (0, 5), "an empty one claims nothing wrong");
    }
}
