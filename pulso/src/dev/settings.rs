//! Everything that can be set about a server in one process; checked before anything is opened or bound.

use std::net::SocketAddr;
use std::time::Duration;

use pulso_platform::service::settings::{
    ApiListener, DataSettings, IngestListener, ProcessSettings, duration_text, parse_duration, parse_size,
};
use serde::{Serialize, Serializer};

use crate::cli::exit::Failure;

/// Flags of everything that runs a server in one process.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct ServerArgs {
    /// Where pulses come in.
    #[command(flatten)]
    #[serde(flatten)]
    pub ingest: IngestListener,
    /// Where the REST API is.
    #[command(flatten)]
    #[serde(flatten)]
    pub api: ApiListener,
    /// What every server has.
    #[command(flatten)]
    #[serde(flatten)]
    pub process: ProcessSettings,
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
    /// Most bytes of the body of one REST request
    #[arg(long, env = "PULSO_BODY_BYTES_MAX", value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    pub body_bytes_max: u64,
    /// How long a read waits for `wait_for`
    #[arg(long, env = "PULSO_WAIT_MAX", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub wait_max: Duration,
    /// Longest time between two checkpoints while pulses come
    #[arg(long, env = "PULSO_FLUSH_EVERY", value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub flush_every: Duration,
    /// Undecodable records among the last 1000 of a partition before it halts; 0 for no limit
    #[arg(long, env = "PULSO_UNDECODABLE_MAX", value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub undecodable_max: u32,
    /// Partitions of a log that is made now; one that exists keeps its own
    #[arg(long, env = "PULSO_PARTITIONS", value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: u32,
    /// Threads that fold; partitions are spread over them
    #[arg(long, env = "PULSO_WORKERS", value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
}

/// Flags of `pulso dev`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(after_help = "\
Prints one line of JSON on stdout when it can serve. Ctrl-C stops it cleanly, a second one forces.

Examples:
  pulso dev
  pulso dev --data-dir /var/lib/pulso --accept-past 90d
  pulso dev --ingest-addr 127.0.0.1:0 --api-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0")]
pub struct DevArgs {
    /// Where everything is kept.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataSettings,
    /// How the server works.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerArgs,
}

impl ServerArgs {
    /// Checks what no single flag can know.
    ///
    /// # Errors
    /// When an address can be reached from outside: without keys whoever reaches a port may do everything.
    pub fn validate(&self) -> Result<(), Failure> {
        only_loopback("--ingest-addr", self.ingest.ingest_addr)?;
        only_loopback("--api-addr", self.api.api_addr)?;
        only_loopback("--admin-addr", self.process.admin_addr)
    }
}

fn only_loopback(flag: &str, address: SocketAddr) -> Result<(), Failure> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let sentence =
        format!("{flag} {address} can be reached from outside and no keys are configured; use 127.0.0.1");
    Err(Failure::usage(sentence))
}

fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration_text(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_keys() {
        let address = |text: &str| text.parse().expect("an address");
        assert!(only_loopback("--api-addr", address("127.0.0.1:7080")).is_ok());
        assert!(only_loopback("--api-addr", address("[::1]:0")).is_ok());
        let refused = only_loopback("--api-addr", address("0.0.0.0:7080")).expect_err("reachable");
        assert!(refused.sentence.contains("--api-addr 0.0.0.0:7080"), "{refused}");
    }
}
