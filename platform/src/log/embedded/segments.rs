//! The segments of a log as its readers see them: headers in memory, the index of the last one in memory too, those of
//! full ones loaded when a seek needs them, a few at a time, so that memory does not grow with the log.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::folder::{damaged, index_path, io_error, segment_path};
use super::format::{SegmentHeader, seed};
use super::index::{Index, keep};
use super::point::Point;
use super::stream::GroupStream;
use crate::log::{LogError, LogLayout};

/// Indexes of full segments held at once: a seek after a seek mostly stays near.
const INDEXES_HELD: usize = 16;
/// What a scan for an index reads at a time.
const SCAN_CHUNK_BYTES: usize = 1024 * 1024;

/// All segments of one generation.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    layout: LogLayout,
    seed: u64,
    writable: bool,
    headers: RwLock<Vec<Arc<SegmentHeader>>>,
    active: Mutex<Index>,
    held: Mutex<VecDeque<(u64, Arc<Index>)>>,
}

impl Segments {
    /// `headers` in order; `active` is the index of the last one.
    pub(super) fn new(
        folder: PathBuf,
        layout: LogLayout,
        headers: Vec<SegmentHeader>,
        active: Index,
    ) -> Self {
        Self {
            folder,
            layout,
            seed: seed(&layout),
            writable: true,
            headers: RwLock::new(headers.into_iter().map(Arc::new).collect()),
            active: Mutex::new(active),
            held: Mutex::default(),
        }
    }

    /// The same, for a folder that must not be changed.
    pub(super) fn read_only(mut self) -> Self {
        self.writable = false;
        self
    }

    pub(super) const fn layout(&self) -> LogLayout {
        self.layout
    }

    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.folder, number)
    }

    pub(super) fn count(&self) -> u64 {
        self.headers.read().len() as u64
    }

    /// The header of a segment, if it has been made.
    pub(super) fn header(&self, number: u64) -> Option<Arc<SegmentHeader>> {
        self.headers.read().get(usize::try_from(number).ok()?).map(Arc::clone)
    }

    /// Where the groups of a segment begin.
    pub(super) fn first_point(&self, header: &SegmentHeader) -> Point {
        Point {
            segment: header.number,
            byte: SegmentHeader::bytes(self.layout.partitions) as u64,
            sequence: header.first_sequence,
            digest: header.previous_digest,
            next_offsets: header.next_offsets.clone(),
        }
    }

    /// Takes in a new last segment; the one before gets no more groups.
    pub(super) fn begin(&self, header: SegmentHeader) {
        let fresh = Index::new(&self.first_point(&header));
        let seal = header.previous_digest;
        let mut active = self.active.lock();
        let before = std::mem::replace(&mut *active, fresh);
        let mut headers = self.headers.write();
        let full = Arc::new(before);
        self.hold(header.number - 1, Arc::clone(&full));
        headers.push(Arc::new(header));
        drop(headers);
        drop(active);
        keep(&self.folder, &full, seal);
    }

    /// Takes a durable point of the last segment into its index.
    pub(super) fn offer(&self, point: &Point) {
        self.active.lock().offer(point);
    }

    /// A point at or before this offset of the partition, not far from it.
    pub(super) fn before(&self, partition: u32, offset: u64) -> Result<Point, LogError> {
        let number = {
            let headers = self.headers.read();
            let column = partition as usize;
            headers.partition_point(|header| header.next_offsets[column] <= offset).saturating_sub(1)
        };
        self.with_index(number as u64, |index| index.before(partition, offset))
    }

    /// The first indexed point behind a damaged place, in its segment or the next.
    pub(super) fn after(&self, place: &Point) -> Result<Option<Point>, LogError> {
        if let Some(point) = self.with_index(place.segment, |index| index.after(place.byte))? {
            return Ok(Some(point));
        }
        Ok(self.header(place.segment + 1).map(|header| self.first_point(&header)))
    }

    fn with_index<T>(&self, number: u64, ask: impl FnOnce(&Index) -> T) -> Result<T, LogError> {
        if number + 1 == self.count() {
            let active = self.active.lock();
            if number + 1 == self.count() {
                return Ok(ask(&active));
            }
        }
        Ok(ask(&*self.index(number)?))
    }

    fn index(&self, number: u64) -> Result<Arc<Index>, LogError> {
        if let Some((_, index)) = self.held.lock().iter().find(|(held, _)| *held == number) {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(self.load(number)?);
        self.hold(number, Arc::clone(&index));
        Ok(index)
    }

    fn hold(&self, number: u64, index: Arc<Index>) {
        let mut held = self.held.lock();
        held.push_front((number, index));
        held.truncate(INDEXES_HELD);
    }

    fn load(&self, number: u64) -> Result<Index, LogError> {
        let path = self.path(number);
        let (Some(header), Some(next)) = (self.header(number), self.header(number + 1)) else {
            return Err(damaged(&path, "only a full segment has an index on disk"));
        };
        let first = self.first_point(&header);
        let seal = next.previous_digest;
        let kept = std::fs::read(index_path(&self.folder, number)).ok();
        if let Some(index) = kept.and_then(|bytes| Index::decode(&bytes, &first, seal)) {
            return Ok(index);
        }
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let mut stream = GroupStream::new(file, self.seed, SCAN_CHUNK_BYTES);
        let mut index = Index::new(&first);
        let mut at = first;
        while at.byte < next.previous_bytes {
            // Behind a damaged group nothing can be found; whoever reads there meets the damage and reports it.
            let step = stream.group(&at, next.previous_bytes);
            if step.and_then(|group| GroupStream::advance(&mut at, &group)).is_err() {
                return Ok(index);
            }
            index.offer(&at);
        }
        if self.writable {
            keep(&self.folder, &index, seal);
        }
        Ok(index)
    }
}
