//! How a cell lies in the embedded store: its key, and its value with a checksum that binds the two.
//!
//! A key is `[table][length of the partition key, u16][partition key][clustering key]`: partitions never mix, and the
//! cells of one lie in the order of their clustering keys. A value is `[version, u64][checksum, u64][bytes]`. The
//! checksum covers the whole key too, so that a value that got under another key is as visible as a flipped bit.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::store::{Cell, Key, Range, StoreError, Table, after_prefix};

/// Bytes of a stored value before the cell's own.
const HEADER_BYTES: usize = 16;
/// The engine's keys hold at most 65,535 bytes; what is longer is refused before it is written.
const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// The encoded key of a cell.
pub(super) fn encode_key(key: &Key) -> Result<Vec<u8>, StoreError> {
    let length = 3 + key.partition.len() + key.clustering.len();
    if length > KEY_BYTES_MAX {
        let place = place_of(&encode_partition(key.table, &key.partition[..key.partition.len().min(16)]));
        let detail = format!("a key of {length} bytes cannot be stored, at most {KEY_BYTES_MAX}");
        return Err(StoreError::Damaged { place, detail });
    }
    let mut encoded = encode_partition(key.table, &key.partition);
    encoded.extend_from_slice(&key.clustering);
    Ok(encoded)
}

/// What all keys of one partition begin with.
pub(super) fn encode_partition(table: Table, partition: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(64.max(partition.len() + 3));
    encoded.push(table as u8);
    // A longer key is refused before it is written, so none is found under the cut length.
    encoded.extend_from_slice(&u16::try_from(partition.len()).unwrap_or(u16::MAX).to_be_bytes());
    encoded.extend_from_slice(partition);
    encoded
}

/// The encoded bounds of a scan, half-open; `None` when nothing can lie in it.
pub(super) fn encode_range(table: Table, partition: &[u8], range: &Range) -> Option<(Vec<u8>, Vec<u8>)> {
    if partition.len() > KEY_BYTES_MAX || range.to.as_ref().is_some_and(|to| *to <= range.from) {
        return None;
    }
    let prefix = encode_partition(table, partition);
    let from = [prefix.as_slice(), &range.from].concat();
    let to = match &range.to {
        Some(to) => [prefix.as_slice(), to].concat(),
        None => after_prefix(&prefix)?,
    };
    Some((from, to))
}

/// Binds key, version and value.
fn checksum(key: &[u8], version: u64, value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, version))
}

/// The stored value of a cell.
pub(super) fn encode_cell(key: &[u8], version: u64, value: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(HEADER_BYTES + value.len());
    encoded.extend_from_slice(&version.to_be_bytes());
    encoded.extend_from_slice(&checksum(key, version, value).to_be_bytes());
    encoded.extend_from_slice(value);
    encoded
}

/// The version of a stored value and its bytes, checked.
pub(super) fn decode<'a>(key: &[u8], stored: &'a [u8]) -> Result<(u64, &'a [u8]), StoreError> {
    let damaged = |detail: &str| StoreError::Damaged { place: place_of(key), detail: detail.to_owned() };
    let (version, rest) = stored.split_first_chunk().ok_or_else(|| damaged("the value is cut"))?;
    let (sum, value) = rest.split_first_chunk().ok_or_else(|| damaged("the value is cut"))?;
    let version = u64::from_be_bytes(*version);
    if checksum(key, version, value) != u64::from_be_bytes(*sum) {
        return Err(damaged("the checksum of key and value does not hold"));
    }
    Ok((version, value))
}

/// A stored value as a cell, checked.
pub(super) fn decode_cell(key: &[u8], stored: &[u8]) -> Result<Cell, StoreError> {
    let (version, value) = decode(key, stored)?;
    Ok(Cell { version, value: Bytes::copy_from_slice(value) })
}

/// A key for people: the table's number and the rest in hex.
fn place_of(key: &[u8]) -> String {
    let (table, rest) = key.split_first().unwrap_or((&0, &[]));
    let hex: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("table {table}, key {hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_under_another_key_or_with_any_flipped_bit_is_damaged() {
        let stored = encode_cell(b"key", 7, b"value");
        assert_eq!(decode(b"key", &stored).unwrap(), (7, b"value".as_slice()));
        assert!(matches!(decode(b"kez", &stored), Err(StoreError::Damaged { .. })));
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(b"key", &flipped), Err(StoreError::Damaged { .. })), "bit {bit}");
        }
        for length in 0..stored.len() {
            assert!(decode(b"key", &stored[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_key_that_is_too_long_is_refused() {
        assert!(encode_key(&Key::new(Table::Usage, vec![0; 65_000], vec![0; 600])).is_err());
        assert!(encode_key(&Key::new(Table::Usage, vec![0; 70_000], "")).is_err());
        assert!(encode_key(&Key::new(Table::Usage, vec![0; 65_000], vec![0; 500])).is_ok());
    }
}
