//! The tests of the embedded log as a whole, and what they share.

mod conforming;
mod damage;
mod failing;
mod growing;
mod model;
mod scale;
mod tail;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::creation::read_layout;
use super::folder::segment_path;
use super::format::{GroupHeader, SegmentHeader, seed};
use super::point::Point;
use super::stream::GroupStream;
use super::{EmbeddedLog, EmbeddedLogConfig};
use crate::log::conformance::PARTITIONS;
use crate::log::{Log, LogError, LogRecord};
use crate::service::clock::Clock;

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

/// Records by where they stand.
type Records = BTreeMap<(u32, u64), LogRecord>;

/// A log in a folder of its own.
fn config(folder: &TempDir) -> EmbeddedLogConfig {
    EmbeddedLogConfig::new(folder.path(), PARTITIONS, Clock::manual(1_700_000_000_000_000_000))
}

fn open(config: &EmbeddedLogConfig) -> Arc<EmbeddedLog> {
    Arc::new(EmbeddedLog::open(config.clone()).unwrap().0)
}

/// Waits until something is true.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < end, "{what} does not come true");
        std::thread::yield_now();
    }
}

/// The files of the first generation, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("g1")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Another folder with the same first generation.
fn copy(folder: &Path) -> TempDir {
    let other = TempDir::new().unwrap();
    std::fs::create_dir(other.path().join("g1")).unwrap();
    for file in files(folder) {
        std::fs::copy(&file, other.path().join("g1").join(file.file_name().unwrap())).unwrap();
    }
    other
}

/// Another folder with all generations.
fn copy_of(folder: &TempDir) -> TempDir {
    let other = TempDir::new().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            let home = other.path().join(entry.file_name());
            std::fs::create_dir(&home).unwrap();
            for file in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                std::fs::copy(file.path(), home.join(file.file_name())).unwrap();
            }
        }
    }
    other
}

/// All that the generations of a log hand out.
fn hand_out_all(log: &dyn Log) -> Records {
    let from: Vec<(u32, u64)> = log.partitions().into_iter().map(|partition| (partition, 0)).collect();
    let mut reader = log.reader(&from).unwrap();
    let mut records = Records::new();
    loop {
        let more = reader.poll(Duration::ZERO).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more.into_iter().map(|record| ((record.partition, record.offset), record)));
    }
}

/// What a process that was killed leaves: no mark of a clean end.
fn forget_the_clean_end(folder: &Path) {
    let _ = std::fs::remove_file(folder.join("g1/closed"));
}

/// The last segment file.
fn last_segment(folder: &Path) -> PathBuf {
    files(folder).into_iter().rfind(|file| file.extension().is_some_and(|kind| kind == "log")).unwrap()
}

/// The groups of one segment, each with the byte where it begins.
fn groups(folder: &Path, number: u64) -> Vec<(u64, GroupHeader)> {
    let layout = read_layout(folder, 1).unwrap().unwrap();
    let path = segment_path(&folder.join("g1"), number);
    let bytes = std::fs::read(&path).unwrap();
    let header = SegmentHeader::decode(&bytes, &layout).unwrap();
    let mut at = Point {
        segment: number,
        byte: SegmentHeader::bytes(layout.partitions) as u64,
        sequence: header.first_sequence,
        digest: header.previous_digest,
        next_offsets: header.next_offsets,
    };
    let mut stream = GroupStream::new(File::open(&path).unwrap(), seed(&layout), 1024 * 1024);
    let mut groups = Vec::new();
    while let Ok(group) = stream.group(&at, bytes.len() as u64) {
        GroupStream::advance(&mut at, &group).unwrap();
        groups.push((group.byte, group.header));
    }
    groups
}

/// Changes one byte of a file.
fn flip(path: &Path, at: u64, mask: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= mask;
    std::fs::write(path, bytes).unwrap();
}

/// Cuts a file.
fn truncate(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// All that a log hands out, and the damage that it reports meanwhile.
fn hand_out(log: &dyn Log) -> (Records, Vec<LogError>) {
    let from: Vec<(u32, u64)> = (0..log.layout().partitions).map(|partition| (partition, 0)).collect();
    let mut reader = log.reader(&from).unwrap();
    let (mut records, mut faults) = (Records::new(), Vec::new());
    loop {
        match reader.poll(Duration::ZERO) {
            Ok(more) if more.is_empty() => return (records, faults),
            Ok(more) => {
                records.extend(more.into_iter().map(|record| ((record.partition, record.offset), record)));
            }
            Err(fault) => faults.push(fault),
        }
    }
}
