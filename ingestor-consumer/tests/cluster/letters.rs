//! What foreign producers write past the ingestor: what stands in another tenant's partition is a dead letter, and too much that
//! is no record at all stops its partition, and no other.

use prost::Message as _;
use pulso_domain::position::{Position, Rank};
use pulso_domain::reason::Reason;
use pulso_ingestor_consumer::generations::partition_of_tenant;
use pulso_ingestor_consumer::pipeline::ConsumerConfig;
use pulso_ingestor_consumer::{desk, halts, lookup};
use pulso_platform::log::Log as _;
use pulso_proto::v1;

use crate::world::{Sent, World, until};

/// Another partitioner put a pulse where it does not belong: it is kept with its reason, its id stays free, and what stands behind
/// it is counted.
#[test]
fn g13_a_pulse_in_the_wrong_partition_is_dead_lettered_as_misrouted_and_the_partition_goes_on() {
    let world = World::new(3);
    let (mut sent, _member) = (Sent::new(), world.join());
    (0..10).for_each(|number| world.send_pulse(&mut sent, number));
    let (tenant, pulse) = World::pulse(20);
    let wrong = (partition_of_tenant(&world.log.layout(), tenant) + 1) % 3;
    let offset = world.log.watermarks(wrong).expect("has marks").end_offset;
    let batch = v1::PulseBatch { format_version: 1, pulses: vec![pulse.clone()], ..Default::default() };
    world.send_bytes(wrong, &batch.encode_to_vec());
    // Among them the same pulse where it belongs: the dead letter did not claim its id.
    (10..40).for_each(|number| world.send_pulse(&mut sent, number));
    world.drain();
    world.assert_totals(&sent);
    assert_eq!(world.counts().dead_lettered, 1);

    let position = Position::new(Rank::new(1, offset).expect("fits"), 0);
    let case = desk::case(&*world.store, wrong, position).expect("readable").expect("the dead letter");
    let letter = case.letter;
    assert_eq!(letter.reason, Reason::Misrouted as u32, "{letter:?}");
    assert!(letter.detail.contains("a partition that is not its tenant's"), "{letter:?}");
    assert_eq!(v1::Pulse::decode(letter.original).expect("its bytes"), pulse);
}

/// One more than the limit halts the partition before it; who starts again takes as many more, and then goes on.
#[test]
fn g13_too_many_foreign_records_halt_their_partition_and_no_other_and_a_start_goes_on() {
    let world = World::new(2);
    let limit = ConsumerConfig::default().undecodable_max as u64;
    let (mut sent, member) = (Sent::new(), world.join());
    // What one too many stands at, whatever a new log begins with.
    let stops_at = world.log.watermarks(0).expect("has marks").end_offset + limit;
    for _ in 0..=limit {
        world.send_bytes(0, b"no batch of pulses");
    }
    // Some of them stand behind the burst, some in the other partition.
    (0..40).for_each(|number| world.send_pulse(&mut sent, number));
    until("it is halted", || member.halt_of(0).is_some_and(|why| why.contains("--undecodable-max")));
    let why = halts::read(&*world.store, 0).expect("readable").expect("others can read why");
    assert!(
        why.contains(&format!("so is offset {stops_at}:")) && why.contains("stop what writes them"),
        "{why}"
    );
    until("the other is folded", || world.is_drained(1));
    assert!(member.halt_of(1).is_none() && halts::read(&*world.store, 1).expect("readable").is_none());
    until("what stands before it is kept", || folded(&world, 0) == (stops_at, limit));

    drop(member);
    let _member = world.join();
    world.drain();
    world.assert_totals(&sent);
    assert_eq!(world.counts().dead_lettered, limit + 1);
    assert!(halts::read(&*world.store, 0).expect("readable").is_none(), "it goes on");
}

/// Where the progress of a partition is, and how many dead letters it left.
fn folded(world: &World, partition: u32) -> (u64, u64) {
    let state = lookup::load_state(&*world.store, partition).expect("readable");
    state.map_or((0, 0), |state| (state.rank().offset(), state.counts.dead_lettered))
}
