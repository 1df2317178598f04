//! Every bad pulse gets its own reason, names the field and the mend, and leaves its good neighbours accepted.

use prost::Message;
use prost_types::Timestamp;
use pulso_proto::v1::pulse_result::Status as Answer;
use pulso_proto::v1::{Pulse, PulseResult, SendPulsesResponse};

use crate::fixture::{NOW, Server, is_accepted, pulse, raw};

fn bad(change: impl FnOnce(&mut Pulse)) -> Pulse {
    let mut pulse = pulse("bad");
    change(&mut pulse);
    pulse
}

fn amount(text: &str) -> Pulse {
    bad(|pulse| pulse.used_amount = text.into())
}

fn occurred(seconds: i64, nanos: i32) -> Pulse {
    bad(|pulse| pulse.occurred_at = Some(Timestamp { seconds, nanos }))
}

fn tags(count: usize, key_bytes: usize, value_bytes: usize) -> Pulse {
    let tag = |index: usize| (format!("{index:0key_bytes$}"), "v".repeat(value_bytes));
    bad(|pulse| pulse.tags = (0..count).map(tag).collect())
}

fn cases() -> Vec<(Pulse, &'static str, &'static str)> {
    let day = 86_400;
    vec![
        (bad(|pulse| pulse.id.clear()), "EMPTY_ID", "id"),
        (bad(|pulse| pulse.id = "i".repeat(129)), "ID_TOO_LONG", "id"),
        (bad(|pulse| pulse.id = "a\nb".into()), "INVALID_TEXT", "id"),
        (bad(|pulse| pulse.tenant_id.clear()), "INVALID_TENANT", "tenant_id"),
        (bad(|pulse| pulse.tenant_id = "a/b".into()), "INVALID_TENANT", "tenant_id"),
        (bad(|pulse| pulse.tenant_id = "ação".into()), "INVALID_TENANT", "tenant_id"),
        (bad(|pulse| pulse.tenant_id = "t".repeat(65)), "INVALID_TENANT", "tenant_id"),
        (bad(|pulse| pulse.product_sku.clear()), "INVALID_SKU", "product_sku"),
        (bad(|pulse| pulse.product_sku = "s".repeat(129)), "FIELD_TOO_LONG", "product_sku"),
        (amount(""), "INVALID_AMOUNT", "used_amount"),
        (amount("NaN"), "INVALID_AMOUNT", "used_amount"),
        (amount("inf"), "INVALID_AMOUNT", "used_amount"),
        (amount("1e3"), "INVALID_AMOUNT", "used_amount"),
        (amount("0.1234567890123456"), "INVALID_AMOUNT", "used_amount"),
        (amount("123456789012345678901234"), "INVALID_AMOUNT", "used_amount"),
        (amount(" 1"), "INVALID_AMOUNT", "used_amount"),
        (amount("1 "), "INVALID_AMOUNT", "used_amount"),
        (amount("١٢"), "INVALID_AMOUNT", "used_amount"),
        (amount("-0.5"), "NEGATIVE_AMOUNT", "used_amount"),
        (bad(|pulse| pulse.use_unit.clear()), "INVALID_UNIT", "use_unit"),
        (bad(|pulse| pulse.use_unit = "GiB".into()), "UNIT_MISMATCH", "use_unit"),
        (bad(|pulse| pulse.occurred_at = None), "MISSING_TIME", "occurred_at"),
        (occurred(i64::MAX, 0), "INVALID_TIME", "occurred_at"),
        (occurred(NOW, -1), "INVALID_TIME", "occurred_at"),
        (occurred(NOW - 35 * day - 1, 0), "TOO_OLD", "occurred_at"),
        (occurred(NOW + 301, 0), "TOO_NEW", "occurred_at"),
        (bad(|pulse| pulse.region = "r".repeat(65)), "FIELD_TOO_LONG", "region"),
        (bad(|pulse| pulse.resource_id = "r".repeat(513)), "FIELD_TOO_LONG", "resource_id"),
        (tags(65, 3, 1), "TAG_LIMIT", "tags"),
        (tags(1, 129, 1), "TAG_LIMIT", "tags"),
        (tags(1, 3, 513), "TAG_LIMIT", "tags"),
        (tags(1, 3, 100_000), "TAG_LIMIT", "tags"),
        (tags(30_000, 5, 0), "TAG_LIMIT", "tags"),
    ]
}

fn assert_rejected(result: &PulseResult, reason: &str, field: &str) {
    assert_eq!(result.status(), Answer::Rejected, "{reason} {field}: {result:?}");
    assert_eq!((result.reason.as_str(), result.field.as_str()), (reason, field));
    assert!(!result.message.is_empty() && result.receipt.is_none());
}

#[tokio::test]
async fn every_bad_pulse_has_its_reason_and_its_good_neighbours_are_accepted() {
    let server = Server::start().await;
    server.units.replace([("vm".to_owned(), vec!["Hours".to_owned()])].into());
    let mut sent = vec![pulse("good-first")];
    for (index, (bad, ..)) in cases().into_iter().enumerate() {
        sent.push(bad);
        sent.push(pulse(&format!("good-{index}")));
    }
    let results = server.send(sent.clone()).await.unwrap();
    assert_eq!(results.len(), sent.len());
    for (index, (_, reason, field)) in cases().into_iter().enumerate() {
        assert_rejected(&results[2 * index + 1], reason, field);
    }
    for (index, result) in results.iter().enumerate().step_by(2) {
        assert!(is_accepted(result), "{index}");
        assert_eq!(server.log.at(result.receipt.as_ref().unwrap()), sent[index]);
    }
    assert_eq!(server.log.stored(), cases().len() + 1);
}

#[tokio::test]
async fn what_lies_on_the_bounds_is_accepted() {
    let server = Server::start().await;
    let day = 86_400;
    let good = vec![
        bad(|pulse| pulse.id = "i".repeat(128)),
        bad(|pulse| pulse.tenant_id = "t".repeat(64)),
        amount("0"),
        amount("-0"),
        amount("12345678901234567890123.123456789012345"),
        occurred(NOW - 35 * day, 0),
        occurred(NOW + 300, 0),
        tags(64, 128, 512),
        bad(|pulse| pulse.product_sku = "unknown to any catalog".into()),
    ];
    let results = server.send(good).await.unwrap();
    assert!(results.iter().all(is_accepted), "{results:?}");
}

/// A pulse whose one text field holds these bytes; the generated type cannot make it.
fn pulse_with_bytes(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = pulse("x").encode_to_vec();
    encoded.extend_from_slice(&[field << 3 | 2, u8::try_from(bytes.len()).unwrap()]);
    encoded.extend_from_slice(bytes);
    encoded
}

fn request_of(pulses: &[Vec<u8>]) -> Vec<u8> {
    let mut request = Vec::new();
    for pulse in pulses {
        request.push(0x0a);
        prost::encoding::encode_varint(pulse.len() as u64, &mut request);
        request.extend_from_slice(pulse);
    }
    request
}

#[tokio::test]
async fn invalid_utf8_rejects_only_its_pulse() {
    let server = Server::start().await;
    let fields = [
        (1, "id"),
        (2, "tenant_id"),
        (3, "product_sku"),
        (4, "used_amount"),
        (5, "use_unit"),
        (7, "region"),
        (8, "resource_id"),
    ];
    let mut sent = vec![pulse("first").encode_to_vec()];
    sent.extend(fields.map(|(number, _)| pulse_with_bytes(number, b"\xff\xfe")));
    sent.push(pulse_with_bytes(9, b"\x0a\x01k\x12\x01\xff"));
    sent.push(pulse("last").encode_to_vec());
    let answer = raw::send(server.channel().await, request_of(&sent), None).await.unwrap();
    let results = SendPulsesResponse::decode(answer).unwrap().results;
    for (result, (_, field)) in results[1..].iter().zip(fields) {
        assert_rejected(result, "INVALID_UTF8", field);
    }
    assert_rejected(&results[8], "INVALID_UTF8", "tags");
    assert!(is_accepted(&results[0]) && is_accepted(&results[9]));
    assert_eq!(server.log.stored(), 2);
}

#[tokio::test]
async fn a_pulse_too_large_for_a_record_is_rejected_alone() {
    let server = Server::start().await;
    let mut giant = pulse("giant").encode_to_vec();
    giant.extend_from_slice(&[0xfa, 0x06]); // field 111, length-delimited
    prost::encoding::encode_varint(600_000, &mut giant);
    giant.resize(giant.len() + 600_000, 0);
    let request = request_of(&[giant, pulse("small").encode_to_vec()]);
    let answer = raw::send(server.channel().await, request, None).await.unwrap();
    let results = SendPulsesResponse::decode(answer).unwrap().results;
    assert_rejected(&results[0], "FIELD_TOO_LONG", "pulses");
    assert!(is_accepted(&results[1]));
}

#[tokio::test]
async fn unknown_fields_are_kept_as_they_came() {
    let server = Server::start().await;
    let mut newer = pulse("newer").encode_to_vec();
    newer.extend_from_slice(&[0xf8, 0x06, 0x01]); // field 111, varint 1
    let answer = raw::send(server.channel().await, request_of(&[newer.clone()]), None).await.unwrap();
    let receipt = SendPulsesResponse::decode(answer).unwrap().results[0].receipt.unwrap();
    assert!(server.log.value(receipt.partition, receipt.offset).ends_with(&newer));
}
