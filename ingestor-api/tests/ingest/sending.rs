//! What a client sees when all goes well: receipts that are true, in order, over unary calls and streams.

use crate::fixture::{NOW, Server, is_accepted, pulse, pulses, request};
use pulso_domain::partitioner::partition_of;
use pulso_proto::v1::Pulse;
use tokio_stream::StreamExt;
use tonic::codec::CompressionEncoding;

#[tokio::test]
async fn g01_every_receipt_names_the_pulse_in_the_log() {
    let server = Server::start().await;
    let sent = pulses(1000);
    let results = server.send(sent.clone()).await.unwrap();
    assert_eq!(results.len(), 1000);
    for (pulse, result) in sent.iter().zip(&results) {
        let receipt = result.receipt.as_ref().unwrap();
        assert_eq!(server.log.at(receipt), *pulse);
        assert_eq!(receipt.partition, partition_of(pulse.tenant_id.as_bytes(), 4));
    }
}

#[tokio::test]
async fn a_crowd_of_single_pulses_and_a_lone_one_behind_it_get_their_own_receipts() {
    let server = Server::start().await;
    let client = server.client().await;
    let call = |number: usize| {
        let (mut client, sent) = (client.clone(), pulse(&format!("p-{number}")));
        async move {
            let answer = client.send_pulses(request(vec![sent.clone()])).await.unwrap().into_inner();
            (sent, answer.results[0].receipt.unwrap())
        }
    };
    for round in 0..5 {
        let crowd = (0..200).map(|number| call(1000 * round + number));
        for (sent, receipt) in futures::future::join_all(crowd).await {
            assert_eq!(server.log.at(&receipt), sent);
        }
        let (sent, receipt) = call(1000 * round + 999).await;
        assert_eq!(server.log.at(&receipt), sent);
    }
    assert_eq!(server.log.stored(), 1005);
}

#[tokio::test]
async fn a_batch_of_10_000_is_taken_and_cut_into_records_that_fit() {
    let server = Server::start().await;
    let of = |index: usize| Pulse { resource_id: "r".repeat(300), ..pulse(&format!("p-{index}")) };
    let results = server.send((0..10_000).map(of).collect()).await.unwrap();
    assert!(results.iter().all(is_accepted));
    let partition = results[0].receipt.as_ref().unwrap().partition;
    let records = server.log.records(partition);
    for (index, result) in results.iter().enumerate() {
        let receipt = result.receipt.as_ref().unwrap();
        let record = &records[usize::try_from(receipt.offset).unwrap()];
        assert_eq!(record.pulses[receipt.index as usize].id, format!("p-{index}"));
    }
}

#[tokio::test]
async fn compressed_requests_are_read_as_plain_ones() {
    let server = Server::start().await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = server.client().await.send_compressed(encoding);
        let results = client.send_pulses(request(pulses(100))).await.unwrap().into_inner().results;
        assert_eq!(results.len(), 100);
        assert!(results.iter().all(is_accepted), "{encoding:?}");
    }
    assert_eq!(server.log.stored(), 200);
}

#[tokio::test]
async fn a_stream_is_answered_batch_by_batch_in_order() {
    let server = Server::start().await;
    let sizes: Vec<usize> = (1..60).collect();
    let batches: Vec<_> = sizes.iter().map(|size| request(pulses(*size))).collect();
    let mut answers =
        server.client().await.stream_pulses(tokio_stream::iter(batches)).await.unwrap().into_inner();
    let mut answered = Vec::new();
    while let Some(answer) = answers.next().await {
        let results = answer.unwrap().results;
        assert!(results.iter().all(is_accepted));
        answered.push(results.len());
    }
    assert_eq!(answered, sizes);
}

#[tokio::test]
async fn the_record_says_when_it_was_received() {
    let server = Server::start().await;
    let results = server.send(vec![pulse("p")]).await.unwrap();
    let record = server.log.records(results[0].receipt.unwrap().partition).remove(0);
    assert_eq!(record.received_at, Some(prost_types::Timestamp { seconds: NOW, nanos: 0 }));
    assert!(record.control.is_none());
}
