//! The bytes of the log, version 1: segment headers, group headers and entry tables. Pure.
//!
//! All numbers are little-endian. A segment file is a header and then groups, each 8-byte aligned:
//!
//! ```text
//! segment header   magic 8 | format 4 | bytes 4 | log id 16 | generation 4 | partitions 4 | number 8
//!                  | first sequence 8 | digest of the last group before 8 | bytes of the segment before 8
//!                  | appended_at of the last group before 8 | next offset of each partition 8 x n | checksum 8
//! group header     magic 4 | kind 4 | sequence 8 | body bytes 4 | entries 4 | appended_at 8
//!                  | digest of the group before 8 | durable sequence 8 | check of these 48 bytes 8 | digest 8
//! group body       entries of 24: partition 4 | value bytes 4 | offset 8 | xxh3-64 of the value 8; values; zeros
//! ```
//!
//! The digest of a group covers its header and entries, and through them its values; the header also holds the digest
//! of the group before, so a digest stands for the whole log up to here. Check and digest are seeded with the log's id:
//! bytes of another log, or bytes that a client chose, never pass for a group of this one.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::LogLayout;

/// The newest version of the format that this code reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// The most partitions of one log: it bounds the segment header.
pub(super) const PARTITIONS_MAX: u32 = 4096;

const SEGMENT_MAGIC: [u8; 8] = *b"PULSOLOG";
const SEGMENT_FIXED_BYTES: usize = 80;
const GROUP_MAGIC: [u8; 4] = *b"PGRP";

pub(super) const GROUP_HEADER_BYTES: usize = 64;
pub(super) const ENTRY_BYTES: usize = 24;
/// Groups begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// The seed of a log's digests.
pub(super) fn seed(layout: &LogLayout) -> u64 {
    xxh3_64_with_seed(&layout.log_id, u64::from(layout.generation))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a range of four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a range of eight bytes"))
}

/// What a segment file begins with: where the log stood when the file was made. Everything before was durable then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) number: u64,
    pub(super) first_sequence: u64,
    pub(super) previous_digest: u64,
    pub(super) previous_bytes: u64,
    pub(super) previous_appended_at: i64,
    pub(super) next_offsets: Vec<u64>,
}

impl SegmentHeader {
    /// The size of a header, a multiple of 8.
    pub(super) const fn bytes(partitions: u32) -> usize {
        SEGMENT_FIXED_BYTES + 8 * partitions as usize + 8
    }

    pub(super) fn encode(&self, layout: &LogLayout) -> Vec<u8> {
        let size = Self::bytes(layout.partitions);
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&u32::try_from(size).expect("the partition count is bounded").to_le_bytes());
        out.extend_from_slice(&layout.log_id);
        out.extend_from_slice(&layout.generation.to_le_bytes());
        out.extend_from_slice(&layout.partitions.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_sequence.to_le_bytes());
        out.extend_from_slice(&self.previous_digest.to_le_bytes());
        out.extend_from_slice(&self.previous_bytes.to_le_bytes());
        out.extend_from_slice(&self.previous_appended_at.to_le_bytes());
        for next in &self.next_offsets {
            out.extend_from_slice(&next.to_le_bytes());
        }
        let checksum = xxh3_64(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a header of this very log.
    pub(super) fn decode(bytes: &[u8], layout: &LogLayout) -> Result<Self, &'static str> {
        let size = Self::bytes(layout.partitions);
        if bytes.len() < size {
            return Err("the segment header is cut short");
        }
        let (body, checksum) = bytes[..size].split_at(size - 8);
        if body[..8] != SEGMENT_MAGIC || xxh3_64(body) != u64_at(checksum, 0) {
            return Err("the checksum of the segment header does not match");
        }
        let ours = body[16..32] == layout.log_id
            && u32_at(body, 32) == layout.generation
            && u32_at(body, 36) == layout.partitions;
        if !ours || u32_at(body, 8) != FORMAT {
            return Err("the segment belongs to another log");
        }
        let next_offsets = body[SEGMENT_FIXED_BYTES..].chunks_exact(8).map(|next| u64_at(next, 0)).collect();
        Ok(Self {
            number: u64_at(body, 40),
            first_sequence: u64_at(body, 48),
            previous_digest: u64_at(body, 56),
            previous_bytes: u64_at(body, 64),
            previous_appended_at: u64_at(body, 72).cast_signed(),
            next_offsets,
        })
    }
}

/// What a group is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GroupKind {
    /// Records that were made durable by one fsync.
    Records,
    /// Nothing but the proof that everything before it was durable.
    TailMark,
}

impl GroupKind {
    const fn code(self) -> u32 {
        match self {
            Self::Records => 1,
            Self::TailMark => 2,
        }
    }
}

/// The head of a group, without its two checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHeader {
    pub(super) kind: GroupKind,
    pub(super) sequence: u64,
    pub(super) body_bytes: u32,
    pub(super) entries: u32,
    pub(super) appended_at: i64,
    pub(super) previous_digest: u64,
    pub(super) durable_sequence: u64,
}

impl GroupHeader {
    /// Writes the header into its place before `table` and returns the digest of the group.
    pub(super) fn encode(&self, seed: u64, head: &mut [u8], table: &[u8]) -> u64 {
        head[0..4].copy_from_slice(&GROUP_MAGIC);
        head[4..8].copy_from_slice(&self.kind.code().to_le_bytes());
        head[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        head[16..20].copy_from_slice(&self.body_bytes.to_le_bytes());
        head[20..24].copy_from_slice(&self.entries.to_le_bytes());
        head[24..32].copy_from_slice(&self.appended_at.to_le_bytes());
        head[32..40].copy_from_slice(&self.previous_digest.to_le_bytes());
        head[40..48].copy_from_slice(&self.durable_sequence.to_le_bytes());
        let check = xxh3_64_with_seed(&head[..48], seed);
        let digest = xxh3_64_with_seed(table, check);
        head[48..56].copy_from_slice(&check.to_le_bytes());
        head[56..64].copy_from_slice(&digest.to_le_bytes());
        digest
    }

    /// Reads a header whose own check holds; the table is checked by [`table_matches`].
    pub(super) fn decode(seed: u64, head: &[u8]) -> Option<Self> {
        if head.len() < GROUP_HEADER_BYTES || head[..4] != GROUP_MAGIC {
            return None;
        }
        if xxh3_64_with_seed(&head[..48], seed) != u64_at(head, 48) {
            return None;
        }
        let kind = match u32_at(head, 4) {
            1 => GroupKind::Records,
            2 => GroupKind::TailMark,
            _ => return None,
        };
        let header = Self {
            kind,
            sequence: u64_at(head, 8),
            body_bytes: u32_at(head, 16),
            entries: u32_at(head, 20),
            appended_at: u64_at(head, 24).cast_signed(),
            previous_digest: u64_at(head, 32),
            durable_sequence: u64_at(head, 40),
        };
        let fits = header.table_bytes() <= header.body_bytes as usize
            && (header.body_bytes as usize).is_multiple_of(ALIGNMENT);
        fits.then_some(header)
    }

    pub(super) const fn table_bytes(&self) -> usize {
        self.entries as usize * ENTRY_BYTES
    }

    /// All bytes of the group.
    pub(super) const fn group_bytes(&self) -> u64 {
        GROUP_HEADER_BYTES as u64 + self.body_bytes as u64
    }
}

/// The digest that a group's header claims.
pub(super) fn claimed_digest(head: &[u8]) -> u64 {
    u64_at(head, 56)
}

/// Whether the table is the one that the header was written for.
pub(super) fn table_matches(head: &[u8], table: &[u8]) -> bool {
    xxh3_64_with_seed(table, u64_at(head, 48)) == claimed_digest(head)
}

/// One line of a group's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) partition: u32,
    pub(super) value_bytes: u32,
    pub(super) offset: u64,
    pub(super) digest: u64,
}

impl Entry {
    pub(super) fn encode(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.partition.to_le_bytes());
        out[4..8].copy_from_slice(&self.value_bytes.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.digest.to_le_bytes());
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        Self {
            partition: u32_at(bytes, 0),
            value_bytes: u32_at(bytes, 4),
            offset: u64_at(bytes, 8),
            digest: u64_at(bytes, 16),
        }
    }
}
