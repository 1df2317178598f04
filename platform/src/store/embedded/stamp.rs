//! The stamp of a flush: one cell in each keyspace, written by every batch.
//!
//! After a start the stamps of all keyspaces must be equal, and be the last one in the journals: else one keyspace has
//! what another lacks, and the store is torn.

use super::cell::{decode, encode_cell};
use crate::store::StoreError;

/// The stamp's key in a keyspace; no table has the number 0.
pub(super) const fn stamp_key(keyspace: u8) -> [u8; 2] {
    [0, keyspace]
}

/// What every batch writes about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// Counts the flushes of the store from 1.
    pub(super) flush: u64,
    /// The engine's sequence number before the batch; the batch's own is not lower. The engine's journal does not cover
    /// it by a checksum, and a lower one would hide the batch behind what is older.
    pub(super) sequence_min: u64,
}

impl Stamp {
    /// The stamp as a stored value.
    pub(super) fn encode(self, key: [u8; 2]) -> Vec<u8> {
        encode_cell(&key, self.flush, &self.sequence_min.to_be_bytes())
    }

    /// Reads it back, checked.
    pub(super) fn decode(key: [u8; 2], stored: &[u8]) -> Result<Self, StoreError> {
        let (flush, value) = decode(&key, stored)?;
        let sequence_min = value.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Damaged {
            place: "the stamp of a flush".to_owned(),
            detail: "it has another length".to_owned(),
        })?;
        Ok(Self { flush, sequence_min })
    }
}
