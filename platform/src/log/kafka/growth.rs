//! Growing: beginning the next generation on the brokers, and sealing those before it.
//!
//! The steps are: the next generation's topic is made, with the settings of the one before; the directory names the
//! generation; each of its partitions begins; the directory has it complete, and from then on those who append go there; each
//! partition before is sealed. Every step looks at what is there, so that a second run, also one at the same time, brings to
//! its end what another one began, and changes nothing once all is done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pulso_domain::position::{GENERATIONS_MAX, partition_number, partition_place};

use super::brokers::{Brokers, WantedTopic};
use super::directory::{Directory, Generation, directory_topic};
use super::producer::ProducerSettings;
use super::reader::KafkaReader;
use super::settings::KafkaSettings;
use super::source::Source;
use super::topics::{self, begin_partitions, begins_otherwise, wait_for_leaders};
use super::{KafkaLogOptions, TopicPlan};
use crate::log::generation::{is_seal, seal};
use crate::log::generations::GrowReport;
use crate::log::{LogError, LogLayout, LogReader as _, generation_topic};
use crate::service::clock::Clock;

/// How many of a partition's last records are looked at for its seal, since others arrive behind it. Not to find it harms
/// nothing: of two seals the first counts.
const LOOK_BACK_RECORDS: u64 = 256;
/// How long one record of these may take to come.
const READ_WAIT: Duration = Duration::from_secs(10);

/// One step of growing, done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrowStep {
    /// The topic of this generation is there.
    TopicMade(u32),
    /// The directory names this generation.
    Named(u32),
    /// This partition of it has begun.
    Begun(u32),
    /// All of it has begun, and it takes what comes from now on.
    Complete(u32),
    /// This partition before it is sealed.
    Sealed(u32),
}

impl fmt::Display for GrowStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TopicMade(generation) => write!(f, "the topic of generation {generation} is there"),
            Self::Named(generation) => write!(f, "generation {generation} is named"),
            Self::Begun(partition) => write!(f, "partition {} has begun", partition_place(*partition)),
            Self::Complete(generation) => write!(f, "generation {generation} takes what comes"),
            Self::Sealed(partition) => write!(f, "partition {} is sealed", partition_place(*partition)),
        }
    }
}

/// What is needed to grow a log.
pub struct Growth<'a> {
    /// The log's topic.
    pub topic: &'a str,
    /// Tells the time of the records that are written.
    pub clock: &'a Clock,
    /// Whether a partition, by its number over all generations, is known to be folded past its seal: of such a one nothing is
    /// asked any more.
    pub is_folded: &'a dyn Fn(u32) -> bool,
    /// Hears of each step; its error ends growing there, as a crash would.
    pub told: &'a mut dyn FnMut(GrowStep) -> Result<(), LogError>,
}

/// What of growing was begun and not brought to its end.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Unfinished {
    /// A generation that is named and has not begun in every partition.
    pub begun: Option<LogLayout>,
    /// Partitions before the newest generation without a seal, by their numbers over all generations.
    pub unsealed: Vec<u32>,
}

/// Begins a generation with so many partitions and seals all before it. Where the newest has as many already, it only brings
/// to its end what was begun. Blocks.
///
/// # Errors
/// One sentence with the mend; what was done until then stays, and another run goes on from there.
pub fn grow(
    settings: &KafkaSettings,
    mut growth: Growth<'_>,
    partitions: u32,
) -> Result<GrowReport, LogError> {
    let growing = Growing::connect(settings, growth.topic)?;
    let mut report = GrowReport { layout: growing.newest()?.layout, begun: false };
    loop {
        report.layout = growing.finish_begun(&mut growth)?.unwrap_or(report.layout);
        // Whoever grows it further at the same time is not answered by growing it once more.
        if report.begun || report.layout.partitions == partitions {
            break;
        }
        report.layout = growing.raise(&mut growth, report.layout.generation + 1, partitions)?;
        report.begun = report.layout.partitions == partitions;
    }
    growing.seal_before(&mut growth, report.layout)?;
    Ok(report)
}

/// Begins the generation behind `generation`, with as many partitions, unless there is one already; seals nothing. Blocks.
///
/// # Errors
/// As [`grow`].
pub fn succeed(
    settings: &KafkaSettings,
    mut growth: Growth<'_>,
    generation: LogLayout,
) -> Result<GrowReport, LogError> {
    let growing = Growing::connect(settings, growth.topic)?;
    growing.finish_begun(&mut growth)?;
    let newest = growing.newest()?.layout;
    if newest.generation > generation.generation {
        return Ok(GrowReport { layout: newest, begun: false });
    }
    let layout = growing.raise(&mut growth, newest.generation + 1, newest.partitions)?;
    Ok(GrowReport { layout, begun: true })
}

/// Seals all partitions before the newest generation that have no seal yet. Blocks.
///
/// # Errors
/// As [`grow`].
pub fn seal_all(settings: &KafkaSettings, mut growth: Growth<'_>) -> Result<(), LogError> {
    let growing = Growing::connect(settings, growth.topic)?;
    let newest = growing.newest()?.layout;
    growing.seal_before(&mut growth, newest)
}

/// Looks for what growing has left undone, and changes nothing. Blocks.
///
/// # Errors
/// When the brokers cannot be asked.
pub fn unfinished(
    settings: &KafkaSettings,
    topic: &str,
    is_folded: &dyn Fn(u32) -> bool,
) -> Result<Unfinished, LogError> {
    let growing = Growing::connect(settings, topic)?;
    let found = growing.directory.read()?;
    let begun = found.iter().find(|one| !one.is_complete).map(|one| one.layout);
    let newest = growing.newest()?.layout.generation;
    let mut unsealed = Vec::new();
    for before in found.iter().filter(|one| one.is_complete && one.layout.generation < newest) {
        let numbers = |index| (index, partition_number(before.layout.generation, index));
        let all = (0..before.layout.partitions).map(numbers);
        let open: Vec<(u32, u32)> = all.filter(|(_, number)| !is_folded(*number)).collect();
        let Some(source) = growing.source(before.layout)?.filter(|_| !open.is_empty()) else {
            unsealed.extend(open.into_iter().map(|(_, number)| number));
            continue;
        };
        for (index, number) in open {
            if !is_sealed(&source, index)? {
                unsealed.push(number);
            }
        }
    }
    Ok(Unfinished { begun, unsealed })
}

/// The brokers of a log that grows.
struct Growing {
    brokers: Brokers,
    directory: Directory,
    topic: String,
}

impl Growing {
    fn connect(settings: &KafkaSettings, topic: &str) -> Result<Self, LogError> {
        let brokers = Brokers::connect(settings)?;
        let directory = Directory::open(&brokers, topic)?;
        Ok(Self { brokers, directory, topic: topic.to_owned() })
    }

    /// The newest generation that has begun in every partition.
    fn newest(&self) -> Result<Generation, LogError> {
        let complete = self.directory.read()?.into_iter().filter(|one| one.is_complete);
        let newest = complete.max_by_key(|one| one.layout.generation);
        let options = || KafkaLogOptions { topic: self.topic.clone(), ..KafkaLogOptions::default() };
        newest.ok_or_else(|| super::not_begun(&options()))
    }

    /// The generation of a number, as the directory names it.
    fn named(&self, generation: u32) -> Result<Option<Generation>, LogError> {
        Ok(self.directory.read()?.into_iter().find(|one| one.layout.generation == generation))
    }

    /// Brings a generation to its end that was begun behind the newest; gives it.
    fn finish_begun(&self, growth: &mut Growth<'_>) -> Result<Option<LogLayout>, LogError> {
        let next = self.newest()?.layout.generation + 1;
        let Some(begun) = self.named(next)? else { return Ok(None) };
        self.raise(growth, next, begun.layout.partitions).map(Some)
    }

    /// Has a generation be there, and begun in all its partitions. Another run may be first, and then it is as that one made it.
    fn raise(
        &self,
        growth: &mut Growth<'_>,
        generation: u32,
        partitions: u32,
    ) -> Result<LogLayout, LogError> {
        if generation > GENERATIONS_MAX {
            let sentence =
                format!("the log has {GENERATIONS_MAX} generations, which is as many as there can be");
            return Err(LogError::Misconfigured(sentence));
        }
        self.make_topic(generation, partitions)?;
        (growth.told)(GrowStep::TopicMade(generation))?;
        let named = match self.named(generation)? {
            Some(named) => named,
            None => self.name(growth.clock, generation, partitions)?,
        };
        (growth.told)(GrowStep::Named(generation))?;
        let began = &mut |index| (growth.told)(GrowStep::Begun(partition_number(generation, index)));
        begin_partitions((&self.brokers, &self.topic), &named, growth.clock, began)?;
        if !named.is_complete {
            self.directory.write(&named, growth.clock.now_nanos())?;
        }
        (growth.told)(GrowStep::Complete(generation))?;
        Ok(named.layout)
    }

    fn make_topic(&self, generation: u32, partitions: u32) -> Result<(), LogError> {
        let name = &generation_topic(&self.topic, generation);
        let model = self.model(generation)?;
        let settings = model.settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let replication_factor = model.replication_factor;
        self.brokers.create_topic(&WantedTopic { name, partitions, replication_factor, settings })?;
        wait_for_leaders(&self.brokers, name)?;
        // Before anything is named: one that was there already may be set otherwise, and nobody would open it.
        self.brokers.topic_settings(name)?.check_log()?;
        let found = self.brokers.partitions(name)?.map_or(0, |found| found.len());
        if found == partitions as usize {
            return Ok(());
        }
        Err(LogError::Misconfigured(format!(
            "topic {name} is there already and has {found} partitions, not {partitions}; give --partitions {found}, or, \
             when nobody else is growing the log, delete it when it holds nothing"
        )))
    }

    /// Names the generation, unless another run has: its topic must be empty until then.
    fn name(&self, clock: &Clock, generation: u32, partitions: u32) -> Result<Generation, LogError> {
        let horizon = self.newest()?.id_horizon_seconds;
        let log_id = uuid::Uuid::new_v4().into_bytes();
        let layout = LogLayout { generation, partitions, log_id };
        let source = self.source(layout)?;
        let source = source.ok_or_else(|| {
            LogError::Unavailable("the topic that was just made is not seen; run it again".to_owned())
        })?;
        for index in 0..partitions {
            if source.watermarks(index)?.end_offset > 0 {
                // Unless another run has begun it meanwhile.
                return self.named(generation)?.ok_or_else(|| {
                    let topic = &source.topic;
                    LogError::Misconfigured(format!(
                        "topic {topic} holds records of others; move them, and delete the topic"
                    ))
                });
            }
        }
        let named = Generation { layout, id_horizon_seconds: horizon, is_complete: false };
        self.directory.write(&named, clock.now_nanos())?;
        // Whoever else was at it may have been first.
        self.named(generation)?
            .ok_or_else(|| LogError::Unknown("the directory does not show what was written".to_owned()))
    }

    /// How the topic of a generation is made: as the newest one before it that is set as a log must be. When none is left, as
    /// the directory, with the retention that a new log has.
    fn model(&self, generation: u32) -> Result<Model, LogError> {
        for before in (1..generation).rev() {
            let topic = generation_topic(&self.topic, before);
            let Some(found) = self.brokers.partitions(&topic)? else { continue };
            let set = self.brokers.topic_settings(&topic)?;
            if set.check_log().is_ok() {
                return Ok(Model::of(found.first().map_or(1, |one| one.replicas), set.to_copy()));
            }
        }
        let topic = directory_topic(&self.topic);
        let found = self.brokers.partitions(&topic)?.unwrap_or_default();
        let set = self.brokers.topic_settings(&topic)?;
        let mut model = Model::of(found.first().map_or(1, |one| one.replicas), set.to_copy());
        let retention = TopicPlan::default().retention.as_millis().to_string();
        model.settings.retain(|(name, _)| name != RETENTION);
        model.settings.push((RETENTION.to_owned(), retention));
        Ok(model)
    }

    /// The topic of a generation; `None` when it is gone.
    fn source(&self, layout: LogLayout) -> Result<Option<Arc<Source>>, LogError> {
        let topic = generation_topic(&self.topic, layout.generation);
        let found = self.brokers.partitions(&topic)?.map_or(0, |found| found.len());
        if found < layout.partitions as usize {
            return Ok(None);
        }
        let defaults = KafkaLogOptions::default();
        let producer = self.brokers.producer(ProducerSettings {
            topic: topic.clone(),
            generation: layout.generation,
            partitions: layout.partitions,
            delivery_timeout: defaults.delivery_timeout,
            queue_bytes_max: defaults.queue_bytes_max,
        })?;
        Ok(Some(Arc::new(Source::new(topic, layout, self.brokers.config.clone(), producer.into()))))
    }

    /// Seals each partition before the newest generation that has no seal.
    fn seal_before(&self, growth: &mut Growth<'_>, newest: LogLayout) -> Result<(), LogError> {
        let before = self.directory.read()?.into_iter().map(|one| one.layout);
        for layout in before.filter(|layout| layout.generation < newest.generation) {
            let numbers = |index| (index, partition_number(layout.generation, index));
            let all = (0..layout.partitions).map(numbers);
            let open: Vec<(u32, u32)> = all.filter(|(_, number)| !(growth.is_folded)(*number)).collect();
            if open.is_empty() {
                continue;
            }
            let source = self.source(layout)?;
            let source = source.ok_or_else(|| {
                let topic = generation_topic(&self.topic, layout.generation);
                beyond_sealing(&format!("topic {topic} is gone, and not all of it was folded"))
            })?;
            for (index, number) in open {
                seal_one(&source, index, growth.clock)?;
                (growth.told)(GrowStep::Sealed(number))?;
            }
        }
        Ok(())
    }
}

const RETENTION: &str = "retention.ms";

/// How a topic is made.
struct Model {
    replication_factor: u16,
    settings: Vec<(String, String)>,
}

impl Model {
    fn of(replicas: usize, settings: Vec<(&str, String)>) -> Self {
        let replication_factor = u16::try_from(replicas).unwrap_or(u16::MAX).max(1);
        let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { replication_factor, settings }
    }
}

fn beyond_sealing(what: &str) -> LogError {
    LogError::Misconfigured(format!("{what}; restore it, or see `pulso log resume --help`"))
}

/// Seals a partition that has no seal, when it is the one that was begun.
fn seal_one(source: &Arc<Source>, partition: u32, clock: &Clock) -> Result<(), LogError> {
    if let Some(sentence) = begins_otherwise(source, partition)? {
        return Err(beyond_sealing(&sentence));
    }
    if is_sealed(source, partition)? {
        return Ok(());
    }
    let value = seal(source.layout.generation + 1, clock.now_nanos());
    topics::append(source, partition, value)
}

/// Whether a seal is among the last records of a partition.
fn is_sealed(source: &Arc<Source>, partition: u32) -> Result<bool, LogError> {
    let marks = source.watermarks(partition)?;
    let mut next = marks.start_offset.max(marks.end_offset.saturating_sub(LOOK_BACK_RECORDS));
    let mut reader = KafkaReader::open(source, &[(partition, next)])?;
    while next < marks.end_offset {
        let records = reader.poll(READ_WAIT)?;
        let Some(last) = records.last() else {
            return Err(LogError::Unavailable(format!("partition {partition} was not readable in time")));
        };
        next = last.offset + 1;
        if records.iter().any(|record| is_seal(&record.value)) {
            return Ok(true);
        }
    }
    Ok(false)
}
