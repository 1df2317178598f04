//! Redis Streams as a source: a consumer group, a bounded number of entries held, each acknowledged (XACK) after it is
//! durable. What another consumer read and did not settle in time is taken over (XAUTOCLAIM), a bounded number at a time.
//!
//! An entry has its message in the field `body` and may say what that is in `content_type`; or it has the fields of a
//! pulse by their own names, tags as `tags.KEY`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pulso_platform::service::secret::Secret;
use redis::aio::MultiplexedConnection;
use redis::streams::{
    StreamAutoClaimOptions, StreamAutoClaimReply, StreamId, StreamReadOptions, StreamReadReply,
};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, RedisError, Value};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::{Channel, Source};
use crate::formats::message::Message;

/// How long one read waits for entries: also how late a stop may be noticed.
const READ_WAIT: Duration = Duration::from_millis(500);
/// How long Redis may take to connect and to answer.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// Where a scan of what is pending begins, and what says that it is through.
const SCAN_START: &str = "0-0";

/// Where and what to read.
#[derive(Clone, Debug)]
pub struct RedisStreamsSettings {
    /// `redis://:PASSWORD@HOST:PORT/DB`.
    pub url: Secret,
    /// The stream.
    pub stream: String,
    /// The consumer group.
    pub group: String,
    /// Most entries read at a time.
    pub batch: usize,
    /// After this what another consumer holds is taken over.
    pub claim_after: Duration,
}

/// Reads one stream.
pub struct RedisStreams {
    client: Client,
    settings: RedisStreamsSettings,
    /// This process among the consumers of the group. A new one each time: two processes must never share one, and what
    /// the last one left is taken over.
    consumer: String,
}

/// What is left of one session for the next.
#[derive(Default)]
struct Session {
    /// Durable, but Redis has not heard of it yet.
    unacknowledged: Vec<String>,
    /// Where the scan of what is pending goes on.
    scan_from: Option<String>,
    scanned: Option<Instant>,
}

impl RedisStreams {
    /// A source that has not connected yet.
    ///
    /// # Errors
    /// A sentence when the URL is none.
    pub fn new(settings: RedisStreamsSettings) -> Result<Self, String> {
        // The message of the parser may quote the URL, and with it the password.
        let unreadable = "--redis-url is no redis://:PASSWORD@HOST:PORT/DB";
        let client = Client::open(settings.url.expose()).map_err(|_| unreadable.to_owned())?;
        let consumer = format!("pulso-{}", uuid::Uuid::new_v4().simple());
        Ok(Self { client, settings, consumer })
    }

    /// Reads until the stop.
    ///
    /// # Errors
    /// When Redis cannot be reached or goes away.
    async fn session(
        &self,
        left: &mut Session,
        channel: &Channel,
        stop: &CancellationToken,
    ) -> Result<(), RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WAIT_MAX))
            .set_response_timeout(Some(ANSWER_WAIT_MAX));
        let mut redis = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.make_group(&mut redis).await?;
        channel.connected();
        self.acknowledge(&mut redis, left).await?;
        while !stop.is_cancelled() {
            let mut entries = self.take_over(&mut redis, left).await?;
            if entries.is_empty() {
                entries = self.read(&mut redis).await?;
            }
            let messages: Vec<Message> = entries.iter().map(message).collect();
            let done = channel.deliver(&messages, stop).await;
            let settled = entries.into_iter().zip(done).filter(|(_, done)| *done);
            left.unacknowledged.extend(settled.map(|(entry, _)| entry.id));
            self.acknowledge(&mut redis, left).await?;
        }
        self.leave(&mut redis).await
    }

    async fn make_group(&self, redis: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let RedisStreamsSettings { stream, group, .. } = &self.settings;
        let made: Result<(), RedisError> = redis.xgroup_create_mkstream(stream, group, SCAN_START).await;
        match made {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            made => made,
        }
    }

    async fn acknowledge(
        &self,
        redis: &mut MultiplexedConnection,
        left: &mut Session,
    ) -> Result<(), RedisError> {
        if !left.unacknowledged.is_empty() {
            let RedisStreamsSettings { stream, group, .. } = &self.settings;
            let _: usize = redis.xack(stream, group, &left.unacknowledged).await?;
            left.unacknowledged.clear();
        }
        Ok(())
    }

    /// New entries.
    async fn read(&self, redis: &mut MultiplexedConnection) -> Result<Vec<StreamId>, RedisError> {
        let options = StreamReadOptions::default()
            .group(&self.settings.group, &self.consumer)
            .count(self.settings.batch)
            .block(READ_WAIT.as_millis() as usize);
        let reply: Option<StreamReadReply> =
            redis.xread_options(&[&self.settings.stream], &[">"], &options).await?;
        let keys = reply.into_iter().flat_map(|reply| reply.keys);
        Ok(keys.flat_map(|key| key.ids).collect())
    }

    /// Entries that somebody read long ago and did not settle. A scan of all that is pending goes on call by call, and
    /// begins anew now and then.
    async fn take_over(
        &self,
        redis: &mut MultiplexedConnection,
        left: &mut Session,
    ) -> Result<Vec<StreamId>, RedisError> {
        let pause = self.settings.claim_after / 4;
        let due = left.scanned.is_none_or(|scanned| scanned.elapsed() >= pause);
        let Some(from) = left.scan_from.take().or_else(|| due.then(|| SCAN_START.to_owned())) else {
            return Ok(Vec::new());
        };
        let RedisStreamsSettings { stream, group, .. } = &self.settings;
        let idle = self.settings.claim_after.as_millis() as usize;
        let options = StreamAutoClaimOptions::default().count(self.settings.batch);
        let reply: StreamAutoClaimReply =
            redis.xautoclaim_options(stream, group, &self.consumer, idle, from, options).await?;
        left.scanned = Some(Instant::now());
        left.scan_from = (reply.next_stream_id != SCAN_START).then_some(reply.next_stream_id);
        if !reply.deleted_ids.is_empty() {
            let entries = reply.deleted_ids.len();
            tracing::error!(
                entries,
                stream,
                "entries were trimmed from the stream before they were settled; raise its MAXLEN"
            );
        }
        Ok(reply.claimed)
    }

    /// Leaves the group, unless something is still pending: who leaves takes that along.
    async fn leave(&self, redis: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let RedisStreamsSettings { stream, group, .. } = &self.settings;
        let pending: Vec<Value> =
            redis.xpending_consumer_count(stream, group, "-", "+", 1, &self.consumer).await?;
        if pending.is_empty() {
            let _: usize = redis.xgroup_delconsumer(stream, group, &self.consumer).await?;
        }
        Ok(())
    }
}

impl Source for RedisStreams {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn place(&self) -> String {
        self.settings.stream.clone()
    }

    fn run(self: Box<Self>, channel: Channel, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let reading = async move {
            let (mut backoff, mut left) = (Backoff::default(), Session::default());
            while let Err(error) = self.session(&mut left, &channel, &stop).await {
                let address = self.client.get_connection_info().addr();
                channel.disconnected(&format!(
                    "cannot read stream {} at {address} ({error}); check --redis-url and the server",
                    self.settings.stream
                ));
                if !backoff.wait(&stop).await {
                    return;
                }
            }
        };
        reading.boxed()
    }
}

fn message(entry: &StreamId) -> Message {
    let body = |value: &Value| match value {
        Value::BulkString(bytes) => Bytes::copy_from_slice(bytes),
        Value::SimpleString(text) => Bytes::copy_from_slice(text.as_bytes()),
        other => Bytes::from(format!("{other:?}")),
    };
    match entry.map.get("body") {
        Some(value) => {
            let content_type =
                entry.map.get("content_type").map(|value| String::from_utf8_lossy(&body(value)).into_owned());
            Message { content_type: content_type.unwrap_or_default(), attributes: None, body: body(value) }
        }
        None => Message {
            body: flat(entry.map.iter().map(|(name, value)| (name.as_str(), body(value)))),
            ..Message::default()
        },
    }
}

/// The fields of an entry as the JSON of a pulse. What is not UTF-8 is replaced, and then refused or shown as such.
fn flat<'a>(fields: impl Iterator<Item = (&'a str, Bytes)>) -> Bytes {
    let mut object: HashMap<&str, serde_json::Value> = HashMap::new();
    let mut tags = serde_json::Map::new();
    for (name, value) in fields {
        let text = String::from_utf8_lossy(&value).into_owned();
        match name.strip_prefix("tags.") {
            Some(key) => drop(tags.insert(key.to_owned(), text.into())),
            None => drop(object.insert(name, text.into())),
        }
    }
    if !tags.is_empty() {
        object.insert("tags", tags.into());
    }
    serde_json::to_vec(&object).expect("plain texts").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::pulse_json;

    #[test]
    fn a_url_that_is_none_is_told_without_its_password() {
        let source = |url: &str| {
            RedisStreams::new(RedisStreamsSettings {
                url: url.into(),
                stream: "pulses".into(),
                group: "pulso".into(),
                batch: 10,
                claim_after: Duration::from_secs(60),
            })
        };
        assert!(source("redis://:secret@127.0.0.1:6379/0").is_ok());
        let refused = source("http://:hunter2@127.0.0.1").err().expect("no Redis");
        assert!(refused.contains("--redis-url") && !refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn the_fields_of_an_entry_are_those_of_a_pulse() {
        let fields = [("id", "a"), ("used_amount", "1.50"), ("tags.team", "blue"), ("tags.x.y", "z")];
        let body = flat(fields.iter().map(|(name, value)| (*name, Bytes::from_static(value.as_bytes()))));
        let pulse = pulse_json::read(&body).expect("a pulse");
        assert_eq!((pulse.id.as_str(), pulse.used_amount.as_str()), ("a", "1.50"));
        assert_eq!((pulse.tags["team"].as_str(), pulse.tags["x.y"].as_str()), ("blue", "z"));
    }
}
