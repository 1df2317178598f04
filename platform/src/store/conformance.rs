//! What every store must do, as tests that know nothing of how it does it. Each takes a function that makes an empty
//! store; the suite is run on every sibling.

use bytes::Bytes;

use super::{Cell, CompareAndSet, Flush, Flushed, Key, Range, Store, Table, VERSION_MAX};

/// Runs the whole suite, each part on an empty store.
pub(crate) fn run_all<S: Store>(make: &dyn Fn() -> S) {
    what_was_written_is_read_back_in_the_order_asked(&make());
    a_higher_version_wins_whatever_the_order(&make());
    a_flush_may_be_sent_again(&make());
    partitions_and_tables_never_mix(&make());
    a_scan_is_ordered_bounded_and_half_open(&make());
    a_scan_goes_backwards_from_the_end_of_its_range(&make());
    a_scan_of_nothing_is_empty(&make());
    a_compare_and_set_takes_place_once(&make());
    a_lost_compare_and_set_keeps_the_checkpoint_back(&make());
    one_of_many_racing_writers_wins_each_round(&make());
    a_removal_spares_what_is_newer(&make());
    empty_and_large_values_and_keys_are_kept(&make());
    a_reader_sees_a_flush_as_a_whole_or_not_at_all(&make());
}

/// A cell for a test.
pub(crate) fn cell(version: u64, value: impl Into<Vec<u8>>) -> Cell {
    Cell { version, value: Bytes::from(value.into()) }
}

/// Writes cells and insists that they are taken.
pub(crate) fn write(store: &impl Store, cells: Vec<(Key, Cell)>) {
    let flush = Flush { cells, ..Flush::default() };
    assert_eq!(store.flush(flush).unwrap(), Flushed::Done);
}

fn read(store: &impl Store, key: &Key) -> Option<Cell> {
    store.get(std::slice::from_ref(key)).unwrap().remove(0)
}

fn clusterings(store: &impl Store, partition: &[u8], range: &Range, limit: usize) -> Vec<Vec<u8>> {
    let found = store.scan(Table::Usage, partition, range, limit).unwrap();
    found.into_iter().map(|(clustering, _)| clustering).collect()
}

fn what_was_written_is_read_back_in_the_order_asked(store: &impl Store) {
    let keys: Vec<Key> = (0..50_u8).map(|n| Key::new(Table::Usage, "t", [n])).collect();
    let cells = keys.iter().map(|key| (key.clone(), cell(7, key.clustering.clone()))).collect();
    write(store, cells);
    let mut asked: Vec<Key> = keys.iter().rev().cloned().collect();
    asked.insert(3, Key::new(Table::Usage, "t", [200]));
    let got = store.get(&asked).unwrap();
    assert_eq!(got.len(), asked.len());
    for (key, got) in asked.iter().zip(got) {
        let expected = (key.clustering != [200]).then(|| cell(7, key.clustering.clone()));
        assert_eq!(got, expected);
    }
    assert_eq!(store.get(&[]).unwrap(), []);
}

fn a_higher_version_wins_whatever_the_order(store: &impl Store) {
    let key = Key::new(Table::Usage, "t", "k");
    write(store, vec![(key.clone(), cell(5, "five"))]);
    write(store, vec![(key.clone(), cell(3, "three"))]);
    assert_eq!(read(store, &key), Some(cell(5, "five")));
    write(store, vec![(key.clone(), cell(VERSION_MAX, "last"))]);
    assert_eq!(read(store, &key), Some(cell(VERSION_MAX, "last")));

    let other = Key::new(Table::Usage, "t", "other");
    write(store, vec![(other.clone(), cell(9, "nine")), (other.clone(), cell(8, "eight"))]);
    assert_eq!(read(store, &other), Some(cell(9, "nine")), "also within one flush");
}

fn a_flush_may_be_sent_again(store: &impl Store) {
    let row = Key::new(Table::Usage, "t", "row");
    let progress = Key::new(Table::Progress, "p", "progress");
    let gone = Key::new(Table::Runs, "r", "old");
    write(store, vec![(gone.clone(), cell(2, "old"))]);
    let flush = Flush {
        cells: vec![(row.clone(), cell(4, "row"))],
        checkpoint: vec![(progress.clone(), cell(4, "progress"))],
        removals: vec![(gone.clone(), 2)],
        ..Flush::default()
    };
    for _ in 0..3 {
        assert_eq!(store.flush(flush.clone()).unwrap(), Flushed::Done);
        let got = store.get(&[row.clone(), progress.clone(), gone.clone()]).unwrap();
        assert_eq!(got, [Some(cell(4, "row")), Some(cell(4, "progress")), None]);
    }
    assert_eq!(store.flush(Flush::default()).unwrap(), Flushed::Done, "an empty one is done too");
}

fn partitions_and_tables_never_mix(store: &impl Store) {
    // Joined without care, all of these would be the same bytes, or lie in each other's range.
    let names: [(&[u8], &[u8]); 8] = [
        (b"", b"ab"),
        (b"a", b"b"),
        (b"ab", b""),
        (b"a\0", b"b"),
        (b"a", b"\0b"),
        (b"\xff", b""),
        (b"\xff\xff", b""),
        (b"\0\x02", b"a"),
    ];
    let tables = [Table::Usage, Table::Progress, Table::Fates];
    let mut cells = Vec::new();
    for table in tables {
        for (n, (partition, clustering)) in names.iter().enumerate() {
            cells.push((Key::new(table, *partition, *clustering), cell(1, [table as u8, n as u8])));
        }
    }
    write(store, cells.clone());
    for (key, expected) in &cells {
        assert_eq!(read(store, key).as_ref(), Some(expected), "{key:?}");
        let all = Range::all();
        let backwards = Range { reverse: true, ..Range::all() };
        for range in [all, backwards] {
            let mut found = store.scan(key.table, &key.partition, &range, 100).unwrap();
            found.sort_by(|left, right| left.0.cmp(&right.0));
            let mut wanted: Vec<_> = cells
                .iter()
                .filter(|(other, _)| other.table == key.table && other.partition == key.partition)
                .map(|(other, cell)| (other.clustering.clone(), cell.clone()))
                .collect();
            wanted.sort_by(|left, right| left.0.cmp(&right.0));
            assert_eq!(found, wanted, "{key:?}");
        }
    }
}

fn with_numbers(store: &impl Store) {
    let numbers = |partition: &'static str| {
        (0..600_u16).map(move |n| (Key::new(Table::Usage, partition, n.to_be_bytes()), cell(1, "v")))
    };
    write(store, numbers("t").chain(numbers("s")).chain(numbers("u")).collect());
}

fn a_scan_is_ordered_bounded_and_half_open(store: &impl Store) {
    with_numbers(store);
    let all = clusterings(store, b"t", &Range::all(), 1000);
    assert_eq!(all.len(), 600);
    assert!(all.is_sorted());
    let some = Range::between(5_u16.to_be_bytes(), 9_u16.to_be_bytes());
    let expected: Vec<_> = (5..9_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(clusterings(store, b"t", &some, 1000), expected);
    assert_eq!(clusterings(store, b"t", &some, 2), expected[..2]);
    assert_eq!(clusterings(store, b"t", &some, 0), Vec::<Vec<u8>>::new());
    let page = clusterings(store, b"t", &Range::prefix(&[1]), 1000);
    assert_eq!(page.len(), 256);
    assert!(page.iter().all(|key| key[0] == 1));
}

fn a_scan_goes_backwards_from_the_end_of_its_range(store: &impl Store) {
    with_numbers(store);
    let last = Range { reverse: true, ..Range::all() };
    assert_eq!(clusterings(store, b"t", &last, 1), [599_u16.to_be_bytes().to_vec()]);
    let some = Range { reverse: true, ..Range::between(5_u16.to_be_bytes(), 9_u16.to_be_bytes()) };
    let expected: Vec<_> = [8_u16, 7, 6, 5].iter().map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(clusterings(store, b"t", &some, 1000), expected);
    assert_eq!(clusterings(store, b"t", &some, 3), expected[..3]);
}

fn a_scan_of_nothing_is_empty(store: &impl Store) {
    with_numbers(store);
    let none: Vec<Vec<u8>> = Vec::new();
    assert_eq!(clusterings(store, b"nobody", &Range::all(), 10), none);
    assert_eq!(clusterings(store, b"t", &Range::between([9], [9]), 10), none);
    assert_eq!(clusterings(store, b"t", &Range::between([9], [3]), 10), none);
    let behind = Range { from: vec![0xff, 0xff, 0xff], ..Range::all() };
    assert_eq!(clusterings(store, b"t", &behind, 10), none);
}

fn set(key: &Key, expected: u64, value: &str) -> CompareAndSet {
    CompareAndSet { key: key.clone(), expected, value: Bytes::from(value.to_owned()) }
}

fn a_compare_and_set_takes_place_once(store: &impl Store) {
    let key = Key::new(Table::RunLists, "p", "list");
    let only = |set: CompareAndSet| Flush { sets: vec![set], ..Flush::default() };
    assert_eq!(store.flush(only(set(&key, 0, "a"))).unwrap(), Flushed::Done);
    assert_eq!(read(store, &key), Some(cell(1, "a")));
    assert_eq!(store.flush(only(set(&key, 0, "b"))).unwrap(), Flushed::Lost(key.clone()));
    assert_eq!(store.flush(only(set(&key, 2, "b"))).unwrap(), Flushed::Lost(key.clone()));
    assert_eq!(store.flush(only(set(&key, 1, "b"))).unwrap(), Flushed::Done);
    assert_eq!(read(store, &key), Some(cell(2, "b")));
}

fn a_lost_compare_and_set_keeps_the_checkpoint_back(store: &impl Store) {
    let list = Key::new(Table::RunLists, "p", "list");
    let other = Key::new(Table::RunLists, "q", "list");
    let progress = Key::new(Table::Progress, "p", "progress");
    let old = Key::new(Table::Runs, "r", "old");
    write(store, vec![(progress.clone(), cell(1, "before")), (old.clone(), cell(1, "old"))]);
    let flush = Flush {
        cells: vec![(Key::new(Table::Usage, "t", "row"), cell(2, "row"))],
        sets: vec![set(&list, 3, "a"), set(&other, 0, "b")],
        checkpoint: vec![(progress.clone(), cell(2, "after"))],
        removals: vec![(old.clone(), 1)],
    };
    assert_eq!(store.flush(flush).unwrap(), Flushed::Lost(list.clone()));
    let got = store.get(&[list, other, progress, old]).unwrap();
    assert_eq!(got, [None, None, Some(cell(1, "before")), Some(cell(1, "old"))]);
}

fn one_of_many_racing_writers_wins_each_round(store: &impl Store) {
    let key = Key::new(Table::Charges, "t", "m");
    let (writers, rounds) = (4_u64, 25_u64);
    let won: Vec<u64> = std::thread::scope(|scope| {
        let write = |writer: u64| {
            let key = key.clone();
            move || {
                let try_once = |round| {
                    let sets = vec![set(&key, round, &format!("{writer}"))];
                    store.flush(Flush { sets, ..Flush::default() }).unwrap() == Flushed::Done
                };
                (0..rounds).filter(|round| try_once(*round)).count() as u64
            }
        };
        let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(write(writer))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // A writer that is ahead of the others loses too, so only the sum of wins and the version must agree.
    assert_eq!(read(store, &key).unwrap().version, won.iter().sum::<u64>());
    assert!(won.iter().sum::<u64>() <= rounds);
}

fn a_removal_spares_what_is_newer(store: &impl Store) {
    let keys = ["older", "same", "newer", "never"].map(|name| Key::new(Table::Rewinds, "r", name));
    write(store, (0..3).map(|n| (keys[n].clone(), cell(9 + n as u64, "v"))).collect());
    let removals = keys.iter().map(|key| (key.clone(), 10)).collect();
    assert_eq!(store.flush(Flush { removals, ..Flush::default() }).unwrap(), Flushed::Done);
    assert_eq!(store.get(&keys).unwrap(), [None, None, Some(cell(11, "v")), None]);
    let found = store.scan(Table::Rewinds, b"r", &Range::all(), 10).unwrap();
    assert_eq!(found, [(b"newer".to_vec(), cell(11, "v"))]);
}

fn empty_and_large_values_and_keys_are_kept(store: &impl Store) {
    let large: Vec<u8> = (0..1_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let long = vec![0xfe; 1000];
    let cells = vec![
        (Key::new(Table::Usage, "", ""), cell(1, "")),
        (Key::new(Table::Directory, "acme", "blob"), cell(2, large)),
        (Key::new(Table::Usage, long.clone(), long), cell(3, "long")),
    ];
    write(store, cells.clone());
    for (key, expected) in cells {
        assert!(read(store, &key) == Some(expected), "table {:?}", key.table);
    }
}

fn a_reader_sees_a_flush_as_a_whole_or_not_at_all(store: &impl Store) {
    // The checkpoint is read first: what it covers must then be there.
    let row = Key::new(Table::Usage, "t", "row");
    let progress = Key::new(Table::Progress, "p", "progress");
    let version = |key: &Key| read(store, key).map_or(0, |cell| cell.version);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=200_u64 {
                let flush = Flush {
                    cells: vec![(row.clone(), cell(round, "row"))],
                    checkpoint: vec![(progress.clone(), cell(round, "progress"))],
                    ..Flush::default()
                };
                assert_eq!(store.flush(flush).unwrap(), Flushed::Done);
            }
        });
        while !writer.is_finished() {
            let checkpoint = version(&progress);
            assert!(version(&row) >= checkpoint);
        }
        writer.join().unwrap();
    });
    assert_eq!((version(&row), version(&progress)), (200, 200));
}
