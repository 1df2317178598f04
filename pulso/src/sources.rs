//! The ways in beside gRPC as settings: events over HTTP, RabbitMQ, Redis Streams. Flattened into every command that runs an
//! ingestor.
//!
//! An address of a broker may hold a password, so it is never printed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pulso_ingestor_api::sources::Source;
use pulso_ingestor_api::sources::rabbitmq::{Rabbitmq, RabbitmqSettings};
use pulso_ingestor_api::sources::redis_streams::{RedisStreams, RedisStreamsSettings};
use pulso_platform::service::secret::{self, Secret};
use pulso_platform::service::settings::{duration_text, parse_duration};
use serde::{Serialize, Serializer};

use crate::cli::exit::Failure;

/// Where pulses come from beside gRPC.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct SourceArgs {
    /// Address that takes events over HTTP (CloudEvents, POST /v1/events), such as 127.0.0.1:7071; off unless given
    #[arg(long, env = "PULSO_EVENTS_ADDR", value_name = "IP:PORT")]
    pub events_addr: Option<SocketAddr>,
    /// RabbitMQ to read from, as amqp://USER:PASSWORD@HOST:PORT/VHOST; off unless given
    #[arg(long, env = "PULSO_RABBITMQ_URL", value_name = "URL", hide_env_values = true)]
    pub rabbitmq_url: Option<Secret>,
    /// A file that holds the URL of RabbitMQ
    #[arg(long, env = "PULSO_RABBITMQ_URL_FILE", value_name = "FILE")]
    pub rabbitmq_url_file: Option<PathBuf>,
    /// The queue; made as a durable quorum queue when it is not there
    #[arg(long, env = "PULSO_RABBITMQ_QUEUE", value_name = "NAME", default_value = "pulses")]
    pub rabbitmq_queue: String,
    /// Most messages held at a time before they are durable
    #[arg(long, env = "PULSO_RABBITMQ_PREFETCH", value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub rabbitmq_prefetch: u16,
    /// Redis to read from, as redis://:PASSWORD@HOST:PORT/DB; off unless given
    #[arg(long, env = "PULSO_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<Secret>,
    /// A file that holds the URL of Redis
    #[arg(long, env = "PULSO_REDIS_URL_FILE", value_name = "FILE")]
    pub redis_url_file: Option<PathBuf>,
    /// The stream; made when it is not there
    #[arg(long, env = "PULSO_REDIS_STREAM", value_name = "NAME", default_value = "pulses")]
    pub redis_stream: String,
    /// The consumer group; made at the beginning of the stream when it is not there
    #[arg(long, env = "PULSO_REDIS_GROUP", value_name = "NAME", default_value = "pulso")]
    pub redis_group: String,
    /// Most entries read at a time
    #[arg(long, env = "PULSO_REDIS_BATCH", value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub redis_batch: u16,
    /// After this an entry that another consumer read and did not settle is taken over
    #[arg(long, env = "PULSO_REDIS_CLAIM_AFTER", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    #[serde(serialize_with = "as_text")]
    pub redis_claim_after: Duration,
}

impl SourceArgs {
    /// The brokers to read from.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn brokers(&self) -> Result<Vec<Box<dyn Source>>, Failure> {
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if let Some(url) =
            url("--rabbitmq-url", self.rabbitmq_url.as_ref(), self.rabbitmq_url_file.as_deref())?
        {
            let queue = self.rabbitmq_queue.clone();
            let settings = RabbitmqSettings { url, queue, prefetch: self.rabbitmq_prefetch };
            sources.push(Box::new(Rabbitmq::new(settings).map_err(Failure::usage)?));
        }
        if let Some(url) = url("--redis-url", self.redis_url.as_ref(), self.redis_url_file.as_deref())? {
            let settings = RedisStreamsSettings {
                url,
                stream: self.redis_stream.clone(),
                group: self.redis_group.clone(),
                batch: usize::from(self.redis_batch),
                claim_after: self.redis_claim_after,
            };
            sources.push(Box::new(RedisStreams::new(settings).map_err(Failure::usage)?));
        }
        Ok(sources)
    }
}

/// A URL given as it is or in a file.
fn url(flag: &str, value: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    secret::resolve(flag, value, file).map_err(Failure::usage)
}

fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration_text(*duration))
}
