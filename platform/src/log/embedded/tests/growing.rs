//! Growing: the next generation, its seals, and a crash in each step.

use bytes::Bytes;
use pulso_domain::position::partition_number;

use super::{config, copy_of, hand_out_all};
use crate::log::embedded::folder::{FolderLock, generation_folder};
use crate::log::embedded::{EmbeddedGenerations, EmbeddedLog, EmbeddedLogConfig};
use crate::log::generation::{is_seal, seal};
use crate::log::{Log, LogError};
use std::sync::Arc;
use tempfile::TempDir;

const MORE: u32 = 7;

fn append(log: &dyn Log, partition: u32, value: &'static [u8]) -> (u32, u32, u64) {
    let reply = log.append(partition, vec![Bytes::from_static(value)]);
    let at = reply.blocking_recv().unwrap().unwrap();
    (at.generation, at.partition, at.offset)
}

/// A log of one generation with a record in its second partition.
fn small() -> (TempDir, EmbeddedLogConfig) {
    let folder = TempDir::new().unwrap();
    let config = config(&folder);
    let (log, _) = EmbeddedGenerations::open(&config).unwrap();
    assert_eq!(append(&log, 1, b"before"), (1, 1, 1));
    log.close();
    (folder, config)
}

/// Checks a folder that has grown: each partition before ends with its first seal, each behind has begun.
fn assert_grown(config: &EmbeddedLogConfig) {
    let (log, _) = EmbeddedGenerations::open(config).unwrap();
    let layouts = log.generations();
    assert_eq!(layouts.iter().map(|layout| layout.generation).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(log.layout().partitions, MORE);
    let records = hand_out_all(&log);
    for index in 0..layouts[0].partitions {
        let seals =
            records.iter().filter(|((partition, _), record)| *partition == index && is_seal(&record.value));
        assert_eq!(seals.count(), 1, "partition {index} is sealed once");
        let end = log.watermarks(index).unwrap().end_offset;
        assert!(is_seal(&log.fetch(index, &[end - 1]).unwrap()[0].value));
    }
    assert_eq!(&records[&(1, 1)].value[..], b"before");
    for index in 0..MORE {
        let number = partition_number(2, index);
        assert_eq!(log.watermarks(number).unwrap().end_offset, 1, "partition {index} has begun, once");
        assert_eq!(append(&log, number, b"behind"), (2, index, 1));
        assert_eq!(log.fetch(number, &[1]).unwrap()[0].partition, number);
    }
    log.close();
}

#[test]
fn a_log_grows_and_both_generations_are_read_by_their_numbers() {
    let (_folder, config) = small();
    let grown = EmbeddedGenerations::grow(&config, MORE).unwrap();
    assert!(grown.begun && grown.layout.generation == 2);
    let again = EmbeddedGenerations::grow(&config, MORE).unwrap();
    assert_eq!((again.begun, again.layout), (false, grown.layout), "running it again changes nothing");
    assert_grown(&config);
    let (log, _) = EmbeddedGenerations::open_read_only(&config).unwrap();
    assert_eq!(hand_out_all(&log).len() as u32, 2 * log.generations()[0].partitions + 1 + 2 * MORE);
    let nowhere = partition_number(3, 0);
    assert!(matches!(log.watermarks(nowhere), Err(LogError::NoPartition(number)) if number == nowhere));
}

#[test]
fn g09_a_crash_in_any_step_of_growing_is_brought_to_its_end_by_the_next_start_or_by_growing_again() {
    let (folder, config) = small();
    let next = EmbeddedLogConfig { generation: 2, partitions: MORE, ..config.clone() };
    // Before the folder has its name.
    let half_made = generation_folder(&config.folder, 2).with_extension("new");
    std::fs::create_dir_all(&half_made).unwrap();
    std::fs::write(half_made.join("meta"), "half").unwrap();
    let (log, _) = EmbeddedGenerations::open(&config).unwrap();
    assert_eq!(log.generations().len(), 1, "nothing has begun");
    drop(log);
    let unborn = copy_of(&folder);
    // The folder is there, and no partition has begun.
    crate::log::embedded::creation::create_folder(&config.folder, 2, MORE).unwrap();
    let empty = copy_of(&folder);
    // All have begun, and none before is sealed.
    let lock = Arc::new(FolderLock::take(&config.folder).unwrap());
    EmbeddedLog::open_in(next, Arc::clone(&lock)).unwrap().0.close();
    drop(lock);
    let begun = copy_of(&folder);
    // Some are sealed.
    let (first, _) = EmbeddedLog::open(config.clone()).unwrap();
    first.append(1, vec![seal(2, 0)]).blocking_recv().unwrap().unwrap();
    first.close();
    let sealed = copy_of(&folder);
    for crashed in [&empty, &begun, &sealed] {
        for grows_again in [false, true] {
            let folder = copy_of(crashed);
            let config = EmbeddedLogConfig { folder: folder.path().to_owned(), ..config.clone() };
            if grows_again {
                assert!(!EmbeddedGenerations::grow(&config, MORE).unwrap().begun, "it had begun");
            }
            assert_grown(&config);
        }
    }
    let config = EmbeddedLogConfig { folder: unborn.path().to_owned(), ..config };
    assert!(EmbeddedGenerations::grow(&config, MORE).unwrap().begun);
    assert_grown(&config);
}
