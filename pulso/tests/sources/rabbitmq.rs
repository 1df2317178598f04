//! RabbitMQ: every message counts once, and none stays in the queue.

use std::time::Duration;

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

/// Longest wait for one answer of RabbitMQ: when it has just come back it may never give it, and must be asked anew.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A publisher whose messages are confirmed.
struct Publisher {
    _connection: Connection,
    channel: Channel,
}

impl Queue {
    fn new(test: &str) -> Self {
        let name = format!("pulses-{test}-{}", std::process::id());
        let queue = Self { broker: Broker::rabbitmq(), runtime: Runtime::new().expect("a run time"), name };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        queue.delete();
        queue.ask("declares", async |channel| {
            channel.queue_declare(queue.name.as_str().into(), durable, arguments.clone()).await
        });
        queue
    }

    /// Asks until there is an answer, each time on a connection of its own.
    fn ask<T>(&self, what: &str, question: impl AsyncFn(&Channel) -> lapin::Result<T>) -> T {
        let mut answer = None;
        wait_until(what, || {
            let publisher = self.connect();
            answer = self.in_time(question(&publisher.channel)).and_then(Result::ok);
            answer.is_some()
        });
        answer.expect("answered")
    }

    /// What comes in time.
    fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, answer).await.ok() })
    }

    fn url(&self, address: &str) -> String {
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Connects, also while RabbitMQ is coming back.
    fn connect(&self) -> Publisher {
        let url = self.url(&self.broker.address());
        let mut publisher = None;
        wait_until("RabbitMQ does not answer", || {
            let connected = self.in_time(async {
                let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                lapin::Result::Ok(Publisher { _connection: connection, channel })
            });
            publisher = connected.and_then(Result::ok);
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
        wait_until("RabbitMQ does not confirm", || {
            left = self.runtime.block_on(self.publish_once(publisher, &left));
            if !left.is_empty() {
                *publisher = self.connect();
            }
            left.is_empty()
        });
    }

    /// Gives what was not confirmed.
    async fn publish_once<'a>(&self, publisher: &Publisher, bodies: &[&'a String]) -> Vec<&'a String> {
        let mut confirms: FuturesUnordered<_> =
            (0..).zip(bodies).map(|(place, body)| self.publish_one(publisher, place, body)).collect();
        let mut is_left = vec![true; bodies.len()];
        while let Ok(Some((place, is_confirmed))) = tokio::time::timeout(ANSWER_MAX, confirms.next()).await {
            is_left[place] = !is_confirmed;
        }
        bodies.iter().zip(is_left).filter_map(|(body, is_left)| is_left.then_some(*body)).collect()
    }

    async fn publish_one(&self, publisher: &Publisher, place: usize, body: &str) -> (usize, bool) {
        // 2 is "persistent".
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let (queue, options) = (self.name.as_str().into(), BasicPublishOptions::default());
        let published =
            publisher.channel.basic_publish("".into(), queue, options, body.as_bytes(), properties);
        let is_confirmed = match published.await {
            Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(_))),
            Err(_) => false,
        };
        (place, is_confirmed)
    }

    /// Messages that are not acknowledged, handed out or not: deleting a queue tells, so it is the last thing to ask.
    fn delete(&self) -> u32 {
        self.ask("deletes", async |channel| {
            channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await
        })
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
    // RabbitMQ 3.10 writes the name of a new queue to its disk some time after it has confirmed it. Killed before, it makes the
    // queue anew, without its messages and without a leader.
    queue.broker.restart();
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
