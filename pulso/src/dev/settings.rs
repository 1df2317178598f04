//! Everything that can be set about a server in one process; checked before anything is opened or bound.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::exit::Failure;
use crate::cli::measures::{parse_duration, parse_size};

/// Where a server listens. Port 0 takes a free one.
#[derive(clap::Args, Clone, Debug)]
pub struct Listeners {
    /// Where pulses come in (gRPC).
    #[arg(long, env = "PULSO_INGEST_ADDR", value_name = "ADDR:PORT", default_value = "127.0.0.1:7070")]
    pub ingest_addr: SocketAddr,
    /// Where the REST API and its documentation are.
    #[arg(long, env = "PULSO_API_ADDR", value_name = "ADDR:PORT", default_value = "127.0.0.1:7080")]
    pub api_addr: SocketAddr,
    /// Where metrics and health are.
    #[arg(long, env = "PULSO_ADMIN_ADDR", value_name = "ADDR:PORT", default_value = "127.0.0.1:7090")]
    pub admin_addr: SocketAddr,
}

impl Listeners {
    /// The three, with the first word of their flags.
    #[must_use]
    pub const fn each(&self) -> [(&'static str, SocketAddr); 3] {
        [("ingest", self.ingest_addr), ("api", self.api_addr), ("admin", self.admin_addr)]
    }

    /// Without keys whoever reaches a port may do everything: so nobody outside this machine may reach it.
    ///
    /// # Errors
    /// When an address is not a loopback address.
    pub fn only_loopback(&self) -> Result<(), Failure> {
        for (name, address) in self.each() {
            if !address.ip().is_loopback() {
                return Err(Failure::usage(format!(
                    "--{name}-addr {address} can be reached from outside, and no keys are configured; use 127.0.0.1"
                )));
            }
        }
        Ok(())
    }
}

/// Flags of `pulso dev`, and of everything that runs such a server.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where Pulso listens.
    #[command(flatten)]
    pub listeners: Listeners,
    /// The oldest `occurred_at` that is taken.
    #[arg(long, env = "PULSO_ACCEPT_PAST", value_name = "DURATION", default_value = "35d", value_parser = parse_duration)]
    pub accept_past: Duration,
    /// How far ahead of the clock `occurred_at` may lie.
    #[arg(long, env = "PULSO_ACCEPT_FUTURE", value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub accept_future: Duration,
    /// Most bytes of one gRPC message.
    #[arg(long, env = "PULSO_MESSAGE_BYTES_MAX", value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    pub message_bytes_max: usize,
    /// Most bytes of pulses that are held at a time before they are durable; more is refused.
    #[arg(long, env = "PULSO_IN_FLIGHT_BYTES_MAX", value_name = "SIZE", default_value = "128MiB", value_parser = parse_size)]
    pub in_flight_bytes_max: usize,
    /// Most bytes of the body of one REST request.
    #[arg(long, env = "PULSO_BODY_BYTES_MAX", value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    pub body_bytes_max: usize,
    /// How long a read waits for `wait_for`.
    #[arg(long, env = "PULSO_WAIT_MAX", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub wait_max: Duration,
    /// How often totals are made durable.
    #[arg(long, env = "PULSO_FLUSH_EVERY", value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub flush_every: Duration,
    /// Partitions of a log that is made now; one that exists keeps its own.
    #[arg(long, env = "PULSO_PARTITIONS", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: u32,
    /// Threads that fold; by default one per processor, at most one per partition.
    #[arg(long, env = "PULSO_WORKERS", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: Option<u32>,
    /// How long a stop may take.
    #[arg(long, env = "PULSO_GRACE", value_name = "DURATION", default_value = "25s", value_parser = parse_duration)]
    pub grace: Duration,
}

/// Flags of `pulso dev`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Prints one line of JSON on stdout when it can serve. Ctrl-C stops it cleanly, a second one forces.

Examples:
  pulso dev
  pulso dev --data-dir /var/lib/pulso --accept-past 90d
  pulso dev --ingest-addr 127.0.0.1:0 --api-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0")]
pub struct DevArgs {
    /// Where everything is kept.
    #[arg(long, env = "PULSO_DATA_DIR", value_name = "FOLDER", default_value = "./pulso-data")]
    pub data_dir: PathBuf,
    /// How the server works.
    #[command(flatten)]
    pub server: ServerArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served_without_keys() {
        let listeners = |api: &str| Listeners {
            ingest_addr: "127.0.0.1:0".parse().expect("good"),
            api_addr: api.parse().expect("good"),
            admin_addr: "[::1]:0".parse().expect("good"),
        };
        assert!(listeners("127.0.0.1:7080").only_loopback().is_ok());
        let refused = listeners("0.0.0.0:7080").only_loopback().expect_err("reachable");
        assert!(refused.sentence.contains("--api-addr 0.0.0.0:7080"));
    }
}
