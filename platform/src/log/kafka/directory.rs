//! The directory of generations: a topic of one partition that keeps for ever what each generation's log is.
//!
//! The first record of a generation's own partitions says the same, but is gone once retention has passed it. A record here
//! is that very record. The first one of a generation names it, whoever else writes another; once the same stands there a
//! second time, every partition of the generation has begun, and one that is empty has lost what it held.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use pulso_proto::v1;
use pulso_proto::v1::control::Fact;

use super::brokers::Brokers;
use super::producer::ProducerSettings;
use super::reader::KafkaReader;
use super::source::Source;
use crate::log::generation::generation_start;
use crate::log::{LogError, LogLayout, LogReader as _};

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// How long a broker may wait for more before it tells one who follows that there is none: hardly ever does anything come. A
/// reader that ends waits for the answer that is on its way.
const FOLLOW_WAIT_MS: &str = "250";
/// How long the directory may take to be read; it has a few records.
const READ_ROUNDS_MAX: usize = 30;

/// One generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Generation {
    pub(super) layout: LogLayout,
    pub(super) id_horizon_seconds: u64,
    /// Whether each of its partitions has begun.
    pub(super) is_complete: bool,
}

impl Generation {
    /// What its record says, when it is one.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let batch = v1::PulseBatch::decode(value).ok()?;
        let Some(Fact::GenerationStart(start)) = batch.control?.fact else { return None };
        let log_id = start.log_id.as_ref().try_into().ok()?;
        let layout = LogLayout { generation: start.generation, partitions: start.partitions, log_id };
        Some(Self { layout, id_horizon_seconds: start.id_horizon_seconds, is_complete: false })
    }

    /// Its record.
    pub(super) fn encode(&self, now_nanos: i64) -> Bytes {
        generation_start(&self.layout, self.id_horizon_seconds, now_nanos)
    }
}

/// The name of the directory of a log.
pub(super) fn directory_topic(topic: &str) -> String {
    format!("{topic}.generations")
}

/// The directory, open.
pub(super) struct Directory(Arc<Source>);

/// Reads the directory on and on, by one reader as long as nothing is wrong with it.
pub(super) struct Following {
    source: Arc<Source>,
    reader: Option<KafkaReader>,
    /// The next record of the directory.
    next: u64,
    known: Vec<Generation>,
}

impl Directory {
    /// Opens the directory of a log.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn open(brokers: &Brokers, topic: &str) -> Result<Self, LogError> {
        let topic = directory_topic(topic);
        if brokers.partitions(&topic)?.is_none() {
            return Err(LogError::Misconfigured(format!("topic {topic} is not there; run `pulso init`")));
        }
        let layout = LogLayout { generation: 0, partitions: 1, log_id: [0; 16] };
        let producer = brokers.producer(ProducerSettings {
            topic: topic.clone(),
            generation: 0,
            partitions: 1,
            delivery_timeout: DELIVERY_TIMEOUT,
            queue_bytes_max: QUEUE_BYTES_MAX,
        })?;
        Ok(Self(Arc::new(Source::new(topic, layout, brokers.config.clone(), Arc::new(producer)))))
    }

    /// All generations, in the order in which they were begun.
    pub(super) fn read(&self) -> Result<Vec<Generation>, LogError> {
        let end = self.0.watermarks(0)?.end_offset;
        let mut following = Following::of(Arc::clone(&self.0));
        for _ in 0..READ_ROUNDS_MAX {
            if following.next >= end {
                return Ok(following.known);
            }
            following.read_on(Duration::from_secs(1))?;
        }
        Err(LogError::Unreachable(format!("topic {} was not readable in time", self.0.topic)))
    }

    /// Reads it from its beginning on and on, for as long as the process lives.
    pub(super) fn follow(self) -> Following {
        let Source { topic, layout, config, producer, .. } = &*self.0;
        let mut source = Source::new(topic.clone(), *layout, config.clone(), Arc::clone(producer));
        source.config.set("fetch.wait.max.ms", FOLLOW_WAIT_MS);
        Following::of(Arc::new(source))
    }

    /// Writes a generation's record: first before its partitions are begun, then again behind that.
    pub(super) fn write(&self, generation: &Generation, now_nanos: i64) -> Result<(), LogError> {
        let answer = self.0.producer.append(0, vec![generation.encode(now_nanos)]).blocking_recv();
        answer.unwrap_or_else(|_| Err(LogError::Unknown("the producer went away".to_owned()))).map(|_| ())
    }
}

impl Following {
    const fn of(source: Arc<Source>) -> Self {
        Self { source, reader: None, next: 0, known: Vec::new() }
    }

    /// All generations, after whatever more came within `wait`.
    ///
    /// # Errors
    /// When the brokers cannot be asked; the next call tries again.
    pub(super) fn read_on(&mut self, wait: Duration) -> Result<&[Generation], LogError> {
        if self.reader.is_none() {
            self.next = self.next.max(self.source.watermarks(0)?.start_offset);
            self.reader = Some(KafkaReader::open(&self.source, &[(0, self.next)])?);
        }
        let polled = self.reader.as_mut().map_or_else(|| Ok(Vec::new()), |reader| reader.poll(wait));
        // A reader that has met a fault hands out no more.
        for record in polled.inspect_err(|_| self.reader = None)? {
            self.next = record.offset + 1;
            if let Some(found) = Generation::decode(&record.value) {
                enter(&mut self.known, found);
            }
        }
        Ok(&self.known)
    }
}

fn enter(generations: &mut Vec<Generation>, found: Generation) {
    match generations.iter_mut().find(|known| known.layout.generation == found.layout.generation) {
        None => generations.push(found),
        Some(known) => known.is_complete |= known.layout == found.layout,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn generation(number: u32, name: u8) -> Generation {
        let layout = LogLayout { generation: number, partitions: 4, log_id: [name; 16] };
        Generation { layout, id_horizon_seconds: 60, is_complete: false }
    }

    #[test]
    fn a_generation_is_read_back_as_it_was_written() {
        let written = generation(2, 7);
        assert_eq!(Generation::decode(&written.encode(5_000_000_001)), Some(written));
        assert_eq!(Generation::decode(b"something else"), None);
    }

    #[test]
    fn the_first_to_name_a_generation_names_it_and_the_second_such_record_completes_it() {
        let mut known = Vec::new();
        for (found, complete) in [(1, false), (2, false), (1, true), (2, true)] {
            enter(&mut known, generation(1, found));
            assert_eq!(known.len(), 1);
            assert_eq!((known[0].layout.log_id, known[0].is_complete), ([1; 16], complete));
        }
        enter(&mut known, generation(2, 9));
        assert_eq!(known.len(), 2);
    }
}
