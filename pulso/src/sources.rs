//! The ways in beside gRPC as settings. Flattened into every command that runs an ingestor.

use std::net::SocketAddr;

use serde::Serialize;

/// Where pulses come from beside gRPC.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct SourceArgs {
    /// Address that takes events over HTTP (CloudEvents, POST /v1/events), such as 127.0.0.1:7071; off unless given
    #[arg(long, env = "PULSO_EVENTS_ADDR", value_name = "IP:PORT")]
    pub events_addr: Option<SocketAddr>,
}
