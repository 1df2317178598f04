//! The topics of a log: making them, beginning the first generation, and checking both. Doing it again changes nothing, and
//! neither does a crash half way: every step first looks at what is there.

use std::time::Duration;

use bytes::Bytes;

use super::brokers::{Brokers, TopicSettings, WantedTopic};
use super::directory::{Directory, Generation, directory_topic};
use super::producer::{BATCH_BYTES_MAX, ProducerSettings};
use super::reader::fetch;
use super::settings::KafkaSettings;
use super::source::Source;
use super::{DEFAULT_TOPIC, KafkaLogOptions};
use crate::log::{LogError, LogLayout, generation_topic};
use crate::service::clock::Clock;

/// Most bytes of a batch in a topic of pulses: a record of full size, and room for what foreign clients put around theirs.
const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + 48 * 1024;
/// A dead letter is the record whole, with headers and whatever a key may hold.
pub const DEAD_LETTER_BYTES_MORE: usize = 64 * 1024;
/// The topic of usage records for pricing.
pub const HANDOFF_TOPIC: &str = "usage-aggregates";
/// Kafka's way to say for ever.
const FOR_EVER: &str = "-1";

/// What the topics of a log shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPlan {
    /// The log's topic; the names of others are made from it.
    pub topic: String,
    /// The topic of usage records.
    pub handoff_topic: String,
    /// Partitions of the first generation.
    pub partitions: u32,
    /// Copies of each partition.
    pub replication_factor: u16,
    /// How long ids are remembered behind the largest append time; zero means always.
    pub id_horizon: Duration,
    /// How long the log keeps a record.
    pub retention: Duration,
}

impl Default for TopicPlan {
    fn default() -> Self {
        Self {
            topic: DEFAULT_TOPIC.to_owned(),
            handoff_topic: HANDOFF_TOPIC.to_owned(),
            partitions: 12,
            replication_factor: 3,
            id_horizon: Duration::from_secs(60 * 86_400),
            retention: Duration::from_secs(7 * 86_400),
        }
    }
}

/// What [`init`] found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitReport {
    /// The generation that is open now.
    pub layout: LogLayout,
    /// Topics that were made now.
    pub created: Vec<String>,
    /// Partitions that were begun now.
    pub begun: Vec<u32>,
}

/// The name of the topic of dead letters of a log.
#[must_use]
pub fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// Makes what is missing, begins the first generation, and checks the rest. Blocks.
///
/// # Errors
/// One sentence with the mend: brokers that do not answer, a topic that is not as planned, a partition that lost what it
/// held.
pub fn init(settings: &KafkaSettings, plan: &TopicPlan, clock: &Clock) -> Result<InitReport, LogError> {
    let brokers = Brokers::connect(settings)?;
    let newest = newest_of(&brokers, &plan.topic)?;
    let min_in_sync = plan.replication_factor.div_ceil(2).to_string();
    let mut created = Vec::new();
    for wanted in wanted_topics(plan, &min_in_sync) {
        let (name, partitions, settings) = (&wanted.0, wanted.1, wanted.2);
        if *name == plan.topic && newest.is_some_and(|newest| newest.generation > 1) {
            continue;
        }
        let replication_factor = plan.replication_factor;
        if brokers.create_topic(&WantedTopic { name, partitions, replication_factor, settings })? {
            created.push(name.clone());
        }
        wait_for_leaders(&brokers, name)?;
    }
    check_topics(&brokers, plan, newest)?;
    let directory = Directory::open(&brokers, &plan.topic)?;
    let generation = find_or_name(&directory, plan, clock)?;
    if let Some(layout) = newest.filter(|newest| newest.generation > 1) {
        return Ok(InitReport { layout, created, begun: Vec::new() });
    }
    let begun = begin_partitions((&brokers, &plan.topic), &generation, clock, &mut |_| Ok(()))?;
    if !generation.is_complete {
        directory.write(&generation, clock.now_nanos())?;
    }
    Ok(InitReport { layout: generation.layout, created, begun })
}

/// The newest generation that has begun in every partition; `None` before the first has. A log that has grown is left as it is:
/// what became of its earlier topics is for those who read them to say.
fn newest_of(brokers: &Brokers, topic: &str) -> Result<Option<LogLayout>, LogError> {
    if brokers.partitions(&directory_topic(topic))?.is_none() {
        return Ok(None);
    }
    let complete = Directory::open(brokers, topic)?.read()?.into_iter().filter(|one| one.is_complete);
    Ok(complete.map(|one| one.layout).max_by_key(|layout| layout.generation))
}

/// Checks that the topics are as planned, and changes nothing. Blocks.
///
/// # Errors
/// One sentence with the mend.
pub fn check(settings: &KafkaSettings, plan: &TopicPlan) -> Result<(), LogError> {
    let brokers = Brokers::connect(settings)?;
    check_topics(&brokers, plan, newest_of(&brokers, &plan.topic)?)?;
    let generations = Directory::open(&brokers, &plan.topic)?.read()?;
    match generations.iter().find(|found| found.layout.generation == 1) {
        Some(found) if found.is_complete => as_planned(found, plan),
        _ => Err(LogError::Misconfigured("the first generation has not begun; run `pulso init`".to_owned())),
    }
}

type Wanted<'a> = (String, u32, Vec<(&'a str, String)>);

/// The topics with their partitions and settings.
fn wanted_topics<'a>(plan: &TopicPlan, min_in_sync: &str) -> [Wanted<'a>; 4] {
    let common = |bytes: usize, retention: String| {
        vec![
            ("cleanup.policy", "delete".to_owned()),
            ("min.insync.replicas", min_in_sync.to_owned()),
            ("max.message.bytes", bytes.to_string()),
            ("retention.ms", retention),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ]
    };
    let retention = plan.retention.as_millis().to_string();
    [
        // Below the log's own, since a log without a directory is not opened.
        (directory_topic(&plan.topic), 1, common(MESSAGE_BYTES_MAX, FOR_EVER.to_owned())),
        (plan.topic.clone(), plan.partitions, common(MESSAGE_BYTES_MAX, retention.clone())),
        (
            dead_letter_topic(&plan.topic),
            plan.partitions,
            // What is poison stays until someone has acted on it.
            common(MESSAGE_BYTES_MAX + DEAD_LETTER_BYTES_MORE, FOR_EVER.to_owned()),
        ),
        (plan.handoff_topic.clone(), plan.partitions, common(MESSAGE_BYTES_MAX, retention)),
    ]
}

/// A topic that was just made is not led at once.
pub(super) fn wait_for_leaders(brokers: &Brokers, topic: &str) -> Result<(), LogError> {
    for _ in 0..100 {
        let led = brokers.partitions(topic)?.is_some_and(|found| found.iter().all(|one| one.has_leader));
        if led {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(LogError::Unreachable(format!(
        "topic {topic} has partitions that no broker leads; start the brokers"
    )))
}

/// Checks the topics; of the log's own that of the newest generation, since the plan is about the first.
fn check_topics(brokers: &Brokers, plan: &TopicPlan, newest: Option<LogLayout>) -> Result<(), LogError> {
    let grown = newest.filter(|newest| newest.generation > 1);
    let (generation, partitions) =
        grown.map_or((1, plan.partitions), |newest| (newest.generation, newest.partitions));
    let topic = generation_topic(&plan.topic, generation);
    has_partitions(brokers, &topic, partitions)?;
    let log = brokers.topic_settings(&topic)?;
    log.check_log()?;
    check_horizon(&log, plan)?;
    check_letters(brokers, &plan.topic)?;
    has_partitions(brokers, &plan.handoff_topic, 1)
}

/// Checks the topics that stand beside a log's: those of dead letters and of usage for pricing. Blocks.
///
/// # Errors
/// One sentence with the mend.
pub fn check_beside(settings: &KafkaSettings, topic: &str) -> Result<(), LogError> {
    let brokers = Brokers::connect(settings)?;
    check_letters(&brokers, topic)?;
    has_partitions(&brokers, HANDOFF_TOPIC, 1)
}

/// Checks that the topic of dead letters takes every record that the newest generation's takes, whole and with its headers.
/// Gives how many bytes it takes.
pub(super) fn check_letters(brokers: &Brokers, topic: &str) -> Result<i64, LogError> {
    let generation = newest_of(brokers, topic)?.map_or(1, |newest| newest.generation);
    let letters = dead_letter_topic(topic);
    has_partitions(brokers, &letters, 1)?;
    let bytes_of = "max.message.bytes";
    let least = brokers.topic_settings(&generation_topic(topic, generation))?.number(bytes_of)
        + DEAD_LETTER_BYTES_MORE as i64;
    let letters = brokers.topic_settings(&letters)?;
    let bytes = letters.number(bytes_of);
    letters.must(bytes_of, bytes >= least, &least.to_string())?;
    Ok(bytes)
}

/// The log's topic has exactly its generation's partitions; the others at least one.
fn has_partitions(brokers: &Brokers, topic: &str, wanted: u32) -> Result<(), LogError> {
    let Some(found) = brokers.partitions(topic)? else {
        return Err(LogError::Misconfigured(format!("topic {topic} is not there; run `pulso init`")));
    };
    let found = u32::try_from(found.len()).unwrap_or(u32::MAX);
    if found == wanted || (wanted == 1 && found > 1) {
        return Ok(());
    }
    Err(LogError::Misconfigured(format!(
        "topic {topic} has {found} partitions, not {wanted}; give --partitions {found} if it is the right topic"
    )))
}

/// Whatever can still be read again must find the ids that were remembered then.
fn check_horizon(log: &TopicSettings, plan: &TopicPlan) -> Result<(), LogError> {
    let retention_ms = log.number("retention.ms");
    if plan.id_horizon.is_zero() {
        return Ok(());
    }
    let horizon_ms = i64::try_from(plan.id_horizon.as_millis()).unwrap_or(i64::MAX);
    if retention_ms >= 0 && retention_ms < horizon_ms {
        return Ok(());
    }
    Err(LogError::Misconfigured(format!(
        "topic {} keeps records for {retention_ms} ms, which must be less than the id horizon of {horizon_ms} ms; \
         lower retention.ms on it or raise --id-horizon",
        plan.topic
    )))
}

/// The first generation as the directory has it, or a new one that is named there now.
fn find_or_name(directory: &Directory, plan: &TopicPlan, clock: &Clock) -> Result<Generation, LogError> {
    let first = |found: Vec<Generation>| found.into_iter().find(|one| one.layout.generation == 1);
    if let Some(found) = first(directory.read()?) {
        as_planned(&found, plan)?;
        return Ok(found);
    }
    let log_id = uuid::Uuid::new_v4().into_bytes();
    let layout = LogLayout { generation: 1, partitions: plan.partitions, log_id };
    let id_horizon_seconds = plan.id_horizon.as_secs();
    let named = Generation { layout, id_horizon_seconds, is_complete: false };
    directory.write(&named, clock.now_nanos())?;
    // Whoever else was at it may have been first.
    first(directory.read()?)
        .ok_or_else(|| LogError::Unknown("the directory does not show what was written".to_owned()))
}

fn as_planned(found: &Generation, plan: &TopicPlan) -> Result<(), LogError> {
    let mismatch = |what: &str, has: u64, wanted: u64, flag: &str| {
        LogError::Misconfigured(format!(
            "generation 1 of {} was begun with {has} {what}, not {wanted}; give {flag}",
            plan.topic
        ))
    };
    let (partitions, seconds) = (found.layout.partitions, found.id_horizon_seconds);
    if partitions != plan.partitions {
        let flag = format!("--partitions {partitions}");
        return Err(mismatch("partitions", partitions.into(), plan.partitions.into(), &flag));
    }
    if seconds != plan.id_horizon.as_secs() {
        let flag = format!("--id-horizon {seconds}s");
        return Err(mismatch("seconds of id horizon", seconds, plan.id_horizon.as_secs(), &flag));
    }
    Ok(())
}

/// Writes the first record of each partition that has none yet, and checks those that have one. `began` hears of each.
pub(super) fn begin_partitions(
    (brokers, topic): (&Brokers, &str),
    generation: &Generation,
    clock: &Clock,
    began: &mut dyn FnMut(u32) -> Result<(), LogError>,
) -> Result<Vec<u32>, LogError> {
    let topic = generation_topic(topic, generation.layout.generation);
    let defaults = KafkaLogOptions::default();
    let producer = brokers.producer(ProducerSettings {
        topic: topic.clone(),
        generation: generation.layout.generation,
        partitions: generation.layout.partitions,
        delivery_timeout: defaults.delivery_timeout,
        queue_bytes_max: defaults.queue_bytes_max,
    })?;
    let source = Source::new(topic, generation.layout, brokers.config.clone(), producer.into());
    let mut begun = Vec::new();
    for partition in 0..generation.layout.partitions {
        let marks = source.watermarks(partition)?;
        if marks.end_offset == 0 && !generation.is_complete {
            append(&source, partition, generation.encode(clock.now_nanos()))?;
            begun.push(partition);
        }
        if let Some(sentence) = begins_otherwise(&source, partition)? {
            return Err(LogError::Misconfigured(format!(
                "{sentence}; restore it, or see `pulso log resume --help`"
            )));
        }
        began(partition)?;
    }
    Ok(begun)
}

/// Appends one record and waits until it is durable.
pub(super) fn append(source: &Source, partition: u32, value: Bytes) -> Result<(), LogError> {
    let answer = source.producer.append(partition, vec![value]).blocking_recv();
    answer.unwrap_or_else(|_| Err(LogError::Unknown("the producer went away".to_owned()))).map(|_| ())
}

/// Why a partition of a generation that has begun is not the one it was; `None` when its beginning says nothing against it.
pub(super) fn begins_otherwise(source: &Source, partition: u32) -> Result<Option<String>, LogError> {
    let marks = source.watermarks(partition)?;
    let found = if marks.end_offset == 0 {
        "is empty although its generation began in it"
    } else if marks.start_offset > 0 {
        // Retention has passed the first record; what was folded is compared with the records that are left.
        return Ok(None);
    } else {
        let first = fetch(source, partition, &[0])?;
        let first = first.first().and_then(|record| Generation::decode(&record.value));
        if first.is_some_and(|first| first.layout == source.layout) {
            return Ok(None);
        }
        "does not begin with the record of its generation"
    };
    Ok(Some(format!(
        "partition {partition} of topic {} {found}: the topic was deleted and made again, or belongs to another log",
        source.topic
    )))
}
