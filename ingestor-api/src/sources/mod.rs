//! Pulses that do not come by gRPC: over HTTP as events, and from brokers that already hold them.
//!
//! Every source leads into the same channel, hence into the same validation and the same log as gRPC. A source takes a
//! message off its broker only after all of it is durable: its good pulses as pulses, whatever is none as a dead letter.
//! Ids decide, so a message that comes again changes no total.

mod channel;

pub(crate) mod http;

mod http_answer;

pub(crate) mod poison;

#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

#[cfg(feature = "redis")]
pub mod redis_streams;

use std::time::{Duration, Instant};

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

/// The waits between tries to reach a broker: they grow, and begin anew when it held for a while.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
    since: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);
    /// A session of this length was a good one.
    const GOOD: Duration = Duration::from_secs(10);

    /// Waits before the next try; false when told to stop meanwhile.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> bool {
        if self.since.is_some_and(|since| since.elapsed() >= Self::GOOD + Self::MAX) {
            self.tries = 0;
        }
        self.since = Some(Instant::now());
        let wait = Self::FIRST.saturating_mul(1 << self.tries.min(10)).min(Self::MAX);
        self.tries += 1;
        tokio::time::timeout(wait, stop.cancelled()).await.is_err()
    }
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
