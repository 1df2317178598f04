//! Consumers that share a log on a real Kafka: what is counted stays the same whoever folds it. `make test-cluster` starts the
//! broker; without it these tests fail.
//!
//! `generations` has the log grow under them, `lost` has it go on after its topic was lost, `letters` has foreign producers write
//! to it. `outages` has three brokers and three nodes of a store, and takes them down.
//!
//! All members run in this process over one store. What they do to each other is what processes do: they share partitions,
//! come and go, and sleep past their time while others go on.

#[path = "cluster/generations.rs"]
mod generations;
#[path = "cluster/letters.rs"]
mod letters;
#[path = "cluster/lost.rs"]
mod lost;
#[path = "cluster/outages/mod.rs"]
mod outages;
#[path = "cql/proxy.rs"]
mod proxy;
#[path = "cluster/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use prost::Message as _;
use pulso_ingestor_consumer::halts;
use pulso_proto::v1;
use world::{Gate, World, until};

/// Members come and go while pulses and their retries come in: each is counted once.
#[test]
fn g03_members_that_come_and_go_lose_and_double_nothing() {
    let world = World::new(6);
    let mut sent = BTreeMap::new();
    let mut members = vec![world.join()];
    for round in 0..12_u32 {
        for number in 0..40 {
            world.send_pulse(&mut sent, round * 40 + number);
            // A retry of an earlier one.
            world.send_pulse(&mut sent, (round * 40 + number) / 2);
        }
        match round {
            1 | 4 => members.push(world.join()),
            2 | 6 => drop(members.remove(0)),
            3 => members.extend([world.join(), world.join()]),
            8 => members.truncate(1),
            _ => thread::sleep(Duration::from_millis(300)),
        }
    }
    world.drain();
    members.into_iter().for_each(drop);
    world.assert_totals(&sent);
}

/// Two members share the partitions, and the one that stays takes over those of the one that leaves.
#[test]
fn members_share_the_partitions_and_take_them_over() {
    let world = World::new(6);
    let first = world.join();
    until("the first has all", || first.partitions() == 6);
    let second = world.join();
    until("both have their share", || first.partitions() == 3 && second.partitions() == 3);
    drop(first);
    until("the second has all", || second.partitions() == 6);
}

/// A member sleeps in its flush, past its time. Its partitions go to another, which folds on and writes its checkpoint. Then
/// the sleeper wakes and writes what it had: rows and runs that land behind the newer ones, and lose.
#[test]
fn g03_a_zombie_that_writes_behind_the_new_owners_checkpoint_changes_nothing() {
    let world = World::new(2);
    let mut sent = BTreeMap::new();
    let gate = Gate::default();
    let sleeper = world.join_through(&gate, Duration::from_secs(6));
    world.send_pulse(&mut sent, 0);
    world.drain();
    gate.close();
    for number in 1..50 {
        world.send_pulse(&mut sent, number);
    }
    until("the sleeper holds a flush", || gate.is_holding());
    let owner = world.join();
    until("the other has all", || owner.partitions() == 2);
    for number in 50..100 {
        world.send_pulse(&mut sent, number);
        world.send_pulse(&mut sent, number / 2);
    }
    world.drain();
    assert_eq!(gate.late(), (0, 0));
    gate.open();
    until("a row and a run of the sleeper land behind the new owner's checkpoint", || {
        let (rows, runs) = gate.late();
        rows > 0 && runs > 0
    });
    drop(sleeper);
    drop(owner);
    world.assert_totals(&sent);
}

/// Foreign bytes become a dead letter, and the partition goes on.
#[test]
fn g13_foreign_bytes_are_dead_lettered_and_the_partition_goes_on() {
    let world = World::new(2);
    let mut sent = BTreeMap::new();
    let _member = world.join();
    world.send_bytes(0, b"no batch of pulses");
    for number in 0..20 {
        world.send_pulse(&mut sent, number);
    }
    world.drain();
    world.assert_totals(&sent);
    assert_eq!(world.counts().dead_lettered, 1);
}

/// A record of a newer format halts its partition as `needs_upgrade`; nothing of it is lost.
#[test]
fn g10_a_record_of_a_newer_version_halts_its_partition_only() {
    let world = World::new(2);
    let member = world.join();
    let newer = v1::PulseBatch { format_version: 99, ..Default::default() }.encode_to_vec();
    world.send_bytes(1, &newer);
    until("it is halted", || member.halt_of(1).is_some_and(|why| why.contains("needs_upgrade")));
    assert!(halts::read(&*world.store, 1).expect("readable").is_some());
    assert!(member.halt_of(0).is_none());
}

/// Retention took what was not folded yet: the partition halts, says which offsets are held, and the others go on.
#[test]
fn g10_retention_that_passes_the_progress_halts_the_partition() {
    let world = World::new(2);
    let mut sent = BTreeMap::new();
    let member = world.join();
    world.send_pulse(&mut sent, 0);
    world.drain();
    drop(member);
    for number in 1..60 {
        world.send_pulse(&mut sent, number);
    }
    world.delete_below_end(0);
    let member = world.join();
    until("it is halted", || member.halt_of(0).is_some_and(|why| why.contains("pulso log resume")));
    until("the other is folded", || world.is_drained(1));
    assert!(member.halt_of(1).is_none());
}
