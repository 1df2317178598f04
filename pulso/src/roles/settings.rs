//! The flags of each role's work, shared by one process with all of them and by a process for each.

use std::time::Duration;

use crate::cli::exit::Failure;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_ingestor_consumer::pipeline::ConsumerConfig;
use pulso_platform::service::settings::{duration_text, parse_duration, parse_size};
use pulso_query_api::settings::QuerySettings;
use serde::{Serialize, Serializer};

/// What the ingestor takes.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct IngestFlags {
    /// The oldest `occurred_at` that is taken
    #[arg(long, env = "PULSO_ACCEPT_PAST", value_name = "DURATION", default_value = "35d", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub accept_past: Duration,
    /// How far ahead of the clock `occurred_at` may lie
    #[arg(long, env = "PULSO_ACCEPT_FUTURE", value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub accept_future: Duration,
    /// Most bytes of one gRPC message
    #[arg(long, env = "PULSO_MESSAGE_BYTES_MAX", value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    pub message_bytes_max: u64,
    /// Most bytes of pulses held at a time before they are durable; more is refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "PULSO_IN_FLIGHT_BYTES_MAX", value_name = "SIZE", default_value = "128MiB", value_parser = parse_size)]
    pub in_flight_bytes_max: u64,
}

/// What the API answers.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct QueryFlags {
    /// Most bytes of the body of one REST request
    #[arg(long, env = "PULSO_BODY_BYTES_MAX", value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    pub body_bytes_max: u64,
    /// How long a read waits for `wait_for`
    #[arg(long, env = "PULSO_WAIT_MAX", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub wait_max: Duration,
}

/// How the consumer folds.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct ConsumerFlags {
    /// Longest time between two checkpoints while pulses come
    #[arg(long, env = "PULSO_FLUSH_EVERY", value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub flush_every: Duration,
    /// Threads that fold; partitions are spread over them
    #[arg(long, env = "PULSO_WORKERS", value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Most usage rows held in memory, over all partitions (about 160 bytes each); colder ones are read again when needed
    #[arg(long, env = "PULSO_ROWS_MAX", value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub rows_max: u32,
    /// Undecodable records among the last 1000 of a partition before it halts; 0 for no limit
    #[arg(long, env = "PULSO_UNDECODABLE_MAX", value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub undecodable_max: u32,
}

impl IngestFlags {
    /// Checks what no single flag can know.
    ///
    /// # Errors
    /// When what may be in flight does not hold a message: such a message would be refused for ever.
    pub fn validate(&self) -> Result<(), Failure> {
        let least = self.message_bytes_max.saturating_mul(2);
        if self.in_flight_bytes_max >= least {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "--in-flight-bytes-max {} is too little for messages of {} bytes; give it at least {least}, or lower --message-bytes-max",
            self.in_flight_bytes_max, self.message_bytes_max
        )))
    }

    /// The settings of the front door. `grace` is the whole of a stop.
    #[must_use]
    pub fn settings(&self, grace: Duration) -> IngestSettings {
        IngestSettings {
            accept_past: self.accept_past,
            accept_future: self.accept_future,
            message_bytes_max: bytes(self.message_bytes_max),
            bytes_in_flight_max: bytes(self.in_flight_bytes_max),
            // What follows in the same process needs a part of the grace time, too.
            drain_max: grace / 2,
            ..IngestSettings::default()
        }
    }
}

impl QueryFlags {
    /// The settings of the API. `grace` is the whole of a stop.
    #[must_use]
    pub fn settings(&self, grace: Duration) -> QuerySettings {
        QuerySettings {
            wait_max: self.wait_max,
            body_bytes_max: bytes(self.body_bytes_max),
            drain_max: grace / 2,
            ..QuerySettings::default()
        }
    }
}

impl ConsumerFlags {
    /// The settings of the pipeline.
    #[must_use]
    pub fn config(&self) -> ConsumerConfig {
        ConsumerConfig {
            workers: self.workers as usize,
            flush_every: self.flush_every,
            rows_max: self.rows_max as usize,
            undecodable_max: self.undecodable_max as usize,
            ..ConsumerConfig::default()
        }
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// A duration as it is written in a flag.
///
/// # Errors
/// When the serializer has one.
pub fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration_text(*duration))
}
