//! Streams under faults: what came before a fault is answered, the fault has the unary status, and the read-ahead is
//! bounded.

use std::time::Duration;

use pulso_ingestor_api::settings::IngestSettings;
use pulso_proto::v1::{SendPulsesRequest, SendPulsesResponse};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::fixture::log::Does;
use crate::fixture::{PATIENCE, Server, is_accepted, pulse, pulses, request};

async fn all(mut answers: Streaming<SendPulsesResponse>) -> (Vec<usize>, Option<Status>) {
    let mut sizes = Vec::new();
    while let Some(answer) = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap() {
        match answer {
            Ok(answer) => {
                assert!(answer.results.iter().all(is_accepted));
                sizes.push(answer.results.len());
            }
            Err(status) => return (sizes, Some(status)),
        }
    }
    (sizes, None)
}

#[tokio::test]
async fn a_faulty_request_ends_the_stream_after_what_came_before_is_answered() {
    let server = Server::start().await;
    for (faulty, code) in [
        (request(vec![]), Code::InvalidArgument),
        (request(pulses(10_001)), Code::InvalidArgument),
        (SendPulsesRequest { request_id: "x".repeat(5 << 20), ..request(pulses(1)) }, Code::OutOfRange),
    ] {
        let before = server.log.stored();
        let batches = vec![request(pulses(3)), request(pulses(4)), faulty, request(pulses(5))];
        let mut client = server.client().await;
        let answers = client.stream_pulses(tokio_stream::iter(batches)).await.unwrap().into_inner();
        let (sizes, status) = all(answers).await;
        assert_eq!((sizes, status.unwrap().code()), (vec![3, 4], code));
        assert_eq!(server.log.stored() - before, 7, "nothing behind the fault is stored");
    }
}

#[tokio::test]
async fn g11_a_stream_is_read_only_so_far_ahead_of_the_log() {
    let settings = IngestSettings { stream_batches_max: 3, ..IngestSettings::default() };
    let server = Server::with(settings).await;
    server.log.do_from_now(Does::Hold);
    let (sender, batches) = mpsc::channel(1);
    let mut client = server.client().await;
    let sending = async {
        // Each of another tenant's partition or not: what counts is that at most 3 batches are begun.
        for count in 1..=20 {
            sender.send(request(pulses(count))).await.unwrap();
        }
        drop(sender);
    };
    let answering = async {
        let answers = client.stream_pulses(ReceiverStream::new(batches)).await.unwrap().into_inner();
        server.log.holds(1).await;
        assert!(server.log.stored() <= 1 + 2 + 3, "{} pulses were begun", server.log.stored());
        server.log.do_from_now(Does::Store);
        server.log.release();
        all(answers).await
    };
    let ((), (sizes, status)) = tokio::join!(sending, answering);
    assert!(status.is_none());
    assert_eq!(sizes, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn g05_a_log_that_takes_nothing_ends_the_stream_as_it_fails_a_call() {
    let server = Server::start().await;
    server.log.do_from_now(Does::Refuse);
    let batches = tokio_stream::iter(vec![request(pulses(3))]);
    let answers = server.client().await.stream_pulses(batches).await.unwrap().into_inner();
    let (sizes, status) = all(answers).await;
    assert_eq!((sizes.len(), status.unwrap().code()), (0, Code::Unavailable));
}

#[tokio::test]
async fn a_stream_that_brings_nothing_for_too_long_is_ended() {
    let settings = IngestSettings { stream_idle_max: Duration::from_millis(50), ..IngestSettings::default() };
    let server = Server::with(settings).await;
    let (sender, batches) = mpsc::channel(1);
    sender.send(request(vec![pulse("p")])).await.unwrap();
    let mut client = server.client().await;
    let answers = client.stream_pulses(ReceiverStream::new(batches)).await.unwrap().into_inner();
    let (sizes, status) = all(answers).await;
    assert_eq!((sizes, status.unwrap().code()), (vec![1], Code::DeadlineExceeded));
}

#[tokio::test]
async fn an_old_stream_is_asked_to_open_another_one() {
    let settings =
        IngestSettings { connection_age_max: Duration::from_millis(100), ..IngestSettings::default() };
    let server = Server::with(settings).await;
    let (sender, batches) = mpsc::channel(1);
    sender.send(request(vec![pulse("p")])).await.unwrap();
    let mut client = server.client().await;
    let answers = client.stream_pulses(ReceiverStream::new(batches)).await.unwrap().into_inner();
    let (sizes, status) = all(answers).await;
    assert_eq!((sizes, status.unwrap().code()), (vec![1], Code::Unavailable));
}
