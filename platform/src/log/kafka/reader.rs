//! Reading: [`KafkaReader`] goes forward through some partitions, [`fetch`] reads single records.
//!
//! Offsets must follow each other without a hole, since nobody appends by transactions and nothing is compacted: a hole is
//! damage, as is a record whose checksum is wrong. Back-pressure is simply not polling: what is read ahead is bounded, and
//! membership in a group is held elsewhere, so it cannot be lost by waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, TopicPartitionList};

use super::client::{ASK_TIMEOUT, Talk};
use super::source::{Source, is_unknown};
use crate::log::{LogError, LogReader, LogRecord};

/// One poll hands out about this much, so that the caller can count on its memory.
const POLL_BYTES: usize = 1024 * 1024;
/// Time between two looks at whether the partitions are still those that were opened.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long one question of a look may take: whoever polls has other things to do.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads some partitions of the topic.
pub(super) struct KafkaReader {
    source: Arc<Source>,
    consumer: BaseConsumer<Talk>,
    /// The next offset to hand out of each partition that is read.
    next: BTreeMap<u32, u64>,
    /// What was met and not yet reported.
    faults: VecDeque<LogError>,
    /// What the client has said of some partition; it does not say of which one, and says it once.
    doubt: Option<Doubt>,
    looked_at: Instant,
}

/// What may be wrong with a partition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The wanted offset is not held: it was cut off, below or above; or the topic is not known. The client reads no more of it
    /// until it is assigned anew.
    Range,
    /// The wanted record is damaged. The client goes on behind it.
    Damage,
}

impl KafkaReader {
    pub(super) fn open(source: &Arc<Source>, from: &[(u32, u64)]) -> Result<Self, LogError> {
        for (partition, offset) in from.iter().copied() {
            if let Some(sentence) = source.changed(partition) {
                return Err(source.damaged((partition, offset), sentence));
            }
            let marks = source.watermarks(partition)?;
            if !(marks.start_offset..=marks.end_offset).contains(&offset) {
                return Err(LogError::OffsetOutOfRange { partition, offset });
            }
        }
        Ok(Self {
            consumer: source.consumer(from)?,
            source: Arc::clone(source),
            next: from.iter().copied().collect(),
            faults: VecDeque::new(),
            doubt: None,
            looked_at: Instant::now(),
        })
    }

    /// Reads until there is enough for one poll, or nothing more at hand, or a fault; waits only for the first record.
    fn read(&mut self, until: Instant, records: &mut Vec<LogRecord>) {
        let mut bytes = 0;
        while bytes < POLL_BYTES && self.faults.is_empty() {
            let wait = if records.is_empty() {
                until.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            let record = match self.consumer.poll(wait) {
                // The client may also return early, when it has served something else than a record.
                None if records.is_empty() && Instant::now() < until => continue,
                None => return,
                Some(Ok(message)) => Source::record(&message),
                Some(Err(error)) => {
                    self.complaint(&error);
                    continue;
                }
            };
            bytes += record.value.len();
            self.take(record, records);
        }
    }

    fn take(&mut self, record: LogRecord, records: &mut Vec<LogRecord>) {
        let partition = record.partition;
        // What was read ahead of a partition that has halted.
        let Some(wanted) = self.next.get_mut(&partition) else { return };
        if record.offset == *wanted {
            *wanted += 1;
            records.push(record);
        } else if record.offset > *wanted {
            let wanted = *wanted;
            let detail = format!("offsets {wanted} to {} are missing or damaged", record.offset - 1);
            let fault = self.source.damaged((partition, wanted), detail);
            self.halt(partition, fault);
        }
    }

    /// Hands out no more of a partition.
    fn halt(&mut self, partition: u32, fault: LogError) {
        self.next.remove(&partition);
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.source.topic, partition.cast_signed());
        if let Err(error) = self.consumer.pause(&list) {
            tracing::debug!(partition, %error, "a halted partition could not be paused; its records are passed over");
        }
        self.faults.push_back(fault);
    }

    fn complaint(&mut self, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.doubt = Some(Doubt::Range);
            }
            Some(RDKafkaErrorCode::BadMessage) => self.doubt = Some(Doubt::Damage),
            // Said by a broker that starts, or of a topic that was deleted: which of the two, a look will tell. The client
            // may read no more of it until it is assigned anew.
            Some(_) if is_unknown(error) => self.doubt = Some(Doubt::Range),
            // Everything else is tried again by the client.
            _ => tracing::debug!(%error, "the log could not be read for a moment"),
        }
    }

    /// Finds partitions that have nothing more to give although they are waited for.
    fn look(&mut self) {
        self.looked_at = Instant::now();
        let mut is_answered = true;
        for (partition, offset) in self.wanted() {
            match self.look_at(partition, offset) {
                Ok(()) => {}
                Err(error) if error.is_retryable() => {
                    tracing::debug!(partition, %error, "the partition could not be looked at");
                    is_answered = false;
                    break;
                }
                Err(fault) => self.halt(partition, fault),
            }
        }
        let is_over = match self.doubt {
            Some(Doubt::Range) => is_answered && self.source.assign(&self.consumer, &self.wanted()).is_ok(),
            Some(Doubt::Damage) | None => is_answered,
        };
        if is_over {
            self.doubt = None;
        }
    }

    fn look_at(&self, partition: u32, offset: u64) -> Result<(), LogError> {
        if let Some(sentence) = self.source.changed(partition) {
            return Err(self.source.damaged((partition, offset), sentence));
        }
        let Some(doubt) = self.doubt else { return Ok(()) };
        let marks = self.source.watermarks_within(partition, LOOK_TIMEOUT)?;
        if !(marks.start_offset..=marks.end_offset).contains(&offset) {
            return Err(LogError::OffsetOutOfRange { partition, offset });
        }
        if doubt == Doubt::Damage && offset < marks.end_offset {
            fetch(&self.source, partition, &[offset])?;
        }
        Ok(())
    }

    fn wanted(&self) -> Vec<(u32, u64)> {
        self.next.iter().map(|(partition, offset)| (*partition, *offset)).collect()
    }
}

impl LogReader for KafkaReader {
    fn poll(&mut self, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let until = Instant::now() + wait;
        if let Some(fault) = self.faults.pop_front() {
            return Err(fault);
        }
        if self.doubt.is_some() || self.looked_at.elapsed() > LOOK_EVERY {
            self.look();
        }
        let mut records = Vec::new();
        self.read(until, &mut records);
        match self.faults.front() {
            Some(_) if records.is_empty() => Err(self.faults.pop_front().expect("it was there")),
            _ => Ok(records),
        }
    }
}

/// Reads single records of one partition, in the order asked.
pub(super) fn fetch(source: &Source, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
    let marks = source.watermarks(partition)?;
    let held = marks.start_offset..marks.end_offset;
    if let Some(offset) = offsets.iter().copied().find(|offset| !held.contains(offset)) {
        return Err(LogError::OffsetOutOfRange { partition, offset });
    }
    let Some(first) = offsets.first() else { return Ok(Vec::new()) };
    let consumer = source.consumer(&[(partition, *first)])?;
    let mut at = *first;
    let mut records = Vec::with_capacity(offsets.len());
    for offset in offsets.iter().copied() {
        if offset < at || offset - at > NEAR_OFFSETS {
            source.assign(&consumer, &[(partition, offset)])?;
        }
        let record = read_until(source, &consumer, (partition, offset))?;
        at = offset + 1;
        records.push(record);
    }
    Ok(records)
}

/// An offset this near is read up to rather than jumped to.
const NEAR_OFFSETS: u64 = 64;

fn read_until(
    source: &Source,
    consumer: &BaseConsumer<Talk>,
    (partition, offset): (u32, u64),
) -> Result<LogRecord, LogError> {
    let until = Instant::now() + ASK_TIMEOUT;
    loop {
        match consumer.poll(until.saturating_duration_since(Instant::now())) {
            Some(Ok(message)) if message.offset().cast_unsigned() < offset => {}
            Some(Ok(message)) if message.offset().cast_unsigned() == offset => {
                return Ok(Source::record(&message));
            }
            // From before a jump backwards is not handed out any more, so what is beyond is a hole.
            Some(Ok(_)) => {
                return Err(
                    source.damaged((partition, offset), "the record is missing or damaged".to_owned())
                );
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    return Err(LogError::OffsetOutOfRange { partition, offset });
                }
                Some(RDKafkaErrorCode::BadMessage) => {
                    return Err(source.damaged((partition, offset), error.to_string()));
                }
                _ => {}
            },
            None => {}
        }
        if Instant::now() >= until {
            return Err(LogError::Unavailable(format!("partition {partition} was not readable in time")));
        }
    }
}
