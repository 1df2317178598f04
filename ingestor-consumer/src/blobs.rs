//! Archived records in the store: how one is written by the fold's shell and read back by whoever explains or audits.
//!
//! A blob is one cell, named by the record's rank and written at it. The same record gives the same blob again, but for
//! what another version of the compression makes of it: then either of the two is right, and a cell holds one of them whole.

use bytes::Bytes;
use pulso_domain::position::Rank;
use pulso_platform::log::{LogRecord, RECORD_BYTES_MAX};
use pulso_platform::store::{Cell, Key, Store, keys};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::fold::halt::{Halt, Stop};
use crate::fold::ids::RunShape;

/// The version of a blob's format.
const FORMAT: u8 = 1;
/// How the value stands in the blob.
const STORED: u8 = 0;
const ZSTD: u8 = 1;
/// Packed pulses shrink to about a fifth at the cheapest level; dearer ones cost the fold more than they save the store.
const LEVEL: i32 = 1;
/// Format, packing, append time, checksum.
const HEADER_BYTES: usize = 1 + 1 + 8 + 8;
/// A longer value is none that the log took.
const VALUE_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// Records folded since the last flush, as the cells that a flush makes durable before the progress passes them.
#[derive(Debug, Default)]
pub(crate) struct Blobs {
    waiting: Vec<(Key, Cell)>,
    bytes: usize,
}

impl Blobs {
    /// Keeps a record that was folded.
    pub(crate) fn keep(&mut self, shape: &RunShape, rank: Rank, record: &LogRecord) {
        let value = encode(record);
        self.bytes += value.len();
        let key = keys::archived(record.partition, shape.range_start(rank, 0), rank);
        self.waiting.push((key, Cell { version: rank.as_u64(), value }));
    }

    /// What waits.
    pub(crate) fn waiting(&self) -> &[(Key, Cell)] {
        &self.waiting
    }

    /// Its bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says that all of it is durable.
    pub(crate) fn confirm(&mut self) {
        self.waiting.clear();
        self.bytes = 0;
    }
}

/// Reads records back, in the order asked.
///
/// # Errors
/// When the store cannot be read, lacks one of them, or one is not what was written.
pub(crate) fn fetch(
    store: &dyn Store,
    shape: &RunShape,
    partition: u32,
    ranks: &[Rank],
) -> Result<Vec<LogRecord>, Stop> {
    let name = |rank: &Rank| keys::archived(partition, shape.range_start(*rank, 0), *rank);
    let names: Vec<_> = ranks.iter().map(name).collect();
    let mut records = Vec::with_capacity(ranks.len());
    for (rank, cell) in ranks.iter().zip(store.get(&names)?) {
        let lacking = || Halt::ArchiveIncomplete { partition, rank: *rank };
        let record = decode(partition, *rank, &cell.ok_or_else(lacking)?.value);
        records.push(record.ok_or_else(lacking)?);
    }
    Ok(records)
}

fn encode(record: &LogRecord) -> Bytes {
    let packed = zstd::bulk::compress(&record.value, LEVEL).ok();
    let packed = packed.filter(|packed| packed.len() < record.value.len());
    let (packing, value) = packed.as_ref().map_or((STORED, &record.value[..]), |packed| (ZSTD, packed));
    let mut blob = Vec::with_capacity(HEADER_BYTES + value.len());
    blob.extend_from_slice(&[FORMAT, packing]);
    blob.extend_from_slice(&record.appended_at_nanos.to_be_bytes());
    blob.extend_from_slice(&checksum(&record.value, record.appended_at_nanos).to_be_bytes());
    blob.extend_from_slice(value);
    blob.into()
}

/// Over the value as it was appended, so that packing and unpacking are checked too, and its time.
fn checksum(value: &[u8], appended_at_nanos: i64) -> u64 {
    xxh3_64_with_seed(value, appended_at_nanos.cast_unsigned())
}

/// `None` when it is not what was written, or of a version that this binary does not know.
fn decode(partition: u32, rank: Rank, blob: &Bytes) -> Option<LogRecord> {
    let (header, packed) = blob.split_at_checked(HEADER_BYTES)?;
    let (appended_at, expected) = header[2..].split_first_chunk::<8>()?;
    let value = match header[..2] {
        [FORMAT, STORED] => blob.slice_ref(packed),
        [FORMAT, ZSTD] => zstd::bulk::decompress(packed, VALUE_BYTES_MAX).ok()?.into(),
        _ => return None,
    };
    let appended_at_nanos = i64::from_be_bytes(*appended_at);
    if checksum(&value, appended_at_nanos).to_be_bytes() != *expected {
        return None;
    }
    let digest = xxh3_64(&value);
    Some(LogRecord { partition, offset: rank.offset(), appended_at_nanos, digest, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Vec<u8>) -> LogRecord {
        LogRecord {
            partition: 3,
            offset: 9,
            appended_at_nanos: -5,
            digest: xxh3_64(&value),
            value: value.into(),
        }
    }

    fn rank() -> Rank {
        Rank::new(2, 9).expect("small")
    }

    #[test]
    fn a_record_is_read_back_as_it_was_appended_and_is_smaller_in_between() {
        let noise: Vec<u8> = (0..999_u64).flat_map(|n| xxh3_64(&n.to_be_bytes()).to_be_bytes()).collect();
        for value in [Vec::new(), b"x".to_vec(), vec![7; RECORD_BYTES_MAX], noise] {
            let blob = encode(&record(value.clone()));
            assert!(blob.len() <= value.len() + HEADER_BYTES);
            assert_eq!(decode(3, rank(), &blob), Some(record(value)));
        }
    }

    #[test]
    fn g10_an_archived_record_with_any_bit_changed_is_never_read() {
        let good =
            encode(&record(b"some pulses, some pulses, some pulses, some pulses, some pulses".to_vec()));
        let written = decode(3, rank(), &good);
        for bit in 0..good.len() * 8 {
            let mut blob = good.to_vec();
            blob[bit / 8] ^= 1 << (bit % 8);
            let read = decode(3, rank(), &blob.into());
            assert!(read.is_none() || read == written, "bit {bit}");
        }
    }
}
