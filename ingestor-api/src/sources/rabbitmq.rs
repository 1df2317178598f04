//! RabbitMQ as a source: a quorum queue, a bounded number of messages held, each acknowledged after it is durable.
//!
//! What the log does not confirm is offered to it again from here and not handed back: a queue with a delivery limit
//! would drop it after a few returns. Only a stop hands messages back, after what was begun is settled.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::QueueDeclareOptions;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Consumer};
use pulso_platform::service::secret::Secret;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::{Channel, Source};
use crate::formats::cloud_event::Attributes;
use crate::formats::message::Message;

/// Messages taken over at a time: enough that an append is shared by many, few enough that acknowledgements flow.
const BATCH_MESSAGES_MAX: usize = 500;
/// How long a broker may take until a consumer stands. One that has just come back may answer heartbeats and yet never a
/// question about a queue that it is still recovering: then a new connection asks again.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(15);
/// How often both sides show that they live: a broker that vanished is noticed after twice that.
const HEARTBEAT_SECONDS: u16 = 10;
/// How long the end of a connection may take; the broker notices the end of the socket as well.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);
/// AMQP's code for a normal end.
const GOODBYE: u16 = 200;

/// Where and what to read.
#[derive(Clone, Debug)]
pub struct RabbitmqSettings {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`.
    pub url: Secret,
    /// The queue.
    pub queue: String,
    /// Most messages held that are not acknowledged.
    pub prefetch: u16,
}

/// Reads one queue.
pub struct Rabbitmq {
    uri: AMQPUri,
    queue: ShortString,
    prefetch: u16,
}

impl Rabbitmq {
    /// A source that has not connected yet.
    ///
    /// # Errors
    /// A sentence when the URL is none.
    pub fn new(settings: RabbitmqSettings) -> Result<Self, String> {
        let RabbitmqSettings { url, queue, prefetch } = settings;
        // The message of the parser may quote the URL, and with it the password.
        let unreadable = "--rabbitmq-url is no amqp://USER:PASSWORD@HOST:PORT/VHOST";
        let mut uri: AMQPUri = url.expose().parse().map_err(|_| unreadable.to_owned())?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let queue =
            ShortString::try_new(queue).map_err(|_| "--rabbitmq-queue has more than 255 bytes".to_owned())?;
        Ok(Self { uri, queue, prefetch })
    }

    /// Reads until the stop.
    ///
    /// # Errors
    /// When the broker cannot be reached or goes away.
    async fn session(&self, channel: &Channel, stop: &CancellationToken) -> Result<(), lapin::Error> {
        let late = |_| gone("no answer in time");
        let opened = tokio::time::timeout(OPEN_WAIT_MAX, self.open()).await.map_err(late)?;
        let (connection, broker, consumer) = opened?;
        let tag = consumer.tag();
        channel.connected();
        let mut batches = consumer.ready_chunks(BATCH_MESSAGES_MAX);
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                batch = batches.next() => batch,
            };
            let Some(batch) = batch else { return Err(gone("the broker ended the consumer")) };
            let (deliveries, broken) = split(batch);
            settle(channel, &deliveries, stop).await?;
            if let Some(error) = broken {
                return Err(error);
            }
        }
        let goodbye = async {
            broker.basic_cancel(tag, BasicCancelOptions::default()).await?;
            connection.close(GOODBYE, "stopping".into()).await
        };
        // The end of the socket hands back what was not acknowledged, too.
        let _ = tokio::time::timeout(CLOSE_WAIT_MAX, goodbye).await;
        Ok(())
    }

    /// Connects and consumes.
    async fn open(&self) -> Result<(Connection, lapin::Channel, Consumer), lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name("pulso".into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let broker = self.open_queue(&connection).await?;
        broker.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let (queue, options) = (self.queue.clone(), BasicConsumeOptions::default());
        let consumer = broker.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        Ok((connection, broker, consumer))
    }

    /// The queue as it is, else a new quorum queue: whoever made it may have set limits of their own.
    async fn open_queue(&self, connection: &Connection) -> Result<lapin::Channel, lapin::Error> {
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(self.queue.clone(), passive, FieldTable::default()).await;
        let Err(error) = found else { return Ok(channel) };
        if !error.is_amqp_soft_error() {
            return Err(error);
        }
        // The question closed its channel.
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(self.queue.clone(), durable, arguments).await?;
        Ok(channel)
    }
}

impl Source for Rabbitmq {
    fn kind(&self) -> &'static str {
        "rabbitmq"
    }

    fn place(&self) -> String {
        self.queue.to_string()
    }

    fn run(self: Box<Self>, channel: Channel, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let reading = async move {
            let mut backoff = Backoff::default();
            while let Err(error) = self.session(&channel, &stop).await {
                let (host, port) = (&self.uri.authority.host, self.uri.authority.port);
                channel.disconnected(&format!(
                    "cannot read queue {} at {host}:{port} ({error}); check --rabbitmq-url and the broker",
                    self.queue
                ));
                if !backoff.wait(&stop).await {
                    return;
                }
            }
        };
        reading.boxed()
    }
}

/// Deliveries up to the first failure, and that.
fn split(batch: Vec<Result<Delivery, lapin::Error>>) -> (Vec<Delivery>, Option<lapin::Error>) {
    let mut deliveries = Vec::with_capacity(batch.len());
    for delivery in batch {
        match delivery {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => return (deliveries, Some(error)),
        }
    }
    (deliveries, None)
}

/// Makes a batch durable, then acknowledges it; hands back what a stop left over.
async fn settle(
    channel: &Channel,
    deliveries: &[Delivery],
    stop: &CancellationToken,
) -> Result<(), lapin::Error> {
    let Some(last) = deliveries.last() else { return Ok(()) };
    let messages: Vec<Message> = deliveries.iter().map(message).collect();
    let done = channel.deliver(&messages, stop).await;
    if done.iter().all(|done| *done) {
        // Batches are settled one after the other, so nothing before it is open.
        last.acker.ack(BasicAckOptions { multiple: true }).await?;
        return Ok(());
    }
    for (delivery, done) in deliveries.iter().zip(done) {
        match done {
            true => delivery.acker.ack(BasicAckOptions::default()).await?,
            false => delivery.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await?,
        };
    }
    Ok(())
}

fn message(delivery: &Delivery) -> Message {
    let properties = &delivery.properties;
    Message {
        content_type: properties.content_type().as_ref().map(ToString::to_string).unwrap_or_default(),
        attributes: properties.headers().as_ref().and_then(attributes),
        body: Bytes::copy_from_slice(&delivery.data),
    }
}

/// The attributes of a CloudEvent in binary mode, as application properties with either of the two prefixes.
fn attributes(headers: &FieldTable) -> Option<Attributes> {
    let attribute = |name: &str| {
        let found = ["cloudEvents:", "cloudEvents_"].iter().find_map(|prefix| {
            let wanted = format!("{prefix}{name}");
            headers.inner().iter().find(|(key, _)| key.as_str() == wanted).map(|(_, value)| value)
        });
        match found? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
            _ => None,
        }
    };
    let specversion = Some(attribute("specversion")?);
    Some(Attributes {
        specversion,
        id: attribute("id"),
        source: attribute("source"),
        r#type: attribute("type"),
        subject: attribute("subject"),
        time: attribute("time"),
        datacontenttype: None,
    })
}

fn gone(what: &'static str) -> lapin::Error {
    std::io::Error::new(std::io::ErrorKind::NotConnected, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str) -> Result<Rabbitmq, String> {
        Rabbitmq::new(RabbitmqSettings { url: url.into(), queue: "pulses".into(), prefetch: 10 })
    }

    #[test]
    fn a_url_that_is_none_is_told_without_its_password() {
        assert!(source("amqp://guest:guest@127.0.0.1:5672/%2f").is_ok());
        let refused = source("http://guest:hunter2@127.0.0.1").err().expect("no AMQP");
        assert!(refused.contains("--rabbitmq-url") && !refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn attributes_beside_the_body_have_either_prefix() {
        let mut headers = FieldTable::default();
        assert!(attributes(&headers).is_none());
        headers.insert("cloudEvents:specversion".into(), AMQPValue::LongString("1.0".into()));
        headers.insert("cloudEvents_id".into(), AMQPValue::LongString("e-1".into()));
        let found = attributes(&headers).expect("an event");
        assert_eq!((found.specversion.as_deref(), found.id.as_deref()), (Some("1.0"), Some("e-1")));
        assert_eq!(found.source, None);
    }
}
