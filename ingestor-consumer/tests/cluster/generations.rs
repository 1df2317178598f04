//! A log that grows on a real broker while it is written and folded: pulses and retries on both sides of the border and behind
//! the seal, crashes in growing, members that learn of it at different times. Each total is compared with an own record.

use std::thread;
use std::time::Duration;

use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::generations::moved_to;
use pulso_platform::log::{Log as _, LogError, LogLayout};

use crate::world::{Sent, World, until};

/// Sends pulses, and retries of what either side of the border has had, in the name of one who knows so many generations.
fn send(world: &World, layout: &LogLayout, sent: &mut Sent, numbers: std::ops::Range<u32>) -> u64 {
    let mut copies = 0;
    for number in numbers {
        for number in [number, number / 2] {
            world.offer_pulse_to(layout, sent, number).expect("is durable");
            copies += 1;
        }
    }
    copies
}

/// Two members fold while the log grows under load. Some producers know of it at once, others only later.
#[test]
fn g03_a_log_that_grows_under_load_counts_what_stands_on_both_sides_of_the_border_once() {
    let world = World::new(4);
    let (mut sent, members) = (Sent::new(), [world.join(), world.join()]);
    let first = world.log.layout();
    let mut copies = send(&world, &first, &mut sent, 0..300);
    let more = thread::scope(|scope| {
        let late = scope.spawn(|| {
            let mut sent = Sent::new();
            (send(&world, &first, &mut sent, 200..700), sent)
        });
        world.grow(6, &mut |_| Ok(())).expect("grows");
        until("the log goes on", || world.log.layout().generation == 2);
        copies += send(&world, &world.log.layout(), &mut sent, 400..900);
        late.join().expect("sends")
    });
    copies += more.0;
    sent.extend(more.1);
    // One who has not heard of it for long.
    let behind: Vec<_> = (850..1000)
        .map(|number| world.offer_pulse_to(&first, &mut sent, number).expect("is durable"))
        .collect();
    copies += behind.len() as u64;
    world.drain();
    members.into_iter().for_each(drop);
    world.assert_totals(&sent);
    let counts = world.counts();
    assert_eq!(counts.counted + counts.duplicate, copies, "one fate each: {counts:?}");
    assert!(counts.moved >= behind.len() as u64, "{counts:?}");
    for place in behind {
        let traces = moved_to(&*world.store, &RunShape::FORMAT, place).expect("readable");
        assert_eq!((traces.len(), traces[0].generation), (1, 2), "a receipt is followed");
    }
}

/// One member learns of the next generation at once, the other much later; then a third comes, and the first one goes.
#[test]
fn g03_members_that_learn_of_a_generation_at_different_times_lose_and_double_nothing() {
    let world = World::new(4);
    let mut sent = Sent::new();
    let early = world.join();
    let late = world.join_looking_every(Duration::from_secs(8));
    until("both have their share", || early.partitions() == 2 && late.partitions() == 2);
    let first = world.log.layout();
    send(&world, &first, &mut sent, 0..200);
    world.grow(8, &mut |_| Ok(())).expect("grows");
    until("the log goes on", || world.log.layout().generation == 2);
    send(&world, &world.log.layout(), &mut sent, 100..300);
    until("the early one has what the late one does not know", || early.partitions() >= 8);
    world.drain();
    world.assert_totals(&sent);
    until("both share all", || late.partitions() > 2 && early.partitions() + late.partitions() == 12);
    send(&world, &first, &mut sent, 250..400);
    let third = world.join();
    drop(early);
    send(&world, &world.log.layout(), &mut sent, 350..500);
    world.drain();
    drop((late, third));
    world.assert_totals(&sent);
}

/// Growing dies behind each of its steps while pulses come, and is run again.
#[test]
fn g03_g09_growing_that_dies_behind_each_step_and_is_run_again_loses_and_doubles_nothing() {
    const PARTITIONS: u32 = 2;
    const MORE: u32 = 3;
    let world = World::new(PARTITIONS);
    let (mut sent, member) = (Sent::new(), world.join());
    let first = world.log.layout();
    let (mut died_behind, mut number) = (Vec::new(), 0);
    loop {
        let grown = world.grow(MORE, &mut |step| {
            if died_behind.contains(&step) {
                return Ok(());
            }
            died_behind.push(step);
            Err(LogError::Unavailable("crash".to_owned()))
        });
        for layout in [first, world.log.layout()] {
            send(&world, &layout, &mut sent, number..number + 30);
            number += 20;
        }
        if grown.is_ok() {
            break;
        }
    }
    assert_eq!(died_behind.len() as u32, 3 + MORE + PARTITIONS, "{died_behind:?}");
    until("the log goes on", || world.log.layout().generation == 2);
    world.drain();
    drop(member);
    world.assert_totals(&sent);
    assert_eq!(world.log.layout().partitions, MORE);
}
