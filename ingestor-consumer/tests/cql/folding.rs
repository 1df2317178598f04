//! The fold over a real Apache Cassandra: the same cells as in memory, also over crashes, zombies and rewinds.

use std::sync::Arc;

use crate::history::{Account, Dice, SHAPE, account_of, assert_same, empty, history, nodes, worker};
use prost::Message;
use pulso_domain::fingerprint::HashKey;
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::runs;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::LogRecord;
use pulso_platform::store::memory::MemoryStore;
use pulso_platform::store::{Cell, Flush, Store, keys};
use pulso_proto::v1;

const RECORDS: u64 = 300;

fn fold(worker: &mut PartitionWorker, log: &[LogRecord], to: u64) {
    while worker.fold().state().offset < to {
        let next = worker.fold().state().offset as usize;
        worker.fold_record(&log[next]).expect("folds");
    }
}

fn flush(worker: &mut PartitionWorker) {
    worker.flush().expect("flushes");
}

/// What the same records are without any trouble, in memory.
fn in_memory(log: &[LogRecord]) -> MemoryStore {
    let store = Arc::new(MemoryStore::new());
    let mut worker = worker(&store);
    fold(&mut worker, log, log.len() as u64);
    flush(&mut worker);
    drop(worker);
    Arc::into_inner(store).expect("nobody else holds it")
}

fn assert_account(store: &dyn Store, account: &Account) {
    assert_eq!(&account_of(store), account);
}

/// Every id that was counted stands in the runs with its first position, however they were merged.
fn assert_ids(store: &dyn Store, log: &[LogRecord]) {
    let hash_key = HashKey::new([5; 16]);
    let mut found = 0;
    for record in log.iter().step_by(17) {
        let Ok(batch) = v1::PulseBatch::decode(record.value.clone()) else { continue };
        for pulse in batch.pulses.iter().filter(|pulse| pulse.used_amount != "much") {
            let hash = hash_key.id_hash(&pulse.tenant_id, &pulse.id);
            let entry = lookup::find_id(store, &SHAPE, 0, (&pulse.id, hash)).expect("reads");
            let first = entry.expect("the id is known").first;
            assert!(first.rank.offset() <= record.offset);
            found += 1;
        }
    }
    assert!(found > 50);
}

#[test]
fn the_same_steps_give_the_same_cells_as_in_memory() {
    let (log, account) = history(RECORDS);
    let cql = empty(&nodes());
    let memory = Arc::new(MemoryStore::new());
    let (mut on_cql, mut in_memory) = (worker(&cql), worker(&memory));
    let mut dice = Dice(7);
    let mut offset = 0;
    while offset < RECORDS {
        offset = RECORDS.min(offset + 1 + dice.below(30));
        for worker in [&mut on_cql, &mut in_memory] {
            fold(worker, &log, offset);
            flush(worker);
        }
        let stores: [&dyn Store; 2] = [&*cql, &*memory];
        for store in stores {
            runs::merge_once(store, 0, &SHAPE).expect("merges");
            if offset % 3 == 0 {
                runs::remove_leaving(store, 0, &SHAPE).expect("removes");
            }
        }
    }
    assert_same(&*cql, &memory, true);
    assert_account(&*cql, &account);
    assert_ids(&*cql, &log);
}

#[test]
fn g09_workers_that_die_anywhere_change_no_total() {
    let (log, account) = history(RECORDS);
    let cql = empty(&nodes());
    let mut dice = Dice(11);
    let mut deaths = 0;
    while worker(&cql).fold().state().offset < RECORDS {
        let mut worker = worker(&cql);
        for _ in 0..dice.below(4) {
            let to = worker.fold().state().offset + 1 + dice.below(12);
            fold(&mut worker, &log, to.min(RECORDS));
            // The last of them is folded and never flushed: the worker is dropped with it.
            if dice.below(3) > 0 {
                flush(&mut worker);
            }
        }
        deaths += 1;
        if dice.below(4) == 0 {
            runs::merge_once(&*cql, 0, &SHAPE).expect("merges");
        }
    }
    assert!(deaths > 10);
    assert_same(&*cql, &in_memory(&log), false);
    assert_account(&*cql, &account);
    assert_ids(&*cql, &log);
}

#[test]
fn g03_a_zombie_writes_after_the_new_owner_and_loses() {
    let (log, account) = history(RECORDS);
    let cql = empty(&nodes());
    let mut zombie = worker(&cql);
    fold(&mut zombie, &log, 100);
    flush(&mut zombie);
    fold(&mut zombie, &log, 126);
    let mut owner = worker(&cql);
    fold(&mut owner, &log, RECORDS);
    flush(&mut owner);
    let before = account_of(&*cql);
    // All of its rows and runs land, behind the checkpoint of the new owner.
    assert!(zombie.flush().expect("its writes are taken").is_some());
    assert_eq!(account_of(&*cql), before);
    assert_eq!(worker(&cql).fold().state().offset, RECORDS);
    assert_same(&*cql, &in_memory(&log), false);
    assert_account(&*cql, &account);
    assert_ids(&*cql, &log);
}

#[test]
fn g04_a_rewind_leaves_every_total_as_it_was() {
    let (log, account) = history(RECORDS);
    let cql = empty(&nodes());
    let mut first = worker(&cql);
    for end in [90, 180, RECORDS] {
        fold(&mut first, &log, end);
        flush(&mut first);
    }
    let expected = in_memory(&log);
    for (version, from) in [(1, 77), (2, 0), (3, 290)] {
        let value = v1::Rewind { from, to: RECORDS, ..Default::default() }.encode_to_vec().into();
        let cells = vec![(keys::rewind(0), Cell { version, value })];
        cql.flush(Flush { cells, ..Flush::default() }).expect("writes");
        let mut again = worker(&cql);
        assert!(again.is_rewinding());
        let begun = again.fold().state().offset;
        assert!(begun <= from);
        fold(&mut again, &log, RECORDS.min(begun + 9));
        flush(&mut again);
        fold(&mut again, &log, RECORDS);
        flush(&mut again);
        assert!(!again.is_rewinding());
        assert!(!worker(&cql).is_rewinding(), "the request is passed for good");
        assert_same(&*cql, &expected, false);
        assert_account(&*cql, &account);
    }
    assert_ids(&*cql, &log);
}
