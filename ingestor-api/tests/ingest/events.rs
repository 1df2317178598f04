//! Events over HTTP: the same validation, the same log and the same honesty as by gRPC.

use prost::Message;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_proto::v1::{Pulse, Receipt};
use serde_json::{Value, json};

use crate::fixture::http::{Answer, post, raw};
use crate::fixture::log::Does;
use crate::fixture::{NOW, PATIENCE, Server, pulse, request};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=utf-8");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
const JSON: (&str, &str) = ("content-type", "application/json");

/// The event whose pulse is `fixture::pulse`.
fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/meters/7", "type": "vm", "subject": "acme",
        "time": "2027-01-15T07:59:00Z",
        "data": { "used_amount": "1.5", "use_unit": "Hours", "region": "br-se1" },
    })
}

async fn send(server: &Server, header: (&str, &str), body: &Value) -> Answer {
    post(server.events.unwrap(), &[header], body.to_string().as_bytes()).await
}

fn receipt(value: &Value) -> Receipt {
    let number = |name: &str| value["receipt"][name].as_u64().unwrap();
    Receipt {
        generation: number("generation") as u32,
        partition: number("partition") as u32,
        offset: number("offset"),
        index: number("index") as u32,
    }
}

#[tokio::test]
async fn g01_an_event_is_answered_with_the_receipt_of_its_pulse() {
    assert_eq!(pulse("e-1").occurred_at.unwrap().seconds, NOW - 60);
    let server = Server::with_events(IngestSettings::default()).await;
    let structured = send(&server, STRUCTURED, &event("e-1")).await;
    assert_eq!((structured.status, &structured.body["status"]), (200, &json!("ACCEPTED")), "{structured:?}");
    assert_eq!(server.log.at(&receipt(&structured.body)), pulse("e-1"));

    let headers = [
        JSON,
        ("ce-specversion", "1.0"),
        ("ce-id", "caf%C3%A9"),
        ("ce-source", "/meters/7"),
        ("ce-type", "vm"),
        ("ce-subject", "acme"),
        ("ce-time", "2027-01-15T07:59:00Z"),
    ];
    let data = event("x")["data"].to_string();
    let binary = post(server.events.unwrap(), &headers, data.as_bytes()).await;
    assert_eq!(server.log.at(&receipt(&binary.body)), pulse("café"), "{binary:?}");

    let plain = json!({
        "id": "p-1", "tenant_id": "acme", "product_sku": "vm", "used_amount": "1.5", "use_unit": "Hours",
        "occurred_at": "2027-01-15T07:59:00Z", "region": "br-se1",
    });
    let plain = send(&server, JSON, &plain).await;
    assert_eq!(server.log.at(&receipt(&plain.body)), pulse("p-1"), "{plain:?}");

    let protobuf = ("content-type", "application/protobuf; message=pulso.v1.SendPulsesRequest");
    let body = request(vec![pulse("r-1"), pulse("r-2")]).encode_to_vec();
    let protobuf = post(server.events.unwrap(), &[protobuf], &body).await;
    assert_eq!(server.log.at(&receipt(&protobuf.body["results"][1])), pulse("r-2"), "{protobuf:?}");
}

#[tokio::test]
async fn a_batch_has_one_result_per_event_in_order_and_bad_ones_take_no_other_along() {
    let server = Server::with_events(IngestSettings::default()).await;
    let mut negative = event("e-2");
    negative["data"]["used_amount"] = json!("-1");
    let mut misspelled = event("e-3");
    misspelled["data"]["use_unti"] = json!("Hours");
    let batch = json!([event("e-1"), negative, misspelled, 7, event("e-5")]);
    let answer = send(&server, BATCH, &batch).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.body["results"].as_array().unwrap();
    let of = |name: &str| results.iter().map(|result| result[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), ["ACCEPTED", "REJECTED", "REJECTED", "REJECTED", "ACCEPTED"]);
    assert_eq!(of("id")[..2], ["e-1", "e-2"]);
    assert_eq!(of("reason")[1..4], ["NEGATIVE_AMOUNT", "UNDECODABLE", "UNDECODABLE"]);
    assert_eq!(results[1]["field"], "used_amount");
    assert_eq!(server.log.at(&receipt(&results[4])), pulse("e-5"));
    assert_eq!(server.log.stored(), 2);
}

#[tokio::test]
async fn a_single_event_that_is_bad_is_a_problem_with_its_code_field_and_mend() {
    let server = Server::with_events(IngestSettings::default()).await;
    let mut bad = event("e");
    bad["data"]["used_amount"] = json!("1,5");
    let answer = send(&server, STRUCTURED, &bad).await;
    assert_eq!((answer.status, answer.code()), (422, "INVALID_AMOUNT"));
    assert_eq!((&answer.body["field"], &answer.body["status"]), (&json!("used_amount"), &json!(422)));
    assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
    let mut unknown = event("e");
    unknown["specversion"] = json!("0.3");
    let answer = send(&server, STRUCTURED, &unknown).await;
    assert_eq!((answer.status, answer.code()), (422, "UNDECODABLE"));
    assert!(answer.body["detail"].as_str().unwrap().contains("specversion"), "{answer:?}");
    assert_eq!(server.log.stored(), 0);
}

#[tokio::test]
async fn requests_that_are_none_have_their_own_codes() {
    let settings = IngestSettings { message_bytes_max: 4096, ..IngestSettings::default() };
    let server = Server::with_events(settings).await;
    let address = server.events.unwrap();
    let nested = "[".repeat(4000);
    let long = " ".repeat(4097);
    let many = format!("[{}1]", "1,".repeat(1990));
    for (headers, body, expected) in [
        (vec![JSON], "nonsense", (400, "INVALID_BODY")),
        (vec![STRUCTURED], nested.as_str(), (400, "INVALID_BODY")),
        (vec![BATCH], nested.as_str(), (400, "INVALID_BODY")),
        (vec![BATCH], "[]", (400, "EMPTY_BATCH")),
        (vec![BATCH], many.as_str(), (200, "")),
        (vec![], "{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (vec![("content-type", "text/plain")], "{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (vec![("content-type", "application/protobuf")], "{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (vec![JSON], long.as_str(), (413, "BODY_TOO_LARGE")),
        (vec![JSON, ("ce-specversion", "1.0"), ("ce-id", "%ff")], "{}", (400, "INVALID_BODY")),
    ] {
        let answer = post(address, &headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.code()), expected, "{headers:?} {body:.20}");
    }
    let get = raw(address, b"GET /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!((get.status, get.code()), (405, "METHOD_NOT_ALLOWED"));
    assert!(get.head.contains("allow: post"), "{}", get.head);
    let other = raw(address, b"POST /v1/event HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!((other.status, other.code()), (404, "NOT_FOUND"));
    assert_eq!(server.log.stored(), 0);
}

#[tokio::test]
async fn g05_what_the_log_refuses_or_doubts_is_said_as_that() {
    let server = Server::with_events(IngestSettings::default()).await;
    server.log.do_from_now(Does::Refuse);
    let refused = send(&server, STRUCTURED, &event("e")).await;
    assert_eq!((refused.status, refused.code()), (503, "LOG_UNAVAILABLE"));
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    server.log.do_from_now(Does::Doubt);
    let doubted = send(&server, STRUCTURED, &event("e")).await;
    assert_eq!((doubted.status, doubted.code()), (503, "UNKNOWN"));
    let batch = send(&server, BATCH, &json!([event("e"), 1])).await;
    assert_eq!(batch.status, 200);
    assert_eq!(batch.body["results"][0]["status"], "UNKNOWN");
    assert_eq!(batch.body["results"][1]["status"], "REJECTED");
}

#[tokio::test]
async fn g11_a_request_without_room_is_refused_before_its_body_is_read() {
    let settings = IngestSettings { bytes_in_flight_max: 64 << 10, ..IngestSettings::default() };
    let server = Server::with_events(settings).await;
    let address = server.events.unwrap();
    // The body is announced and never sent.
    let head =
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let answer = raw(address, format!("{head}content-length: 100000\r\n\r\n").as_bytes()).await;
    assert_eq!((answer.status, answer.code()), (429, "OVERLOADED"));
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(send(&server, STRUCTURED, &event("e")).await.status, 200);
}

#[tokio::test]
async fn g16_a_stop_answers_what_is_in_flight() {
    let server = Server::with_events(IngestSettings::default()).await;
    server.log.do_from_now(Does::Hold);
    let address = server.events.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    let body = event("e").to_string();
    calls.spawn(async move { post(address, &[STRUCTURED], body.as_bytes()).await });
    server.log.holds(1).await;
    server.shutdown.cancel();
    let log = std::sync::Arc::clone(&server.log);
    log.do_from_now(Does::Store);
    log.release();
    let answer = tokio::time::timeout(PATIENCE, calls.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    server.ended().await.unwrap();
    let stored: Vec<Pulse> =
        (0..4).flat_map(|partition| log.records(partition)).flat_map(|batch| batch.pulses).collect();
    assert_eq!(stored, [pulse("e")]);
}
