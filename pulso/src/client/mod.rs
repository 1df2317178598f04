//! How client commands reach a server: gRPC for pulses, REST for everything else.

pub mod ingest;
pub mod rest;

/// Where the server is.
#[derive(clap::Args, Clone, Debug)]
pub struct IngestAddress {
    /// The server's ingest address (gRPC).
    #[arg(long, env = "PULSO_INGEST", value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    pub ingest: String,
}

/// Where the server's REST API is.
#[derive(clap::Args, Clone, Debug)]
pub struct ApiAddress {
    /// The server's API address (REST).
    #[arg(long, env = "PULSO_API", value_name = "HOST:PORT", default_value = "127.0.0.1:7080")]
    pub api: String,
}

/// An instant as the wire has it.
#[must_use]
pub fn timestamp(instant: pulso_domain::time::Instant) -> prost_types::Timestamp {
    // Nanoseconds lie below 10^9, which an i32 holds.
    let nanos = i32::try_from(instant.nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: instant.seconds(), nanos }
}
