//! Growing: the next generation, its seals, a crash behind each step, many who grow at once, and who follows.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use pulso_domain::position::partition_number;

use super::making::{admin, set};
use super::{fresh, one_broker, options};
use crate::log::conformance::{append, read_all};
use crate::log::generation::is_seal;
use crate::log::kafka::brokers::Brokers;
use crate::log::kafka::{
    GrowStep, Growth, KafkaGenerations, KafkaLogOptions, KafkaSettings, TopicPlan, Unfinished, check, grow,
    init, unfinished,
};
use crate::log::membership::Change;
use crate::log::{Log, LogError, LogRecord};
use crate::service::clock::Clock;
use futures::executor::block_on;
use rdkafka::admin::AdminOptions;

const MORE: u32 = 5;
const SOON: Duration = Duration::from_secs(60);

type Told<'a> = &'a mut dyn FnMut(GrowStep) -> Result<(), LogError>;

fn grow_to(
    settings: &KafkaSettings,
    plan: &TopicPlan,
    partitions: u32,
    told: Told<'_>,
) -> Result<bool, LogError> {
    let growth = Growth { topic: &plan.topic, clock: &Clock::System, is_folded: &|_| false, told };
    grow(settings, growth, partitions).map(|report| report.begun)
}

fn open(settings: &KafkaSettings, plan: &TopicPlan) -> KafkaGenerations {
    KafkaGenerations::open(settings, options(plan)).unwrap_or_else(|error| panic!("{error}"))
}

fn left(settings: &KafkaSettings, plan: &TopicPlan) -> Unfinished {
    unfinished(settings, &plan.topic, &|_| false).unwrap()
}

/// Everything that the log holds, by generation.
fn records(log: &KafkaGenerations, generation: u32) -> Vec<LogRecord> {
    let layout = log.generations()[generation as usize - 1];
    let places = (0..layout.partitions).map(|index| (partition_number(generation, index), 0));
    read_all(log, &places.collect::<Vec<_>>())
}

/// The log has grown: each partition before is sealed as often as given at most, each behind has begun.
fn assert_grown(settings: &KafkaSettings, plan: &TopicPlan, seals_max: usize) {
    let log = open(settings, plan);
    let counts: Vec<u32> = log.generations().iter().map(|layout| layout.partitions).collect();
    assert_eq!(counts, [plan.partitions, MORE]);
    let before = records(&log, 1);
    for index in 0..plan.partitions {
        let of = before.iter().filter(|record| record.partition == index);
        let seals = of.filter(|record| is_seal(&record.value)).count();
        assert!((1..=seals_max).contains(&seals), "partition {index} has {seals} seals");
    }
    let begun: BTreeSet<u32> = records(&log, 2).iter().map(|record| record.partition).collect();
    assert_eq!(begun.len(), MORE as usize);
    assert_eq!(left(settings, plan), Unfinished::default());
    let number = partition_number(2, MORE - 1);
    let at = append(&log, number, b"behind").unwrap();
    assert_eq!((at.generation, at.partition), (2, MORE - 1));
    assert_eq!(log.fetch(number, &[at.offset]).unwrap()[0].partition, number);
}

#[test]
fn a_log_grows_as_the_topic_before_was_made_and_growing_again_changes_nothing() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    append(&*log, 1, b"before").unwrap();
    let mut steps = Vec::new();
    let told = &mut |step| {
        steps.push(step);
        Ok(())
    };
    assert!(grow_to(&settings, &plan, MORE, told).unwrap());
    assert_eq!(steps.len() as u32, 3 + MORE + plan.partitions, "{steps:?}");
    assert_grown(&settings, &plan, 1);
    let brokers = Brokers::connect(&settings).unwrap();
    let next = format!("{}.g2", plan.topic);
    let (one, other) = (brokers.topic_settings(&plan.topic).unwrap(), brokers.topic_settings(&next).unwrap());
    for name in ["retention.ms", "max.message.bytes", "message.timestamp.type", "min.insync.replicas"] {
        assert_eq!(one.text(name), other.text(name), "{name}");
    }
    assert!(!grow_to(&settings, &plan, MORE, &mut |_| Ok(())).unwrap());
    assert_grown(&settings, &plan, 1);
    // What is about the first generation stays so.
    let report = init(&settings, &plan, &Clock::System).unwrap();
    assert_eq!((report.layout.generation, report.created.len(), report.begun.len()), (2, 0, 0));
    check(&settings, &plan).unwrap();
    let other =
        init(&settings, &TopicPlan { partitions: MORE, ..plan }, &Clock::System).unwrap_err().to_string();
    assert!(other.contains("give --partitions 4"), "{other}");
}

#[test]
fn g09_a_crash_behind_each_step_of_growing_is_brought_to_its_end_by_the_next_run() {
    thread::scope(|scope| {
        // Each kind of step, and in the midst of those that are alike; most of it is waiting, so all at once.
        for crash_behind in [1, 2, 5, 3 + MORE, 4 + MORE] {
            scope.spawn(move || grow_with_a_crash(&one_broker(), crash_behind));
        }
    });
}

fn grow_with_a_crash(settings: &KafkaSettings, crash_behind: u32) {
    let (plan, _) = fresh(settings);
    let mut done = 0;
    let crash = grow_to(settings, &plan, MORE, &mut |_| {
        done += 1;
        if done < crash_behind { Ok(()) } else { Err(LogError::Unavailable("crash".to_owned())) }
    });
    assert!(crash.is_err(), "{crash_behind}");
    let is_told = left(settings, &plan) != Unfinished::default();
    assert_eq!(is_told, crash_behind > 1, "what is named and not at its end is told: {crash_behind}");
    // A process that starts now works all the same.
    let generations = open(settings, &plan).generations().len() as u32;
    assert_eq!(generations, 1 + u32::from(crash_behind >= 3 + MORE), "{crash_behind}");
    grow_to(settings, &plan, MORE, &mut |_| Ok(())).unwrap();
    assert_grown(settings, &plan, 1);
}

#[test]
fn many_who_grow_a_log_at_once_grow_it_once() {
    let settings = one_broker();
    let (plan, _) = fresh(&settings);
    thread::scope(|scope| {
        let growers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| grow_to(&settings, &plan, MORE, &mut |_| Ok(())))).collect();
        assert!(growers.into_iter().all(|grower| grower.join().unwrap().is_ok()));
    });
    assert_grown(&settings, &plan, 3);
}

#[test]
fn a_topic_of_the_next_name_that_is_set_otherwise_or_not_empty_is_not_taken() {
    let settings = one_broker();
    let (plan, _) = fresh(&settings);
    let name = format!("{}.g2", plan.topic);
    let wanted = rdkafka::admin::NewTopic::new(&name, 3, rdkafka::admin::TopicReplication::Fixed(1));
    block_on(admin(&settings).create_topics([&wanted], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    let otherwise = grow_to(&settings, &plan, 3, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(otherwise.contains("set message.timestamp.type=LogAppendTime on it"), "{otherwise}");
    set(&settings, &name, "message.timestamp.type", "LogAppendTime");
    let other = grow_to(&settings, &plan, MORE, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(other.contains("give --partitions 3"), "{other}");
    super::foreign(&settings, &name, 2, Some(b"of others"));
    let taken = grow_to(&settings, &plan, 3, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(taken.contains("holds records of others"), "{taken}");
    assert_eq!(left(&settings, &plan), Unfinished::default(), "nothing was named");
}

#[test]
fn an_open_log_and_a_member_of_its_group_follow_into_the_next_generation() {
    let settings = one_broker();
    let (plan, _) = fresh(&settings);
    let early = open(&settings, &plan);
    let late = KafkaLogOptions { directory_every: Duration::from_secs(5), ..options(&plan) };
    let late = KafkaGenerations::open(&settings, late).unwrap();
    let group = format!("{}-group", plan.topic);
    let mut members = [early.join(&group).unwrap(), late.join(&group).unwrap()];
    grow_to(&settings, &plan, MORE, &mut |_| Ok(())).unwrap();
    let all: BTreeSet<u32> =
        (0..plan.partitions).chain((0..MORE).map(|index| partition_number(2, index))).collect();
    let mut held = [BTreeSet::new(), BTreeSet::new()];
    let until = Instant::now() + SOON;
    let is_shared = |held: &[BTreeSet<u32>; 2]| {
        late.layout().generation == 2
            && held[0].union(&held[1]).copied().collect::<BTreeSet<u32>>() == all
            && held.iter().all(|one| one.len() > 3)
    };
    while !is_shared(&held) {
        assert!(Instant::now() < until, "{held:?} of {all:?}");
        for (member, held) in members.iter_mut().zip(&mut held) {
            for change in member.changes() {
                match change {
                    Change::Assigned(more) => held.extend(more),
                    Change::Revoked(less) => {
                        member.let_go(&less);
                        held.retain(|one| !less.contains(one));
                    }
                    Change::Lost(less) => held.retain(|one| !less.contains(one)),
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(held[0].is_disjoint(&held[1]), "{held:?}");
    assert_eq!((early.layout().generation, late.layout().generation), (2, 2));
    assert_eq!(append(&late, partition_number(2, 0), b"both write").unwrap().generation, 2);
    members[0].folded(&[(0, 1), (partition_number(2, 0), 1)]);
}
