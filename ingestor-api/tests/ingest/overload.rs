//! More than the door can hold: refused at once, before it is parsed, and memory stays where the settings say (G11).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use prost::Message;
use pulso_ingestor_api::door::{Caller, UnitBook};
use pulso_ingestor_api::ingest::Ingest;
use pulso_ingestor_api::refusal::IngestError;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_proto::v1::Pulse;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;

use crate::fixture::log::Does;
use crate::fixture::{Server, TestLog, clock, deps, pulse, pulses, raw, request};

/// About a mebibyte of good pulses.
fn large_message() -> Bytes {
    let of = |index: usize| Pulse { resource_id: "r".repeat(500), ..pulse(&format!("p-{index}")) };
    Bytes::from(request((0..1800).map(of).collect()).encode_to_vec())
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn g11_memory_stays_bounded_while_the_log_stalls_and_what_was_taken_is_kept() {
    // On a busy machine the 40 rounds may take longer than the log has to confirm.
    let ack_timeout = Duration::from_secs(3600);
    let settings = IngestSettings { bytes_in_flight_max: 16 << 20, ack_timeout, ..IngestSettings::default() };
    let server = Server::with(settings).await;
    server.log.do_from_now(Does::Hold);
    let message = large_message();
    let start = resident_bytes();
    let (mut calls, mut refused) = (JoinSet::new(), 0);
    for _ in 0..40 {
        let channel = server.channel().await;
        for _ in 0..15 {
            calls.spawn(raw::send(channel.clone(), message.clone(), None));
        }
        // Only refused calls end while the log stalls.
        while calls.len() > 20 {
            let status = calls.join_next().await.unwrap().unwrap().unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
            assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
            refused += 1;
        }
    }
    // 600 calls of 1 MiB: without a bound they would all be held.
    let grown = resident_bytes().saturating_sub(start);
    assert!(grown < 200 << 20, "{grown} bytes more than before");
    server.log.do_from_now(Does::Store);
    server.log.release();
    let mut answered = 0;
    while let Some(result) = calls.join_next().await {
        match result.unwrap() {
            Ok(_) => answered += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                refused += 1;
            }
        }
    }
    assert_eq!(answered + refused, 600);
    assert!(answered >= 5 && server.log.stored() == answered * 1800, "{answered}");
    server.send(pulses(10)).await.expect("all budget is back");
}

#[tokio::test]
async fn g11_calls_beyond_the_bound_are_refused_and_places_come_back() {
    let settings = IngestSettings { calls_in_flight_max: 2, ..IngestSettings::default() };
    let server = Server::with(settings).await;
    server.log.do_from_now(Does::Hold);
    let message = Bytes::from(request(vec![pulse("p")]).encode_to_vec());
    let channel = server.channel().await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        calls.spawn(raw::send(channel.clone(), message.clone(), None));
    }
    let status = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    server.log.do_from_now(Does::Store);
    server.log.release();
    while let Some(result) = calls.join_next().await {
        result.unwrap().expect("was taken");
    }
    for _ in 0..10 {
        raw::send(channel.clone(), message.clone(), None).await.expect("its place came back");
    }
}

#[tokio::test]
async fn g11_a_cancelled_call_gives_its_budget_back_only_when_the_log_is_done_with_it() {
    let log = Arc::new(TestLog::new(4));
    let (ingest, tasks) =
        Ingest::start(IngestSettings::default(), deps(Arc::clone(&log), clock(), UnitBook::default()));
    log.do_from_now(Does::Hold);
    let message = Bytes::from(request(vec![pulse("p")]).encode_to_vec());
    {
        let call = ingest.handle(message, Caller::default());
        tokio::pin!(call);
        assert!(futures::poll!(&mut call).is_pending());
        assert_eq!(ingest.admission().calls(), 1);
    }
    assert_eq!(ingest.admission().calls(), 0);
    assert!(ingest.admission().bytes() > 0, "the log still holds its bytes");
    log.release();
    tasks.stop().await;
    assert_eq!(ingest.admission().bytes(), 0);
}

#[tokio::test]
async fn g11_the_bytes_in_flight_never_exceed_the_bound() {
    let log = Arc::new(TestLog::new(4));
    let settings = IngestSettings { bytes_in_flight_max: 8 << 20, ..IngestSettings::default() };
    let (ingest, tasks) = Ingest::start(settings, deps(Arc::clone(&log), clock(), UnitBook::default()));
    log.do_from_now(Does::Hold);
    let message = large_message();
    let bound = ingest.admission().bytes_max();
    let calls = (0..50).map(|_| async {
        let call = ingest.handle(message.clone(), Caller::default());
        tokio::pin!(call);
        let first = futures::poll!(&mut call);
        assert!(ingest.admission().bytes() <= bound);
        match first {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => call.await,
        }
    });
    let release = async {
        tokio::task::yield_now().await;
        log.do_from_now(Does::Store);
        log.release();
    };
    let (results, ()) = tokio::join!(join_all(calls), release);
    let refused = results.iter().filter(|result| **result == Err(IngestError::Overloaded { what: "bytes" }));
    assert!(refused.count() >= 40);
    assert!(results.iter().filter(|result| result.is_ok()).count() >= 4);
    tasks.stop().await;
    assert_eq!((ingest.admission().bytes(), ingest.admission().calls()), (0, 0));
}
