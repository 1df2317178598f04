//! The first record of every partition of a generation, the same in each log: it names the log for ever and says how long
//! ids are remembered.

use bytes::Bytes;
use prost::Message as _;
use prost_types::Timestamp;
use pulso_proto::v1;
use pulso_proto::v1::control::Fact;

use super::LogLayout;

/// The version of the fold's rules that a new generation begins with.
const FOLD_VERSION: u32 = 1;
/// The version of a record's value.
const BATCH_FORMAT_VERSION: u32 = 1;

/// The value of the record that begins a generation; an id horizon of 0 seconds means that ids are remembered always.
pub(super) fn generation_start(layout: &LogLayout, id_horizon_seconds: u64, now_nanos: i64) -> Bytes {
    let start = v1::GenerationStart {
        generation: layout.generation,
        partitions: layout.partitions,
        log_id: Bytes::copy_from_slice(&layout.log_id),
        id_horizon_seconds,
        fold_version: FOLD_VERSION,
    };
    let received_at = Timestamp {
        seconds: now_nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(now_nanos.rem_euclid(1_000_000_000)).expect("below a second"),
    };
    let batch = v1::PulseBatch {
        format_version: BATCH_FORMAT_VERSION,
        received_at: Some(received_at),
        control: Some(v1::Control { fact: Some(Fact::GenerationStart(start)) }),
        ..Default::default()
    };
    Bytes::from(batch.encode_to_vec())
}
