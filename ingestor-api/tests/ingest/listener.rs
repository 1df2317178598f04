//! Health, reflection, unknown paths, the HTTP/2 limits, and the clean stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pulso_ingestor_api::settings::IngestSettings;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::{v1, v1alpha};

use crate::fixture::log::Does;
use crate::fixture::{PATIENCE, Server, is_accepted, pulses, raw, request};

const INGEST: &str = "pulso.v1.IngestService";

async fn watch(channel: Channel, service: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel).watch(request).await.unwrap().into_inner()
}

/// Waits until the watch says so.
async fn until(watch: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    let wait = async { while watch.next().await.unwrap().unwrap().status() != status {} };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn health_follows_the_log() {
    let server = Server::start().await;
    for service in ["", INGEST] {
        let mut watch = watch(server.channel().await, service).await;
        until(&mut watch, ServingStatus::Serving).await;
        server.log.appendable.store(false, Ordering::Relaxed);
        until(&mut watch, ServingStatus::NotServing).await;
        server.log.appendable.store(true, Ordering::Relaxed);
        until(&mut watch, ServingStatus::Serving).await;
    }
}

#[tokio::test]
async fn g16_a_stop_turns_readiness_false_answers_what_is_in_flight_and_ends() {
    let server = Server::start().await;
    server.log.do_from_now(Does::Hold);
    let mut health = watch(server.channel().await, INGEST).await;
    until(&mut health, ServingStatus::Serving).await;
    let mut client = server.client().await;
    let log = std::sync::Arc::clone(&server.log);
    let shutdown = server.shutdown.clone();
    let call = client.send_pulses(request(pulses(5)));
    let stop = async {
        log.holds(1).await;
        shutdown.cancel();
        until(&mut health, ServingStatus::NotServing).await;
        log.do_from_now(Does::Store);
        log.release();
        while let Some(Ok(_)) = health.next().await {}
    };
    let (answer, ()) = tokio::join!(call, stop);
    assert!(answer.unwrap().into_inner().results.iter().all(is_accepted));
    server.ended().await.unwrap();
}

#[tokio::test]
async fn g16_a_stop_ends_open_streams_after_answering_what_they_sent() {
    let server = Server::start().await;
    let (sender, batches) = mpsc::channel(4);
    sender.send(request(pulses(5))).await.unwrap();
    let mut client = server.client().await;
    let mut answers = client.stream_pulses(ReceiverStream::new(batches)).await.unwrap().into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().results.len(), 5);
    server.shutdown.cancel();
    let status = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    drop((sender, answers, client));
    server.ended().await.unwrap();
}

#[tokio::test]
async fn g16_a_stop_does_not_wait_for_ever_for_a_log_that_never_answers() {
    let settings = IngestSettings { drain_max: Duration::from_millis(100), ..IngestSettings::default() };
    let server = Server::with(settings).await;
    server.log.do_from_now(Does::Hold);
    let mut client = server.client().await;
    let call = client.send_pulses(request(pulses(5)));
    let log = std::sync::Arc::clone(&server.log);
    let shutdown = server.shutdown.clone();
    let stop = async {
        log.holds(1).await;
        shutdown.cancel();
        server.ended().await
    };
    tokio::pin!(call);
    tokio::select! {
        answer = &mut call => assert!(answer.is_err() || !answer.unwrap().into_inner().results.iter().any(is_accepted)),
        ended = stop => ended.unwrap(),
    }
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let server = Server::start().await;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let call = client.server_reflection_info(tokio_stream::once(request));
    let answer = call.await.unwrap().into_inner().next().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("no list")
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&INGEST) && names.contains(&"grpc.health.v1.Health"), "{names:?}");

    // grpcurl before 1.8.8 asks the old version, and for the file of a symbol.
    let symbol = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(INGEST.into());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let call = client.server_reflection_info(tokio_stream::once(request));
    let answer = call.await.unwrap().into_inner().next().await.unwrap().unwrap();
    let found = matches!(
        answer.message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    );
    assert!(found);
}

#[tokio::test]
async fn an_unknown_method_or_service_is_unimplemented() {
    let server = Server::start().await;
    for path in ["/pulso.v1.IngestService/Nope", "/nope.Nope/Nope"] {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let call = grpc.unary(tonic::Request::new(bytes::Bytes::new()), path, crate::fixture::raw::AnyBytes);
        assert_eq!(call.await.unwrap_err().code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn a_header_list_over_16_kib_is_refused() {
    let server = Server::start().await;
    let mut request = tonic::Request::new(request(pulses(1)));
    request.metadata_mut().insert("x-large", "v".repeat(20 << 10).parse().unwrap());
    assert!(server.client().await.send_pulses(request).await.is_err());
    server.send(pulses(1)).await.expect("others are served");
}

#[tokio::test]
async fn g11_a_call_whose_message_never_ends_is_given_up_in_time() {
    let receive_timeout = Duration::from_millis(50);
    let server = Server::with(IngestSettings { receive_timeout, ..IngestSettings::default() }).await;
    let given_up = raw::send_without_end(server.channel().await, b"\x0a\x00").await.unwrap_err();
    assert_eq!(given_up.code(), Code::DeadlineExceeded, "{given_up}");
    assert!(server.send(pulses(5)).await.unwrap().iter().all(is_accepted));
}

#[tokio::test]
async fn g11_who_connects_when_all_places_are_taken_waits_for_one() {
    let server = Server::with(IngestSettings { connections_max: 1, ..IngestSettings::default() }).await;
    let mut first = server.client().await;
    first.send_pulses(request(pulses(5))).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(200), server.send(pulses(5))).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(first);
    let served = tokio::time::timeout(PATIENCE, server.send(pulses(5))).await.unwrap();
    assert!(served.unwrap().iter().all(is_accepted));
}

#[tokio::test]
async fn g11_an_address_that_has_all_its_connections_gets_no_other() {
    let settings = IngestSettings { connections_per_address_max: 1, ..IngestSettings::default() };
    let server = Server::with(settings).await;
    let mut first = server.client().await;
    first.send_pulses(request(pulses(5))).await.unwrap();
    let mut other = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut nothing = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut other, &mut nothing);
    assert_eq!(tokio::time::timeout(PATIENCE, closed).await.unwrap().unwrap_or(0), 0);
    first.send_pulses(request(pulses(5))).await.unwrap();
    drop(first);
    let mut tries = 0;
    while !server.try_send(pulses(5)).await.is_ok_and(|results| results.iter().all(is_accepted)) {
        tries += 1;
        assert!(tries < 100, "the place is not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
