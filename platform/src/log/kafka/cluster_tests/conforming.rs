//! The conformance suite on a real broker.

use std::sync::Arc;

use bytes::Bytes;

use super::{fresh, one_broker, open};
use crate::log::Log;
use crate::log::conformance::{Reopenable, run_all};
use crate::log::kafka::{KafkaCompression, KafkaLog, KafkaSettings, TopicPlan};

struct Subject {
    settings: KafkaSettings,
    plan: TopicPlan,
    log: Option<Arc<KafkaLog>>,
}

impl Reopenable for Subject {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(open(&self.settings, &self.plan));
    }
}

#[test]
fn the_kafka_log_passes_the_conformance_suite() {
    run_all(&|| {
        let settings = one_broker();
        let (plan, log) = fresh(&settings);
        Subject { settings, plan, log: Some(log) }
    });
}

#[test]
fn records_of_each_compression_are_read_back_from_one_log() {
    let (plan, _) = fresh(&one_broker());
    let value = |number: u8| Bytes::from(vec![number; 20_000]);
    let mut offsets = Vec::new();
    for (number, kafka_compression) in
        [KafkaCompression::None, KafkaCompression::Lz4, KafkaCompression::Zstd].into_iter().enumerate()
    {
        let log = open(&KafkaSettings { kafka_compression, ..one_broker() }, &plan);
        let appended = log.append(0, vec![value(number as u8)]).blocking_recv().unwrap().unwrap();
        offsets.push(appended.offset);
    }
    let found = open(&one_broker(), &plan).fetch(0, &offsets).unwrap();
    let values: Vec<Bytes> = found.into_iter().map(|record| record.value).collect();
    assert_eq!(values, [value(0), value(1), value(2)]);
}
