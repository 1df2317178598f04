//! The one writer of a log: it takes all that waits, writes it as one group, makes it durable by one fdatasync, shows it
//! to the readers and only then answers.
//!
//! After a failure nothing of the group is trusted: the file is cut back to the last durable byte, and the log goes on
//! in a new segment. While that cannot be done, the log takes nothing, and tries again by itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::{Disk, remove_if_there};
use super::folder::{CLOSED, write_sealed};
use super::format::{
    ALIGNMENT, ENTRY_BYTES, Entry, GROUP_HEADER_BYTES, GroupHeader, GroupKind, SegmentHeader,
};
use super::point::Point;
use super::queue::{Batch, Taken};
use super::recovery::Closed;
use super::shared::Shared;
use crate::log::metrics::{
    LOG_FAILED_GROUPS_TOTAL, LOG_GROUPS_TOTAL, LOG_RECORDS_TOTAL, LOG_SYNC_SECONDS, LOG_VALUE_BYTES_TOTAL,
};
use crate::log::{Appended, LogError};
use crate::service::clock::Clock;

/// How long after an ack the tail mark is written when nothing follows: half of the promised 100 ms, the rest is for the
/// disk.
const TAIL_MARK_AFTER: Duration = Duration::from_millis(50);
/// How often a log that takes nothing tries to go on.
const HEAL_EVERY: Duration = Duration::from_millis(200);

/// What the writer needs beside its place in the log.
pub(super) struct WriterSettings {
    pub(super) folder: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
}

/// How far a failed group has been taken back.
enum Health {
    Good,
    /// Bytes of a failed group may still lie behind the last durable one.
    Uncut,
    /// They are gone; a new segment is needed.
    Cut,
}

enum Failure {
    Write(io::Error),
    Sync(io::Error),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    settings: WriterSettings,
    file: File,
    /// The end of what is durable; the next group begins here.
    at: Point,
    appended_at: i64,
    /// Header and table of the group; its values are in the batch.
    head: Vec<u8>,
    batch: Batch,
    health: Health,
    tail_mark_at: Option<Instant>,
    wanted_bytes: u64,
}

impl Writer {
    /// `appended_at` is that of the last group; `marked` says that nothing is left for a tail mark to prove.
    pub(super) fn new(shared: Arc<Shared>, settings: WriterSettings, file: File, marked: bool) -> Self {
        let (at, appended_at) = shared.durable();
        Self {
            shared,
            settings,
            file,
            at,
            appended_at,
            head: Vec::new(),
            batch: Batch::default(),
            health: Health::Good,
            tail_mark_at: (!marked).then(|| Instant::now() + TAIL_MARK_AFTER),
            wanted_bytes: 0,
        }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let until = if matches!(self.health, Health::Good) {
                self.tail_mark_at
            } else {
                Some(Instant::now() + HEAL_EVERY)
            };
            match self.shared.queue.take(&mut self.batch, until) {
                Taken::Records => self.append(),
                Taken::Nothing if matches!(self.health, Health::Good) => self.mark_tail(),
                Taken::Nothing => self.heal(),
                Taken::Closing => return self.close(),
            }
        }
    }

    /// Writes what waits now, all of it, on the caller's thread.
    pub(super) fn write_waiting(&mut self) {
        let now = Some(Instant::now());
        while matches!(self.shared.queue.take(&mut self.batch, now), Taken::Records) {
            self.append();
        }
    }

    fn append(&mut self) {
        if self.at.byte >= self.settings.segment_bytes
            && let Err(error) = self.next_segment()
        {
            tracing::error!(%error, "a new log segment cannot be made; the log takes no records");
            self.health = Health::Cut;
            self.stop(true, &error.to_string());
            return;
        }
        self.appended_at = self.appended_at.max(self.settings.clock.now_nanos());
        let next = self.encode(GroupKind::Records);
        match self.commit() {
            Ok(()) => {
                self.publish(next);
                self.tail_mark_at = Some(Instant::now() + TAIL_MARK_AFTER);
                self.answer();
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn mark_tail(&mut self) {
        self.tail_mark_at = None;
        let next = self.encode(GroupKind::TailMark);
        match self.commit() {
            Ok(()) => self.publish(next),
            Err(failure) => self.fail(failure),
        }
    }

    /// Gives the records of the batch their offsets and makes it one group; returns the point behind it.
    fn encode(&mut self, kind: GroupKind) -> Point {
        let mut next = self.at.clone();
        let lines = &self.batch.lines;
        self.head.clear();
        self.head.resize(GROUP_HEADER_BYTES + lines.len() * ENTRY_BYTES, 0);
        let (head, table) = self.head.split_at_mut(GROUP_HEADER_BYTES);
        for (line, place) in lines.iter().zip(table.chunks_exact_mut(ENTRY_BYTES)) {
            let offset = &mut next.next_offsets[line.partition as usize];
            let (partition, value_bytes, digest) = (line.partition, line.value_bytes, line.digest);
            Entry { partition, value_bytes, offset: *offset, digest }.encode(place);
            *offset += 1;
        }
        let body_bytes = table.len() + self.batch.values_bytes.next_multiple_of(ALIGNMENT);
        let header = GroupHeader {
            kind,
            sequence: self.at.sequence,
            body_bytes: u32::try_from(body_bytes).expect("a group is bounded far below 4 GiB"),
            entries: u32::try_from(lines.len()).expect("a group is bounded far below 2^32 records"),
            appended_at: self.appended_at,
            previous_digest: self.at.digest,
            durable_sequence: self.at.sequence - 1,
        };
        next.digest = header.encode(self.shared.segments.seed(), head, table);
        next.byte += header.group_bytes();
        next.sequence += 1;
        next
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let disk = &self.settings.disk;
        let padding = self.batch.values_bytes.next_multiple_of(ALIGNMENT) - self.batch.values_bytes;
        let values = self.batch.values.iter().map(|value| &value[..]);
        let parts = std::iter::once(&self.head[..]).chain(values).chain([&[0; ALIGNMENT][..padding]]);
        disk.write_at(&self.file, parts, self.at.byte).map_err(Failure::Write)?;
        let began = Instant::now();
        disk.sync(&self.file).map_err(Failure::Sync)?;
        metrics::histogram!(LOG_SYNC_SECONDS).record(began.elapsed().as_secs_f64());
        Ok(())
    }

    fn publish(&mut self, next: Point) {
        self.shared.segments.offer(&self.at);
        self.shared.publish(&next, self.appended_at);
        self.at = next;
    }

    /// Answers the batch with the offsets that the group was given.
    fn answer(&mut self) {
        metrics::counter!(LOG_GROUPS_TOTAL).increment(1);
        metrics::counter!(LOG_RECORDS_TOTAL).increment(self.batch.lines.len() as u64);
        metrics::counter!(LOG_VALUE_BYTES_TOTAL).increment(self.batch.values_bytes as u64);
        let generation = self.shared.layout.generation;
        let table = self.head[GROUP_HEADER_BYTES..].chunks_exact(ENTRY_BYTES).map(Entry::decode);
        for (line, entry) in self.batch.lines.drain(..).zip(table) {
            let appended_at_nanos = self.appended_at;
            let appended =
                Appended { generation, partition: entry.partition, offset: entry.offset, appended_at_nanos };
            // Nobody waits for it any more: it is stored all the same.
            let _ = line.reply.send(Ok(appended));
        }
        self.batch.clear();
    }

    /// Takes back what a failed group may have left.
    fn fail(&mut self, failure: Failure) {
        self.wanted_bytes = (self.head.len() + self.batch.values_bytes) as u64;
        let (error, written) = match failure {
            Failure::Write(error) => (error, false),
            Failure::Sync(error) => (error, true),
        };
        tracing::error!(%error, written, segment = self.at.segment, byte = self.at.byte, "a log write failed");
        metrics::counter!(LOG_FAILED_GROUPS_TOTAL).increment(1);
        self.health = Health::Uncut;
        let cut = self.cut_back();
        if let Err(error) = &cut {
            tracing::error!(%error, "what a failed log write left cannot be cut yet");
        }
        self.stop(!written && cut.is_ok(), &error.to_string());
        self.heal();
    }

    /// Takes no more records; those of the batch are surely not stored, or nobody knows.
    fn stop(&mut self, surely_not_stored: bool, reason: &str) {
        self.shared.queue.refuse(reason);
        for line in self.batch.lines.drain(..) {
            let error = if surely_not_stored {
                LogError::Unavailable(reason.into())
            } else {
                LogError::Unknown(reason.into())
            };
            let _ = line.reply.send(Err(error));
        }
        self.batch.clear();
    }

    /// Cuts the file to its last durable byte, through a fresh handle: one that reported a failed fsync may report the
    /// next as good although nothing was written.
    fn cut_back(&mut self) -> io::Result<()> {
        let path = self.shared.segments.path(self.at.segment);
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        self.settings.disk.truncate(&file, self.at.byte)?;
        self.settings.disk.sync(&file)?;
        self.file = file;
        self.health = Health::Cut;
        Ok(())
    }

    fn heal(&mut self) {
        let mended = match self.health {
            Health::Good => return,
            Health::Uncut => self.cut_back().and_then(|()| self.next_segment()),
            Health::Cut => self.next_segment(),
        };
        match mended {
            Ok(()) => {
                tracing::info!(segment = self.at.segment, "the log takes records again");
                self.health = Health::Good;
                self.shared.queue.resume();
            }
            Err(error) => tracing::debug!(%error, "the log cannot go on yet"),
        }
    }

    /// Goes on in a new file.
    fn next_segment(&mut self) -> io::Result<()> {
        let header = SegmentHeader {
            number: self.at.segment + 1,
            first_sequence: self.at.sequence,
            previous_digest: self.at.digest,
            previous_bytes: self.at.byte,
            previous_appended_at: self.appended_at,
            next_offsets: self.at.next_offsets.clone(),
        };
        let path = self.shared.segments.path(header.number);
        let bytes = header.encode(&self.shared.layout);
        match self.make_segment(&path, &bytes) {
            Ok(file) => self.file = file,
            Err(error) => {
                // Left behind, it would be taken for one whose making was interrupted, or be made again.
                let _ = remove_if_there(&path);
                return Err(error);
            }
        }
        self.at.segment = header.number;
        self.at.byte = bytes.len() as u64;
        self.shared.segments.begin(header);
        self.shared.publish(&self.at, self.appended_at);
        self.wanted_bytes = 0;
        Ok(())
    }

    fn make_segment(&self, path: &Path, header: &[u8]) -> io::Result<File> {
        let disk = &self.settings.disk;
        let file = disk.create(path)?;
        disk.write_at(&file, [header], 0)?;
        if self.wanted_bytes > 0 {
            disk.reserve(&file, header.len() as u64 + self.wanted_bytes)?;
        }
        disk.sync(&file)?;
        disk.sync_folder(&self.settings.folder)?;
        Ok(file)
    }

    /// Proves the tail and leaves the mark of a clean end, so that the next start notices whatever is missing then.
    fn close(&mut self) {
        if !matches!(self.health, Health::Good) {
            return;
        }
        if self.tail_mark_at.is_some() {
            self.mark_tail();
        }
        if matches!(self.health, Health::Good) {
            let closed = Closed { next_sequence: self.at.sequence, digest: self.at.digest };
            if let Err(error) = write_sealed(&self.settings.folder.join(CLOSED), &closed) {
                tracing::warn!(%error, "the mark of a clean end was not left; nothing is lost by it");
            }
        }
    }
}
