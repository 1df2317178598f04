//! What is wrong with a whole message: its status is the right one, says what to do, and nothing was stored.

use bytes::Bytes;
use prost::Message;
use pulso_proto::v1::{SendPulsesRequest, SendPulsesResponse};
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::fixture::{Server, pulse, pulses, raw, request};

fn assert_failed(status: &Status, code: Code, reason: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, reason);
}

#[tokio::test]
async fn an_empty_batch_is_an_invalid_argument() {
    let server = Server::start().await;
    let status = server.send(vec![]).await.unwrap_err();
    assert_failed(&status, Code::InvalidArgument, "EMPTY_BATCH");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "pulses");
}

#[tokio::test]
async fn a_batch_of_10_001_is_refused_whole() {
    let server = Server::start().await;
    let status = server.send(pulses(10_001)).await.unwrap_err();
    assert_failed(&status, Code::InvalidArgument, "TOO_MANY_PULSES");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "pulses");
    assert_eq!(server.log.stored(), 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_out_of_range_also_when_compressed() {
    let server = Server::start().await;
    let channel = server.channel().await;
    // Five rounds, since an early answer races the rest of the request.
    for _ in 0..5 {
        let large = Bytes::from(vec![0; 5 << 20]);
        let status = raw::send(channel.clone(), large, None).await.unwrap_err();
        assert_failed(&status, Code::OutOfRange, "MESSAGE_TOO_LARGE");
    }
    for encoding in [Gzip, Zstd] {
        let bomb = Bytes::from(vec![0; 64 << 20]);
        let status = raw::send(channel.clone(), bomb, Some(encoding)).await.unwrap_err();
        assert_failed(&status, Code::OutOfRange, "MESSAGE_TOO_LARGE");
    }
    assert_eq!(server.log.stored(), 0);
}

#[tokio::test]
async fn a_message_of_just_the_limit_is_read() {
    let server = Server::start().await;
    let mut message = request(pulses(10)).encode_to_vec();
    // Field 111 fills it up.
    message.extend_from_slice(&[0xfa, 0x06]);
    let rest = (4 << 20) - message.len() - 4;
    prost::encoding::encode_varint(rest as u64, &mut message);
    message.resize(4 << 20, 0);
    for encoding in [None, Some(Gzip), Some(Zstd)] {
        let answer = raw::send(server.channel().await, message.clone(), encoding).await.unwrap();
        assert_eq!(SendPulsesResponse::decode(answer).unwrap().results.len(), 10, "{encoding:?}");
    }
}

#[tokio::test]
async fn garbage_is_an_invalid_argument() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let wrong_wire_type: &[u8] = &[0x08, 0x01];
    for garbage in [&b"\xff\xff\xff\xff"[..], b"hello, door", &[0x0a], &[0x00], wrong_wire_type] {
        let status = raw::send(channel.clone(), garbage.to_vec(), None).await.unwrap_err();
        assert_failed(&status, Code::InvalidArgument, "NOT_PROTOBUF");
    }
}

#[tokio::test]
async fn a_malformed_pulse_fails_the_call_and_its_good_neighbours_are_not_stored() {
    let server = Server::start().await;
    let mut message = request(vec![pulse("good")]).encode_to_vec();
    message.extend_from_slice(&[0x0a, 0x02, 0x0a, 0x7f]); // an id of 127 bytes that are not there
    let status = raw::send(server.channel().await, message, None).await.unwrap_err();
    assert_failed(&status, Code::InvalidArgument, "NOT_PROTOBUF");
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "pulses[1]");
    assert_eq!(server.log.stored(), 0);
}

#[tokio::test]
async fn a_truncated_request_fails_unless_it_ends_between_two_pulses() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let message = request(vec![pulse("first"), pulse("second")]).encode_to_vec();
    let mut good = 0;
    for end in 1..message.len() {
        let answer = raw::send(channel.clone(), message[..end].to_vec(), None).await;
        // The generated decoder is the oracle for which prefixes are requests.
        match SendPulsesRequest::decode(&message[..end]) {
            Ok(request) => good += usize::from(!request.pulses.is_empty() && answer.is_ok()),
            Err(_) => assert_failed(&answer.unwrap_err(), Code::InvalidArgument, "NOT_PROTOBUF"),
        }
    }
    assert_eq!((good, server.log.stored()), (1, 1));
}

#[tokio::test]
async fn a_request_that_breaks_its_compression_is_an_invalid_argument() {
    let server = Server::start().await;
    let frame = |flag: u8, body: &[u8]| {
        let mut frame = vec![flag];
        frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(body);
        Bytes::from(frame)
    };
    for (flag, encoding) in [(1, Some("gzip")), (1, Some("zstd")), (1, None), (9, None)] {
        let status = raw::send_frames(&server, frame(flag, b"not compressed"), encoding).await;
        assert_failed(&status, Code::InvalidArgument, "BAD_FRAMING");
    }
    let cut = frame(0, &request(pulses(2)).encode_to_vec()).slice(..40);
    assert_failed(&raw::send_frames(&server, cut, None).await, Code::InvalidArgument, "BAD_FRAMING");
    let status = raw::send_frames(&server, frame(1, b"x"), Some("br")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    let nothing = raw::send_frames(&server, Bytes::new(), None).await;
    assert_failed(&nothing, Code::InvalidArgument, "BAD_FRAMING");
    assert_eq!(server.log.stored(), 0);
}

#[tokio::test]
async fn a_unary_call_with_two_messages_stores_neither() {
    let server = Server::start().await;
    let message = request(vec![pulse("p")]).encode_to_vec();
    let mut frames = vec![0];
    frames.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frames.extend_from_slice(&message);
    let status = raw::send_frames(&server, Bytes::from([frames.clone(), frames].concat()), None).await;
    assert_failed(&status, Code::InvalidArgument, "BAD_FRAMING");
    assert_eq!(server.log.stored(), 0);
}
