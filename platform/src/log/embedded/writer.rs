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
    ALIGNMENT, ENTRY_BYTES, Entry, GROUP_HEADER_BYTES, GroupHeader, GroupKind, SegmentHeader, value_digest,
};
use super::point::Point;
use super::queue::{Pending, Taken};
use super::recovery::Closed;
use super::shared::Shared;
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
    pub(super) group_bytes_max: usize,
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
    buffer: Vec<u8>,
    batch: Vec<Pending>,
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
            buffer: Vec::new(),
            batch: Vec::new(),
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
            let mut batch = std::mem::take(&mut self.batch);
            let taken = self.shared.queue.take(&mut batch, self.settings.group_bytes_max, until);
            self.batch = batch;
            match taken {
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
        while matches!(
            self.shared.queue.take(&mut self.batch, self.settings.group_bytes_max, now),
            Taken::Records
        ) {
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

    /// Lays the batch out as one group in the buffer; returns the point behind it.
    fn encode(&mut self, kind: GroupKind) -> Point {
        let mut next = self.at.clone();
        let values_at = GROUP_HEADER_BYTES + self.batch.len() * ENTRY_BYTES;
        let values: usize = self.batch.iter().map(|pending| pending.value_bytes).sum();
        self.buffer.clear();
        self.buffer.reserve(values_at + values + ALIGNMENT);
        self.buffer.resize(values_at, 0);
        for (line, pending) in self.batch.iter().enumerate() {
            let begins = self.buffer.len();
            for part in &pending.value {
                self.buffer.extend_from_slice(part);
            }
            let digest = value_digest(&self.buffer[begins..]);
            let offset = &mut next.next_offsets[pending.partition as usize];
            let value_bytes = u32::try_from(pending.value_bytes).expect("checked when it was appended");
            let entry = Entry { partition: pending.partition, value_bytes, offset: *offset, digest };
            let place = GROUP_HEADER_BYTES + line * ENTRY_BYTES;
            entry.encode(&mut self.buffer[place..place + ENTRY_BYTES]);
            *offset += 1;
        }
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGNMENT), 0);
        let body_bytes = self.buffer.len() - GROUP_HEADER_BYTES;
        let header = GroupHeader {
            kind,
            sequence: self.at.sequence,
            body_bytes: u32::try_from(body_bytes).expect("a group is bounded far below 4 GiB"),
            entries: u32::try_from(self.batch.len()).expect("a group is bounded far below 2^32 records"),
            appended_at: self.appended_at,
            previous_digest: self.at.digest,
            durable_sequence: self.at.sequence - 1,
        };
        let (head, body) = self.buffer.split_at_mut(GROUP_HEADER_BYTES);
        let table = &body[..self.batch.len() * ENTRY_BYTES];
        next.digest = header.encode(self.shared.segments.seed(), head, table);
        next.byte += self.buffer.len() as u64;
        next.sequence += 1;
        next
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let disk = &self.settings.disk;
        disk.write_at(&self.file, &self.buffer, self.at.byte).map_err(Failure::Write)?;
        disk.sync(&self.file).map_err(Failure::Sync)
    }

    fn publish(&mut self, next: Point) {
        self.shared.segments.offer(&self.at);
        self.shared.publish(&next, self.appended_at);
        self.at = next;
    }

    /// Answers the batch with the offsets that the group was given.
    fn answer(&mut self) {
        let generation = self.shared.layout.generation;
        for (line, pending) in self.batch.drain(..).enumerate() {
            let place = GROUP_HEADER_BYTES + line * ENTRY_BYTES;
            let entry = Entry::decode(&self.buffer[place..place + ENTRY_BYTES]);
            let appended_at_nanos = self.appended_at;
            let appended =
                Appended { generation, partition: entry.partition, offset: entry.offset, appended_at_nanos };
            // Nobody waits for it any more: it is stored all the same.
            let _ = pending.reply.send(Ok(appended));
        }
    }

    /// Takes back what a failed group may have left.
    fn fail(&mut self, failure: Failure) {
        self.wanted_bytes = self.buffer.len() as u64;
        let (error, written) = match failure {
            Failure::Write(error) => (error, false),
            Failure::Sync(error) => (error, true),
        };
        tracing::error!(%error, written, segment = self.at.segment, byte = self.at.byte, "a log write failed");
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
        for pending in self.batch.drain(..) {
            let error = if surely_not_stored {
                LogError::Unavailable(reason.into())
            } else {
                LogError::Unknown(reason.into())
            };
            let _ = pending.reply.send(Err(error));
        }
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
        disk.write_at(&file, header, 0)?;
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
