//! What the writer and the readers of a log share. The writer moves the durable end forward; readers never look beyond.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::point::Point;
use super::queue::Queue;
use super::segments::Segments;
use crate::log::{LogError, LogLayout, Watermarks};

struct Durable {
    end: Point,
    appended_at: i64,
}

/// One open log.
pub(super) struct Shared {
    pub(super) layout: LogLayout,
    pub(super) segments: Segments,
    pub(super) queue: Queue,
    durable: Mutex<Durable>,
    grown: Condvar,
}

impl Shared {
    pub(super) fn new(segments: Segments, queue: Queue, end: Point, appended_at: i64) -> Self {
        let durable = Mutex::new(Durable { end, appended_at });
        Self { layout: segments.layout(), segments, queue, durable, grown: Condvar::new() }
    }

    /// The durable end, and the time of the last group.
    pub(super) fn durable(&self) -> (Point, i64) {
        let durable = self.durable.lock();
        (durable.end.clone(), durable.appended_at)
    }

    /// Moves the durable end forward and wakes who waits for records.
    pub(super) fn publish(&self, end: &Point, appended_at: i64) {
        let mut durable = self.durable.lock();
        durable.end.clone_from(end);
        durable.appended_at = appended_at;
        drop(durable);
        self.grown.notify_all();
    }

    /// Waits until the durable end is no longer at this place; false when the time is up first.
    pub(super) fn wait_beyond(&self, place: (u64, u64), until: Instant) -> bool {
        let mut durable = self.durable.lock();
        while durable.end.place() == place {
            if self.grown.wait_until(&mut durable, until).timed_out() {
                return durable.end.place() != place;
            }
        }
        true
    }

    pub(super) fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        let durable = self.durable.lock();
        let end_offset = durable.end.next_offsets.get(partition as usize);
        let end_offset = *end_offset.ok_or(LogError::NoPartition(partition))?;
        Ok(Watermarks { start_offset: 0, end_offset })
    }
}
