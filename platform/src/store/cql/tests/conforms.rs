//! The suite that every store passes, and what is CQL's own: buckets, pages, removals that outlive what they remove.

use bytes::Bytes;
use pulso_domain::position::{Position, Rank};

use super::*;
use crate::store::conformance::{self, cell, write};
use crate::store::keys;

#[test]
fn the_store_passes_the_conformance_suite() {
    conformance::run_all(&empty);
}

/// Dead letters of many buckets: several in one, none in most, and two generations.
fn letters() -> Vec<(Key, Cell)> {
    let offsets = [0_u64, 1, 65_535, 65_536, 70_000, 10_000_000, 10_000_001];
    let ranks = [1, 3]
        .into_iter()
        .flat_map(|generation| offsets.map(|offset| Rank::new(generation, offset).expect("small")));
    ranks.map(|rank| (keys::dead_letter(7, Position::new(rank, 2)), cell(rank.as_u64(), "letter"))).collect()
}

#[test]
fn a_scan_over_buckets_is_in_order_bounded_and_half_open() {
    let store = empty();
    let letters = letters();
    write(&store, letters.clone());
    let all: Vec<(Vec<u8>, Cell)> =
        letters.iter().map(|(key, cell)| (key.clustering.clone(), cell.clone())).collect();
    let partition = 7_u32.to_be_bytes();
    let scan = |range: Range, limit| store.scan(Table::DeadLetters, &partition, &range, limit).unwrap();
    let backwards = |range: Range| Range { reverse: true, ..range };
    let reversed = |cells: &[(Vec<u8>, Cell)]| cells.iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(scan(Range::all(), 100), all);
    assert_eq!(scan(backwards(Range::all()), 100), reversed(&all));
    for begin in 0..all.len() {
        for end in begin..all.len() {
            let range = Range::between(all[begin].0.clone(), all[end].0.clone());
            assert_eq!(scan(range.clone(), 100), all[begin..end]);
            assert_eq!(scan(backwards(range), 100), reversed(&all[begin..end]));
        }
        let mut page = Range { from: all[begin].0.clone(), ..Range::all() };
        assert_eq!(scan(page.clone(), 3), all[begin..all.len().min(begin + 3)]);
        page.from.push(0);
        assert_eq!(scan(page, 100), all[begin + 1..]);
    }
    assert_eq!(store.scan(Table::DeadLetters, b"nobody", &Range::all(), 10).unwrap(), []);
}

#[test]
fn another_process_finds_the_buckets_too() {
    let store = empty();
    write(&store, letters());
    let other = store.through(Arc::new(CqlStore::open(&settings()).expect("the store opens")));
    let found = other.scan(Table::DeadLetters, &7_u32.to_be_bytes(), &Range::all(), 100).unwrap();
    assert_eq!(found.len(), letters().len());
    let key = letters().remove(0).0;
    let removals = vec![(key, u64::from(u32::MAX) << 9)];
    assert_eq!(other.flush(Flush { removals, ..Flush::default() }).unwrap(), Flushed::Done);
    let found = store.scan(Table::DeadLetters, &7_u32.to_be_bytes(), &Range::all(), 100).unwrap();
    assert_eq!(found.len(), letters().len() - 1);
}

#[test]
fn a_large_partition_is_read_in_pages_of_any_size() {
    let store = empty();
    let count = 2_500_u32;
    let row = |n: u32| (Key::new(Table::Usage, "t", n.to_be_bytes()), cell(1, n.to_be_bytes()));
    write(&store, (0..count).map(row).collect());
    for page in [1024, 1, 999, usize::MAX] {
        let mut range = Range::all();
        let mut read = 0;
        let most = if page == 1 { 5 } else { count };
        while read < most {
            let found = store.scan(Table::Usage, b"t", &range, page).unwrap();
            for (clustering, cell) in &found {
                assert_eq!(clustering.as_slice(), read.to_be_bytes());
                assert_eq!(cell.value, Bytes::copy_from_slice(&read.to_be_bytes()));
                read += 1;
            }
            assert!(!found.is_empty());
            range.from = [found[found.len() - 1].0.as_slice(), &[0]].concat();
        }
    }
}

#[test]
fn what_was_removed_stays_away_for_late_writes_of_its_version() {
    let store = empty();
    let key = keys::run_cell(&keys::run_partition(1, 0, Rank::from_u64(128)), 3);
    let get = || store.get(std::slice::from_ref(&key)).unwrap().remove(0);
    write(&store, vec![(key.clone(), cell(255, "run"))]);
    let removals = vec![(key.clone(), 255)];
    store.flush(Flush { removals, ..Flush::default() }).unwrap();
    assert_eq!(get(), None);
    write(&store, vec![(key.clone(), cell(200, "zombie"))]);
    write(&store, vec![(key.clone(), cell(255, "run"))]);
    assert_eq!(get(), None, "in CQL a removal wins over a write of its version");
    write(&store, vec![(key.clone(), cell(256, "newer"))]);
    assert_eq!(get(), Some(cell(256, "newer")));
}

#[test]
fn cells_of_version_zero_are_cells() {
    let store = empty();
    let key = keys::rated(3);
    write(&store, vec![(key.clone(), cell(0, ""))]);
    assert_eq!(store.get(&[key]).unwrap(), [Some(cell(0, ""))]);
}

#[test]
fn tables_read_by_exact_key_are_not_scanned() {
    let error = empty().scan(Table::Borders, b"p", &Range::all(), 1).unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
}

#[test]
fn a_catalog_and_its_head_change_each_in_their_own_way() {
    let store = shared();
    let head = || store.get(&[keys::catalog_head()]).unwrap().remove(0);
    let version = head().map_or(0, |cell| cell.version) + 1;
    let flush = Flush {
        cells: vec![(keys::catalog_version(version), cell(version, "document"))],
        sets: vec![CompareAndSet {
            key: keys::catalog_head(),
            expected: version - 1,
            value: Bytes::copy_from_slice(&version.to_be_bytes()),
        }],
        ..Flush::default()
    };
    assert_eq!(store.flush(flush).unwrap(), Flushed::Done);
    assert_eq!(head(), Some(cell(version, version.to_be_bytes())));
}

#[test]
fn it_works_from_threads_of_another_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
    runtime.block_on(async {
        let store = empty();
        write(&store, vec![(Key::new(Table::Usage, "t", "k"), cell(1, "v"))]);
        let read = move || store.get(&[Key::new(Table::Usage, "t", "k")]).unwrap();
        let found = tokio::task::spawn_blocking(read).await.expect("no panic");
        assert_eq!(found, [Some(cell(1, "v"))]);
        // Opened and dropped inside a runtime.
        drop(CqlStore::open(&settings()).expect("the store opens"));
    });
}
