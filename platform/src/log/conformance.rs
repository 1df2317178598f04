//! What every log must do, as tests that know nothing of how it does it. Each takes a function that makes a new log, with
//! four partitions, which can be closed and opened again; the suite is run on every sibling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use pulso_proto::v1;
use pulso_proto::v1::control::Fact;

use super::{Appended, Log, LogError, LogReader, LogRecord, RECORD_BYTES_MAX};

/// The partitions of the logs that the suite is given.
pub(crate) const PARTITIONS: u32 = 4;
/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);
/// How long a test waits to see that nothing comes.
const BRIEFLY: Duration = Duration::from_millis(20);

/// A log that can be closed and opened again.
pub(crate) trait Reopenable {
    /// The open log.
    fn log(&self) -> Arc<dyn Log>;
    /// Closes it, as cleanly as it can be, and opens it again.
    fn reopen(&mut self);
}

/// Runs the whole suite, each part on a new log.
pub(crate) fn run_all<R: Reopenable>(make: &dyn Fn() -> R) {
    each_partition_begins_with_the_start_of_the_generation(&*make().log());
    g01_what_was_answered_is_read_back(&*make().log());
    g01_reopening_keeps_everything(&mut make());
    offsets_have_no_gaps_under_many_appenders(&make().log());
    appended_at_never_falls(&*make().log());
    a_value_in_parts_reads_back_as_one(&*make().log());
    the_largest_and_the_empty_record_are_kept(&*make().log());
    a_record_over_the_bound_is_refused(&*make().log());
    a_partition_that_is_not_there_is_refused(&*make().log());
    a_reader_begins_where_it_is_told(&*make().log());
    a_reader_outside_the_watermarks_is_refused(&*make().log());
    a_reader_of_some_partitions_sees_no_others(&*make().log());
    a_waiting_reader_wakes_for_a_new_record(&make().log());
    a_reader_at_the_end_returns_empty_in_time(&*make().log());
    single_records_are_fetched_in_the_order_asked(&*make().log());
    a_fetch_of_what_is_not_there_is_refused(&*make().log());
}

/// Appends and waits for the answer.
pub(crate) fn append(log: &dyn Log, partition: u32, value: &[u8]) -> Result<Appended, LogError> {
    log.append(partition, vec![Bytes::copy_from_slice(value)]).blocking_recv().unwrap()
}

/// Reads until the reader has handed out what the watermarks promise.
pub(crate) fn read_all(log: &dyn Log, from: &[(u32, u64)]) -> Vec<LogRecord> {
    let missing: u64 =
        from.iter().map(|(partition, offset)| log.watermarks(*partition).unwrap().end_offset - offset).sum();
    let mut reader = log.reader(from).unwrap();
    read_some(&mut *reader, usize::try_from(missing).unwrap())
}

/// Reads exactly so many records.
pub(crate) fn read_some(reader: &mut dyn LogReader, count: usize) -> Vec<LogRecord> {
    let until = Instant::now() + SOON;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < until, "{} of {count} records came", records.len());
        records.extend(reader.poll(SOON).unwrap());
    }
    assert_eq!(records.len(), count, "more came than there should be");
    records
}

/// Every partition from its beginning.
pub(crate) fn from_the_start() -> Vec<(u32, u64)> {
    (0..PARTITIONS).map(|partition| (partition, 0)).collect()
}

fn value(partition: u32, number: usize) -> Vec<u8> {
    format!("{partition}:{number}:").repeat(number % 97 + 1).into_bytes()
}

fn each_partition_begins_with_the_start_of_the_generation(log: &dyn Log) {
    let layout = log.layout();
    assert_eq!((layout.generation, layout.partitions), (1, PARTITIONS));
    for record in read_all(log, &from_the_start()) {
        assert_eq!(record.offset, 0);
        let batch = v1::PulseBatch::decode(record.value).unwrap();
        let Some(Fact::GenerationStart(start)) = batch.control.unwrap().fact else {
            panic!("another fact");
        };
        assert_eq!((start.generation, start.partitions), (1, PARTITIONS));
        assert_eq!(start.log_id, layout.log_id[..]);
        assert_eq!((start.id_horizon_seconds, start.fold_version), (0, 1));
    }
}

fn g01_what_was_answered_is_read_back(log: &dyn Log) {
    let mut expected = BTreeMap::new();
    for number in 0..300 {
        let partition = u32::try_from(number * 7 % 4).unwrap();
        let value = value(partition, number);
        let appended = append(log, partition, &value).unwrap();
        assert_eq!((appended.generation, appended.partition), (1, partition));
        expected.insert((partition, appended.offset), (appended.appended_at_nanos, value));
    }
    for record in read_all(log, &from_the_start()) {
        assert_eq!(record.digest, xxhash_rust::xxh3::xxh3_64(&record.value));
        if record.offset > 0 {
            let (appended_at, value) = expected.remove(&(record.partition, record.offset)).unwrap();
            assert_eq!(record.appended_at_nanos, appended_at);
            assert_eq!(record.value, value);
        }
    }
    assert!(expected.is_empty());
}

fn g01_reopening_keeps_everything<R: Reopenable>(subject: &mut R) {
    for number in 0..50 {
        append(&*subject.log(), 2, &value(2, number)).unwrap();
    }
    let before = read_all(&*subject.log(), &from_the_start());
    let layout = subject.log().layout();
    for _ in 0..3 {
        subject.reopen();
        assert_eq!(subject.log().layout(), layout);
        assert_eq!(read_all(&*subject.log(), &from_the_start()), before);
    }
    assert_eq!(append(&*subject.log(), 2, b"goes on").unwrap().offset, 51);
}

fn offsets_have_no_gaps_under_many_appenders(log: &Arc<dyn Log>) {
    let answers: Vec<(Appended, Vec<u8>)> = std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..6_usize)
            .map(|appender| {
                scope.spawn(move || {
                    let values = (0..200).map(|number| {
                        let partition = u32::try_from((number + appender) % 2).unwrap();
                        (partition, format!("{appender}:{number}").into_bytes())
                    });
                    let replies: Vec<_> = values
                        .map(|(partition, value)| {
                            (log.append(partition, vec![Bytes::from(value.clone())]), value)
                        })
                        .collect();
                    let answers = replies
                        .into_iter()
                        .map(|(reply, value)| (reply.blocking_recv().unwrap().unwrap(), value));
                    answers.collect::<Vec<_>>()
                })
            })
            .collect();
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect()
    });
    let mut held: BTreeMap<_, _> =
        answers.into_iter().map(|(at, value)| ((at.partition, at.offset), value)).collect();
    assert_eq!(held.len(), 1200, "no offset was given twice");
    let mut next = [1_u64, 1];
    for record in read_all(&**log, &[(0, 1), (1, 1)]) {
        let next = &mut next[record.partition as usize];
        assert_eq!(record.offset, *next);
        *next += 1;
        assert_eq!(held.remove(&(record.partition, record.offset)).unwrap(), record.value);
    }
    assert!(held.is_empty(), "every answered record is read back");
}

fn appended_at_never_falls(log: &dyn Log) {
    for number in 0..100 {
        append(log, 1, &value(1, number)).unwrap();
    }
    let times: Vec<i64> = read_all(log, &[(1, 0)]).iter().map(|record| record.appended_at_nanos).collect();
    assert!(times.is_sorted());
}

fn a_value_in_parts_reads_back_as_one(log: &dyn Log) {
    let parts = ["", "one", "", " and ", "another"].map(|part| Bytes::from_static(part.as_bytes()));
    let appended = log.append(3, parts.to_vec()).blocking_recv().unwrap().unwrap();
    assert_eq!(log.fetch(3, &[appended.offset]).unwrap()[0].value, "one and another");
}

fn the_largest_and_the_empty_record_are_kept(log: &dyn Log) {
    let largest: Vec<u8> = (0..RECORD_BYTES_MAX).map(|at| (at % 251).to_le_bytes()[0]).collect();
    append(log, 0, &largest).unwrap();
    append(log, 0, b"").unwrap();
    let records = read_all(log, &[(0, 1)]);
    assert_eq!(records[0].value, largest);
    assert_eq!(records[1].value, "");
}

fn a_record_over_the_bound_is_refused(log: &dyn Log) {
    let refused = append(log, 0, &vec![0; RECORD_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { limit: RECORD_BYTES_MAX, .. }), "{refused}");
    assert_eq!(log.watermarks(0).unwrap().end_offset, 1);
}

fn a_partition_that_is_not_there_is_refused(log: &dyn Log) {
    assert!(matches!(append(log, PARTITIONS, b"x"), Err(LogError::NoPartition(PARTITIONS))));
    assert!(matches!(log.watermarks(PARTITIONS), Err(LogError::NoPartition(PARTITIONS))));
    assert!(matches!(log.reader(&[(PARTITIONS, 0)]).err(), Some(LogError::NoPartition(PARTITIONS))));
    assert!(matches!(log.fetch(PARTITIONS, &[0]), Err(LogError::NoPartition(PARTITIONS))));
}

fn a_reader_begins_where_it_is_told(log: &dyn Log) {
    for number in 0..40 {
        append(log, 0, &value(0, number)).unwrap();
        append(log, 1, &value(1, number)).unwrap();
    }
    for (first, second) in [(0, 41), (1, 1), (17, 30), (40, 3), (41, 41)] {
        let mut next = [first, second];
        for record in read_all(log, &[(0, first), (1, second)]) {
            assert_eq!(record.offset, next[record.partition as usize]);
            next[record.partition as usize] += 1;
        }
        assert_eq!(next, [41, 41]);
    }
}

fn a_reader_outside_the_watermarks_is_refused(log: &dyn Log) {
    assert!(log.reader(&[(0, 1)]).is_ok(), "the end is inside");
    let refused = log.reader(&[(1, 0), (0, 2)]).err().unwrap();
    assert!(matches!(refused, LogError::OffsetOutOfRange { partition: 0, offset: 2 }), "{refused}");
}

fn a_reader_of_some_partitions_sees_no_others(log: &dyn Log) {
    let mut reader = log.reader(&[(3, 1)]).unwrap();
    for number in 0..20 {
        append(log, u32::try_from(number % 4).unwrap(), &value(0, number)).unwrap();
    }
    let records = read_some(&mut *reader, 5);
    assert!(records.iter().all(|record| record.partition == 3));
}

fn a_waiting_reader_wakes_for_a_new_record(log: &Arc<dyn Log>) {
    let mut reader = log.reader(&[(0, 1)]).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || read_some(&mut *reader, 3));
        for number in 0..3 {
            append(&**log, 0, &value(0, number)).unwrap();
        }
        assert_eq!(waiting.join().unwrap()[2].value, value(0, 2));
    });
}

fn a_reader_at_the_end_returns_empty_in_time(log: &dyn Log) {
    let mut reader = log.reader(&[(0, 1)]).unwrap();
    let began = Instant::now();
    assert_eq!(reader.poll(BRIEFLY).unwrap(), []);
    assert!(began.elapsed() >= BRIEFLY && began.elapsed() < SOON);
}

fn single_records_are_fetched_in_the_order_asked(log: &dyn Log) {
    for number in 0..200 {
        append(log, 0, &value(0, number)).unwrap();
        append(log, 1, &value(1, number)).unwrap();
    }
    let asked = [200, 1, 3, 2, 2, 117, 118, 150, 9];
    let records = log.fetch(1, &asked).unwrap();
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), asked);
    for record in records {
        assert_eq!(record.partition, 1);
        assert_eq!(record.value, value(1, usize::try_from(record.offset - 1).unwrap()));
    }
    assert_eq!(log.fetch(1, &[]).unwrap(), []);
}

fn a_fetch_of_what_is_not_there_is_refused(log: &dyn Log) {
    let refused = log.fetch(0, &[0, 1]).unwrap_err();
    assert!(matches!(refused, LogError::OffsetOutOfRange { partition: 0, offset: 1 }), "{refused}");
}
