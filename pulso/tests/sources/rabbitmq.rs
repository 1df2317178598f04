//! RabbitMQ: every message counts once, and none stays in the queue.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::runtime::Runtime;

use crate::broker::Broker;
use crate::harness::Server;
use crate::proxy;
use crate::record::{Record, total, wait_until};

/// A quorum queue of its own for a test.
struct Queue {
    broker: Broker,
    runtime: Runtime,
    name: String,
}

/// A publisher whose messages are confirmed.
struct Publisher {
    _connection: Connection,
    channel: Channel,
}

impl Queue {
    fn new(test: &str) -> Self {
        let name = format!("pulses-{test}-{}", std::process::id());
        let queue = Self { broker: Broker::rabbitmq(), runtime: Runtime::new().expect("a run time"), name };
        let publisher = queue.connect();
        queue.runtime.block_on(async {
            let name = queue.name.as_str();
            publisher
                .channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await
                .expect("deletes");
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            publisher.channel.queue_declare(name.into(), durable, arguments).await.expect("declares");
        });
        queue
    }

    fn url(&self, address: &str) -> String {
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Connects, also while RabbitMQ is coming back.
    fn connect(&self) -> Publisher {
        let url = self.url(&self.broker.address());
        let mut publisher = None;
        wait_until("RabbitMQ does not answer", || {
            publisher = self.runtime.block_on(async {
                let connection = Connection::connect(&url, ConnectionProperties::default()).await.ok()?;
                let channel = connection.create_channel().await.ok()?;
                channel.confirm_select(ConfirmSelectOptions::default()).await.ok()?;
                Some(Publisher { _connection: connection, channel })
            });
            publisher.is_some()
        });
        publisher.expect("connected")
    }

    fn serve(&self, data: &std::path::Path, address: &str) -> Server {
        let url = self.url(address);
        let flags = ["--rabbitmq-url", &url, "--rabbitmq-queue", &self.name, "--rabbitmq-prefetch", "200"];
        Server::start_with(data, &flags)
    }

    /// Publishes messages, again until RabbitMQ has confirmed each.
    fn publish(&self, publisher: &mut Publisher, bodies: &[String]) {
        let mut left: Vec<&String> = bodies.iter().collect();
        while !left.is_empty() {
            left = self.runtime.block_on(self.publish_once(publisher, &left));
            if !left.is_empty() {
                *publisher = self.connect();
            }
        }
    }

    /// Gives what was not confirmed.
    async fn publish_once<'a>(&self, publisher: &Publisher, bodies: &[&'a String]) -> Vec<&'a String> {
        let mut confirms = FuturesUnordered::new();
        for body in bodies.iter().copied() {
            confirms.push(async move {
                // 2 is "persistent".
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_content_type("application/json".into());
                let options = BasicPublishOptions::default();
                let published = publisher.channel.basic_publish(
                    "".into(),
                    self.name.as_str().into(),
                    options,
                    body.as_bytes(),
                    properties,
                );
                let confirmed = match published.await {
                    Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(_))),
                    Err(_) => false,
                };
                (!confirmed).then_some(body)
            });
        }
        let mut left = Vec::new();
        while let Some(unconfirmed) = confirms.next().await {
            left.extend(unconfirmed);
        }
        left
    }

    /// Messages that are not acknowledged, handed out or not: deleting a queue tells, so it is the last thing to ask.
    fn delete(&self) -> u32 {
        let publisher = self.connect();
        let deleted =
            publisher.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default());
        self.runtime.block_on(deleted).expect("deletes")
    }
}

fn batch(record: &mut Record, round: u64) -> Vec<String> {
    let mut bodies = Vec::new();
    for number in 0..500 {
        bodies.push(record.pulse());
        if number % 50 == 0 {
            bodies.push(record.again(1 + number / 2 + round));
            bodies.push(record.poison());
        }
    }
    bodies
}

#[test]
fn g03_rabbitmq_and_server_killed_mid_batch_lose_nothing_and_double_nothing() {
    let queue = Queue::new("kills");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut record = Record::new();
    let mut publisher = queue.connect();
    let mut server = queue.serve(&data, &queue.broker.address());
    for round in 0..6 {
        let bodies = batch(&mut record, round);
        queue.publish(&mut publisher, &bodies);
        match round {
            1 | 4 => {
                queue.broker.kill_and_start();
                publisher = queue.connect();
            }
            2 | 3 => {
                server.kill();
                server = queue.serve(&data, &queue.broker.address());
            }
            _ => {}
        }
    }
    record.settle(server, &data);
    assert_eq!(queue.delete(), 0, "messages stay in the queue");
}

#[test]
fn g03_dying_between_the_append_and_the_ack_counts_nothing_twice() {
    let queue = Queue::new("between");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut record = Record::new();
    let bodies: Vec<String> = (0..150).map(|_| record.pulse()).collect();
    queue.publish(&mut queue.connect(), &bodies);
    let proxy = proxy::without_acknowledgements(queue.broker.address(), proxy::amqp);
    let mut server = queue.serve(&data, &proxy);
    record.wait_until_folded(&server);
    server.kill();
    let server = queue.serve(&data, &queue.broker.address());
    wait_until("all come again", || total(&server)["duplicate"].as_u64() >= Some(record.pulses()));
    record.settle(server, &data);
    assert_eq!(queue.delete(), 0, "messages stay in the queue");
}

#[test]
fn a_broker_that_is_not_there_or_refuses_the_password_is_told_and_a_url_that_is_none_is_refused() {
    let queue = Queue::new("wrong");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for url in [
        format!("amqp://guest:hunter2@{}/%2f", queue.broker.address()),
        "amqp://guest:hunter2@127.0.0.1:1/%2f".to_owned(),
    ] {
        let server = Server::start_with(&data, &["--rabbitmq-url", &url]);
        wait_until("it says why", || server.admin("/readyz").1.contains("--rabbitmq-url"));
        let (status, readiness) = server.admin("/readyz");
        assert_eq!(status, 503, "{readiness}");
        assert!(!readiness.contains("hunter2") && !server.stderr().contains("hunter2"), "{readiness}");
        assert_eq!(server.stop(), 0);
    }
    let refused =
        Server::try_start(&data, &["--rabbitmq-url", "http://guest:hunter2@x"]).expect_err("no URL");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    queue.delete();
}
