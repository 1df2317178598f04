//! Making the topics: once, again, after a crash half way, and beside what is not as it must be.

use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::{fresh, make, one_broker, open, options, plan};
use crate::log::conformance::{append, read_all};
use crate::log::kafka::brokers::{Brokers, WantedTopic};
use crate::log::kafka::directory::{Directory, Generation, directory_topic};
use crate::log::kafka::{
    KafkaLog, KafkaLogOptions, KafkaSettings, TopicPlan, check, dead_letter_topic, init,
};
use crate::log::{Log, LogError, LogLayout};
use crate::service::clock::Clock;

pub(super) fn admin(settings: &KafkaSettings) -> AdminClient<DefaultClientContext> {
    settings.client().unwrap().create().unwrap()
}

/// Sets one setting of a topic; all others fall back to the brokers' own.
pub(super) fn set(settings: &KafkaSettings, topic: &str, name: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let done = block_on(admin(settings).alter_configs([&change], &AdminOptions::new())).unwrap();
    done[0].as_ref().unwrap();
}

fn sentence<T: std::fmt::Debug>(result: Result<T, LogError>) -> String {
    let error = result.expect_err("it is not as planned");
    assert!(matches!(error, LogError::Misconfigured(_)), "{error:?}");
    error.to_string()
}

fn again(settings: &KafkaSettings, plan: &TopicPlan) -> String {
    sentence(init(settings, plan, &Clock::System))
}

#[test]
fn making_the_topics_again_changes_nothing() {
    let (settings, plan) = (one_broker(), plan());
    let first = init(&settings, &plan, &Clock::System).unwrap();
    assert_eq!((first.created.len(), first.begun.len()), (4, 4));
    check(&settings, &plan).unwrap();
    let second = init(&settings, &plan, &Clock::System).unwrap();
    assert_eq!((second.layout, second.created.len(), second.begun.len()), (first.layout, 0, 0));
    let log = open(&settings, &plan);
    assert_eq!(log.layout(), first.layout);
    assert!((0..4).all(|partition| log.watermarks(partition).unwrap().end_offset == 1));
}

#[test]
fn a_crash_half_way_is_completed_by_the_next_run() {
    let (settings, plan) = (one_broker(), plan());
    let brokers = Brokers::connect(&settings).unwrap();
    // The topics of the directory and the log are there, the generation is named, one partition has begun.
    let topics = [directory_topic(&plan.topic), plan.topic.clone()];
    for (name, partitions) in topics.iter().zip([1, 4]) {
        let set = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "580000")];
        let settings = set.map(|(name, value)| (name, value.to_owned())).to_vec();
        brokers.create_topic(&WantedTopic { name, partitions, replication_factor: 1, settings }).unwrap();
    }
    let layout = LogLayout { generation: 1, partitions: 4, log_id: [7; 16] };
    let named = Generation { layout, id_horizon_seconds: 0, is_complete: false };
    Directory::open(&brokers, &plan.topic).unwrap().write(&named, 1).unwrap();
    super::foreign(&settings, &plan.topic, 2, Some(&named.encode(1)));
    assert!(sentence(KafkaLog::open(&settings, options(&plan)).map(|_| ())).contains("pulso init"));
    let report = init(&settings, &plan, &Clock::System).unwrap();
    assert_eq!((report.layout, report.begun), (layout, vec![0, 1, 3]));
    let log = open(&settings, &plan);
    assert_eq!(read_all(&*log, &[(0, 0), (1, 0), (2, 0), (3, 0)]).len(), 4);
}

#[test]
fn many_who_make_a_log_at_once_make_one() {
    let (settings, plan) = (one_broker(), plan());
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(|| make(&settings, &plan))).collect();
        makers.into_iter().for_each(|maker| maker.join().unwrap());
    });
    let log = open(&settings, &plan);
    for record in read_all(&*log, &[(0, 0), (1, 0), (2, 0), (3, 0)]) {
        assert_eq!(
            Generation::decode(&record.value).unwrap().layout,
            log.layout(),
            "another record of the same log is harmless"
        );
    }
}

#[test]
fn what_is_not_as_planned_is_told_in_one_sentence_with_the_mend() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    drop(log);
    let other = |change: &dyn Fn(&mut TopicPlan)| {
        let mut other = plan.clone();
        change(&mut other);
        again(&settings, &other)
    };
    assert!(other(&|plan| plan.partitions = 6).contains("give --partitions 4"));
    assert!(
        other(&|plan| plan.id_horizon = Duration::from_secs(60 * 86_400)).contains("give --id-horizon 0s")
    );
    assert!(other(&|plan| plan.id_horizon = Duration::from_secs(86_400)).contains("raise --id-horizon"));
    let missing = TopicPlan { replication_factor: 3, ..super::plan() };
    assert!(again(&settings, &missing).contains("smaller --replication-factor"));
    set(&settings, &dead_letter_topic(&plan.topic), "max.message.bytes", "600000");
    assert!(again(&settings, &plan).contains("set max.message.bytes="));
    set(&settings, &plan.topic, "message.timestamp.type", "CreateTime");
    assert!(again(&settings, &plan).contains("set message.timestamp.type=LogAppendTime"));
    assert!(sentence(KafkaLog::open(&settings, options(&plan)).map(|_| ())).contains("LogAppendTime"));
    let nowhere = super::plan();
    assert!(sentence(check(&settings, &nowhere)).contains("run `pulso init`"));
    assert!(sentence(KafkaLog::open(&settings, options(&nowhere)).map(|_| ())).contains("run `pulso init`"));
}

#[test]
fn a_grown_topic_is_refused_once_its_new_partitions_hold_something() {
    let settings = one_broker();
    let (plan, log) = fresh(&settings);
    let grown = NewPartitions::new(&plan.topic, 6);
    block_on(admin(&settings).create_partitions([&grown], &AdminOptions::new())).unwrap()[0]
        .as_ref()
        .unwrap();
    drop(log);
    let log = open(&settings, &plan);
    append(&*log, 3, b"goes on").unwrap();
    super::foreign(&settings, &plan.topic, 5, Some(b"lost to all"));
    let sentence = sentence(KafkaLog::open(&settings, options(&plan)).map(|_| ()));
    assert!(sentence.contains("partition 5 holds records that nobody folds"), "{sentence}");
}

#[test]
fn brokers_that_are_not_there_are_told_in_one_sentence() {
    let nobody = KafkaSettings::plaintext("127.0.0.1:1");
    let error = KafkaLog::open(&nobody, KafkaLogOptions::default()).map(|_| ()).unwrap_err();
    assert!(matches!(error, LogError::Unreachable(_)), "{error:?}");
    let sentence = error.to_string();
    assert!(
        sentence.contains("no broker of 127.0.0.1:1 answers") && sentence.contains("check"),
        "{sentence}"
    );
    assert!(!sentence.contains('\n'), "{sentence}");
}
