//! Pulses that arrived behind a seal: how they are appended again to the next generation, and what is kept of their way.
//!
//! They keep their bytes and their origin. A crash may move a record twice: then the next generation holds its pulses twice,
//! the second time as duplicates, and either place is a right answer to where they went.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use pulso_domain::partitioner::partition_of;
use pulso_domain::position::{Rank, partition_generation, partition_index, partition_number};
use pulso_platform::log::{LogLayout, LogRecord, RECORD_BYTES_MAX};
use pulso_platform::store::{Cell, Key, keys};
use pulso_proto::{v1, walk};

use super::halt::Stop;
use super::ids::RunShape;
use super::record::{MOVED_FORMAT, RecordParts, split};

/// Fields of a `PulseBatch`.
const RECEIVED_AT: u32 = 2;
const PULSES: u32 = 4;
const REPLAYS: u32 = 5;
/// Room for what stands around the pulses: the version, the time, the origin without its indexes.
const HEADER_BYTES: usize = 96;
/// Room for one index, and for the keys and lengths of a pulse and its replay.
const PULSE_BYTES: usize = 24;

/// A record of pulses behind a seal that is to be appended to the next generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stray {
    /// The partition it arrived in, over all generations.
    pub partition: u32,
    /// Its rank there.
    pub rank: Rank,
    /// Its value.
    pub value: Bytes,
}

/// Appends strays to the next generation, and returns when they are durable there.
pub type StrayOutlet = dyn Fn(&[Stray]) -> Result<(), Stop> + Send + Sync;

/// One record of the next generation.
#[derive(Default)]
struct Parcel {
    partition: u32,
    indexes: Vec<u32>,
    pulses: Vec<u8>,
    replays: Vec<u8>,
}

impl Stray {
    /// The records that it becomes, each with its partition over all generations: its pulses by the partitions that their
    /// tenants have there. The same stray always becomes the same records in a generation.
    #[must_use]
    pub fn parcels(&self, next: &LogLayout) -> Vec<(u32, Bytes)> {
        let mut parts = RecordParts::default();
        if split(&self.value, &mut parts).is_err() {
            return Vec::new();
        }
        let mut parcels: Vec<Parcel> = Vec::new();
        let has_replays = parts.replays.len() == parts.pulses.len();
        for (index, pulse) in (0..).zip(&parts.pulses) {
            let replay = has_replays.then(|| parts.replays[index as usize]);
            let tenant_id = walk::pulse(pulse).map(|raw| raw.tenant_id).unwrap_or_default();
            let place = partition_of(tenant_id, next.partitions);
            let more = pulse.len() + replay.map_or(0, <[u8]>::len) + PULSE_BYTES;
            let open = parcels.iter_mut().rev().find(|one| one.partition == place);
            match open.filter(|one| one.bytes() + more <= RECORD_BYTES_MAX) {
                Some(parcel) => parcel.put(index, pulse, replay),
                None => {
                    let mut parcel = Parcel { partition: place, ..Parcel::default() };
                    parcel.put(index, pulse, replay);
                    parcels.push(parcel);
                }
            }
        }
        let pulses = parts.pulses.len() as u32;
        let encode = |parcel: &Parcel| {
            let number = partition_number(next.generation, parcel.partition);
            (number, self.encode(parcel, parts.received_at, pulses))
        };
        parcels.iter().map(encode).collect()
    }

    fn encode(&self, parcel: &Parcel, received_at: Option<&[u8]>, pulses: u32) -> Bytes {
        let header = v1::PulseBatch { format_version: MOVED_FORMAT, ..Default::default() };
        let mut value = header.encode_to_vec();
        if let Some(received_at) = received_at {
            put(RECEIVED_AT, received_at, &mut value);
        }
        value.extend_from_slice(&parcel.pulses);
        value.extend_from_slice(&parcel.replays);
        let origin = v1::MovedFrom {
            generation: partition_generation(self.partition),
            partition: partition_index(self.partition),
            offset: self.rank.offset(),
            indexes: parcel.indexes.clone(),
            pulses,
        };
        let origin = v1::PulseBatch { moved_from: Some(origin), ..Default::default() };
        value.extend_from_slice(&origin.encode_to_vec());
        value.into()
    }
}

impl Parcel {
    const fn bytes(&self) -> usize {
        HEADER_BYTES + self.pulses.len() + self.replays.len() + self.indexes.len() * PULSE_BYTES
    }

    fn put(&mut self, index: u32, pulse: &[u8], replay: Option<&[u8]>) {
        self.indexes.push(index);
        put(PULSES, pulse, &mut self.pulses);
        if let Some(replay) = replay {
            put(REPLAYS, replay, &mut self.replays);
        }
    }
}

fn put(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// The cell that says where the pulses of a stray went; `None` for a record that was not moved.
pub(super) fn trace(
    record: &LogRecord,
    (partition, rank): (u32, Rank),
    shape: &RunShape,
) -> Option<(Key, Cell)> {
    let mut parts = RecordParts::default();
    split(&record.value, &mut parts).ok()?;
    let from = parts.moved_from.filter(|_| parts.format_version >= MOVED_FORMAT)?;
    let origin = Rank::new(from.generation, from.offset)?;
    let origin_partition = partition_number(from.generation, from.partition);
    let range = shape.range_start(origin, 0);
    let first = from.indexes.first().copied().unwrap_or(0);
    let key = keys::moved((origin_partition, range), origin, (partition, first));
    let to = v1::MovedTo {
        generation: rank.generation(),
        partition: partition_index(partition),
        offset: rank.offset(),
        indexes: from.indexes,
        pulses: from.pulses,
    };
    Some((key, Cell { version: rank.as_u64(), value: to.encode_to_vec().into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: LogLayout = LogLayout { generation: 2, partitions: 4, log_id: [2; 16] };

    fn pulse(tenant_id: &str, id: usize) -> v1::Pulse {
        v1::Pulse { id: id.to_string(), tenant_id: tenant_id.into(), ..Default::default() }
    }

    fn stray(pulses: Vec<v1::Pulse>) -> Stray {
        let received_at = Some(prost_types::Timestamp { seconds: 7, nanos: 9 });
        let batch = v1::PulseBatch { format_version: 1, received_at, pulses, ..Default::default() };
        Stray { partition: 1, rank: Rank::new(1, 40).expect("fits"), value: batch.encode_to_vec().into() }
    }

    #[test]
    fn each_pulse_goes_to_its_tenants_partition_and_keeps_bytes_time_and_origin() {
        let pulses: Vec<_> = (0..40).map(|n| pulse(&format!("t{}", n % 7), n)).collect();
        let parcels = stray(pulses.clone()).parcels(&NEXT);
        assert!(parcels.len() > 1, "seven tenants are in several of four partitions");
        let mut seen = vec![false; pulses.len()];
        for (number, value) in &parcels {
            let batch = v1::PulseBatch::decode(value.clone()).expect("a batch");
            let from = batch.moved_from.expect("an origin");
            assert_eq!((batch.format_version, batch.received_at.expect("a time").seconds), (MOVED_FORMAT, 7));
            assert_eq!((from.generation, from.partition, from.offset, from.pulses), (1, 1, 40, 40));
            for (index, moved) in from.indexes.iter().zip(&batch.pulses) {
                assert_eq!(*moved, pulses[*index as usize]);
                assert!(!std::mem::replace(&mut seen[*index as usize], true), "moved once");
                let place = partition_of(moved.tenant_id.as_bytes(), NEXT.partitions);
                assert_eq!(*number, partition_number(2, place));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn a_full_record_becomes_records_that_the_log_takes() {
        let large = v1::Pulse { resource_id: "r".repeat(500), ..pulse("acme", 0) };
        let count = (RECORD_BYTES_MAX - 64) / (large.encoded_len() + 3);
        let parcels = stray(vec![large; count]).parcels(&NEXT);
        assert!(parcels.len() == 2 && parcels.iter().all(|(_, value)| value.len() <= RECORD_BYTES_MAX));
    }

    #[test]
    fn the_trace_of_a_moved_record_is_found_under_its_origin() {
        let (number, value) = stray(vec![pulse("acme", 1), pulse("acme", 2)]).parcels(&NEXT).remove(0);
        let rank = Rank::new(2, 5).expect("fits");
        let record = LogRecord { partition: number, offset: 5, appended_at_nanos: 0, digest: 0, value };
        let (key, cell) = trace(&record, (number, rank), &RunShape::FORMAT).expect("a moved record");
        let origin = Rank::new(1, 40).expect("fits");
        let start = Rank::new(1, 0).expect("fits");
        assert_eq!(key, keys::moved((1, start), origin, (number, 0)));
        let to = v1::MovedTo::decode(cell.value).expect("a trace");
        assert_eq!((to.generation, to.offset, to.indexes, to.pulses), (2, 5, vec![0, 1], 2));
        let plain = LogRecord { value: stray(vec![pulse("acme", 1)]).value, ..record };
        assert!(trace(&plain, (number, rank), &RunShape::FORMAT).is_none());
    }
}
