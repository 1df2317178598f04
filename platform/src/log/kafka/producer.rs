//! Appending: an idempotent producer whose every delivery report is awaited.
//!
//! A record is answered by its report alone: stored, or unknown, since a produce that timed out may have been stored all the
//! same (G5). Only what was never handed to the client is surely not stored. A success that names no place is unknown too:
//! after a failover the client infers some from the answer to a later batch or from a copy's refusal, and has no offset for
//! the receipt then; nor does the refusal of a copy say that the first is on every replica by now.
//!
//! Idempotence keeps the order and stores each record once, until one times out under way: then the client begins a new
//! sequence and tries anew what was sent with it, and the brokers no longer know a copy from the first. Pulses have ids, and
//! are counted once whatever stands there twice. Without transactions no offset is taken by a marker, so offsets have no
//! holes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::counter;
use parking_lot::{Mutex, RwLock};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message as _, Timestamp};
use tokio::sync::oneshot;

use super::client::{self, Complaints};
use super::polled::PolledProducer;
use crate::log::metrics::{LOG_RECORDS_TOTAL, LOG_UNKNOWN_APPENDS_TOTAL, LOG_VALUE_BYTES_TOTAL};
use crate::log::{AppendReply, Appended, LogError, RECORD_BYTES_MAX};

/// While the oldest append of a partition waits longer than this, new ones are refused at once instead of waiting behind
/// it: longer than a leader election, so that a failover is waited for.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// After an append that timed out new ones are refused for so long; the next one then finds out whether the brokers confirm
/// again, and until it knows others are refused.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// How records are produced.
#[derive(Clone, Debug)]
pub(super) struct ProducerSettings {
    /// The topic of the generation.
    pub(super) topic: String,
    /// The generation, for the receipts.
    pub(super) generation: u32,
    /// Its partitions.
    pub(super) partitions: u32,
    /// After this a record that was not confirmed is unknown.
    pub(super) delivery_timeout: Duration,
    /// Most bytes that wait to be confirmed; more is refused.
    pub(super) queue_bytes_max: usize,
}

pub(super) type Client = PolledProducer<Deliveries>;

/// Appends to the topic of one generation.
pub(super) struct Producer {
    settings: ProducerSettings,
    config: ClientConfig,
    complaints: Complaints,
    /// Replaced when the client says that it cannot go on.
    client: RwLock<Arc<Client>>,
    lanes: Vec<Arc<Lane>>,
}

impl Producer {
    pub(super) fn new(
        mut config: ClientConfig,
        settings: ProducerSettings,
        complaints: Complaints,
    ) -> Result<Self, LogError> {
        tune(&mut config, &settings);
        let client = RwLock::new(Arc::new(create(&config, &complaints)?));
        let lanes = (0..settings.partitions).map(|_| Arc::default()).collect();
        Ok(Self { settings, config, complaints, client, lanes })
    }

    /// Appends one record of a partition that exists.
    pub(super) fn append(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        let (reply, answer) = oneshot::channel();
        let lane = &self.lanes[partition as usize];
        if lane.is_stalled() {
            refuse(reply, "the brokers do not confirm what was sent before");
            return answer;
        }
        lane.enter();
        let generation = self.settings.generation;
        let bytes = value.iter().map(Bytes::len).sum();
        let pending = Box::new(Pending { reply, lane: Arc::clone(lane), generation, bytes });
        let record = BaseRecord::<'_, (), [u8], Box<Pending>>::with_opaque_to(&self.settings.topic, pending)
            .partition(partition.cast_signed());
        let client = Arc::clone(&self.client.read());
        // The client copies the value, so that joining it needs no memory of its own.
        let sent = match &value[..] {
            [whole] => client.send(record.payload(whole)).map_err(refused),
            parts => JOINED.with_borrow_mut(|joined| {
                joined.clear();
                parts.iter().for_each(|part| joined.extend_from_slice(part));
                client.send(record.payload(&joined[..])).map_err(refused)
            }),
        };
        if let Err((error, pending)) = sent {
            lane.leave_last();
            refuse(pending.reply, &error.to_string());
        }
        answer
    }

    /// Whether a partition that exists confirms what it is sent, as far as is known.
    pub(super) fn takes(&self, partition: u32) -> bool {
        !self.lanes[partition as usize].is_stalled()
    }

    /// Whether any partition that was sent something confirms it.
    pub(super) fn is_confirming(&self) -> bool {
        let mut used = self.lanes.iter().filter(|lane| lane.is_used()).peekable();
        used.peek().is_none() || used.any(|lane| !lane.is_stalled())
    }

    /// The client, to ask the brokers about the topic.
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.read())
    }

    /// Begins anew with another client when this one cannot go on. What waits in it is answered as unknown.
    pub(super) fn mend(&self) {
        let Some((code, reason)) = self.client.read().client().fatal_error() else { return };
        tracing::warn!(%code, reason, "the producer cannot go on; another one takes over");
        match create(&self.config, &self.complaints) {
            Ok(client) => drop(std::mem::replace(&mut *self.client.write(), Arc::new(client))),
            Err(error) => tracing::warn!(%error, "no other producer could be made; it is tried again"),
        }
    }

    /// Waits until everything is answered, within the delivery timeout: dropping the client before would purge its queue.
    pub(super) fn flush(&self) {
        if let Err(error) = self.client().flush(self.settings.delivery_timeout) {
            tracing::warn!(%error, "records were not confirmed in time; they are answered as unknown");
        }
    }
}

/// A client that produces; its own thread takes the reports and the complaints.
pub(super) fn create(config: &ClientConfig, complaints: &Complaints) -> Result<Client, LogError> {
    PolledProducer::create(config, Deliveries { complaints: complaints.clone() })
}

fn tune(config: &mut ClientConfig, settings: &ProducerSettings) {
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // Pulses are gathered into records before they come here; a record of its own need not wait for another.
        .set("linger.ms", "0")
        .set("message.timeout.ms", settings.delivery_timeout.as_millis().to_string())
        .set("message.max.bytes", BATCH_BYTES_MAX.to_string())
        .set("batch.size", BATCH_BYTES_MAX.to_string())
        // Larger records are sent from where they lie. The client makes room for as much of each record that waits.
        .set("message.copy.max.bytes", "4096")
        .set("queue.buffering.max.kbytes", (settings.queue_bytes_max / 1024).max(1).to_string());
}

/// Most bytes of one batch, which the broker holds against the topic's `max.message.bytes`: one record of full size with
/// what Kafka puts around it.
pub(super) const BATCH_BYTES_MAX: usize = RECORD_BYTES_MAX + 16 * 1024;

thread_local! {
    /// The record that a thread puts together now, of several parts.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What remains of a record that the client did not take.
fn refused<P: ToBytes + ?Sized>(
    (error, record): (KafkaError, BaseRecord<'_, (), P, Box<Pending>>),
) -> (KafkaError, Box<Pending>) {
    (error, record.delivery_opaque)
}

fn refuse(reply: oneshot::Sender<Result<Appended, LogError>>, reason: &str) {
    // Whoever does not wait for the answer any more does not need it.
    let _gone = reply.send(Err(LogError::Unavailable(reason.to_owned())));
}

/// What waits for the report of one record.
pub(super) struct Pending {
    reply: oneshot::Sender<Result<Appended, LogError>>,
    lane: Arc<Lane>,
    generation: u32,
    bytes: usize,
}

/// The appends of one partition.
#[derive(Default)]
struct Lane(Mutex<Appends>);

#[derive(Default)]
struct Appends {
    /// Since when those wait that are not answered yet, the oldest first.
    waiting: VecDeque<Instant>,
    /// When the last answered one timed out, if it did.
    timed_out_at: Option<Instant>,
    is_used: bool,
}

impl Lane {
    fn enter(&self) {
        let mut appends = self.0.lock();
        appends.is_used = true;
        appends.waiting.push_back(Instant::now());
    }

    fn leave(&self, timed_out: bool) {
        let mut appends = self.0.lock();
        appends.waiting.pop_front();
        appends.timed_out_at = timed_out.then(Instant::now);
    }

    fn leave_last(&self) {
        self.0.lock().waiting.pop_back();
    }

    fn is_used(&self) -> bool {
        self.0.lock().is_used
    }

    fn is_stalled(&self) -> bool {
        self.0.lock().is_stalled(Instant::now())
    }
}

impl Appends {
    fn is_stalled(&self, now: Instant) -> bool {
        let has_waited = |since: &Instant| now.duration_since(*since) > STALLED_AFTER;
        let is_refusing = |at: Instant| now.duration_since(at) < REFUSED_FOR || !self.waiting.is_empty();
        self.waiting.front().is_some_and(has_waited) || self.timed_out_at.is_some_and(is_refusing)
    }
}

/// Takes the delivery reports.
pub(super) struct Deliveries {
    complaints: Complaints,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::complain(&self.complaints, &error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Self::DeliveryOpaque) {
        let timed_out = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        pending.lane.leave(result.as_ref().is_err_and(|(error, _)| *error == timed_out));
        let answer = match result {
            Ok(message) => place(message.offset(), message.timestamp())
                .map(|(offset, appended_at_nanos)| {
                    let partition = message.partition().cast_unsigned();
                    Appended { generation: pending.generation, partition, offset, appended_at_nanos }
                })
                .ok_or_else(|| "the brokers changed, and none said where it stands".to_owned()),
            // Timed out, purged, refused after an earlier try: it may stand in the log all the same.
            Err((error, _)) => Err(error.to_string()),
        };
        match answer {
            Ok(_) => {
                counter!(LOG_RECORDS_TOTAL).increment(1);
                counter!(LOG_VALUE_BYTES_TOTAL).increment(pending.bytes as u64);
            }
            Err(_) => counter!(LOG_UNKNOWN_APPENDS_TOTAL).increment(1),
        }
        let _gone = pending.reply.send(answer.map_err(LogError::Unknown));
    }
}

/// Where and when a leader says that it stored a record; `None` when none said it.
///
/// Then the client counts its offsets through the batch from -1001 or -1, so that a later record has one like any other's.
/// But only a leader's answer carries the time of the log, which every topic stamps.
fn place(offset: i64, timestamp: Timestamp) -> Option<(u64, i64)> {
    match timestamp {
        Timestamp::LogAppendTime(_) => Some((u64::try_from(offset).ok()?, nanos(timestamp))),
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
    }
}

/// A record's time in nanoseconds; the topic stamps it (LogAppendTime), which is checked when the log is opened.
pub(super) fn nanos(timestamp: Timestamp) -> i64 {
    timestamp.to_millis().unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What librdkafka reports as success for a batch of three that a leader answered, that it took for stored since a later
    /// one was (`rd_kafka_dr_implicit_ack`), and whose copy was refused as one (`DUPLICATE_SEQUENCE_NUMBER`).
    #[test]
    fn g05_a_success_without_a_place_is_no_receipt() {
        let created = Timestamp::CreateTime(1_795_692_560_200);
        let batch = |first: i64, timestamp| [0, 1, 2].map(|nth| place(first + nth, timestamp));
        let at = 1_795_692_560_200_000_000;
        assert_eq!(
            batch(40, Timestamp::LogAppendTime(1_795_692_560_200)),
            [40, 41, 42].map(|o| Some((o, at)))
        );
        assert_eq!(batch(-1001, created), [None; 3]);
        assert_eq!(batch(-1, created), [None; 3]);
        assert_eq!(batch(-1, Timestamp::NotAvailable), [None; 3]);
        assert_eq!(place(-1, Timestamp::LogAppendTime(1)), None);
    }

    #[test]
    fn g12_after_a_time_out_appends_are_refused_and_then_one_finds_out() {
        let begun = Instant::now();
        let at = |millis: u64| begun + Duration::from_millis(millis);
        let appends = |waiting: &[u64], timed_out: Option<u64>| Appends {
            waiting: waiting.iter().map(|millis| at(*millis)).collect(),
            timed_out_at: timed_out.map(at),
            is_used: true,
        };
        // One is waited for as long as an election may take.
        assert!(!appends(&[0, 5_000], None).is_stalled(at(10_000)));
        assert!(appends(&[0, 5_000], None).is_stalled(at(10_001)));
        // After a time-out none goes for a while, then one does, and behind it none.
        assert!(appends(&[], Some(15_000)).is_stalled(at(16_999)));
        assert!(!appends(&[], Some(15_000)).is_stalled(at(17_000)));
        assert!(appends(&[17_000], Some(15_000)).is_stalled(at(17_001)));

        let lane = Lane::default();
        assert!(!lane.is_used() && !lane.is_stalled());
        lane.enter();
        lane.leave(true);
        assert!(lane.is_used() && lane.is_stalled());
        lane.enter();
        lane.leave(false);
        assert!(!lane.is_stalled(), "what is confirmed ends it");
    }
}
