//! The Kafka log: one topic for each generation, on Apache Kafka or what speaks its protocol.
//!
//! A record's offset is Kafka's. Whether a topic is the one that was folded is told by its first record, which names the
//! generation's log, and once retention has passed that, by the `directory` of generations, by marks that never fall, and
//! by the fold's chain of digests. (Kafka's own topic id would tell as well, but the client hands it out through raw pointers
//! only.) `settings` says how brokers are reached, `topics` makes what must be there, `producer` appends, `reader` hands out,
//! `watch` looks whether both can still be done. All this is of one generation. `generations` has all of them as one log and
//! follows the directory, `growth` begins the next one, and `membership` says which partitions this process folds.

mod brokers;
mod client;
#[cfg(test)]
#[cfg(feature = "cluster-tests")]
mod cluster_tests;
mod directory;
mod generations;
mod growth;
pub mod letters;
mod membership;
mod polled;
mod producer;
mod reader;
mod settings;
mod source;
mod topics;
pub mod usage;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::generations::KafkaGenerations;
pub use self::growth::{GrowStep, Growth, Unfinished, grow, seal_all, succeed, unfinished};
pub use self::settings::{KafkaCompression, KafkaMechanism, KafkaSecurity, KafkaSettings};
pub use self::topics::{
    DEAD_LETTER_BYTES_MORE, HANDOFF_TOPIC, InitReport, TopicPlan, check, check_beside, dead_letter_topic,
    init,
};

use self::brokers::Brokers;
use self::directory::{Directory, Generation};
use self::producer::ProducerSettings;
use self::reader::KafkaReader;
use self::source::Source;
use self::topics::begins_otherwise;
use self::watch::{Health, Watch};
pub use super::DEFAULT_TOPIC;
use super::generation_topic;
use super::{AppendReply, Log, LogError, LogLayout, LogReader, LogRecord, RECORD_BYTES_MAX, Watermarks};

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct KafkaLogOptions {
    /// The log's topic; those of later generations are named after it.
    pub topic: String,
    /// The generation to open; the newest when not given.
    pub generation: Option<u32>,
    /// After this a record that was not confirmed is answered as unknown: a leader election is over by then, and whoever
    /// waits for the answer still waits.
    pub delivery_timeout: Duration,
    /// Most bytes of records that wait to be confirmed; more is refused.
    pub queue_bytes_max: usize,
    /// A member that does not look after its assignment for so long is taken out of its group.
    pub member_timeout: Duration,
    /// Time between two looks at the directory for a next generation.
    pub directory_every: Duration,
    /// Whether a log is opened also when the newest generation's topic is gone or another one, to mend it.
    pub to_mend: bool,
}

impl Default for KafkaLogOptions {
    fn default() -> Self {
        Self {
            topic: DEFAULT_TOPIC.to_owned(),
            generation: None,
            delivery_timeout: Duration::from_secs(15),
            queue_bytes_max: 64 * 1024 * 1024,
            member_timeout: Duration::from_secs(300),
            directory_every: Duration::from_secs(1),
            to_mend: false,
        }
    }
}

/// One generation of the log of a cluster, its partitions by their indexes. [`KafkaGenerations`] is the whole log.
pub struct KafkaLog {
    source: Arc<Source>,
    health: Arc<Health>,
    /// Ends before the log is flushed.
    watch: Option<Watch>,
}

impl KafkaLog {
    /// Opens a generation that `pulso init` or `pulso log grow` has made. Blocks while the brokers are asked; give it a thread
    /// that may.
    ///
    /// # Errors
    /// One sentence with the mend: settings that do not fit, brokers that do not answer, topics that are missing or set
    /// otherwise. A partition that is not the one it was does not fail the opening: it refuses appends and its readers halt.
    pub fn open(settings: &KafkaSettings, options: KafkaLogOptions) -> Result<Self, LogError> {
        let brokers = Brokers::connect(settings)?;
        let generation = find_generation(&brokers, &options)?;
        Self::of(&brokers, &options, generation.layout)
    }

    /// Opens one generation.
    fn of(brokers: &Brokers, options: &KafkaLogOptions, layout: LogLayout) -> Result<Self, LogError> {
        let source = Arc::new(source_of(brokers, options, layout)?);
        let topic = &source.topic;
        let Some(found) = brokers.partitions(topic)? else {
            let what = format!("topic {topic} is not there although its generation began");
            return Self::lost(source, options, what);
        };
        if found.len() < layout.partitions as usize {
            let (found, wanted) = (found.len(), layout.partitions);
            let what = format!("topic {topic} has {found} partitions but its generation has {wanted}");
            return Self::lost(source, options, format!("{what}: it was deleted and made again"));
        }
        source.check_growth(found.len())?;
        for partition in 0..layout.partitions {
            if let Some(sentence) = begins_otherwise(&source, partition)? {
                source.set_changed(partition, sentence);
            }
        }
        let set = brokers.topic_settings(topic)?;
        // Of a topic that is another one altogether nothing is used.
        if !options.to_mend || !source.is_lost() {
            set.check_log()?;
        }
        let min_in_sync = usize::try_from(set.number("min.insync.replicas")).unwrap_or(1);
        let health = Arc::new(Health::new(layout.partitions, min_in_sync));
        let watch = Some(Watch::start(&source, &health)?);
        Ok(Self { source, health, watch })
    }

    /// A generation of which nothing is left: an error, unless it is opened to be mended.
    fn lost(source: Arc<Source>, options: &KafkaLogOptions, what: String) -> Result<Self, LogError> {
        if !options.to_mend {
            return Err(LogError::Misconfigured(format!(
                "{what}; restore it, or see `pulso log resume --help`"
            )));
        }
        for partition in 0..source.layout.partitions {
            source.set_changed(partition, what.clone());
        }
        let health = Arc::new(Health::new(source.layout.partitions, 1));
        Ok(Self { source, health, watch: None })
    }

    /// The topic of this generation.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.source.topic
    }

    /// Why a partition is not the one that was begun, when it is not.
    #[must_use]
    pub fn changed(&self, partition: u32) -> Option<String> {
        self.source.changed(partition)
    }

    /// Why an append cannot be taken, when it cannot.
    fn refusal(&self, partition: u32, value: &[Bytes]) -> Option<LogError> {
        let bytes: usize = value.iter().map(Bytes::len).sum();
        if let Err(error) = self.source.has(partition) {
            Some(error)
        } else if bytes > RECORD_BYTES_MAX {
            Some(LogError::TooLarge { bytes, limit: RECORD_BYTES_MAX })
        } else if let Some(sentence) = self.source.changed(partition) {
            Some(LogError::Unavailable(sentence))
        } else if self.health.is_appendable(partition) {
            None
        } else {
            Some(LogError::Unavailable("too few brokers are there".to_owned()))
        }
    }
}

/// The topic of a generation.
fn source_of(brokers: &Brokers, options: &KafkaLogOptions, layout: LogLayout) -> Result<Source, LogError> {
    let topic = generation_topic(&options.topic, layout.generation);
    let producer = brokers.producer(ProducerSettings {
        topic: topic.clone(),
        generation: layout.generation,
        partitions: layout.partitions,
        delivery_timeout: options.delivery_timeout,
        queue_bytes_max: options.queue_bytes_max,
    })?;
    Ok(Source::new(topic, layout, brokers.config.clone(), Arc::new(producer)))
}

/// The generation asked for, or the newest that has begun in every partition.
fn find_generation(brokers: &Brokers, options: &KafkaLogOptions) -> Result<Generation, LogError> {
    let found = Directory::open(brokers, &options.topic)?.read()?;
    let complete = found.into_iter().filter(|found| found.is_complete);
    let wanted =
        |found: &Generation| options.generation.is_none_or(|number| number == found.layout.generation);
    let newest = complete.filter(wanted).max_by_key(|found| found.layout.generation);
    newest.ok_or_else(|| not_begun(options))
}

fn not_begun(options: &KafkaLogOptions) -> LogError {
    let which =
        options.generation.map_or_else(|| "the log".to_owned(), |number| format!("generation {number}"));
    LogError::Misconfigured(format!("{which} has not begun in topic {}; run `pulso init`", options.topic))
}

impl Drop for KafkaLog {
    /// Whoever still waits for an answer gets it first: a client that is dropped purges its queue.
    fn drop(&mut self) {
        self.watch = None;
        self.source.producer.flush();
    }
}

impl Log for KafkaLog {
    fn layout(&self) -> LogLayout {
        self.source.layout
    }

    fn append(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        let Some(error) = self.refusal(partition, &value) else {
            return self.source.producer.append(partition, value);
        };
        let (reply, answer) = oneshot::channel();
        let _ = reply.send(Err(error));
        answer
    }

    fn takes(&self, partition: u32) -> bool {
        self.source.producer.takes(partition)
    }

    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        if self.source.is_lost()
            && let Some(sentence) = self.source.changed(partition)
        {
            return Err(self.source.damaged((partition, 0), sentence));
        }
        self.source.watermarks(partition)
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(KafkaReader::open(&self.source, from)?))
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        reader::fetch(&self.source, partition, offsets)
    }

    fn is_appendable(&self) -> bool {
        self.health.is_any_appendable() && self.source.producer.is_confirming()
    }
}
