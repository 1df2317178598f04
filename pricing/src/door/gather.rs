//! Gathers what comes from the topic in many messages, one for each tenant, into the whole that its marker ends.

use std::collections::BTreeMap;

use pulso_proto::{usage, v1};

/// Names a record: tenant, level, window, SKU, unit and region.
type RecordName = (String, i32, i64, String, String, String);

/// Records of each partition of the topic that no marker has ended yet. Bounded by what a consumer flushes at a time: a
/// record that comes again takes its own place.
#[derive(Default)]
pub struct Gather {
    waiting: BTreeMap<u32, BTreeMap<RecordName, v1::UsageRecord>>,
}

impl Gather {
    /// Takes one message of a partition of the topic; gives the whole once it ends with a marker.
    pub fn take(&mut self, topic_partition: u32, update: v1::UsageUpdate) -> Option<v1::UsageUpdate> {
        let waiting = self.waiting.entry(topic_partition).or_default();
        for record in update.records {
            let held = waiting.entry(name(&record)).or_insert_with(|| record.clone());
            if record.hwm > held.hwm {
                *held = record;
            }
        }
        let progress = update.progress?;
        let records = self.waiting.remove(&topic_partition).unwrap_or_default().into_values().collect();
        Some(v1::UsageUpdate { format_version: usage::FORMAT, records, progress: Some(progress) })
    }
}

fn name(record: &v1::UsageRecord) -> RecordName {
    let start = record.window_start.map_or(0, |start| start.seconds);
    let [tenant_id, product_sku, use_unit, region] =
        [&record.tenant_id, &record.product_sku, &record.use_unit, &record.region].map(Clone::clone);
    (tenant_id, record.level, start, product_sku, use_unit, region)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tenants: &[(&str, u64)], progress: Option<v1::UsageProgress>) -> v1::UsageUpdate {
        let record = |(tenant, hwm): &(&str, u64)| v1::UsageRecord {
            tenant_id: (*tenant).to_owned(),
            hwm: *hwm,
            ..Default::default()
        };
        let records = tenants.iter().map(record).collect();
        v1::UsageUpdate { format_version: usage::FORMAT, records, progress }
    }

    #[test]
    fn messages_are_gathered_by_partition_until_their_marker_comes() {
        let mut gather = Gather::default();
        let marker = Some(v1::UsageProgress { partition: 1, from: 2, through: 9 });
        assert_eq!(gather.take(1, message(&[("a", 5)], None)), None);
        assert_eq!(gather.take(2, message(&[("x", 5)], None)), None);
        // The same flush again, after a crash before its marker, and an older copy behind it.
        assert_eq!(gather.take(1, message(&[("a", 7), ("b", 3)], None)), None);
        assert_eq!(gather.take(1, message(&[("a", 5)], None)), None);
        assert_eq!(gather.take(1, message(&[], marker)), Some(message(&[("a", 7), ("b", 3)], marker)));
        assert_eq!(gather.take(1, message(&[], marker)), Some(message(&[], marker)), "nothing is left over");
    }
}
