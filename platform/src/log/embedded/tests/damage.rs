//! Damage anywhere in a folder is detected with its place, or harmless; never is a record handed out that was not
//! written (G10).

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{Records, config, copy, files, flip, forget_the_clean_end, groups, hand_out, open, truncate};
use crate::log::conformance::append;
use crate::log::embedded::{EmbeddedLog, EmbeddedLogConfig, list_cuts};
use crate::log::{Log, LogError};

/// A closed log of a few segments with their indexes, and what it holds.
fn closed_log() -> (TempDir, Records) {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedLogConfig { segment_bytes: 900, ..config(&folder) };
    let log = open(&config);
    for number in 0..24 {
        let value = format!("{number} ").repeat(number as usize % 7 + 1);
        append(&*log, number % 4, value.as_bytes()).unwrap();
    }
    let (records, faults) = hand_out(&*log);
    assert_eq!((records.len(), faults.len()), (28, 0));
    drop(log);
    assert!(files(folder.path()).len() > 7, "several segments and indexes");
    (folder, records)
}

#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Detected,
    Harmless,
}

/// Opens a folder that was tampered with, reads it in every way, and insists that nothing wrong comes out in silence.
fn judge(folder: &TempDir, expected: &Records, what: &str) -> Outcome {
    let (log, report) = match EmbeddedLog::open(config(folder)) {
        Ok(opened) => opened,
        Err(LogError::Damaged { place, .. }) => {
            assert!(place.contains("g1"), "{what}: {place}");
            return Outcome::Detected;
        }
        Err(LogError::NeedsUpgrade { .. }) => return Outcome::Detected,
        Err(other) => panic!("{what}: {other}"),
    };
    let (records, faults) = hand_out(&log);
    for (at, record) in &records {
        assert_eq!(Some(record), expected.get(at), "{what}: a record that was never written");
    }
    for ((partition, offset), record) in expected {
        match log.fetch(*partition, &[*offset]) {
            Ok(fetched) => assert_eq!(&fetched[0], record, "{what}"),
            Err(LogError::Damaged { partition: halted, .. }) => {
                assert_eq!(halted, Some(*partition), "{what}")
            }
            Err(LogError::OffsetOutOfRange { .. }) => assert!(report.cut.is_some(), "{what}"),
            Err(other) => panic!("{what}: {other}"),
        }
    }
    let cut_reported = report.cut.as_ref().is_some_and(|cut| cut.possibly_acknowledged);
    for ((partition, offset), _) in expected.iter().filter(|(at, _)| !records.contains_key(at)) {
        let halted = faults.iter().any(
            |fault| matches!(fault, LogError::Damaged { partition: Some(halted), .. } if halted == partition),
        );
        assert!(halted || cut_reported, "{what}: {partition}:{offset} is missing in silence");
    }
    drop(log);
    if cut_reported {
        assert_eq!(list_cuts(folder.path(), 1).unwrap().len(), 1, "{what}");
    }
    if records.len() < expected.len() { Outcome::Detected } else { Outcome::Harmless }
}

/// How many bytes lie between two flips; `PULSO_FLIP_STEP=1` flips every byte.
fn step(usual: usize) -> usize {
    std::env::var("PULSO_FLIP_STEP").map_or(usual, |step| step.parse().unwrap())
}

#[test]
fn g10_a_flipped_byte_anywhere_is_detected_or_harmless() {
    let (folder, expected) = closed_log();
    for name in files(folder.path()) {
        let is_index = name.extension().is_some_and(|kind| kind == "idx");
        let length = fs::metadata(&name).unwrap().len();
        // Every third byte, and every byte of the small files; the bit differs from byte to byte.
        for at in (0..length).step_by(if length > 300 { step(3) } else { 1 }) {
            let bad = copy(folder.path());
            let path = bad.path().join("g1").join(name.file_name().unwrap());
            flip(&path, at, 1 << (at % 8));
            let outcome = judge(&bad, &expected, &format!("{} byte {at}", name.display()));
            let must_be = if is_index { Outcome::Harmless } else { Outcome::Detected };
            assert_eq!(outcome, must_be, "{} byte {at}", name.display());
        }
    }
}

#[test]
fn g10_a_flipped_byte_after_a_kill_is_detected_or_harmless() {
    let (folder, expected) = closed_log();
    forget_the_clean_end(folder.path());
    for name in files(folder.path()).iter().filter(|name| name.extension().is_some_and(|kind| kind == "log"))
    {
        for at in (0..fs::metadata(name).unwrap().len()).step_by(step(7)) {
            let bad = copy(folder.path());
            flip(&bad.path().join("g1").join(name.file_name().unwrap()), at, 1 << (at % 8));
            judge(&bad, &expected, &format!("{} byte {at}", name.display()));
        }
    }
}

#[test]
fn g10_a_truncated_file_is_detected_or_harmless() {
    let (folder, expected) = closed_log();
    for name in files(folder.path()) {
        let is_index = name.extension().is_some_and(|kind| kind == "idx");
        for bytes in (0..fs::metadata(&name).unwrap().len()).step_by(29) {
            let bad = copy(folder.path());
            truncate(&bad.path().join("g1").join(name.file_name().unwrap()), bytes);
            let outcome = judge(&bad, &expected, &format!("{} cut to {bytes}", name.display()));
            let must_be = if is_index { Outcome::Harmless } else { Outcome::Detected };
            assert_eq!(outcome, must_be, "{} cut to {bytes}", name.display());
        }
    }
}

#[test]
fn g10_a_missing_swapped_or_foreign_file_is_detected_or_harmless() {
    let (folder, expected) = closed_log();
    let (stranger, _) = closed_log();
    let names: Vec<_> =
        files(folder.path()).iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    for name in &names {
        let what = name.display().to_string();
        // The mark of a clean end is missing after every crash; an index can be made again.
        let harmless = what.contains(".idx") || what == "closed";
        let missing = copy(folder.path());
        fs::remove_file(missing.path().join("g1").join(name)).unwrap();
        let outcome = judge(&missing, &expected, &format!("{what} is missing"));
        assert_eq!(outcome == Outcome::Harmless, harmless, "{what} is missing");
        let foreign = copy(folder.path());
        fs::copy(stranger.path().join("g1").join(name), foreign.path().join("g1").join(name)).unwrap();
        let outcome = judge(&foreign, &expected, &format!("{what} is another log's"));
        assert_eq!(outcome == Outcome::Harmless, what.contains(".idx"), "{what} is another log's");
        for other in names.iter().filter(|other| *other != name) {
            let swapped = copy(folder.path());
            let home = swapped.path().join("g1");
            fs::rename(home.join(name), home.join("third")).unwrap();
            fs::rename(home.join(other), home.join(name)).unwrap();
            fs::rename(home.join("third"), home.join(other)).unwrap();
            judge(&swapped, &expected, &format!("{what} and {} are swapped", other.display()));
        }
    }
}

#[test]
fn g10_an_older_copy_of_a_segment_is_detected() {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedLogConfig { segment_bytes: 900, ..config(&folder) };
    let mut older = Vec::new();
    for round in 0..12 {
        let log = open(&config);
        append(&*log, round % 4, b"one more of them").unwrap();
        drop(log);
        older.push(copy(folder.path()));
    }
    let (expected, _) = hand_out(&*open(&config));
    for (round, older) in older.iter().enumerate() {
        for old in
            files(older.path()).iter().filter(|file| file.extension().is_some_and(|kind| kind == "log"))
        {
            let restored = copy(folder.path());
            let place = restored.path().join("g1").join(old.file_name().unwrap());
            let same = fs::read(old).unwrap() == fs::read(&place).unwrap();
            fs::copy(old, &place).unwrap();
            let outcome = judge(&restored, &expected, &format!("{} of round {round}", old.display()));
            assert_eq!(outcome == Outcome::Harmless, same);
        }
    }
}

#[test]
fn g10_a_damaged_record_halts_its_partition_and_no_other() {
    let (folder, expected) = closed_log();
    let (begins, header) = groups(folder.path(), 1)[2];
    let segment = folder.path().join("g1/00000000000000000001.log");
    assert_eq!(header.entries, 1);
    // The first byte of the value: behind the header and one entry.
    flip(&segment, begins + 64 + 24, 0x01);
    let halted = the_only_partition_halted(folder.path(), &expected, begins);
    flip(&segment, begins + 64 + 24, 0x01);
    // A byte of the header: which partitions had records there follows from where reading can go on.
    flip(&segment, begins + 20, 0x01);
    let log = open(&config(&folder));
    let (records, faults) = hand_out(&*log);
    assert!(!faults.is_empty());
    assert!(records.len() < expected.len());
    assert!(records.iter().all(|(at, record)| expected.get(at) == Some(record)));
    assert!(
        faults
            .iter()
            .any(|fault| matches!(fault, LogError::Damaged { partition, .. } if *partition == halted))
    );
}

/// Reads a log with one damaged value and says which partition halted; all others must be complete.
fn the_only_partition_halted(folder: &Path, expected: &Records, begins: u64) -> Option<u32> {
    let config = EmbeddedLogConfig::new(folder, 4, crate::service::clock::Clock::manual(0));
    let log = open(&config);
    let (records, faults) = hand_out(&*log);
    let [LogError::Damaged { place, partition, .. }] = &faults[..] else { panic!("{faults:?}") };
    assert!(place.ends_with(&format!("00000000000000000001.log byte {begins}")), "{place}");
    for (at, record) in expected.iter().filter(|(at, _)| Some(at.0) != *partition) {
        assert_eq!(records.get(at), Some(record));
    }
    *partition
}

#[test]
fn a_locked_newer_or_unreadable_folder_is_refused_with_one_sentence() {
    let (folder, _) = closed_log();
    let held = open(&config(&folder));
    for refused in
        [EmbeddedLog::open(config(&folder)).err(), EmbeddedLog::open_read_only(&config(&folder)).err()]
    {
        match refused.unwrap() {
            LogError::InUse { pid, .. } => assert_eq!(pid, std::process::id()),
            other => panic!("{other}"),
        }
    }
    held.close();
    drop(EmbeddedLog::open_read_only(&config(&folder)).unwrap());
    let meta = folder.path().join("g1/meta");
    let newer = r#"{"format":2,"new_field":true}"#;
    let sealed = format!("{newer}\n{:016x}\n", xxhash_rust::xxh3::xxh3_64(newer.as_bytes()));
    fs::write(&meta, sealed).unwrap();
    let refused = EmbeddedLog::open(config(&folder)).err().unwrap();
    assert!(matches!(refused, LogError::NeedsUpgrade { found: 2, supported: 1 }), "{refused}");
    fs::remove_file(&meta).unwrap();
    let refused = EmbeddedLog::open(config(&folder)).err().unwrap().to_string();
    assert!(refused.contains("meta") && refused.contains("missing") && !refused.contains('\n'), "{refused}");
    let nowhere = EmbeddedLogConfig { folder: folder.path().join("g1/meta/log"), ..config(&folder) };
    fs::write(&meta, "a file").unwrap();
    assert!(matches!(EmbeddedLog::open(nowhere).err(), Some(LogError::Io { .. })));
}

#[test]
fn a_reader_begun_behind_the_lost_offsets_reads_to_the_end() {
    let (folder, expected) = closed_log();
    let (begins, _) = groups(folder.path(), 1)[2];
    flip(&folder.path().join("g1/00000000000000000001.log"), begins + 64 + 24, 0x01);
    let log = open(&config(&folder));
    let (records, faults) = hand_out(&*log);
    let [LogError::Damaged { partition: Some(partition), detail, .. }] = &faults[..] else {
        panic!("{faults:?}")
    };
    let handed_out = records.keys().filter(|(of, _)| of == partition).count() as u64;
    assert!(
        detail.ends_with(&format!("offsets {handed_out} to {handed_out} of partition {partition} are lost"))
    );
    let rest = crate::log::conformance::read_all(&*log, &[(*partition, handed_out + 1)]);
    assert!(!rest.is_empty());
    assert!(rest.iter().all(|record| expected[&(record.partition, record.offset)] == *record));
}

#[test]
fn g10_a_segment_that_vanishes_under_an_open_log_halts_what_it_held() {
    let (folder, expected) = closed_log();
    let log = open(&config(&folder));
    fs::remove_file(folder.path().join("g1/00000000000000000001.log")).unwrap();
    let (records, faults) = hand_out(&*log);
    assert!(faults.iter().all(|fault| matches!(fault, LogError::Damaged { partition: Some(_), .. })));
    assert!(records.iter().all(|(at, record)| expected.get(at) == Some(record)));
    for (partition, _) in expected.keys().filter(|at| !records.contains_key(at)) {
        let names_it = |fault: &LogError| matches!(fault, LogError::Damaged { partition: Some(p), .. } if p == partition);
        assert!(faults.iter().any(names_it));
    }
    assert!(append(&*log, 0, b"goes on").is_ok());
}
