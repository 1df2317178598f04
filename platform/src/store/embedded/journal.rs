//! Reads the engine's journals before the engine does, so that it only ever replays whole, ordered batches.
//!
//! The engine stops at the first entry it cannot read and goes on with the next journal file, does not cover a batch's
//! sequence number by a checksum, and refuses to open when a checksum fails. Here instead: the newest journal is cut
//! behind its last good batch (a torn tail after a power loss looks like that, and an older prefix is only folded
//! again), and damage in any other, a batch out of order or a missing one is damage of the store. Every batch is one
//! flush and carries its [`Stamp`], by which its place in the order is known.
//!
//! The format (version 3 of fjall, numbers little endian): a batch is `1, items u32, sequence u64`, then items
//! `2, type u8, compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, stored value`,
//! then `3, xxh3-64 of the items, "FJL", 3`. A byte 0 in place of the next batch is the preallocated rest.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::input::Input;
use super::stamp::Stamp;
use crate::store::StoreError;

const TRAILER: &[u8] = b"FJL\x03";
/// Type, compression, keyspace, key length, value length, stored length.
const ITEM_HEADER_BYTES: usize = 20;
/// Above it the engine's own arithmetic on sequence numbers may end; no store gets there.
const SEQUENCE_MAX: u64 = 1 << 62;

/// What the journals hold.
#[derive(Default, Debug)]
pub(super) struct Journals {
    /// The number of the last flush in them.
    pub(super) last_flush: Option<u64>,
    /// Bytes that were cut off the newest, without its preallocated rest.
    pub(super) cut_bytes: usize,
}

/// Checks all journals of a store's folder and cuts the tail of the newest. A folder without journals is new.
pub(super) fn check(folder: &Path) -> Result<Journals, StoreError> {
    let mut paths = journal_paths(folder)?;
    let newest = paths.pop();
    let mut reader = Reader::default();
    for (_, path) in &paths {
        let before = reader.last;
        let bytes = read(path)?;
        let end = reader.read_all(&bytes);
        if end.reason.is_some() || reader.last == before {
            let detail = end.reason.unwrap_or("no flush is left in it");
            return Err(damaged(path, &format!("{detail} at byte {}", end.offset)));
        }
    }
    let Some((_, path)) = newest else { return Ok(Journals::default()) };
    let bytes = read(&path)?;
    let end = reader.read_all(&bytes);
    if end.out_of_order {
        return Err(damaged(&path, "a flush is missing or out of order"));
    }
    let cut_bytes =
        bytes.len() - end.offset - bytes[end.offset..].iter().rev().take_while(|b| **b == 0).count();
    if cut_bytes > 0 {
        cut(&path, end.offset).map_err(|error| unavailable(&path, &error))?;
    }
    Ok(Journals { last_flush: reader.last.map(|(flush, _)| flush), cut_bytes })
}

fn journal_paths(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut paths = Vec::new();
    if !folder.exists() {
        return Ok(paths);
    }
    for entry in fs::read_dir(folder).map_err(|error| unavailable(folder, &error))? {
        let path = entry.map_err(|error| unavailable(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            paths.push((number.ok_or_else(|| damaged(&path, "not a journal's name"))?, path));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| unavailable(path, &error))
}

fn cut(path: &Path, length: usize) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length as u64)?;
    file.sync_all()
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    let detail = format!("{detail}; {}", super::REBUILD);
    StoreError::Damaged { place: path.display().to_string(), detail }
}

fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

/// Where the good batches of a journal end.
struct End {
    offset: usize,
    /// Why, when it is not the end of what was written.
    reason: Option<&'static str>,
    /// Whole batches, but not the ones that must follow.
    out_of_order: bool,
}

#[derive(Default)]
struct Reader {
    /// Flush and sequence of the batch before.
    last: Option<(u64, u64)>,
}

impl Reader {
    fn read_all(&mut self, bytes: &[u8]) -> End {
        let mut offset = 0;
        loop {
            let rest = &bytes[offset..];
            if rest.first().is_none_or(|tag| *tag == 0) {
                return End { offset, reason: None, out_of_order: false };
            }
            let Some(batch) = Batch::read(rest) else {
                return End { offset, reason: Some("the journal is damaged"), out_of_order: false };
            };
            if !self.follows(&batch) {
                return End {
                    offset,
                    reason: Some("a flush is missing or out of order"),
                    out_of_order: true,
                };
            }
            self.last = Some((batch.flush, batch.sequence));
            offset += batch.length;
        }
    }

    fn follows(&self, batch: &Batch) -> bool {
        let in_order = self.last.is_none_or(|(flush, sequence)| {
            flush.checked_add(1) == Some(batch.flush) && sequence < batch.sequence
        });
        in_order && batch.sequence >= batch.sequence_min && batch.sequence < SEQUENCE_MAX
    }
}

struct Batch {
    length: usize,
    sequence: u64,
    flush: u64,
    sequence_min: u64,
}

impl Batch {
    /// Reads one batch; `None` when it is not whole and right, with the same stamp in each keyspace.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        if input.take(1)? != [1] {
            return None;
        }
        let items = u32::from_le_bytes(input.array()?);
        let sequence = u64::from_le_bytes(input.array()?);
        let first = input.offset;
        let mut stamp: Option<Stamp> = None;
        let mut stamps = 0;
        for _ in 0..items {
            if let Some(found) = read_item(&mut input)? {
                if stamp.is_some_and(|stamp| stamp != found) {
                    return None;
                }
                stamp = Some(found);
                stamps += 1;
            }
        }
        let sum = xxh3_64(&bytes[first..input.offset]);
        if input.take(1)? != [3]
            || input.array()? != sum.to_le_bytes()
            || input.take(TRAILER.len())? != TRAILER
        {
            return None;
        }
        let stamp = stamp.filter(|_| stamps == super::KEYSPACES.len())?;
        Some(Self { length: input.offset, sequence, flush: stamp.flush, sequence_min: stamp.sequence_min })
    }
}

/// Passes over one item; `Some(Some(stamp))` when it is a stamp.
fn read_item(input: &mut Input<'_>) -> Option<Option<Stamp>> {
    if input.take(1)? != [2] {
        return None;
    }
    let header: [u8; ITEM_HEADER_BYTES] = input.array()?;
    let key_length = usize::from(u16::from_le_bytes([header[10], header[11]]));
    let stored = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
    let key = input.take(key_length)?;
    let value = input.take(stored)?;
    match key {
        [0, keyspace] => Stamp::decode([0, *keyspace], value).ok().map(Some),
        _ => Some(None),
    }
}
