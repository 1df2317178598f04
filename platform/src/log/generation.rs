//! The first and the last record of every partition of a generation, the same in each log: the first names the log for ever
//! and says how long ids are remembered, the last is the seal.

use bytes::Bytes;
use prost::Message as _;
use prost_types::Timestamp;
use pulso_proto::v1;
use pulso_proto::v1::control::Fact;

use super::LogLayout;

/// The log's topic, unless another is given.
pub const DEFAULT_TOPIC: &str = "resource-consumption";

/// The name of one generation's topic.
#[must_use]
pub fn generation_topic(topic: &str, generation: u32) -> String {
    if generation == 1 { topic.to_owned() } else { format!("{topic}.g{generation}") }
}

/// The version of the fold's rules that a new generation begins with.
const FOLD_VERSION: u32 = 1;
/// The version of the first record's value.
const BATCH_FORMAT_VERSION: u32 = 1;
/// The version of a seal's value.
const SEAL_FORMAT_VERSION: u32 = 3;

/// The value of the record that begins a generation; an id horizon of 0 seconds means that ids are remembered always.
pub(super) fn generation_start(layout: &LogLayout, id_horizon_seconds: u64, now_nanos: i64) -> Bytes {
    let start = v1::GenerationStart {
        generation: layout.generation,
        partitions: layout.partitions,
        log_id: Bytes::copy_from_slice(&layout.log_id),
        id_horizon_seconds,
        fold_version: FOLD_VERSION,
    };
    control(Fact::GenerationStart(start), BATCH_FORMAT_VERSION, now_nanos)
}

/// The value of the record that ends a generation in a partition. It has the version of moved pulses: whoever cannot move what
/// arrives behind it must not pass it.
pub(super) fn seal(next_generation: u32, now_nanos: i64) -> Bytes {
    control(Fact::Seal(v1::Seal { next_generation }), SEAL_FORMAT_VERSION, now_nanos)
}

/// Whether a record's value is a seal.
pub(super) fn is_seal(value: &[u8]) -> bool {
    let fact = v1::PulseBatch::decode(value).ok().and_then(|batch| batch.control?.fact);
    matches!(fact, Some(Fact::Seal(_)))
}

fn control(fact: Fact, format_version: u32, now_nanos: i64) -> Bytes {
    let received_at = Timestamp {
        seconds: now_nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(now_nanos.rem_euclid(1_000_000_000)).expect("below a second"),
    };
    let batch = v1::PulseBatch {
        format_version,
        received_at: Some(received_at),
        control: Some(v1::Control { fact: Some(fact) }),
        ..Default::default()
    };
    Bytes::from(batch.encode_to_vec())
}
