//! Pulses that do not come by gRPC: over HTTP as events, and from brokers that already hold them.
//!
//! Every source leads into the same channel, hence into the same validation and the same log as gRPC. A source takes a
//! message off its broker only after all of it is durable: its good pulses as pulses, whatever is none as a dead letter.
//! Ids decide, so a message that comes again changes no total.

#[cfg(any(feature = "rabbitmq", feature = "redis"))]
mod backoff;

mod channel;

pub(crate) mod http;

mod http_answer;

pub(crate) mod poison;

#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

#[cfg(feature = "redis")]
pub mod redis_streams;

use futures::future::BoxFuture;
use pulso_platform::service::health::Health;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use channel::Channel;

/// A broker that holds messages until they are taken over.
pub trait Source: Send {
    /// Its kind: a label of metrics, and the first part of where a dead letter came from.
    fn kind(&self) -> &'static str;

    /// The queue or stream it reads.
    fn place(&self) -> String;

    /// Takes messages over until it is told to stop and what it holds is settled. Whatever fails is tried again.
    fn run(self: Box<Self>, channel: Channel, stop: CancellationToken) -> BoxFuture<'static, ()>;
}

/// All the ways in.
pub struct Doors {
    /// gRPC.
    pub grpc: TcpListener,
    /// Events over HTTP.
    pub events: Option<TcpListener>,
    /// Brokers.
    pub sources: Vec<Box<dyn Source>>,
    /// Where a source says that it has not reached its broker yet.
    pub health: Health,
}

impl From<TcpListener> for Doors {
    fn from(grpc: TcpListener) -> Self {
        Self { grpc, events: None, sources: Vec::new(), health: Health::new() }
    }
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Doors").finish_non_exhaustive()
    }
}
