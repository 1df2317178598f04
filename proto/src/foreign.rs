//! A message of another source that could not become a pulse, as a record of the log.
//!
//! Its value is one byte 0x00 and then a [`ForeignMessage`]. No protobuf message begins with that byte, so every reader,
//! also one that does not know this form, finds no `PulseBatch` in it and takes it for one dead letter, `UNDECODABLE`.
//! Hence whatever a foreign message holds, it can never be read as pulses or as a control record.

use bytes::Bytes;
use prost::Message;

pub use crate::v1::ForeignMessage;

/// The key of field 0, which protobuf forbids.
const MARK: u8 = 0;

/// The value of the record.
#[must_use]
pub fn encode(message: &ForeignMessage) -> Bytes {
    let mut value = vec![MARK];
    value.extend(message.encode_to_vec());
    value.into()
}

/// Reads a record's value; `None` when it is none of these.
#[must_use]
pub fn decode(value: &Bytes) -> Option<ForeignMessage> {
    if value.first() != Some(&MARK) {
        return None;
    }
    ForeignMessage::decode(value.slice(1..)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::PulseBatch;
    use crate::walk::Fields;

    #[test]
    fn a_foreign_message_is_read_back_and_is_no_batch_for_anybody() {
        let body = PulseBatch { format_version: 9, ..Default::default() }.encode_to_vec();
        let message = ForeignMessage { source: "redis:s".into(), body: body.into(), ..Default::default() };
        let value = encode(&message);
        assert_eq!(decode(&value), Some(message));
        assert!(PulseBatch::decode(&value[..]).is_err());
        assert!(Fields::new(&value).next_field().is_err());
        assert_eq!(decode(&Bytes::new()), None);
        assert_eq!(decode(&Bytes::from_static(b"\x08\x01")), None);
        assert_eq!(decode(&Bytes::from_static(b"\x00\x0a\x7f")), None);
    }
}
