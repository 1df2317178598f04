//! The end of the log after a crash: what is cut, what is reported, what halts; and the tail mark that decides it.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{
    config, copy, flip, forget_the_clean_end, groups, hand_out, last_segment, open, truncate, until,
};
use crate::log::LogError;
use crate::log::conformance::append;
use crate::log::embedded::format::GroupKind;
use crate::log::embedded::{EmbeddedLog, EmbeddedLogConfig, OpenReport, list_cuts, note_cuts};

/// A log as a killed process left it; the last group is not followed by a tail mark. Returns where that group begins.
fn killed(folder: &TempDir) -> u64 {
    let log = open(&config(folder));
    for number in 0..5 {
        append(&*log, number % 3, format!("record {number}").as_bytes()).unwrap();
    }
    append(&*log, 1, b"the last one").unwrap();
    drop(log);
    forget_the_clean_end(folder.path());
    let groups = groups(folder.path(), 0);
    let last = groups.iter().rposition(|(_, header)| header.kind == GroupKind::Records).unwrap();
    if let Some((mark, _)) = groups.get(last + 1) {
        truncate(&last_segment(folder.path()), *mark);
    }
    groups[last].0
}

fn reopen(folder: &TempDir) -> (EmbeddedLog, OpenReport) {
    EmbeddedLog::open(config(folder)).unwrap()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn g01_a_tail_torn_at_any_byte_is_cut_and_all_before_it_survives() {
    let folder = TempDir::new().unwrap();
    let begins = killed(&folder);
    let whole = size(&last_segment(folder.path()));
    let (log, _) = EmbeddedLog::open_read_only(&config(&folder)).unwrap();
    let (all, _) = hand_out(&log);
    drop(log);
    for end in begins..=whole {
        let torn = copy(folder.path());
        truncate(&last_segment(torn.path()), end);
        let (log, report) = reopen(&torn);
        let mut expected = all.clone();
        if end < whole {
            expected.remove(&(1, 3));
        }
        assert_eq!(hand_out(&log).0, expected, "torn at {end}");
        match report.cut {
            None => assert!(end == begins || end == whole),
            Some(cut) => {
                assert_eq!((cut.byte, cut.bytes), (begins, end - begins));
                assert!(!cut.possibly_acknowledged, "torn at {end}");
            }
        }
        assert_eq!(append(&log, 1, b"goes on").unwrap().offset, if end < whole { 3 } else { 4 });
        drop(log);
        assert_eq!(list_cuts(torn.path(), 1).unwrap(), []);
        assert_eq!(reopen(&torn).1.cut, None);
    }
}

#[test]
fn g10_a_full_length_group_with_a_bad_checksum_is_reported_as_possibly_acknowledged() {
    let folder = TempDir::new().unwrap();
    let begins = killed(&folder);
    let whole = size(&last_segment(folder.path()));
    for at in begins..whole {
        let bad = copy(folder.path());
        flip(&last_segment(bad.path()), at, 0x04);
        let (looked_at, would_be) = EmbeddedLog::open_read_only(&config(&bad)).unwrap();
        drop(looked_at);
        let (log, report) = reopen(&bad);
        assert_eq!(would_be.cut, report.cut, "looking says what opening does");
        let cut = report.cut.unwrap();
        assert!(cut.possibly_acknowledged, "byte {at}");
        assert_eq!((cut.byte, cut.bytes), (begins, whole - begins));
        assert!(!hand_out(&log).0.contains_key(&(1, 3)), "nothing of it is served");
        drop(log);
        let kept = list_cuts(bad.path(), 1).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((&kept[0].cut, &kept[0].noted), (&cut, &None));
    }
}

#[test]
fn a_cut_stays_listed_once_until_it_is_noted_and_after() {
    let folder = TempDir::new().unwrap();
    let begins = killed(&folder);
    let segment = last_segment(folder.path());
    flip(&segment, begins + 100, 1);
    let damaged = std::fs::read(&segment).unwrap();
    reopen(&folder);
    // A crash between the recording and the cutting: the same cut is found once more.
    forget_the_clean_end(folder.path());
    std::fs::write(&segment, damaged).unwrap();
    reopen(&folder);
    reopen(&folder);
    assert_eq!(list_cuts(folder.path(), 1).unwrap().len(), 1);
    let note = |folder: &TempDir| note_cuts(folder.path(), 1, "ops: a disk was replaced").unwrap();
    assert_eq!((note(&folder), note(&folder)), (1, 0));
    let noted = list_cuts(folder.path(), 1).unwrap();
    assert_eq!(noted[0].noted.as_deref(), Some("ops: a disk was replaced"));
}

#[test]
fn g10_damage_before_a_tail_mark_halts_and_names_the_byte() {
    let folder = TempDir::new().unwrap();
    let log = open(&config(&folder));
    append(&*log, 1, b"the last one").unwrap();
    drop(log);
    forget_the_clean_end(folder.path());
    let groups = groups(folder.path(), 0);
    let [.., (begins, records), (mark, _)] = groups[..] else { panic!("too few groups") };
    assert_eq!(records.kind, GroupKind::Records);
    for at in begins..mark {
        let bad = copy(folder.path());
        flip(&last_segment(bad.path()), at, 0x80);
        match EmbeddedLog::open(config(&bad)).err() {
            Some(LogError::Damaged { place, .. }) => {
                assert!(place.ends_with(&format!("00000000000000000000.log byte {begins}")), "{place}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn g10_a_tail_mark_follows_the_last_ack_within_100_ms() {
    let folder = TempDir::new().unwrap();
    let log = open(&config(&folder));
    let path = last_segment(folder.path());
    // On a busy machine any single one may come late; that each of ten does would be the fault of the log.
    let in_time = (0..10).any(|number| {
        append(&*log, 0, format!("{number}").as_bytes()).unwrap();
        let answered = Instant::now();
        let before = size(&path);
        until("a tail mark follows", || size(&path) > before);
        answered.elapsed() < Duration::from_millis(100)
    });
    assert!(in_time);
    drop(log);
    let marks =
        groups(folder.path(), 0).iter().filter(|(_, header)| header.kind == GroupKind::TailMark).count();
    assert!(marks >= 1);
}

#[test]
fn garbage_behind_the_end_is_cut_and_reported() {
    let folder = TempDir::new().unwrap();
    drop(open(&config(&folder)));
    let garbage: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(73) ^ 0x5a).collect();
    let append_garbage = |folder: &Path, garbage: &[u8]| {
        let path = last_segment(folder);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(garbage);
        std::fs::write(&path, bytes).unwrap();
    };
    let clean = copy(folder.path());
    append_garbage(clean.path(), &garbage);
    let cut = reopen(&clean).1.cut.unwrap();
    assert_eq!((cut.bytes, cut.possibly_acknowledged), (200, false), "it ended cleanly before the garbage");
    forget_the_clean_end(folder.path());
    let zeros = copy(folder.path());
    append_garbage(zeros.path(), &[0; 4096]);
    assert!(!reopen(&zeros).1.cut.unwrap().possibly_acknowledged, "zeros were never written as a group");
    append_garbage(folder.path(), &garbage);
    assert!(reopen(&folder).1.cut.unwrap().possibly_acknowledged, "nobody can tell what it was");
}

#[test]
fn a_segment_whose_making_was_interrupted_is_no_damage() {
    let folder = TempDir::new().unwrap();
    let small = EmbeddedLogConfig { segment_bytes: 1, ..config(&folder) };
    let log = open(&small);
    append(&*log, 0, b"one").unwrap();
    append(&*log, 0, b"two").unwrap();
    drop(log);
    forget_the_clean_end(folder.path());
    let (expected, _) = hand_out(&*open(&small));
    forget_the_clean_end(folder.path());
    let segments = EmbeddedLog::open_read_only(&small).unwrap().1.segments;
    let unborn = folder.path().join(format!("g1/{segments:020}.log"));
    assert!(!unborn.exists());
    for bytes in [0, 1, 50, 119] {
        std::fs::write(&unborn, vec![0; bytes]).unwrap();
        let (log, report) = EmbeddedLog::open(small.clone()).unwrap();
        assert_eq!(report.cut, None);
        assert_eq!(hand_out(&log).0, expected);
        drop(log);
        forget_the_clean_end(folder.path());
    }
}
