//! What only shows with many groups and segments: seeks through the index, indexes that are lost, readers that follow
//! the writer, a queue that is full.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::{config, files, hand_out, open, until};
use crate::log::conformance::{append, read_some};
use crate::log::embedded::{EmbeddedLog, EmbeddedLogConfig};
use crate::log::{AppendReply, Log, LogError};

fn value(partition: u32, offset: u64) -> Vec<u8> {
    let length = (partition as usize * 131 + offset.to_le_bytes()[0] as usize * 17) % 3000;
    (0..length).map(|at| (at as u64 ^ offset).to_le_bytes()[0]).collect()
}

/// Fills four partitions with so many records each, a few per group.
fn fill(log: &EmbeddedLog, records: u64) {
    let mut replies: Vec<AppendReply> = Vec::new();
    for offset in 1..=records {
        for partition in 0..4 {
            replies.push(log.append(partition, vec![Bytes::from(value(partition, offset))]));
        }
        if offset % 8 == 0 {
            replies.drain(..).for_each(|reply| assert!(reply.blocking_recv().unwrap().is_ok()));
        }
    }
    replies.drain(..).for_each(|reply| assert!(reply.blocking_recv().unwrap().is_ok()));
}

#[test]
fn seeks_find_every_record_through_the_indexes_and_without_them() {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedLogConfig { segment_bytes: 600_000, group_bytes_max: 20_000, ..config(&folder) };
    let log = open(&config);
    fill(&log, 800);
    let check = |log: &EmbeddedLog| {
        for partition in 0..4 {
            let asked: Vec<u64> = (0..800).map(|step| step * 377 % 800 + 1).collect();
            for record in log.fetch(partition, &asked).unwrap() {
                assert_eq!(record.value, value(partition, record.offset));
            }
            for from in (1..801).step_by(73) {
                let records = read_some(&mut *log.reader(&[(partition, from)]).unwrap(), 801 - from as usize);
                assert_eq!(records[0].offset, from);
            }
        }
    };
    check(&log);
    drop(log);
    let is_index = |file: &std::path::PathBuf| file.extension().is_some_and(|kind| kind == "idx");
    let indexes: Vec<_> = files(folder.path()).into_iter().filter(is_index).collect();
    assert!(indexes.len() > 3);
    check(&open(&config));
    indexes.iter().for_each(|index| std::fs::remove_file(index).unwrap());
    check(&EmbeddedLog::open_read_only(&config).unwrap().0);
    assert_eq!(files(folder.path()).into_iter().filter(is_index).count(), 0, "looking changes nothing");
    check(&open(&config));
    assert_eq!(files(folder.path()).into_iter().filter(is_index).count(), indexes.len());
}

#[test]
fn g01_readers_that_follow_the_writer_see_every_record_once_and_in_order() {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedLogConfig { segment_bytes: 200_000, ..config(&folder) };
    let log = open(&config);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|number| {
                let mut reader = log.reader(&[(number, 1), (3, 1)]).unwrap();
                let done = &done;
                scope.spawn(move || {
                    let mut next = [1_u64; 4];
                    loop {
                        let was_done = done.load(Ordering::SeqCst);
                        let records = reader.poll(Duration::from_millis(5)).unwrap();
                        if records.is_empty() && was_done {
                            return (next[number as usize], next[3]);
                        }
                        for record in records {
                            let next = &mut next[record.partition as usize];
                            assert_eq!(record.offset, *next);
                            assert_eq!(record.value, value(record.partition, record.offset));
                            *next += 1;
                        }
                    }
                })
            })
            .collect();
        fill(&log, 500);
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (501, 501));
        }
    });
}

#[test]
fn g11_a_full_queue_refuses_at_once_and_keeps_what_it_took() {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedLogConfig { queue_bytes_max: 2000, ..config(&folder) };
    let log = open(&config);
    let replies: Vec<AppendReply> =
        (0..3000).map(|_| log.append(0, vec![Bytes::from_static(&[7; 900])])).collect();
    let answers: Vec<_> = replies.into_iter().map(|reply| reply.blocking_recv().unwrap()).collect();
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(stored > 0 && stored < answers.len(), "{stored}");
    assert!(answers.iter().flat_map(|answer| answer.as_ref().err()).all(LogError::is_retryable));
    assert_eq!(log.watermarks(0).unwrap().end_offset, stored as u64 + 1);
}

#[test]
fn g16_closing_writes_what_waits_and_then_refuses() {
    let folder = TempDir::new().unwrap();
    let log = open(&config(&folder));
    let replies: Vec<AppendReply> =
        (0..200).map(|_| log.append(0, vec![Bytes::from_static(b"waits")])).collect();
    let mut reader = log.reader(&[(0, 1)]).unwrap();
    log.close();
    assert!(replies.into_iter().all(|reply| reply.blocking_recv().unwrap().is_ok()));
    assert!(matches!(append(&*log, 0, b"late"), Err(LogError::Unavailable(_))));
    assert!(!log.is_appendable());
    assert_eq!(read_some(&mut *reader, 200).len(), 200, "who reads can read to the end");
    let again = open(&config(&folder));
    assert_eq!(hand_out(&*again).0.len(), 204);
    until("the log takes records", || again.is_appendable());
}
