//! The channel of brokers: a message is settled when all of it is durable, never before, whatever the log says meanwhile.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message as _;
use pulso_ingestor_api::formats::message::Message;
use pulso_ingestor_api::sources::{Channel, Source};
use pulso_proto::foreign;
use pulso_proto::v1::Pulse;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::fixture::log::Does;
use crate::fixture::{NOW, PATIENCE, Server, pulse, request};

/// Delivers one batch of messages and tells what became of them.
struct OneBatch {
    messages: Vec<Message>,
    settled: oneshot::Sender<Vec<bool>>,
}

impl Source for OneBatch {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn place(&self) -> String {
        "queue".to_owned()
    }

    fn run(self: Box<Self>, channel: Channel, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            channel.connected();
            let done = channel.deliver(&self.messages, &stop).await;
            let _gone = self.settled.send(done);
            stop.cancelled().await;
        }
        .boxed()
    }
}

async fn deliver(messages: Vec<Message>) -> (Server, oneshot::Receiver<Vec<bool>>) {
    let (settled, result) = oneshot::channel();
    let server = Server::reading(Box::new(OneBatch { messages, settled }), Does::Store).await;
    (server, result)
}

fn message(pulses: Vec<Pulse>) -> Message {
    Message {
        content_type: "application/protobuf; message=pulso.v1.SendPulsesRequest".into(),
        attributes: None,
        body: request(pulses).encode_to_vec().into(),
    }
}

fn text(body: &str) -> Message {
    Message { body: Bytes::copy_from_slice(body.as_bytes()), ..Message::default() }
}

#[tokio::test]
async fn g13_poison_becomes_a_dead_letter_with_its_reason_and_blocks_nothing() {
    let old =
        Pulse { occurred_at: Some(prost_types::Timestamp { seconds: NOW / 2, nanos: 0 }), ..pulse("old") };
    let bad = Pulse { used_amount: "1,5".into(), ..pulse("bad") };
    let mixed = message(vec![pulse("a"), bad.clone(), old.clone(), pulse("b")]);
    let (server, settled) =
        deliver(vec![text("nonsense"), mixed, text("[]"), message(vec![pulse("c")])]).await;
    assert_eq!(tokio::time::timeout(PATIENCE, settled).await.unwrap().unwrap(), [true; 4]);

    let values: Vec<Bytes> = (0..4).flat_map(|partition| server.log.values(partition)).collect();
    let pulses: Vec<Pulse> =
        (0..4).flat_map(|partition| server.log.records(partition)).flat_map(|batch| batch.pulses).collect();
    let ids: Vec<&str> = pulses.iter().map(|pulse| pulse.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "bad"], "a pulse with a fault of its own goes in as it is");
    let mut letters: Vec<_> = values.iter().filter_map(foreign::decode).collect();
    letters.sort_by(|one, other| one.body.cmp(&other.body));
    let reasons: Vec<_> =
        letters.iter().map(|letter| (letter.source.as_str(), letter.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [("test:queue", "TOO_OLD"), ("test:queue", "UNDECODABLE"), ("test:queue", "UNDECODABLE")]
    );
    assert_eq!(Pulse::decode(letters[0].body.clone()).unwrap(), old);
    assert_eq!((&letters[1].body[..], &letters[2].body[..]), (&b"[]"[..], &b"nonsense"[..]));
    server.shutdown.cancel();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn g05_what_the_log_doubts_is_offered_again_with_its_id_until_it_is_sure() {
    let (settled, mut result) = oneshot::channel();
    let source = OneBatch { messages: vec![message(vec![pulse("a")]), text("nonsense")], settled };
    let server = Server::reading(Box::new(source), Does::Doubt).await;
    let offers = || (0..4).map(|partition| server.log.values(partition).len()).sum::<usize>();
    let offered = async {
        while offers() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, offered).await.unwrap();
    assert!(result.try_recv().is_err(), "nothing is settled while the log doubts");
    server.log.do_from_now(Does::Store);
    assert_eq!(tokio::time::timeout(PATIENCE, result).await.unwrap().unwrap(), [true, true]);
    server.shutdown.cancel();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn a_stop_gives_back_what_is_not_durable() {
    let (settled, result) = oneshot::channel();
    let source = OneBatch { messages: vec![message(vec![pulse("a")]), text("nonsense")], settled };
    let server = Server::reading(Box::new(source), Does::Refuse).await;
    server.shutdown.cancel();
    assert_eq!(tokio::time::timeout(PATIENCE, result).await.unwrap().unwrap(), [false, false]);
    server.ended().await.unwrap();
}
