//! What can be set about the front door, with the reason of each default. No setting changes a pulse's fate in the fold.

use std::time::Duration;

/// Most pulses of one batch: bounds the answer, which has one result for each.
pub const BATCH_PULSES_MAX: usize = 10_000;

/// Most bytes of one pulse as it stands on the wire, unknown fields included: the largest good one has about 43 KiB, and
/// a pulse must always fit a log record together with others.
pub const PULSE_BYTES_MAX: usize = 64 * 1024;

/// The settings of the ingestor. Every queue and wait has a bound here.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// How far back `occurred_at` may lie.
    pub accept_past: Duration,
    /// How far ahead `occurred_at` may lie: clocks differ, bills must not.
    pub accept_future: Duration,
    /// Most bytes of one request message, after decompression.
    pub message_bytes_max: usize,
    /// Most bytes of requests, records and answers held at a time over all calls; more is refused.
    pub bytes_in_flight_max: usize,
    /// Most calls held at a time, streams included; more is refused.
    pub calls_in_flight_max: usize,
    /// Most batches of one stream that are not answered yet; the stream is not read beyond.
    pub stream_batches_max: usize,
    /// How long one unary request may take to arrive.
    pub receive_timeout: Duration,
    /// How long the log may take to confirm before the share is answered UNKNOWN.
    pub ack_timeout: Duration,
    /// How long a stream may bring no complete request.
    pub stream_idle_max: Duration,
    /// After this a connection is asked to go away and its streams end, so that load spreads over new ingestors.
    pub connection_age_max: Duration,
    /// Most connections held at a time; the next wait in the kernel's queue.
    pub connections_max: usize,
    /// Most connections of one address, so that none takes all places; more is closed at once.
    pub connections_per_address_max: usize,
    /// Most calls at a time on one connection.
    pub connection_calls_max: u32,
    /// How long a stop waits for what is in flight.
    pub drain_max: Duration,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            accept_past: Duration::from_secs(35 * 86_400),
            accept_future: Duration::from_secs(5 * 60),
            message_bytes_max: 4 * 1024 * 1024,
            bytes_in_flight_max: 128 * 1024 * 1024,
            calls_in_flight_max: 1024,
            stream_batches_max: 16,
            receive_timeout: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(20),
            stream_idle_max: Duration::from_secs(600),
            connection_age_max: Duration::from_secs(30 * 60),
            connections_max: 1024,
            connections_per_address_max: 512,
            connection_calls_max: 256,
            drain_max: Duration::from_secs(20),
        }
    }
}
