//! What is no good pulse, as a record of the log: the fold makes a dead letter of it, so it has a place and one fate (G2)
//! and can be looked at and mended like any other.
//!
//! A pulse whose own bytes are at fault goes in as it is, since the fold finds the same fault. One that only the door
//! refuses (too old, a unit that does not convert) would be counted there; it goes in as a foreign message, as does what
//! is no pulse at all.

use bytes::Bytes;
use pulso_domain::partitioner::partition_of;
use pulso_domain::pulse::check;
use pulso_domain::time::Instant;
use pulso_platform::log::RECORD_BYTES_MAX;
use pulso_proto::v1;
use pulso_proto::{foreign, walk};

use crate::packer::put_record_header;
use crate::settings::PULSE_BYTES_MAX;
use crate::wire::put_bytes;

/// The key of `PulseBatch.pulses`.
const RECORD_PULSE_TAG: u8 = 0x22;
/// What a foreign message has beside its body.
const ENVELOPE_BYTES_MAX: usize = 4 * 1024;
/// The content type of a pulse that was refused.
const PULSE_TYPE: &str = "application/protobuf; message=pulso.v1.Pulse";

/// Bytes that could not become a counted pulse, and why.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    /// The code of the reason.
    pub(crate) reason: String,
    /// What is wrong, beginning with the field.
    pub(crate) detail: String,
    /// What the bytes are.
    pub(crate) content_type: String,
    /// The bytes.
    pub(crate) original: Bytes,
}

impl Poison {
    /// A pulse that the door refused.
    pub(crate) fn refused(pulse: Bytes, result: &v1::PulseResult) -> Self {
        Self {
            reason: result.reason.clone(),
            detail: format!("{}: {}", result.field, result.message),
            content_type: PULSE_TYPE.to_owned(),
            original: pulse,
        }
    }

    /// The partition it belongs to, and the record's value.
    pub(crate) fn record(&self, source: &str, now: Instant, partitions: u32) -> (u32, Bytes) {
        let raw = (self.content_type == PULSE_TYPE).then(|| walk::pulse(&self.original).ok()).flatten();
        let Some(raw) = raw else { return (partition_of(&self.original, partitions), self.foreign(source)) };
        let partition = partition_of(raw.tenant_id, partitions);
        if check(&raw).is_ok() || self.original.len() > PULSE_BYTES_MAX {
            return (partition, self.foreign(source));
        }
        let mut value = Vec::new();
        put_record_header(&mut value, now);
        put_bytes(&mut value, RECORD_PULSE_TAG, &self.original);
        (partition, value.into())
    }

    fn foreign(&self, source: &str) -> Bytes {
        let room = RECORD_BYTES_MAX - ENVELOPE_BYTES_MAX;
        let cut = self.original.len() > room;
        let note = if cut { "; only its first part is kept" } else { "" };
        foreign::encode(&v1::ForeignMessage {
            source: first_bytes(source, 512).to_owned(),
            reason: self.reason.clone(),
            detail: format!("{}{note}", first_bytes(&self.detail, 1024)),
            content_type: first_bytes(&self.content_type, 256).to_owned(),
            body: self.original.slice(..self.original.len().min(room)),
            body_bytes: self.original.len() as u64,
        })
    }
}

fn first_bytes(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn poison(pulse: &v1::Pulse) -> Poison {
        let result =
            v1::PulseResult { reason: "TOO_OLD".into(), field: "occurred_at".into(), ..Default::default() };
        Poison::refused(pulse.encode_to_vec().into(), &result)
    }

    fn good() -> v1::Pulse {
        v1::Pulse {
            id: "a".into(),
            tenant_id: "t".into(),
            product_sku: "s".into(),
            used_amount: "1".into(),
            use_unit: "u".into(),
            occurred_at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn a_pulse_with_a_fault_of_its_own_goes_in_as_it_is() {
        let bad = v1::Pulse { used_amount: "1,5".into(), ..good() };
        let (partition, value) = poison(&bad).record("redis:s", Instant::EPOCH, 4);
        let batch = v1::PulseBatch::decode(value).expect("a record");
        assert_eq!((batch.format_version, batch.pulses), (1, vec![bad]));
        assert_eq!(partition, partition_of(b"t", 4));
    }

    #[test]
    fn a_pulse_that_the_fold_would_count_is_a_foreign_message() {
        let (partition, value) = poison(&good()).record("redis:s", Instant::EPOCH, 4);
        let message = foreign::decode(&value).expect("a foreign message");
        assert_eq!(v1::Pulse::decode(message.body).expect("a pulse"), good());
        assert_eq!((message.source.as_str(), message.reason.as_str()), ("redis:s", "TOO_OLD"));
        assert_eq!(partition, partition_of(b"t", 4));
    }

    #[test]
    fn what_is_too_large_for_a_record_is_cut_and_says_so() {
        let original = Bytes::from(vec![b'x'; 2 * RECORD_BYTES_MAX]);
        let poison = Poison {
            reason: "UNDECODABLE".into(),
            detail: "é".repeat(4000),
            content_type: "t".repeat(4000),
            original,
        };
        let (_, value) = poison.record(&"s".repeat(4000), Instant::EPOCH, 4);
        assert!(value.len() <= RECORD_BYTES_MAX, "{}", value.len());
        let message = foreign::decode(&value).expect("a foreign message");
        assert_eq!(message.body_bytes, 2 * RECORD_BYTES_MAX as u64);
        assert!(message.detail.ends_with("only its first part is kept"));
    }
}
