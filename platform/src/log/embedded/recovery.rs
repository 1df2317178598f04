//! Recovery: what a folder holds, proven up to its end, before anything of it is served.
//!
//! Full segments are proven durable by the header of the next one; the last segment is read in full. A group that does
//! not hold is *damage* when anything durable came behind it, and is *cut* otherwise, since then the fsync that would
//! have made it durable may never have returned.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cuts::CutReport;
use super::folder::{CLOSED, count_segments, damaged, io_error, read_sealed, segment_path};
use super::format::{
    ALIGNMENT, GROUP_HEADER_BYTES, GroupHeader, GroupKind, SegmentHeader, seed, table_matches,
};
use super::index::Index;
use super::point::Point;
use super::stream::{Flaw, Group, GroupStream};
use crate::log::{LogError, LogLayout};

const SCAN_CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// Where the log ended when it was closed; what is found when it is opened must end there too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) next_sequence: u64,
    pub(super) digest: u64,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) headers: Vec<SegmentHeader>,
    pub(super) index: Index,
    pub(super) end: Point,
    pub(super) appended_at: i64,
    /// Whether the last group is a tail mark: then nothing is left to be proven.
    pub(super) marked: bool,
    pub(super) cut: Option<CutReport>,
    /// A last segment whose making was interrupted: it holds nothing.
    pub(super) unborn: Option<PathBuf>,
}

/// Reads a generation's folder. Changes nothing.
pub(super) fn find(folder: &Path, layout: &LogLayout) -> Result<Found, LogError> {
    let (headers, unborn) = read_headers(folder, layout)?;
    check_full_segments(folder, &headers)?;
    let last = headers.last().expect("there is a first segment");
    let path = segment_path(folder, last.number);
    let mut scan = Scan::begin(&path, last, layout)?;
    let mut cut = scan.run()?;
    let Scan { at: end, index, appended_at, marked, .. } = scan;
    if let Some(closed) = read_sealed::<Closed>(&folder.join(CLOSED))? {
        if closed.next_sequence != end.sequence || closed.digest != end.digest {
            let group = closed.next_sequence.saturating_sub(1);
            let detail = format!("it was closed behind group {group} but what can be read ends here");
            let place = format!("{} byte {}", path.display(), end.byte);
            return Err(LogError::Damaged { place, partition: None, detail });
        }
        // Everything up to the clean end is there; what lies behind it never was part of the log.
        if let Some(cut) = &mut cut {
            cut.possibly_acknowledged = false;
        }
    }
    Ok(Found { headers, index, end, appended_at, marked, cut, unborn })
}

/// The headers of all segments. A last file without a whole header is one whose making was interrupted.
fn read_headers(
    folder: &Path,
    layout: &LogLayout,
) -> Result<(Vec<SegmentHeader>, Option<PathBuf>), LogError> {
    let count = count_segments(folder)?;
    if count == 0 {
        return Err(damaged(&segment_path(folder, 0), "the segment is missing"));
    }
    let size = SegmentHeader::bytes(layout.partitions);
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for number in 0..count {
        let path = segment_path(folder, number);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let length = file.metadata().map_err(io_error("read", &path))?.len();
        let mut bytes = vec![0; size.min(usize::try_from(length).unwrap_or(size))];
        file.read_exact_at(&mut bytes, 0).map_err(io_error("read", &path))?;
        match SegmentHeader::decode(&bytes, layout) {
            Ok(header) if header.number == number => headers.push(header),
            Ok(_) => return Err(damaged(&path, "the file has the name of another segment")),
            Err(_) if number > 0 && number + 1 == count && length <= size as u64 => {
                return Ok((headers, Some(path)));
            }
            Err(detail) => {
                let place = format!("{} byte 0", path.display());
                return Err(LogError::Damaged { place, partition: None, detail: detail.into() });
            }
        }
    }
    Ok((headers, None))
}

/// Each full segment has the length that the next one remembers, and offsets go on.
fn check_full_segments(folder: &Path, headers: &[SegmentHeader]) -> Result<(), LogError> {
    for pair in headers.windows(2) {
        let [before, next] = pair else { continue };
        let path = segment_path(folder, before.number);
        let length = std::fs::metadata(&path).map_err(io_error("read", &path))?.len();
        if length != next.previous_bytes {
            let place = format!("{} byte {}", path.display(), length.min(next.previous_bytes));
            let detail = format!("it has {length} bytes, {} were durable", next.previous_bytes);
            return Err(LogError::Damaged { place, partition: None, detail });
        }
        let grows = before.first_sequence <= next.first_sequence
            && before.next_offsets.iter().zip(&next.next_offsets).all(|(before, next)| before <= next);
        if !grows {
            let path = segment_path(folder, next.number);
            return Err(damaged(&path, "the segment does not follow the one before it"));
        }
    }
    Ok(())
}

/// Reads one segment in full.
struct Scan<'a> {
    path: &'a Path,
    stream: GroupStream,
    seed: u64,
    length: u64,
    at: Point,
    index: Index,
    appended_at: i64,
    marked: bool,
}

impl<'a> Scan<'a> {
    fn begin(path: &'a Path, header: &SegmentHeader, layout: &LogLayout) -> Result<Self, LogError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let length = file.metadata().map_err(io_error("read", path))?.len();
        let at = Point {
            segment: header.number,
            byte: SegmentHeader::bytes(layout.partitions) as u64,
            sequence: header.first_sequence,
            digest: header.previous_digest,
            next_offsets: header.next_offsets.clone(),
        };
        let seed = seed(layout);
        Ok(Self {
            path,
            stream: GroupStream::new(file, seed, SCAN_CHUNK_BYTES),
            seed,
            length,
            index: Index::new(&at),
            at,
            appended_at: header.previous_appended_at,
            // A segment without groups was begun behind durable ones.
            marked: true,
        })
    }

    /// Goes forward to the end, or to the first group that does not hold.
    fn run(&mut self) -> Result<Option<CutReport>, LogError> {
        while self.at.byte < self.length {
            match self.step() {
                Ok(group) => {
                    self.appended_at = group.header.appended_at;
                    self.marked = group.header.kind == GroupKind::TailMark;
                    self.index.offer(&self.at);
                }
                Err(flaw) => return self.judge(flaw).map(Some),
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Group, Flaw> {
        let group = self.stream.group(&self.at, self.length)?;
        for (entry, at) in group.entries() {
            self.stream.value(&group, &entry, at)?;
        }
        self.stream.check_padding(&group)?;
        let mut next = self.at.clone();
        GroupStream::advance(&mut next, &group)?;
        self.at = next;
        Ok(group)
    }

    /// Damage, when something durable lies behind; else a cut.
    fn judge(&self, flaw: Flaw) -> Result<CutReport, LogError> {
        if flaw.source.is_some() {
            return Err(flaw.into_error(self.path, None));
        }
        let length = usize::try_from(self.length - flaw.byte).expect("a segment fits the address space");
        let mut tail = vec![0; length];
        let file = File::open(self.path).map_err(io_error("open", self.path))?;
        file.read_exact_at(&mut tail, flaw.byte).map_err(io_error("read", self.path))?;
        if self.proves_durable(&tail) {
            return Err(flaw.into_error(self.path, None));
        }
        let possibly_acknowledged = match flaw.header {
            Some(header) => header.kind == GroupKind::Records && header.group_bytes() <= length as u64,
            // Zeros are what a power cut leaves of bytes that were never synced; other bytes may have been a group.
            None => length >= GROUP_HEADER_BYTES && tail.iter().any(|byte| *byte != 0),
        };
        Ok(CutReport {
            file: self.path.display().to_string(),
            byte: flaw.byte,
            bytes: length as u64,
            records: flaw.header.map(|header| header.entries),
            detail: flaw.detail.into(),
            possibly_acknowledged,
        })
    }

    /// Whether a group of this log stands in these bytes that was written when the one expected here was durable.
    fn proves_durable(&self, tail: &[u8]) -> bool {
        (0..tail.len()).step_by(ALIGNMENT).any(|at| {
            let Some(header) = GroupHeader::decode(self.seed, &tail[at..]) else { return false };
            let table = at + GROUP_HEADER_BYTES;
            let Some(table) = tail.get(table..table + header.table_bytes()) else { return false };
            header.durable_sequence >= self.at.sequence && table_matches(&tail[at..], table)
        })
    }
}
