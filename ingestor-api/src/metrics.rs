//! What the front door counts: per batch, never per pulse, with labels from closed sets only.
//!
//! Conservation: `pulso_ingest_pulses_received_total` equals the sum of `pulso_ingest_pulses_total` over its outcomes once
//! nothing is in flight.

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};
use pulso_domain::reason::Reason;

use crate::admission::Admission;
use crate::refusal::IngestError;

/// Pulses of batches that could be read.
pub const PULSES_RECEIVED: &str = "pulso_ingest_pulses_received_total";
/// Pulses by `outcome`: `accepted`, `rejected`, `unknown`, or `refused` with the whole call since the log took nothing.
pub const PULSES: &str = "pulso_ingest_pulses_total";
/// Rejected pulses by `reason`.
pub const PULSES_REJECTED: &str = "pulso_ingest_pulses_rejected_total";
/// Bytes of request messages, after decompression.
pub const REQUEST_BYTES: &str = "pulso_ingest_request_bytes_total";
/// Calls and streams that failed as a whole, by `reason`.
pub const CALLS_FAILED: &str = "pulso_ingest_calls_failed_total";
/// Calls in flight.
pub const CALLS_IN_FLIGHT: &str = "pulso_ingest_calls_in_flight";
/// Most calls in flight.
pub const CALLS_IN_FLIGHT_LIMIT: &str = "pulso_ingest_calls_in_flight_limit";
/// Bytes in flight.
pub const BYTES_IN_FLIGHT: &str = "pulso_ingest_in_flight_bytes";
/// Most bytes in flight.
pub const BYTES_IN_FLIGHT_LIMIT: &str = "pulso_ingest_in_flight_limit_bytes";
/// From a batch being read to its last pulse being durable, in seconds.
pub const ACK_SECONDS: &str = "pulso_ingest_ack_seconds";
/// Messages that came from a broker, by `source`.
pub const SOURCE_MESSAGES_RECEIVED: &str = "pulso_source_messages_received_total";
/// Messages by `source` and `outcome`: `stored`, `dead_lettered` (all or some of it), or `returned` to the broker at a stop.
pub const SOURCE_MESSAGES: &str = "pulso_source_messages_total";
/// Whether the broker of a `source` answers: 1 or 0.
pub const SOURCE_CONNECTED: &str = "pulso_source_connected";
/// Buckets of [`ACK_SECONDS`]: from one fsync of a fast disk to the longest wait that is allowed.
pub const ACK_SECONDS_BUCKETS: [f64; 14] =
    [0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];

/// Tells the recorder what each metric means.
pub fn describe() {
    describe_counter!(PULSES_RECEIVED, "pulses of batches that could be read");
    describe_counter!(PULSES, "pulses by outcome: accepted, rejected, unknown, refused");
    describe_counter!(PULSES_REJECTED, "rejected pulses by reason");
    describe_counter!(REQUEST_BYTES, "bytes of request messages, after decompression");
    describe_counter!(CALLS_FAILED, "calls and streams that failed as a whole, by reason");
    describe_gauge!(CALLS_IN_FLIGHT, "calls in flight, streams included");
    describe_gauge!(CALLS_IN_FLIGHT_LIMIT, "most calls in flight");
    describe_gauge!(BYTES_IN_FLIGHT, "bytes of requests, records and answers in flight");
    describe_gauge!(BYTES_IN_FLIGHT_LIMIT, "most bytes in flight");
    describe_counter!(SOURCE_MESSAGES_RECEIVED, "messages that came from a broker, by source");
    describe_counter!(SOURCE_MESSAGES, "messages by source and outcome: stored, dead_lettered, returned");
    describe_gauge!(SOURCE_CONNECTED, "whether the broker of a source answers");
    describe_histogram!(ACK_SECONDS, "seconds from a batch being read to its last pulse being durable");
}

/// How many pulses of one batch had which outcome.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: u32,
    pub(crate) unknown: u32,
    pub(crate) refused: u32,
    /// By reason, at its number less 1.
    pub(crate) rejected: [u32; Reason::ALL.len()],
}

/// Handles of the metrics, looked up once.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) received: Counter,
    pub(crate) request_bytes: Counter,
    pub(crate) ack_seconds: Histogram,
    accepted: Counter,
    rejected: Counter,
    unknown: Counter,
    refused: Counter,
    by_reason: Vec<Counter>,
    failed: Vec<Counter>,
    in_flight: [Gauge; 4],
}

impl Metrics {
    /// Looks the handles up in the process's recorder.
    pub(crate) fn new() -> Self {
        describe();
        let reasons = Reason::ALL.into_iter();
        Self {
            received: counter!(PULSES_RECEIVED),
            request_bytes: counter!(REQUEST_BYTES),
            ack_seconds: histogram!(ACK_SECONDS),
            accepted: counter!(PULSES, "outcome" => "accepted"),
            rejected: counter!(PULSES, "outcome" => "rejected"),
            unknown: counter!(PULSES, "outcome" => "unknown"),
            refused: counter!(PULSES, "outcome" => "refused"),
            by_reason: reasons.map(|reason| counter!(PULSES_REJECTED, "reason" => reason.code())).collect(),
            failed: IngestError::REASONS
                .into_iter()
                .map(|reason| counter!(CALLS_FAILED, "reason" => reason))
                .collect(),
            in_flight: [
                gauge!(CALLS_IN_FLIGHT),
                gauge!(CALLS_IN_FLIGHT_LIMIT),
                gauge!(BYTES_IN_FLIGHT),
                gauge!(BYTES_IN_FLIGHT_LIMIT),
            ],
        }
    }

    /// Counts one batch.
    pub(crate) fn count(&self, tally: &Tally) {
        let mut rejected = 0;
        for (counter, pulses) in self.by_reason.iter().zip(&tally.rejected) {
            if *pulses > 0 {
                counter.increment(u64::from(*pulses));
                rejected += u64::from(*pulses);
            }
        }
        self.accepted.increment(u64::from(tally.accepted));
        self.unknown.increment(u64::from(tally.unknown));
        self.refused.increment(u64::from(tally.refused));
        self.rejected.increment(rejected);
    }

    /// Counts a call that failed as a whole.
    pub(crate) fn count_failed(&self, error: &IngestError) {
        let place = IngestError::REASONS.iter().position(|reason| *reason == error.reason());
        if let Some(counter) = place.and_then(|place| self.failed.get(place)) {
            counter.increment(1);
        }
    }

    /// Shows what is in flight beside its bound.
    pub(crate) fn show_in_flight(&self, admission: &Admission) {
        let values = [admission.calls(), admission.calls_max(), admission.bytes(), admission.bytes_max()];
        for (gauge, value) in self.in_flight.iter().zip(values) {
            gauge.set(value as f64);
        }
    }
}

/// Handles of the metrics of one source.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    pub(crate) received: Counter,
    pub(crate) connected: Gauge,
    stored: Counter,
    dead_lettered: Counter,
    returned: Counter,
}

impl SourceMetrics {
    /// Looks the handles up for a kind of source.
    pub(crate) fn new(source: &'static str) -> Self {
        let outcome =
            |outcome: &'static str| counter!(SOURCE_MESSAGES, "source" => source, "outcome" => outcome);
        Self {
            received: counter!(SOURCE_MESSAGES_RECEIVED, "source" => source),
            connected: gauge!(SOURCE_CONNECTED, "source" => source),
            stored: outcome("stored"),
            dead_lettered: outcome("dead_lettered"),
            returned: outcome("returned"),
        }
    }

    /// Counts the messages of one batch: whether each is durable, and whether any of it is a dead letter.
    pub(crate) fn count(&self, done: &[bool], poisoned: &[bool]) {
        for (done, poisoned) in done.iter().zip(poisoned) {
            let counter = match (done, poisoned) {
                (false, _) => &self.returned,
                (true, true) => &self.dead_lettered,
                (true, false) => &self.stored,
            };
            counter.increment(1);
        }
    }
}
