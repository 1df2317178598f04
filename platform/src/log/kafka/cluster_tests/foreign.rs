//! What others do to the topic: foreign records, transactions, a topic that is deleted and made again, records that are gone
//! before they were read.

use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::AdminOptions;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use xxhash_rust::xxh3::xxh3_64;

use super::making::admin;
use super::{foreign, fresh, one_broker, open};
use crate::log::conformance::{append, read_all};
use crate::log::kafka::brokers::{Brokers, WantedTopic};
use crate::log::kafka::{KafkaSettings, check, init};
use crate::log::{Log, LogError, LogReader};
use crate::service::clock::Clock;

const SOON: Duration = Duration::from_secs(60);

/// Polls until a fault comes.
fn fault(reader: &mut dyn LogReader) -> LogError {
    let until = Instant::now() + SOON;
    loop {
        match reader.poll(Duration::from_millis(100)) {
            Err(error) => return error,
            Ok(_) => assert!(Instant::now() < until, "no fault is reported"),
        }
    }
}

fn delete_below(settings: &KafkaSettings, topic: &str, partition: u32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition.cast_signed(), Offset::Offset(offset)).unwrap();
    block_on(admin(settings).delete_records(&list, &AdminOptions::new())).unwrap();
}

/// Deletes the topic and makes it again, as someone would who does not know what it holds.
fn make_again(settings: &KafkaSettings, topic: &str) {
    block_on(admin(settings).delete_topics(&[topic], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    let brokers = Brokers::connect(settings).unwrap();
    let set = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "580000")];
    let set = set.map(|(name, value)| (name, value.to_owned())).to_vec();
    let wanted = WantedTopic { name: topic, partitions: 4, replication_factor: 1, settings: set };
    let until = Instant::now() + SOON;
    while !matches!(brokers.create_topic(&wanted), Ok(true)) {
        assert!(Instant::now() < until, "the topic cannot be made again");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn foreign_records_are_handed_out_as_they_are() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    foreign(&settings, &plan.topic, 1, Some(b"no batch of pulses"));
    foreign(&settings, &plan.topic, 1, None);
    append(&*log, 1, b"ours").unwrap();
    let values: Vec<_> = read_all(&*log, &[(1, 1)]).into_iter().map(|one| (one.digest, one.value)).collect();
    let expected = [&b"no batch of pulses"[..], b"", b"ours"].map(|value| (xxh3_64(value), value.into()));
    assert_eq!(values, expected);
}

#[test]
fn g10_a_hole_in_the_offsets_halts_its_partition_and_no_other() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    let mut config = settings.client().unwrap();
    config.set("transactional.id", &plan.topic);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&plan.topic).partition(2).payload(b"foreign");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.commit_transaction(SOON).unwrap();
    // The commit takes an offset, some time after it was answered.
    let mut hole = 2;
    while append(&*log, 2, b"around the hole").unwrap().offset == hole {
        hole += 1;
        thread::sleep(Duration::from_millis(20));
    }
    let mut reader = log.reader(&[(1, 1), (2, 1)]).unwrap();
    let error = fault(&mut *reader);
    let LogError::Damaged { partition: Some(2), detail, .. } = &error else { panic!("{error:?}") };
    assert!(detail.contains(&format!("offsets {hole} to {hole}")), "{error}");
    append(&*log, 1, b"goes on").unwrap();
    let until = Instant::now() + SOON;
    while reader.poll(Duration::from_millis(100)).unwrap().is_empty() {
        assert!(Instant::now() < until, "the other partition must go on");
    }
    assert!(matches!(log.fetch(2, &[hole]), Err(LogError::Damaged { .. })), "nor is it fetched");
}

#[test]
fn g10_a_topic_made_again_takes_and_gives_nothing() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    for _ in 0..20 {
        append(&*log, 0, b"pulses").unwrap();
    }
    let mut reader = log.reader(&[(0, 21)]).unwrap();
    make_again(&settings, &plan.topic);
    foreign(&settings, &plan.topic, 0, Some(b"of another life"));
    // Who reads it hears of it, at the latest when the watch has compared.
    let error = fault(&mut *reader);
    assert!(
        matches!(error, LogError::OffsetOutOfRange { partition: 0, .. } | LogError::Damaged { .. }),
        "{error:?}"
    );
    let until = Instant::now() + SOON;
    loop {
        match append(&*log, 0, b"never") {
            Err(LogError::Unavailable(sentence)) if sentence.contains("made again") => break,
            _ => assert!(Instant::now() < until, "appends go on"),
        }
        thread::sleep(Duration::from_millis(200));
    }
    // Opened anew it is known at once, also long after it has outgrown the old one.
    let log = open(&settings, &plan);
    let refused = log.reader(&[(0, 1)]).err().unwrap().to_string();
    assert!(refused.contains("made again"), "{refused}");
    assert!(matches!(append(&*log, 3, b"never"), Err(LogError::Unavailable(_))));
    // Nor does making the log again hide what was lost.
    let sentence = init(&settings, &plan, &Clock::System).unwrap_err().to_string();
    assert!(sentence.contains("made again") && sentence.contains("pulso log resume"), "{sentence}");
}

#[test]
fn g10_records_that_retention_took_before_they_were_read_are_missed() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    for _ in 0..20 {
        append(&*log, 0, b"pulses").unwrap();
    }
    delete_below(&settings, &plan.topic, 0, 10);
    let refused = log.reader(&[(0, 5)]).err().unwrap();
    assert!(matches!(refused, LogError::OffsetOutOfRange { partition: 0, offset: 5 }), "{refused}");
    assert!(matches!(log.fetch(0, &[9]), Err(LogError::OffsetOutOfRange { .. })));
    assert_eq!(read_all(&*log, &[(0, 10)]).len(), 11);
    // The log is still known by the directory, although the record that names it is gone.
    drop(log);
    let log = open(&settings, &plan);
    assert_eq!(append(&*log, 0, b"goes on").unwrap().offset, 21);
    check(&settings, &plan).unwrap();
    assert_eq!(init(&settings, &plan, &Clock::System).unwrap().layout, log.layout());
}
