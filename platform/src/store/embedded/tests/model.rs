//! Random flushes, restarts and kills: the embedded store and the one in memory must agree after each.

use proptest::prelude::*;

use super::*;
use crate::store::memory::MemoryStore;

/// Equal versions carry equal bytes, so the value of a cell is made from its key and version.
fn versioned(table: Table, partition: u8, clustering: u8, version: u64) -> (Key, Cell) {
    let key = Key::new(table, vec![partition; usize::from(partition)], vec![clustering]);
    let value = format!("{key:?} at {version}").repeat(1 + usize::from(clustering) * 40);
    (key, cell(version, value))
}

fn cells() -> impl Strategy<Value = Vec<(Key, Cell)>> {
    let table = prop_oneof![Just(Table::Usage), Just(Table::Runs)];
    let one = (table, 0..3_u8, 0..6_u8, 1..9_u64)
        .prop_map(|(table, partition, clustering, version)| versioned(table, partition, clustering, version));
    prop::collection::vec(one, 0..8)
}

fn flushes() -> impl Strategy<Value = Flush> {
    let removals =
        cells().prop_map(|cells| cells.into_iter().map(|(key, cell)| (key, cell.version)).collect());
    let set = (0..2_u8, 0..4_u64).prop_map(|(name, expected)| CompareAndSet {
        key: Key::new(Table::RunLists, [name], "list"),
        expected,
        value: format!("{name} after {expected}").into(),
    });
    (cells(), prop::collection::vec(set, 0..2), cells(), removals)
        .prop_map(|(cells, sets, checkpoint, removals)| Flush { cells, sets, checkpoint, removals })
}

#[derive(Clone, Debug)]
enum Step {
    Flush(Flush),
    Restart,
    WriteTables,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![8 => flushes().prop_map(Step::Flush), 1 => Just(Step::Restart), 1 => Just(Step::WriteTables)];
    prop::collection::vec(step, 1..25)
}

fn partitions() -> Vec<(Table, Vec<u8>)> {
    let of = |table| (0..3_u8).map(move |partition| (table, vec![partition; usize::from(partition)]));
    let lists = (0..2_u8).map(|name| (Table::RunLists, vec![name]));
    of(Table::Usage).chain(of(Table::Runs)).chain(lists).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_does_what_its_model_does(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let model = MemoryStore::new();
        let mut store = open(folder.path()).unwrap();
        for step in steps {
            match step {
                Step::Flush(flush) => {
                    prop_assert_eq!(store.flush(flush.clone()).unwrap(), model.flush(flush).unwrap());
                }
                Step::Restart => {
                    drop(store);
                    store = open(folder.path()).unwrap();
                }
                Step::WriteTables => damage::write_tables(&store),
            }
            let found = read_all(&store, &partitions()).unwrap();
            prop_assert_eq!(found, model.contents().into_iter().collect::<State>());
        }
    }
}
