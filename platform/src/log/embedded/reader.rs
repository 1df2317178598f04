//! Reading: [`EmbeddedReader`] goes forward through the stream for some partitions, [`fetch`] reads single records.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::folder::damaged;
use super::format::Entry;
use super::point::Point;
use super::shared::Shared;
use super::stream::{Flaw, Group, GroupStream};
use crate::log::{LogError, LogReader, LogRecord};

/// What a reader loads at a time; the records it hands out are slices of such chunks.
const CHUNK_BYTES: usize = 1024 * 1024;
/// What a single fetch loads at a time: about the distance of two index points.
const FETCH_CHUNK_BYTES: usize = 64 * 1024;
/// One poll hands out about this much, so that the caller can count on its memory.
const POLL_BYTES: usize = 1024 * 1024;
/// One poll passes over about this much of other partitions before it looks at the time.
const SKIP_BYTES: u64 = 16 * 1024 * 1024;

/// Reads some partitions of the stream.
pub(super) struct EmbeddedReader {
    shared: Arc<Shared>,
    /// The next offset to hand out, per partition; `None` for one that is not read, or no longer.
    wanted: Vec<Option<u64>>,
    at: Point,
    stream: Option<(u64, GroupStream)>,
    /// Damage that was met and not yet reported.
    faults: VecDeque<LogError>,
}

impl EmbeddedReader {
    pub(super) fn open(shared: &Arc<Shared>, from: &[(u32, u64)]) -> Result<Self, LogError> {
        let (end, _) = shared.durable();
        let mut wanted = vec![None; end.next_offsets.len()];
        let mut at = end.clone();
        for (partition, offset) in from.iter().copied() {
            let end_offset = shared.watermarks(partition)?.end_offset;
            if offset > end_offset {
                return Err(LogError::OffsetOutOfRange { partition, offset });
            }
            wanted[partition as usize] = Some(offset);
            // The end that was looked at first may lie before this one; reading on from it is right as well.
            if offset < end.next_offsets[partition as usize] {
                let begins = shared.segments.before(partition, offset)?;
                if begins.place() < at.place() {
                    at = begins;
                }
            }
        }
        Ok(Self { shared: Arc::clone(shared), wanted, at, stream: None, faults: VecDeque::new() })
    }

    /// Reads on until there is enough for one poll, or nothing more, or a fault: what was read before it is handed out
    /// first.
    fn read(&mut self, end: &Point, records: &mut Vec<LogRecord>) {
        let (mut handed_out, mut passed) = (0, 0);
        while self.at.place() < end.place()
            && handed_out < POLL_BYTES
            && passed < SKIP_BYTES
            && self.faults.is_empty()
        {
            match self.read_next(end, records) {
                Ok((group_bytes, value_bytes)) => {
                    passed += group_bytes;
                    handed_out += value_bytes;
                }
                Err(error) => self.faults.push_back(error),
            }
        }
    }

    /// Reads one group, or moves over a border or a damaged place.
    fn read_next(&mut self, end: &Point, records: &mut Vec<LogRecord>) -> Result<(u64, usize), LogError> {
        let Some(limit) = self.limit(end)? else { return Ok((0, 0)) };
        match self.read_group(limit, records) {
            Ok(read) => Ok(read),
            Err(flaw) if flaw.is_transient() => {
                Err(flaw.into_error(&self.shared.segments.path(self.at.segment), None))
            }
            Err(flaw) => self.step_over(flaw, end).map(|()| (0, 0)),
        }
    }

    /// How far the segment may be read; `None` after moving to the next one.
    fn limit(&mut self, end: &Point) -> Result<Option<u64>, LogError> {
        if self.at.segment == end.segment {
            return Ok(Some(end.byte));
        }
        let next = self.shared.segments.header(self.at.segment + 1).ok_or_else(|| {
            damaged(&self.shared.segments.path(self.at.segment + 1), "the segment is not known")
        })?;
        if self.at.byte < next.previous_bytes {
            return Ok(Some(next.previous_bytes));
        }
        let begins = self.shared.segments.first_point(&next);
        let follows = begins.sequence == self.at.sequence && begins.digest == self.at.digest;
        if !follows || begins.next_offsets != self.at.next_offsets {
            let flaw = Flaw::new(self.at.byte, "the next segment does not follow this one");
            self.step_over(flaw, end)?;
            return Ok(None);
        }
        self.at = begins;
        Ok(None)
    }

    /// Reads one group; answers its bytes and the bytes handed out.
    fn read_group(&mut self, limit: u64, records: &mut Vec<LogRecord>) -> Result<(u64, usize), Flaw> {
        let mut stream = match self.stream.take() {
            Some((segment, stream)) if segment == self.at.segment => stream,
            _ => open_stream(&self.shared, &self.at, CHUNK_BYTES)?,
        };
        let group = stream.group(&self.at, limit)?;
        let mut next = self.at.clone();
        GroupStream::advance(&mut next, &group)?;
        stream.check_padding(&group)?;
        let mut handed_out = 0;
        for (entry, value_at) in group.entries() {
            let wanted = self.wanted[entry.partition as usize];
            if wanted.is_none_or(|wanted| wanted > entry.offset) {
                continue;
            }
            // The table is proven, so damage of a value concerns this partition alone.
            match stream.value(&group, &entry, value_at) {
                Ok(value) if wanted == Some(entry.offset) => {
                    handed_out += value.len();
                    self.wanted[entry.partition as usize] = Some(entry.offset + 1);
                    records.push(record(&group, &entry, value));
                }
                Ok(_) => self.halt(&entry_range(&entry), Flaw::new(group.byte, "offsets are missing before")),
                Err(flaw) => self.halt(&entry_range(&entry), flaw),
            }
        }
        self.at = next;
        self.stream = Some((self.at.segment, stream));
        Ok((group.header.group_bytes(), handed_out))
    }

    /// Hands out no more of a partition, and says which offsets cannot be read.
    fn halt(&mut self, lost: &LostOffsets, flaw: Flaw) {
        self.wanted[lost.partition as usize] = None;
        let path = self.shared.segments.path(self.at.segment);
        let LostOffsets { partition, from, to } = *lost;
        let detail = format!("{}; offsets {from} to {to} of partition {partition} are lost", flaw.what());
        let place = format!("{} byte {}", path.display(), flaw.byte);
        tracing::error!(place, partition, detail, "the log is damaged");
        self.faults.push_back(LogError::Damaged { place, partition: Some(partition), detail });
    }

    /// Goes on behind a damaged group: partitions that have records between here and there halt.
    fn step_over(&mut self, flaw: Flaw, end: &Point) -> Result<(), LogError> {
        let behind = self.shared.segments.after(&self.at)?.filter(|point| point.place() < end.place());
        let behind = behind.unwrap_or_else(|| end.clone());
        for (partition, to) in (0..).zip(&behind.next_offsets) {
            if let Some(from) = self.wanted[partition as usize].filter(|next| next < to) {
                let lost = LostOffsets { partition, from, to: to - 1 };
                self.halt(&lost, Flaw::new(flaw.byte, flaw.detail));
            }
        }
        self.at = behind;
        self.stream = None;
        Ok(())
    }
}

impl LogReader for EmbeddedReader {
    fn poll(&mut self, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let until = Instant::now() + wait;
        let mut records = Vec::new();
        loop {
            if let Some(fault) = self.faults.pop_front() {
                return Err(fault);
            }
            let (end, _) = self.shared.durable();
            self.read(&end, &mut records);
            if !records.is_empty() {
                return Ok(records);
            }
            if !self.faults.is_empty() {
                continue;
            }
            let drained = self.at.place() >= end.place();
            let more =
                if drained { self.shared.wait_beyond(end.place(), until) } else { Instant::now() < until };
            if !more {
                return Ok(records);
            }
        }
    }
}

/// What a partition cannot hand out: both offsets included.
struct LostOffsets {
    partition: u32,
    from: u64,
    to: u64,
}

const fn entry_range(entry: &Entry) -> LostOffsets {
    LostOffsets { partition: entry.partition, from: entry.offset, to: entry.offset }
}

fn record(group: &Group, entry: &Entry, value: bytes::Bytes) -> LogRecord {
    LogRecord {
        partition: entry.partition,
        offset: entry.offset,
        appended_at_nanos: group.header.appended_at,
        digest: entry.digest,
        value,
    }
}

fn open_stream(shared: &Shared, at: &Point, chunk_bytes: usize) -> Result<GroupStream, Flaw> {
    let file = File::open(shared.segments.path(at.segment)).map_err(|source| Flaw {
        source: Some(source),
        ..Flaw::new(at.byte, "the segment cannot be opened")
    })?;
    Ok(GroupStream::new(file, shared.segments.seed(), chunk_bytes))
}

/// Reads single records of one partition, in the order asked.
pub(super) fn fetch(shared: &Shared, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
    let (end, _) = shared.durable();
    let end_offset = *end.next_offsets.get(partition as usize).ok_or(LogError::NoPartition(partition))?;
    if let Some(offset) = offsets.iter().copied().find(|offset| *offset >= end_offset) {
        return Err(LogError::OffsetOutOfRange { partition, offset });
    }
    let mut finder = Finder { shared, end: &end, partition, open: None };
    offsets.iter().map(|offset| finder.find(*offset)).collect()
}

/// Looks for records; stays where it is while the next one is near.
struct Finder<'a> {
    shared: &'a Shared,
    end: &'a Point,
    partition: u32,
    open: Option<Open>,
}

/// The group that was read last, the point behind it, and the stream it came from.
struct Open {
    group: Group,
    next: Point,
    stream: GroupStream,
}

impl Finder<'_> {
    fn find(&mut self, offset: u64) -> Result<LogRecord, LogError> {
        let begins = self.shared.segments.before(self.partition, offset)?;
        let path = self.shared.segments.path(begins.segment);
        let limit = self.limit(&begins)?;
        let column = self.partition as usize;
        let fault = |flaw: Flaw| flaw.into_error(&path, Some(self.partition));
        let mut open = match self.open.take() {
            Some(open) if self.is_near(&begins, &open, offset) => open,
            _ => self.first(begins, limit).map_err(fault)?,
        };
        while open.next.next_offsets[column] <= offset {
            (open.group, open.next) = step(&mut open.stream, open.next, limit).map_err(fault)?;
        }
        let sought = |entry: &Entry| entry.partition == self.partition && entry.offset == offset;
        let Some((entry, at)) = open.group.entries().find(|(entry, _)| sought(entry)) else {
            return Err(fault(Flaw::new(open.group.byte, "the group does not hold the offset it should")));
        };
        let value = open.stream.value(&open.group, &entry, at).map_err(fault)?;
        let found = record(&open.group, &entry, value);
        self.open = Some(open);
        Ok(found)
    }

    /// Whether the offset is in the open group, or behind it and not nearer to its own index point.
    fn is_near(&self, begins: &Point, open: &Open, offset: u64) -> bool {
        if open.next.segment != begins.segment || open.next.byte < begins.byte {
            return false;
        }
        let sought = |entry: Entry| entry.partition == self.partition && entry.offset == offset;
        open.next.next_offsets[self.partition as usize] <= offset
            || open.group.entries().any(|(entry, _)| sought(entry))
    }

    fn limit(&self, begins: &Point) -> Result<u64, LogError> {
        if begins.segment == self.end.segment {
            return Ok(self.end.byte);
        }
        let next = self.shared.segments.header(begins.segment + 1);
        let missing = || damaged(&self.shared.segments.path(begins.segment + 1), "the segment is not known");
        Ok(next.ok_or_else(missing)?.previous_bytes)
    }

    fn first(&self, begins: Point, limit: u64) -> Result<Open, Flaw> {
        let mut stream = open_stream(self.shared, &begins, FETCH_CHUNK_BYTES)?;
        let (group, next) = step(&mut stream, begins, limit)?;
        Ok(Open { group, next, stream })
    }
}

fn step(stream: &mut GroupStream, mut at: Point, limit: u64) -> Result<(Group, Point), Flaw> {
    let group = stream.group(&at, limit)?;
    GroupStream::advance(&mut at, &group)?;
    Ok((group, at))
}
