//! A log that fails: what is answered is what is known, and nothing else (G5, G12).

use std::time::Duration;

use pulso_domain::partitioner::partition_of;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_proto::v1::Pulse;
use pulso_proto::v1::pulse_result::Status as Answer;
use tonic::Code;
use tonic_types::StatusExt;

use crate::fixture::log::Does;
use crate::fixture::{Server, is_accepted, pulse, pulses};

fn partition(pulse: &Pulse) -> u32 {
    partition_of(pulse.tenant_id.as_bytes(), 4)
}

#[tokio::test]
async fn g01_no_pulse_is_answered_before_the_log_has_confirmed_it() {
    let server = Server::start().await;
    server.log.do_from_now(Does::Hold);
    let mut client = server.client().await;
    let call = client.send_pulses(crate::fixture::request(vec![pulse("p")]));
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("answered before it was durable"),
        () = server.log.holds(1) => {}
    }
    // The log has it and the call still waits; only the confirmation ends it.
    tokio::task::yield_now().await;
    assert!(futures::poll!(&mut call).is_pending());
    server.log.release();
    assert!(is_accepted(&call.await.unwrap().into_inner().results[0]));
}

#[tokio::test]
async fn g12_a_log_that_takes_nothing_fails_the_call_and_service_resumes_by_itself() {
    let server = Server::start().await;
    server.log.do_from_now(Does::Refuse);
    let status = server.send(pulses(100)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "LOG_UNAVAILABLE");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    assert_eq!(server.log.stored(), 0);
    server.log.do_from_now(Does::Store);
    assert!(server.send(pulses(100)).await.unwrap().iter().all(is_accepted));
}

/// Behind a record that is not confirmed nobody waits for his turn once the log refuses.
#[tokio::test]
async fn g12_behind_a_record_that_is_not_confirmed_a_call_is_refused_at_once() {
    let server = Server::start().await;
    server.log.do_from_now(Does::Hold);
    let mut client = server.client().await;
    let first = client.send_pulses(crate::fixture::request(vec![pulse("first")]));
    tokio::pin!(first);
    tokio::select! {
        _ = &mut first => panic!("answered before it was durable"),
        () = server.log.holds(1) => {}
    }
    server.log.do_from_now(Does::Refuse);
    let refused = server.send(vec![pulse("second")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    server.log.do_from_now(Does::Store);
    server.log.release();
    assert!(is_accepted(&first.await.unwrap().into_inner().results[0]));
    assert!(server.send(vec![pulse("second")]).await.unwrap().iter().all(is_accepted));
    assert_eq!(server.log.stored(), 2);
}

#[tokio::test]
async fn g05_a_partition_that_cannot_take_its_share_leaves_that_share_unknown() {
    for does in [Does::Refuse, Does::Doubt, Does::Vanish] {
        let server = Server::start().await;
        let sent = pulses(100);
        let failing = partition(&sent[0]);
        server.log.do_in(failing, does);
        let results = server.send(sent.clone()).await.unwrap();
        let mut unknown = 0;
        for (pulse, result) in sent.iter().zip(&results) {
            if partition(pulse) == failing {
                assert_eq!(result.status(), Answer::Unknown);
                assert!(result.receipt.is_none() && !result.message.is_empty());
                unknown += 1;
            } else {
                assert_eq!(server.log.at(result.receipt.as_ref().unwrap()), *pulse);
            }
        }
        assert!(unknown > 0 && unknown < 100, "{unknown}");
    }
}

#[tokio::test]
async fn g05_doubt_about_everything_is_unknown_and_not_a_failed_call() {
    for does in [Does::Doubt, Does::Vanish] {
        let server = Server::start().await;
        server.log.do_from_now(does);
        let results = server.send(pulses(50)).await.unwrap();
        assert!(results.iter().all(|result| result.status() == Answer::Unknown));
    }
}

#[tokio::test]
async fn g05_rejected_pulses_keep_their_reasons_beside_unknown_ones() {
    let server = Server::start().await;
    server.log.do_from_now(Does::Doubt);
    let sent = vec![pulse("a"), Pulse { id: String::new(), ..pulse("") }, pulse("b")];
    let answers: Vec<Answer> =
        server.send(sent).await.unwrap().iter().map(|result| result.status()).collect();
    assert_eq!(answers, [Answer::Unknown, Answer::Rejected, Answer::Unknown]);
}

#[tokio::test]
async fn g05_a_confirmation_that_does_not_come_in_time_is_unknown() {
    let settings = IngestSettings { ack_timeout: Duration::from_millis(50), ..IngestSettings::default() };
    let server = Server::with(settings).await;
    server.log.do_from_now(Does::Hold);
    let results = server.send(pulses(10)).await.unwrap();
    assert!(results.iter().all(|result| result.status() == Answer::Unknown));
    // A late confirmation changes nothing that was said, and the lanes go on.
    server.log.do_from_now(Does::Store);
    server.log.release();
    assert!(server.send(pulses(10)).await.unwrap().iter().all(is_accepted));
}
