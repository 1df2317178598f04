//! A topic that is deleted, made again or cut: what was lost is given up with a note, and the log goes on in a next generation,
//! where nothing is counted again that was counted before.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use prost::Message as _;
use pulso_domain::position::partition_number;
use pulso_ingestor_consumer::admin::{Actor, AdminError};
use pulso_ingestor_consumer::generations::{first_state, partition_of_tenant};
use pulso_ingestor_consumer::lookup;
use pulso_ingestor_consumer::mending::{Mended, Mending, mend};
use pulso_ingestor_consumer::opening::fold_config;
use pulso_ingestor_consumer::worker::PartitionWorker;
use pulso_platform::log::digest::value_digest;
use pulso_platform::log::{Log as _, LogRecord};
use pulso_platform::service::clock::Clock;
use pulso_proto::v1;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::world::{SOON, Sent, World, hash_key, until};

impl World {
    fn mend(&self, note: &str) -> Result<Mended, AdminError> {
        let mending = Mending {
            settings: &self.settings(),
            topic: self.topic(),
            store: Arc::clone(&self.store),
            hash_key: hash_key(),
            actor: Actor { name: "operator".to_owned(), at_nanos: Clock::System.now_nanos() },
            note,
        };
        mend(&mending, &mut |_| {})
    }

    fn delete_topic(&self) {
        let deleted = block_on(self.admin().delete_topics(&[self.topic()], &AdminOptions::new()));
        deleted.expect("answers")[0].as_ref().expect("is deleted");
        let admin = self.admin();
        until("the brokers know it no more", || {
            let metadata = admin.inner().fetch_metadata(Some(self.topic()), SOON).expect("answers");
            metadata.topics()[0].error().is_some()
        });
    }

    /// Deletes the log's topic and makes it again, with the brokers' own settings.
    fn make_topic_again(&self, partitions: i32) {
        self.delete_topic();
        let wanted = NewTopic::new(self.topic(), partitions, TopicReplication::Fixed(1));
        let end = Instant::now() + SOON;
        loop {
            let made = block_on(self.admin().create_topics([&wanted], &AdminOptions::new()));
            if made.expect("answers")[0].is_ok() {
                return;
            }
            assert!(Instant::now() < end, "the topic cannot be made again");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn send_all(&self, sent: &mut Sent, numbers: std::ops::Range<u32>) {
        numbers.for_each(|number| self.send_pulse(sent, number));
    }

    fn gaps(&self, partition: u32) -> Vec<v1::Gap> {
        lookup::load_state(&*self.store, partition).expect("readable").expect("was folded").gaps
    }
}

/// The topic is made again while nobody folds, and some of it was not folded yet. Later even that topic is deleted.
#[test]
fn g10_a_topic_made_again_is_given_up_and_the_log_goes_on_in_a_next_generation() {
    let world = World::new(3);
    let (mut sent, member) = (Sent::new(), world.join());
    world.send_all(&mut sent, 0..150);
    world.drain();
    drop(member);
    assert!(matches!(world.mend("nothing is wrong"), Err(AdminError::NothingLost)));
    let mut lost = Sent::new();
    world.send_all(&mut lost, 150..200);
    world.make_topic_again(3);
    let refused = world.mend(" ");
    assert!(matches!(refused, Err(AdminError::NoNote)), "{refused:?}");

    let folded: Vec<u64> = (0..3)
        .map(|partition| lookup::folded_through(&*world.store, partition).expect("readable").offset())
        .collect();
    let mended = world.mend("deleted by mistake").expect("mends");
    assert_eq!((mended.layout.generation, mended.layout.partitions, mended.begun), (2, 3, true));
    assert_eq!(mended.given_up.iter().map(|one| one.partition).collect::<Vec<_>>(), [0, 1, 2]);
    let world = world.reopened();
    let member = world.join();
    // Everyone sends again, since nobody knows what was lost.
    world.send_all(&mut sent, 0..250);
    world.drain();
    world.assert_totals(&sent);
    for (partition, from) in (0..3).zip(folded) {
        let [gap] = &world.gaps(partition)[..] else { panic!("one gap") };
        assert_eq!((gap.from, gap.rest, gap.actor.as_str()), (from, true, "operator"));
        assert_eq!(gap.note, "deleted by mistake");
    }
    assert!(matches!(world.mend("again"), Err(AdminError::NothingLost)));

    drop(member);
    world.delete_topic();
    let world = world.reopened();
    let member = world.join();
    world.send_all(&mut sent, 200..300);
    world.drain();
    drop(member);
    world.assert_totals(&sent);
    assert!(matches!(world.mend("again"), Err(AdminError::NothingLost)));
}

/// The topic of an earlier generation is deleted: all of it was folded, and what is given up is that more may come there.
#[test]
fn g10_a_deleted_topic_of_an_earlier_generation_is_given_up_and_no_generation_begins() {
    let world = World::new(2);
    let (mut sent, member) = (Sent::new(), world.join());
    world.send_all(&mut sent, 0..60);
    world.grow(3, &mut |_| Ok(())).expect("grows");
    until("the log goes on", || world.log.layout().generation == 2);
    world.send_all(&mut sent, 30..90);
    world.drain();
    drop(member);
    world.delete_topic();
    let world = world.reopened();
    // The brokers give nobody partitions that are not there; all else goes on.
    let member = world.join();
    world.send_all(&mut sent, 60..120);
    let newest: Vec<u32> = (0..3).map(|index| partition_number(2, index)).collect();
    until("the next generation goes on", || newest.iter().all(|partition| world.is_drained(*partition)));
    let mended = world.mend("its records were past their time").expect("mends");
    assert_eq!((mended.layout.generation, mended.begun, mended.given_up.len()), (2, false, 2));
    world.send_all(&mut sent, 90..150);
    world.drain();
    drop(member);
    world.assert_totals(&sent);
}

/// The log ends below what was folded in one partition, as after a leader without its last records was let lead.
#[test]
fn g10_a_partition_that_was_cut_is_given_up_alone_and_the_others_are_sealed() {
    let world = World::new(2);
    let (mut sent, member) = (Sent::new(), world.join());
    world.send_all(&mut sent, 0..100);
    world.drain();
    drop(member);
    let layout = world.log.layout();
    let of_last = |number: &u32| partition_of_tenant(&layout, World::pulse(*number).0) == 1;
    let cut_off: Vec<u32> = (100..200).filter(of_last).take(5).collect();
    fold_what_the_log_lost(&world, &cut_off);
    for number in &cut_off {
        let (tenant, pulse) = World::pulse(*number);
        sent.insert((tenant, *number), pulse.used_amount.parse().expect("a whole number"));
    }
    let mended = world.mend("a disk died").expect("mends");
    assert_eq!((mended.layout.generation, mended.begun), (2, true));
    let [lost] = &mended.given_up[..] else { panic!("{mended:?}") };
    assert_eq!(lost.partition, 1);
    let world = world.reopened();
    let member = world.join();
    world.send_all(&mut sent, 0..250);
    world.drain();
    drop(member);
    world.assert_totals(&sent);
    assert!(world.gaps(0).is_empty(), "the other one was sealed");
}

/// Folds records behind the end of partition 1.
fn fold_what_the_log_lost(world: &World, numbers: &[u32]) {
    let layouts = world.log.generations();
    let first = first_state(&*world.store, &layouts, 1).expect("readable").expect("the first generation");
    let config = fold_config(&layouts, 1, world.topic(), hash_key());
    let mut worker = PartitionWorker::open(Arc::clone(&world.store), config, &first).expect("opens");
    let end = world.log.watermarks(1).expect("has marks").end_offset;
    for (offset, number) in (end..).zip(numbers) {
        let pulses = vec![World::pulse(*number).1];
        let value = v1::PulseBatch { format_version: 1, pulses, ..Default::default() }.encode_to_vec();
        let (digest, appended_at_nanos) = (value_digest(&value), Clock::System.now_nanos());
        let record = LogRecord { partition: 1, offset, appended_at_nanos, digest, value: value.into() };
        worker.fold_record(&record).expect("folds");
    }
    worker.flush().expect("is durable");
}

/// Whoever runs goes on: an ingestor follows into the next generation, a consumer that has halted folds it.
#[test]
fn g10_running_roles_go_on_in_the_next_generation_after_their_topic_was_made_again() {
    let world = World::new(2);
    let (mut sent, member) = (Sent::new(), world.join());
    world.send_all(&mut sent, 0..60);
    world.drain();
    world.make_topic_again(2);
    until("both are halted", || (0..2).all(|partition| member.halt_of(partition).is_some()));
    world.mend("deleted by mistake").expect("mends");
    until("the log goes on", || world.log.layout().generation == 2);
    world.send_all(&mut sent, 30..120);
    world.drain();
    drop(member);
    world.assert_totals(&sent);
}
