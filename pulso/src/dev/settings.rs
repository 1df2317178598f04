//! Everything that can be set about a server in one process; checked before anything is opened or bound.

use std::net::SocketAddr;

use pulso_platform::service::settings::{ApiListener, DataSettings, IngestListener, ProcessSettings};
use serde::Serialize;

use crate::cli::exit::Failure;
use crate::roles::settings::{ConsumerFlags, IngestFlags, QueryFlags};
use crate::sources::SourceArgs;

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
    /// Where pulses come from beside gRPC.
    #[command(flatten)]
    #[serde(flatten)]
    pub sources: SourceArgs,
    /// What it takes.
    #[command(flatten)]
    #[serde(flatten)]
    pub taking: IngestFlags,
    /// What it answers.
    #[command(flatten)]
    #[serde(flatten)]
    pub answering: QueryFlags,
    /// How it folds.
    #[command(flatten)]
    #[serde(flatten)]
    pub folding: ConsumerFlags,
    /// Partitions of a log that is made now; one that exists keeps its own
    #[arg(long, env = "PULSO_PARTITIONS", value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: u32,
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
        if let Some(address) = self.sources.events_addr {
            only_loopback("--events-addr", address)?;
        }
        only_loopback("--admin-addr", self.process.admin_addr)?;
        self.taking.validate()?;
        self.sources.brokers().map(drop)
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
