//! The embedded store against the suite, against its model, against damage and against a full disk.

mod damage;
mod disk;
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::store::conformance::{self, cell, write};
use crate::store::{CompareAndSet, identity, keys};

type State = BTreeMap<Key, Cell>;

fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(path, EmbeddedOptions::default())
}

/// All cells of the tables that the tests use, with the keys of every state it may be in.
fn read_all(store: &impl Store, partitions: &[(Table, Vec<u8>)]) -> Result<State, StoreError> {
    let mut state = State::new();
    for (table, partition) in partitions {
        let scanned = store.scan(*table, partition, &Range::all(), usize::MAX)?;
        let keys: Vec<Key> = scanned
            .iter()
            .map(|(clustering, _)| Key::new(*table, partition.as_slice(), clustering.as_slice()))
            .collect();
        let got = store.get(&keys)?;
        for ((key, (_, scanned)), got) in keys.into_iter().zip(scanned).zip(got) {
            assert_eq!(got.as_ref(), Some(&scanned), "a scan and a read differ at {key:?}");
            state.insert(key, scanned);
        }
    }
    Ok(state)
}

/// Copies the folder as a kill of the process would leave it.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_embedded_store_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    conformance::run_all(&|| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        open(&folder.path().join(number.to_string())).unwrap()
    });
}

#[test]
fn what_was_flushed_is_there_after_a_restart_and_versions_still_win() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new(Table::Usage, "t", "k");
    let hash_key = {
        let store = open(folder.path()).unwrap();
        write(&store, vec![(key.clone(), cell(5, "five"))]);
        identity::hash_key(&store).unwrap()
    };
    for _ in 0..3 {
        let store = open(folder.path()).unwrap();
        assert_eq!(identity::hash_key(&store).unwrap(), hash_key);
        write(&store, vec![(key.clone(), cell(4, "four"))]);
        assert_eq!(store.get(std::slice::from_ref(&key)).unwrap(), [Some(cell(5, "five"))]);
    }
}

#[test]
fn g09_a_kill_loses_no_flush_that_returned() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let store = open(&live).unwrap();
    for round in 1..=8_u64 {
        let key = |n: u64| Key::new(Table::Usage, "t", (n % 5).to_be_bytes());
        let run = Key::new(Table::Runs, "r", round.to_be_bytes());
        write(&store, vec![(key(round), cell(round, "row")), (run, cell(round, vec![7; 5000]))]);
        if round == 4 {
            damage::write_tables(&store);
        }
        let copy = folder.path().join(round.to_string());
        copy_folder(&live, &copy);
        let partitions = [(Table::Usage, b"t".to_vec()), (Table::Runs, b"r".to_vec())];
        let killed = open(&copy).unwrap();
        assert_eq!(read_all(&killed, &partitions).unwrap(), read_all(&store, &partitions).unwrap());
    }
}

#[test]
fn a_folder_in_use_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let _held = open(folder.path()).unwrap();
    let error = open(folder.path()).err().unwrap();
    assert!(error.to_string().contains("is open in another process; stop that one first"), "{error}");
}

#[test]
fn a_folder_of_a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(&open(folder.path()).unwrap(), vec![(keys::meta("format"), cell(2, 9_u32.to_be_bytes()))]);
    let error = open(folder.path()).err().unwrap();
    assert!(matches!(error, StoreError::NeedsUpgrade { found: 9, supported: FORMAT }), "{error}");
}

#[test]
fn a_key_that_is_too_long_fails_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let good = Key::new(Table::Usage, "t", "k");
    let cells =
        vec![(good.clone(), cell(1, "v")), (Key::new(Table::Usage, vec![1; 70_000], ""), cell(1, "v"))];
    assert!(store.flush(Flush { cells, ..Flush::default() }).is_err());
    assert_eq!(store.get(&[good]).unwrap(), [None]);
}

#[test]
fn a_flush_of_nothing_new_and_a_lost_one_leave_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let key = Key::new(Table::RunLists, "p", "list");
    let set = |expected| {
        let sets = vec![CompareAndSet { key: key.clone(), expected, value: "x".into() }];
        store.flush(Flush { sets, ..Flush::default() }).unwrap()
    };
    assert_eq!(set(0), Flushed::Done);
    let before = store.writer.lock().flush;
    assert_eq!(set(0), Flushed::Lost(key.clone()));
    assert_eq!(store.flush(Flush::default()).unwrap(), Flushed::Done);
    assert_eq!(store.writer.lock().flush, before);
}
