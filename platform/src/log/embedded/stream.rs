//! Reads groups one after another from one segment file and checks each byte it hands out. Recovery, readers, single
//! fetches and the index all read through [`GroupStream`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};

use super::format::{ENTRY_BYTES, Entry, GROUP_HEADER_BYTES, GroupHeader, claimed_digest, table_matches};
use super::point::Point;
use crate::log::LogError;
use crate::log::digest::value_digest;

/// A part of a file in memory; what is handed out are slices of it.
struct Window {
    file: File,
    chunk_bytes: usize,
    begins: u64,
    bytes: Bytes,
}

impl Window {
    /// The bytes from `at` on, or `None` when the file holds fewer below `limit`.
    fn slice(&mut self, at: u64, length: usize, limit: u64) -> io::Result<Option<Bytes>> {
        if at + length as u64 > limit {
            return Ok(None);
        }
        if !self.holds(at, length) && !self.fill(at, length, limit)? {
            return Ok(None);
        }
        let from = usize::try_from(at - self.begins).expect("the window holds the byte");
        Ok(Some(self.bytes.slice(from..from + length)))
    }

    fn holds(&self, at: u64, length: usize) -> bool {
        at >= self.begins && at + length as u64 <= self.begins + self.bytes.len() as u64
    }

    /// Loads a chunk from `at` on, never beyond `limit`: what lies there may still change.
    fn fill(&mut self, at: u64, length: usize, limit: u64) -> io::Result<bool> {
        let rest = usize::try_from(limit - at).unwrap_or(usize::MAX);
        let wanted = self.chunk_bytes.max(length).min(rest);
        let mut fresh = Vec::with_capacity(wanted);
        if self.holds(at, 1) {
            let kept = &self.bytes[usize::try_from(at - self.begins).expect("the window holds the byte")..];
            fresh.extend_from_slice(&kept[..kept.len().min(wanted)]);
        }
        while fresh.len() < wanted {
            let next = at + fresh.len() as u64;
            match pread(&self.file, spare_capacity(&mut fresh), next) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // The allocator may have given more room than was asked for.
        fresh.truncate(wanted);
        let filled = fresh.len();
        self.begins = at;
        self.bytes = Bytes::from(fresh);
        Ok(filled >= length)
    }
}

/// Why a group cannot be trusted.
#[derive(Debug)]
pub(super) struct Flaw {
    /// Where the group begins.
    pub(super) byte: u64,
    /// What does not match.
    pub(super) detail: &'static str,
    /// The header, when its own check holds.
    pub(super) header: Option<GroupHeader>,
    /// When the file could not be read at all.
    pub(super) source: Option<io::Error>,
}

impl Flaw {
    pub(super) const fn new(byte: u64, detail: &'static str) -> Self {
        Self { byte, detail, header: None, source: None }
    }

    fn unreadable(byte: u64, source: io::Error) -> Self {
        Self { byte, detail: "the file cannot be read", header: None, source: Some(source) }
    }

    const fn of(mut self, header: GroupHeader) -> Self {
        self.header = Some(header);
        self
    }

    /// Whether the system refused to read although the bytes may be good: a lack of file handles, say. A sector that
    /// cannot be read and a file that is gone are damage.
    pub(super) fn is_transient(&self) -> bool {
        let errno = self.source.as_ref().and_then(io::Error::raw_os_error).map(Errno::from_raw_os_error);
        errno.is_some_and(|errno| errno != Errno::IO && errno != Errno::NOENT)
    }

    /// What was found, in words.
    pub(super) fn what(&self) -> String {
        self.source.as_ref().map_or_else(|| self.detail.into(), |source| format!("{}: {source}", self.detail))
    }

    /// As an error that names the place.
    pub(super) fn into_error(self, path: &Path, partition: Option<u32>) -> LogError {
        let place = format!("{} byte {}", path.display(), self.byte);
        let (detail, is_transient) = (self.what(), self.is_transient());
        match self.source {
            Some(source) if is_transient => LogError::Io { doing: format!("read {place}"), source },
            _ => LogError::Damaged { place, partition, detail },
        }
    }
}

/// A group whose header and table are proven.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) byte: u64,
    pub(super) header: GroupHeader,
    pub(super) digest: u64,
    pub(super) table: Bytes,
}

impl Group {
    /// The entries, each with the byte where its value begins.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Entry, u64)> {
        let mut value_at = self.byte + (GROUP_HEADER_BYTES + self.header.table_bytes()) as u64;
        self.table.chunks_exact(ENTRY_BYTES).map(move |line| {
            let entry = Entry::decode(line);
            let at = value_at;
            value_at += u64::from(entry.value_bytes);
            (entry, at)
        })
    }

    const fn ends(&self) -> u64 {
        self.byte + self.header.group_bytes()
    }
}

/// Groups of one segment file.
pub(super) struct GroupStream {
    window: Window,
    seed: u64,
}

impl GroupStream {
    pub(super) const fn new(file: File, seed: u64, chunk_bytes: usize) -> Self {
        Self { window: Window { file, chunk_bytes, begins: 0, bytes: Bytes::new() }, seed }
    }

    /// The group at a point, checked against it, as far as header and table go. Does not move the point.
    pub(super) fn group(&mut self, at: &Point, limit: u64) -> Result<Group, Flaw> {
        let byte = at.byte;
        let head = self.bytes(byte, byte..byte + GROUP_HEADER_BYTES as u64, limit)?;
        let header = GroupHeader::decode(self.seed, &head)
            .ok_or_else(|| Flaw::new(byte, "the header of the group does not match its check"))?;
        if header.sequence != at.sequence || header.previous_digest != at.digest {
            return Err(Flaw::new(byte, "the group does not follow the one before it").of(header));
        }
        if byte + header.group_bytes() > limit {
            return Err(Flaw::new(byte, "the group is cut short").of(header));
        }
        let table_at = byte + GROUP_HEADER_BYTES as u64;
        let table = self
            .bytes(byte, table_at..table_at + header.table_bytes() as u64, limit)
            .map_err(|flaw| Flaw { header: Some(header), ..flaw })?;
        if !table_matches(&head, &table) {
            return Err(Flaw::new(byte, "the digest of the group does not match").of(header));
        }
        let group = Group { byte, header, digest: claimed_digest(&head), table };
        let values: u64 = group.entries().map(|(entry, _)| u64::from(entry.value_bytes)).sum();
        let padding = u64::from(header.body_bytes).checked_sub(header.table_bytes() as u64 + values);
        if padding.is_none_or(|padding| padding >= 8) {
            return Err(Flaw::new(byte, "the lengths in the group do not add up").of(header));
        }
        Ok(group)
    }

    /// The value of one entry, proven by its digest.
    pub(super) fn value(&mut self, group: &Group, entry: &Entry, at: u64) -> Result<Bytes, Flaw> {
        let value = self.bytes(group.byte, at..at + u64::from(entry.value_bytes), group.ends())?;
        if value_digest(&value) != entry.digest {
            return Err(Flaw::new(group.byte, "the digest of a record does not match").of(group.header));
        }
        Ok(value)
    }

    /// Checks the zeros behind the last value.
    pub(super) fn check_padding(&mut self, group: &Group) -> Result<(), Flaw> {
        let used =
            group.entries().last().map_or(group.ends(), |(entry, at)| at + u64::from(entry.value_bytes));
        let padding = self.bytes(group.byte, used..group.ends(), group.ends())?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Flaw::new(group.byte, "the padding of the group is not zero").of(group.header));
        }
        Ok(())
    }

    /// Moves a point behind the group; offsets must go on without gaps.
    pub(super) fn advance(at: &mut Point, group: &Group) -> Result<(), Flaw> {
        for (entry, _) in group.entries() {
            match at.next_offsets.get_mut(entry.partition as usize) {
                Some(next) if *next == entry.offset => *next += 1,
                _ => return Err(Flaw::new(group.byte, "the offsets in the group are not the next ones")),
            }
        }
        at.byte = group.ends();
        at.sequence += 1;
        at.digest = group.digest;
        Ok(())
    }

    fn bytes(&mut self, group: u64, range: Range<u64>, limit: u64) -> Result<Bytes, Flaw> {
        let (at, length) = (range.start, usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(Bytes::new());
        }
        match self.window.slice(at, length, limit) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Flaw::new(group, "the file ends inside the group")),
            Err(source) => Err(Flaw::unreadable(group, source)),
        }
    }
}
