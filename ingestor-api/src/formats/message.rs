//! A message as a broker or an HTTP request brings it: its content type says which form its pulses have.
//!
//! What comes out are the bytes of `pulso.v1.Pulse`, one by one, since a bad one must not take its neighbours along.

use bytes::Bytes;
use prost::Message as _;
use pulso_domain::reason::Reason;
use pulso_proto::v1;
use pulso_proto::walk::{self, Fields, Value};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cloud_event::{self, Attributes};
use super::{Unreadable, pulse_json};
use crate::settings::BATCH_PULSES_MAX;

/// A message, as far as Pulso looks at it.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// What its body is; empty means JSON.
    pub content_type: String,
    /// A CloudEvent's attributes, when they stand beside the body (binary mode).
    pub attributes: Option<Attributes>,
    /// The body.
    pub body: Bytes,
}

/// The pulses of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulses {
    /// The message is one pulse.
    One(Item),
    /// The message is a list.
    Many(Vec<Item>),
}

/// The bytes of one `pulso.v1.Pulse`, or why there are none.
pub type Item = Result<Bytes, BadItem>;

/// One pulse of a message that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadItem {
    /// Why.
    pub why: Unreadable,
    /// Its own bytes.
    pub original: Bytes,
}

/// Why a whole message could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// A type that is none of ours.
    #[error(
        "the content type {0:?} is not read; use application/json, application/cloudevents+json, \
         application/cloudevents-batch+json, or application/protobuf with ; message=pulso.v1.Pulse or \
         ; message=pulso.v1.SendPulsesRequest"
    )]
    UnknownType(String),
    /// The body is not what its type says.
    #[error("the body is not what its content type says: {0}")]
    NotOfItsType(String),
    /// More pulses than a batch may have.
    #[error("the message has more than {BATCH_PULSES_MAX} pulses; split it")]
    TooMany,
    /// No pulses.
    #[error("the message holds no pulses")]
    Empty,
}

impl MessageError {
    /// Whether the same message may be read later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }

    /// As one bad pulse.
    #[must_use]
    pub fn unreadable(&self) -> Unreadable {
        Unreadable::whole(self.to_string())
    }
}

/// Reads the pulses of a message.
///
/// # Errors
/// What concerns the whole message; it then holds no pulse that could be stored alone.
pub fn read(message: &Message) -> Result<Pulses, MessageError> {
    let body = &message.body;
    let (media, parameters) = message.content_type.split_once(';').unwrap_or((&message.content_type, ""));
    match media.trim().to_ascii_lowercase().as_str() {
        "application/cloudevents+json" => Ok(Pulses::One(item(body.clone(), cloud_event::read))),
        "application/cloudevents-batch+json" => list(body, cloud_event::read).map(Pulses::Many),
        "application/protobuf" | "application/x-protobuf" => protobuf(message, parameters),
        "" | "application/json" | "text/json" => match &message.attributes {
            Some(attributes) => {
                let read = |text: &[u8]| cloud_event::read_binary(attributes.clone(), text);
                Ok(Pulses::One(item(body.clone(), read)))
            }
            None if body.trim_ascii_start().starts_with(b"[") => list(body, any_object).map(Pulses::Many),
            None => Ok(Pulses::One(item(body.clone(), any_object))),
        },
        _ => Err(MessageError::UnknownType(message.content_type.clone())),
    }
}

fn item(original: Bytes, read: impl Fn(&[u8]) -> Result<v1::Pulse, Unreadable>) -> Item {
    match read(&original) {
        Ok(pulse) => Ok(pulse.encode_to_vec().into()),
        Err(why) => Err(BadItem { why, original }),
    }
}

/// A pulse by its own names, or a CloudEvent, which always says its version.
fn any_object(text: &[u8]) -> Result<v1::Pulse, Unreadable> {
    #[derive(Deserialize)]
    struct Probe {
        specversion: Option<IgnoredAny>,
    }
    match serde_json::from_slice::<Probe>(text) {
        Ok(Probe { specversion: Some(_) }) => cloud_event::read(text),
        _ => pulse_json::read(text),
    }
}

/// The elements of a JSON array, each read alone. They are cut out without being built, so that the memory of a list is
/// that of its pulses.
fn list(
    body: &Bytes,
    read: impl Fn(&[u8]) -> Result<v1::Pulse, Unreadable>,
) -> Result<Vec<Item>, MessageError> {
    let not_a_list = |detail: &str| MessageError::NotOfItsType(format!("it is no JSON array ({detail})"));
    let mut rest = body.trim_ascii_start().strip_prefix(b"[").ok_or_else(|| not_a_list("no `[`"))?;
    let mut items = Vec::new();
    rest = rest.trim_ascii_start();
    if let Some(after) = rest.strip_prefix(b"]") {
        return if after.trim_ascii().is_empty() {
            Err(MessageError::Empty)
        } else {
            Err(not_a_list("text behind it"))
        };
    }
    loop {
        if items.len() == BATCH_PULSES_MAX {
            return Err(MessageError::TooMany);
        }
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(not_a_list(&error.to_string())),
            None => return Err(not_a_list("it ends early")),
        }
        let (element, after) = rest.split_at(values.byte_offset());
        items.push(item(body.slice_ref(element.trim_ascii()), &read));
        rest = after.trim_ascii_start();
        match rest.split_first() {
            Some((b',', after)) => rest = after,
            Some((b']', after)) if after.trim_ascii().is_empty() => return Ok(items),
            _ => return Err(not_a_list("it has no `,` or `]` where one belongs")),
        }
    }
}

fn protobuf(message: &Message, parameters: &str) -> Result<Pulses, MessageError> {
    let named = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_name =
            ["message", "messagetype", "proto"].contains(&name.trim().to_ascii_lowercase().as_str());
        is_name.then(|| value.trim().trim_matches('"'))
    });
    match named {
        Some("pulso.v1.Pulse") => Ok(Pulses::One(raw_pulse(message.body.clone()))),
        Some("pulso.v1.SendPulsesRequest") => requests(&message.body).map(Pulses::Many),
        _ => Err(MessageError::UnknownType(message.content_type.clone())),
    }
}

/// The bytes as they came: what exactly is wrong with a pulse is the door's to say.
fn raw_pulse(bytes: Bytes) -> Item {
    match walk::pulse(&bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => {
            let detail = "the bytes are no pulso.v1.Pulse".to_owned();
            let why = Unreadable { reason: Reason::Undecodable, field: "", detail };
            Err(BadItem { why, original: bytes })
        }
    }
}

fn requests(body: &Bytes) -> Result<Vec<Item>, MessageError> {
    let broken = |_| MessageError::NotOfItsType("it is no pulso.v1.SendPulsesRequest".to_owned());
    let mut fields = Fields::new(body);
    let mut items = Vec::new();
    while let Some((number, value)) = fields.next_field().map_err(broken)? {
        match (number, value) {
            (1, _) if items.len() == BATCH_PULSES_MAX => return Err(MessageError::TooMany),
            (1, Value::Bytes(pulse)) => items.push(raw_pulse(body.slice_ref(pulse))),
            (1, _) => return Err(broken(walk::Malformed)),
            _ => {}
        }
    }
    if items.is_empty() { Err(MessageError::Empty) } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULSE: &str = r#"{"id":"a","tenant_id":"t"}"#;
    const EVENT: &str =
        r#"{"specversion":"1.0","id":"e","source":"s","type":"egress","subject":"t","data":{}}"#;

    fn message(content_type: &str, body: impl Into<Bytes>) -> Message {
        Message { content_type: content_type.into(), attributes: None, body: body.into() }
    }

    fn ids(pulses: Result<Pulses, MessageError>) -> Vec<Option<String>> {
        let items = match pulses.expect("a message") {
            Pulses::One(item) => vec![item],
            Pulses::Many(items) => items,
        };
        let id = |item: Item| Some(v1::Pulse::decode(item.ok()?).expect("a pulse").id);
        items.into_iter().map(id).collect()
    }

    #[test]
    fn json_is_a_pulse_an_event_or_a_list_of_both() {
        let some = |id: &str| Some(id.to_owned());
        for content_type in ["", "application/json", "Application/JSON; charset=utf-8"] {
            assert_eq!(ids(read(&message(content_type, PULSE))), [some("a")]);
            assert_eq!(ids(read(&message(content_type, EVENT))), [some("e")]);
            let list = format!(" [ {PULSE} ,{EVENT}, 7, {{\"x\":\"],[\"}}]\n");
            assert_eq!(ids(read(&message(content_type, list))), [some("a"), some("e"), None, None]);
        }
        let batch = format!("[{EVENT},{PULSE}]");
        assert_eq!(ids(read(&message("application/cloudevents-batch+json", batch))), [some("e"), None]);
        assert_eq!(ids(read(&message("application/cloudevents+json", EVENT))), [some("e")]);
    }

    #[test]
    fn a_bad_element_keeps_its_own_bytes() {
        let Ok(Pulses::Many(items)) = read(&message("", format!("[{PULSE}, {{\"idd\":1}} ]"))) else {
            panic!()
        };
        let bad = items[1].as_ref().expect_err("no pulse");
        assert_eq!(bad.original, r#"{"idd":1}"#);
        assert_eq!(bad.why.reason, Reason::Undecodable);
    }

    #[test]
    fn protobuf_says_which_message_it_is() {
        let pulse = v1::Pulse { id: "a".into(), ..Default::default() };
        let one = "application/protobuf; message=pulso.v1.Pulse";
        assert_eq!(ids(read(&message(one, pulse.encode_to_vec()))), [Some("a".to_owned())]);
        let many = "application/x-protobuf;message=\"pulso.v1.SendPulsesRequest\"";
        let mut request =
            v1::SendPulsesRequest { pulses: vec![pulse], request_id: "r".into() }.encode_to_vec();
        request.extend_from_slice(b"\x0a\x02\x0a\x7f");
        assert_eq!(ids(read(&message(many, request))), [Some("a".to_owned()), None]);
        assert!(matches!(read(&message("application/protobuf", "")), Err(MessageError::UnknownType(_))));
        assert!(matches!(read(&message(many, "\x0a\x7f")), Err(MessageError::NotOfItsType(_))));
        assert_eq!(read(&message(many, "")), Err(MessageError::Empty));
    }

    #[test]
    fn what_is_no_message_of_ours_is_refused_as_a_whole() {
        assert!(matches!(read(&message("text/plain", PULSE)), Err(MessageError::UnknownType(_))));
        assert_eq!(read(&message("", "[ ]")), Err(MessageError::Empty));
        for broken in ["[", "[1", "[1,", "[1,]", "[1 2]", "[1]]", "[] x", "[,]"] {
            assert!(matches!(read(&message("", broken)), Err(MessageError::NotOfItsType(_))), "{broken}");
        }
        let long = format!("[{}1]", "1,".repeat(BATCH_PULSES_MAX));
        assert_eq!(read(&message("", long)), Err(MessageError::TooMany));
        let nested = "[".repeat(200_000);
        assert!(matches!(read(&message("", nested)), Err(MessageError::NotOfItsType(_))));
    }
}
