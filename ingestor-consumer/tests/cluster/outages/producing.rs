//! Brokers that trouble an ingestor, each test with an own record of what every append was answered: nothing acknowledged is
//! lost, nothing is there twice as long as nothing timed out, and what was surely not stored is not there.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pulso_platform::log::kafka::{KafkaGenerations, KafkaLogOptions, TopicPlan, init};
use pulso_platform::log::{Appended, Log, LogError, LogRecord};
use pulso_platform::service::clock::Clock;

use super::servers::{Cluster, Kind, settings};
use crate::proxy::Weather;
use crate::world::until;

const PARTITIONS: u32 = 3;
/// Longer than any trouble of these tests, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// A log with three copies of everything, through these brokers.
fn replicated(brokers: &str, delivery_timeout: Duration) -> KafkaGenerations {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let topic = format!("outage-{}-{number}", Clock::System.now_nanos());
    let plan = TopicPlan {
        handoff_topic: format!("{topic}.usage"),
        topic: topic.clone(),
        partitions: PARTITIONS,
        replication_factor: 3,
        id_horizon: Duration::ZERO,
        ..TopicPlan::default()
    };
    init(&settings(brokers), &plan, &Clock::System).expect("the topics are made");
    let options = KafkaLogOptions { topic, delivery_timeout, ..KafkaLogOptions::default() };
    KafkaGenerations::open(&settings(brokers), options).expect("the log opens")
}

/// What each value was answered.
type Answers = BTreeMap<Vec<u8>, Result<Appended, LogError>>;

/// Appends from four threads, while `meanwhile` does what it does to the brokers, and perhaps appends on its own.
fn append_under(log: &KafkaGenerations, meanwhile: impl FnOnce() -> Answers) -> Answers {
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let appenders: Vec<_> =
            (0..4_u32).map(|appender| scope.spawn(move || load(log, appender, is_over))).collect();
        let mut answers = meanwhile();
        is_over.store(true, Ordering::Relaxed);
        answers.extend(appenders.into_iter().flat_map(|appender| appender.join().expect("it ends")));
        answers
    })
}

fn load(log: &KafkaGenerations, appender: u32, is_over: &AtomicBool) -> Answers {
    let mut waiting = Vec::new();
    for number in 0_u32.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("{appender}:{number}:").repeat(20).into_bytes();
        let reply = log.append((appender + number) % PARTITIONS, vec![value.clone().into()]);
        waiting.push((value, reply));
        thread::sleep(Duration::from_millis(5));
    }
    let unknown = || Err(LogError::Unknown("no answer".into()));
    let answers = waiting
        .into_iter()
        .map(|(value, reply)| (value, reply.blocking_recv().unwrap_or_else(|_| unknown())));
    answers.collect()
}

fn append(log: &KafkaGenerations, value: &[u8]) -> Result<Appended, LogError> {
    log.append(0, vec![value.to_vec().into()]).blocking_recv().expect("it answers")
}

/// Appends until it is taken again, and remembers each answer.
fn append_until_taken(log: &KafkaGenerations, name: &str) -> Answers {
    let end = Instant::now() + PATIENCE;
    let mut answers = Answers::new();
    for number in 0.. {
        let value = format!("{name}: {number}").into_bytes();
        let answer = append(log, &value);
        let is_taken = answer.is_ok();
        answers.insert(value, answer);
        if is_taken {
            break;
        }
        assert!(Instant::now() < end, "it does not resume");
        thread::sleep(Duration::from_millis(200));
    }
    answers
}

/// All records, without those that begin the generation.
fn read_all(log: &KafkaGenerations) -> Vec<LogRecord> {
    let starts: Vec<(u32, u64)> = (0..PARTITIONS).map(|partition| (partition, 1)).collect();
    let ends = (0..PARTITIONS).map(|partition| log.watermarks(partition).expect("has marks").end_offset);
    let wanted: u64 = ends.map(|end| end - 1).sum();
    let mut reader = log.reader(&starts).expect("it can be read");
    let (mut records, end) = (Vec::new(), Instant::now() + PATIENCE);
    while (records.len() as u64) < wanted {
        assert!(Instant::now() < end, "{} of {wanted} records can be read", records.len());
        records.extend(reader.poll(Duration::from_millis(100)).expect("it can be read"));
    }
    records
}

/// How many were stored, not known, and refused.
#[derive(Default, Clone, Copy, Debug)]
struct Counts {
    stored: usize,
    unknown: usize,
    /// Of these.
    unknown_stored: usize,
    /// Of all.
    twice: usize,
    refused: usize,
}

/// Lost 0, and no answer was a lie. Doubled 0 unless something timed out while it was under way: then the client begins a new
/// sequence and tries the rest anew, which the brokers cannot tell from what they have. Ids count it once, as `folding` shows.
fn assert_every_answer_was_true(log: &KafkaGenerations, answers: Answers) -> Counts {
    let mut places: BTreeMap<_, Vec<LogRecord>> = BTreeMap::new();
    for record in read_all(log) {
        places.entry(record.value.to_vec()).or_default().push(record);
    }
    let mut counts = Counts::default();
    for (value, answer) in answers {
        let found = places.remove(&value).unwrap_or_default();
        counts.twice += usize::from(found.len() > 1);
        match answer {
            Ok(at) => {
                let is_it =
                    |record: &&LogRecord| (record.partition, record.offset) == (at.partition, at.offset);
                let record = found.iter().find(is_it);
                let record = record.unwrap_or_else(|| panic!("acknowledged at {at:?} and lost"));
                assert_eq!(at.appended_at_nanos, record.appended_at_nanos);
                counts.stored += 1;
            }
            Err(LogError::Unknown(_)) => {
                counts.unknown += 1;
                counts.unknown_stored += usize::from(!found.is_empty());
            }
            Err(LogError::Unavailable(_)) if found.is_empty() => counts.refused += 1,
            Err(error) => panic!("{error}, and it is there {} times", found.len()),
        }
    }
    writeln!(std::io::stdout(), "{counts:?}; of the acknowledged lost 0").expect("it is heard");
    assert!(places.is_empty(), "what nobody sent is there");
    assert!(counts.twice == 0 || counts.unknown > 0, "{counts:?}");
    counts
}

#[test]
fn g01_killing_the_leader_under_load_loses_and_doubles_nothing() {
    let cluster = Cluster::take();
    let log = replicated(&cluster.brokers(), Duration::from_secs(15));
    let answers = append_under(&log, || {
        thread::sleep(Duration::from_secs(1));
        for _ in 0..2 {
            cluster.signal(Kind::Kafka, cluster.leader(&log.topic(), 0), "KILL");
            thread::sleep(Duration::from_secs(4));
            cluster.start(Kind::Kafka);
            thread::sleep(Duration::from_secs(2));
        }
        Answers::new()
    });
    let sent = answers.len();
    let counts = assert_every_answer_was_true(&log, answers);
    assert!(counts.stored > sent / 2, "{counts:?} of {sent}");
}

/// With two of three gone nobody can confirm: acks stop, whoever asks is soon refused instead of kept waiting, and as soon as
/// the brokers are back the same log takes records again.
#[test]
fn g12_without_a_quorum_of_brokers_acks_stop_and_resume_by_themselves() {
    let cluster = Cluster::take();
    let log = replicated(&cluster.brokers(), Duration::from_secs(15));
    let answers = append_under(&log, || {
        thread::sleep(Duration::from_millis(500));
        cluster.signal(Kind::Kafka, 1, "KILL");
        cluster.signal(Kind::Kafka, 2, "KILL");
        let began = Instant::now();
        while log.is_appendable() {
            assert!(began.elapsed() < PATIENCE, "nobody says that nothing is taken");
            thread::sleep(Duration::from_millis(50));
        }
        let refused = append(&log, b"refused");
        assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
        println!("refused after {:?}", began.elapsed());
        cluster.start(Kind::Kafka);
        let mut answers = append_until_taken(&log, "probe");
        answers.insert(b"refused".to_vec(), refused);
        answers
    });
    assert!(log.is_appendable());
    let counts = assert_every_answer_was_true(&log, answers);
    assert!(counts.stored > 0 && counts.refused > 0, "{counts:?}");
}

/// The record reaches the leader and its followers; the answer is lost on its way.
#[test]
fn g05_a_produce_that_timed_out_and_was_stored_is_unknown_and_there_once() {
    let cluster = Cluster::take();
    cluster.weather(Weather::Fair);
    let log = replicated(&cluster.brokers_behind_proxies(), Duration::from_secs(3));
    let mut answers = Answers::from([(b"first".to_vec(), append(&log, b"first"))]);
    let leader = cluster.proxy(cluster.leader(&log.topic(), 0));
    for round in 0..3 {
        leader.set(Weather::AnswersLost);
        let late = format!("late {round}").into_bytes();
        let answer = append(&log, &late);
        assert!(matches!(answer, Err(LogError::Unknown(_))), "{answer:?}");
        answers.insert(late, answer);
        leader.set(Weather::Fair);
        answers.extend(append_until_taken(&log, &format!("after {round}")));
    }
    assert!(leader.lost_bytes() > 0);
    let counts = assert_every_answer_was_true(&log, answers);
    assert_eq!((counts.unknown, counts.unknown_stored), (3, 3), "each had been stored when it timed out");
    let late = read_all(&log).iter().filter(|record| record.value.starts_with(b"late")).count();
    assert_eq!(late, 3, "once");
}

/// A broker that answers late makes appends slow, and nothing else.
#[test]
fn g12_a_slow_broker_holds_appends_back_and_refuses_none() {
    let cluster = Cluster::take();
    cluster.weather(Weather::Fair);
    let log = replicated(&cluster.brokers_behind_proxies(), Duration::from_secs(15));
    let slow = cluster.proxy(cluster.leader(&log.topic(), 0));
    let answers = append_under(&log, || {
        thread::sleep(Duration::from_millis(500));
        slow.set(Weather::Slow);
        let began = Instant::now();
        let slow_one = append(&log, b"slow");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(30), "the weather never met it: {took:?}");
        thread::sleep(Duration::from_secs(4));
        slow.set(Weather::Fair);
        Answers::from([(b"slow".to_vec(), slow_one), (b"fair".to_vec(), append(&log, b"fair"))])
    });
    let counts = assert_every_answer_was_true(&log, answers);
    assert_eq!((counts.unknown, counts.refused), (0, 0));
}

/// A leader sleeps past its session, others take over, and it wakes believing that it still leads.
#[test]
fn g01_a_leader_that_sleeps_past_its_session_and_wakes_loses_and_doubles_nothing() {
    let cluster = Cluster::take();
    let log = replicated(&cluster.brokers(), Duration::from_secs(15));
    let answers = append_under(&log, || {
        thread::sleep(Duration::from_millis(500));
        let leader = cluster.leader(&log.topic(), 0);
        cluster.signal(Kind::Kafka, leader, "STOP");
        thread::sleep(Duration::from_secs(6));
        cluster.signal(Kind::Kafka, leader, "CONT");
        let answers = append_until_taken(&log, "probe");
        until("nothing is held up any more", || log.is_appendable());
        answers
    });
    let sent = answers.len();
    let counts = assert_every_answer_was_true(&log, answers);
    assert!(counts.stored > sent / 2, "{counts:?} of {sent}");
}
