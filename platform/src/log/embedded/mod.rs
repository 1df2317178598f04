//! The embedded log: one append-only stream of segment files for all partitions of a generation, one writer that makes
//! whole groups of records durable by one fsync, and readers that see only what is durable.
//!
//! One stream for all partitions, since one fsync then pays for all of them. `format` says what the bytes are, `recovery`
//! what is believed of them at a start, `writer` how they get there and what a failed write means, `reader` how they are
//! handed out.

mod creation;
mod cuts;
mod disk;
mod folder;
mod format;
mod growth;
mod index;
mod point;
mod queue;
mod reader;
mod recovery;
mod segments;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::cuts::{CutReport, RecordedCut, list_cuts, note_cuts};
pub use self::disk::{Disk, DiskOperation, Fault, Faults};
pub use self::growth::EmbeddedGenerations;
pub use super::generations::GrowReport;

use self::folder::{
    CLOSED, FolderLock, generation_folder, io_error, remove_durably, segment_path, sync_parent,
};
use self::format::PARTITIONS_MAX;
use self::queue::Queue;
use self::recovery::Found;
use self::segments::Segments;
use self::shared::Shared;
use self::writer::{Writer, WriterSettings};
use super::generation::generation_start;
use super::{AppendReply, Log, LogError, LogLayout, LogReader, LogRecord, RECORD_BYTES_MAX, Watermarks};
use crate::service::clock::Clock;

/// Segments end at the first group border above this: big enough to be few, small enough to be read in full at a start.
pub const SEGMENT_BYTES: u64 = 128 * 1024 * 1024;
/// Records that may wait for the group before them; beyond it appends are refused.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A group is ended at about this much: the fsync is well paid by then, and answers should not wait longer.
pub const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct EmbeddedLogConfig {
    /// The folder of all generations; made when it is not there.
    pub folder: PathBuf,
    /// The generation to open.
    pub generation: u32,
    /// The partition count of a log that is made now; one that exists keeps its own.
    pub partitions: u32,
    /// The size at which a new segment file is begun.
    pub segment_bytes: u64,
    /// Most bytes of records that wait.
    pub queue_bytes_max: usize,
    /// About the most bytes of one group, at most 64 MiB.
    pub group_bytes_max: usize,
    /// Stamps `appended_at`.
    pub clock: Clock,
    /// The disk; tests give one that fails.
    pub disk: Disk,
}

impl EmbeddedLogConfig {
    /// The first generation in this folder, with the defaults.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, partitions: u32, clock: Clock) -> Self {
        Self {
            folder: folder.into(),
            generation: 1,
            partitions,
            segment_bytes: SEGMENT_BYTES,
            queue_bytes_max: QUEUE_BYTES_MAX,
            group_bytes_max: GROUP_BYTES_MAX,
            clock,
            disk: Disk::default(),
        }
    }
}

/// What was found when a log was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenReport {
    /// Whether the log was made now.
    pub created: bool,
    /// Its segment files.
    pub segments: u64,
    /// Groups it holds, with tail marks.
    pub groups: u64,
    /// What was taken off its end; opened read-only, what would be.
    pub cut: Option<CutReport>,
}

/// The log of the one-process shape.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    /// Taken when the log is closed; the lock on the folder ends after the writer.
    running: Mutex<Option<Running>>,
}

/// The writer, unless the log is only read, and the right to the folder.
type Running = (Option<JoinHandle<()>>, Arc<FolderLock>);

impl EmbeddedLog {
    /// Opens a log, or makes it. Everything it serves from then on is durable.
    ///
    /// # Errors
    /// When the folder is in use, damaged, of a newer version, or cannot be read or written.
    pub fn open(config: EmbeddedLogConfig) -> Result<(Self, OpenReport), LogError> {
        std::fs::create_dir_all(&config.folder).map_err(io_error("make", &config.folder))?;
        let lock = Arc::new(FolderLock::take(&config.folder)?);
        Self::open_in(config, lock)
    }

    /// Opens or makes a generation of a folder that is held.
    fn open_in(config: EmbeddedLogConfig, lock: Arc<FolderLock>) -> Result<(Self, OpenReport), LogError> {
        let layout = creation::read_layout(&config.folder, config.generation)?;
        let created = layout.is_none();
        let layout = match layout {
            Some(layout) => layout,
            None => create_generation(&config)?,
        };
        let home = generation_folder(&config.folder, config.generation);
        let found = recovery::find(&home, &layout)?;
        let report = report(created, &found);
        make_true(&config, &home, &found)?;
        let Found { headers, index, end, appended_at, marked, .. } = found;
        let file = open_segment(&segment_path(&home, end.segment))?;
        let segments = Segments::new(home.clone(), layout, headers, index);
        let queue = Queue::new(config.queue_bytes_max, config.group_bytes_max.min(64 * 1024 * 1024));
        let shared = Arc::new(Shared::new(segments, queue, end, appended_at));
        let settings = WriterSettings {
            folder: home,
            segment_bytes: config.segment_bytes,
            clock: config.clock.clone(),
            disk: config.disk,
        };
        let mut writer = Writer::new(Arc::clone(&shared), settings, file, marked);
        begin_partitions(&shared, &mut writer, config.clock.now_nanos())?;
        let thread = start_writer(&shared, writer)?;
        Ok((Self { shared, running: Mutex::new(Some((Some(thread), lock))) }, report))
    }

    /// Opens a log that nobody holds, to look at it: nothing in it is changed, appends are refused.
    ///
    /// # Errors
    /// When there is no log, or as [`Self::open`].
    pub fn open_read_only(config: &EmbeddedLogConfig) -> Result<(Self, OpenReport), LogError> {
        Self::read_only_in(config, None)
    }

    /// As [`Self::open_read_only`], by whoever may hold the folder already.
    fn read_only_in(
        config: &EmbeddedLogConfig,
        lock: Option<Arc<FolderLock>>,
    ) -> Result<(Self, OpenReport), LogError> {
        let home = generation_folder(&config.folder, config.generation);
        let missing = || LogError::Io {
            doing: format!("open the log in {}", config.folder.display()),
            source: std::io::ErrorKind::NotFound.into(),
        };
        if !home.exists() {
            return Err(missing());
        }
        let lock = lock.map_or_else(|| FolderLock::take(&config.folder).map(Arc::new), Ok)?;
        let layout = creation::read_layout(&config.folder, config.generation)?.ok_or_else(missing)?;
        let found = recovery::find(&home, &layout)?;
        let report = report(false, &found);
        let Found { headers, index, end, appended_at, .. } = found;
        let segments = Segments::new(home, layout, headers, index).read_only();
        let queue = Queue::refusing("it is open for reading only");
        let shared = Arc::new(Shared::new(segments, queue, end, appended_at));
        Ok((Self { shared, running: Mutex::new(Some((None, lock))) }, report))
    }

    /// The right to the folder, while it is held.
    fn lock(&self) -> Option<Arc<FolderLock>> {
        self.running.lock().as_ref().map(|(_, lock)| Arc::clone(lock))
    }

    /// Writes what waits and the last tail mark, and gives the folder free. Readers can still read.
    pub fn close(&self) {
        self.shared.queue.close();
        if let Some((Some(thread), _lock)) = self.running.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of the log had panicked");
        }
    }
}

/// Writes the first record of each partition that has none: the log is new, or a crash came between.
fn begin_partitions(shared: &Shared, writer: &mut Writer, now_nanos: i64) -> Result<(), LogError> {
    let (end, _) = shared.durable();
    let value = generation_start(&shared.layout, 0, now_nanos);
    let empty = (0..).zip(&end.next_offsets).filter(|(_, next)| **next == 0);
    let replies: Vec<AppendReply> =
        empty.map(|(partition, _)| shared.queue.push(partition, vec![value.clone()])).collect();
    if replies.is_empty() {
        return Ok(());
    }
    writer.write_waiting();
    for mut reply in replies {
        reply.try_recv().map_err(|_| LogError::Unknown("the first records were not written".into()))??;
    }
    Ok(())
}

fn create_generation(config: &EmbeddedLogConfig) -> Result<LogLayout, LogError> {
    if config.partitions == 0 || config.partitions > PARTITIONS_MAX || config.generation == 0 {
        return Err(LogError::Io {
            doing: format!("make a log of {} partitions (1 to {PARTITIONS_MAX} can be)", config.partitions),
            source: std::io::ErrorKind::InvalidInput.into(),
        });
    }
    creation::create_folder(&config.folder, config.generation, config.partitions)
}

fn report(created: bool, found: &Found) -> OpenReport {
    OpenReport {
        created,
        segments: found.headers.len() as u64,
        groups: found.end.sequence - 1,
        cut: found.cut.clone(),
    }
}

/// Makes the folder what recovery found it to be: cuts what does not count and makes the rest durable, before anyone
/// sees it.
fn make_true(config: &EmbeddedLogConfig, home: &Path, found: &Found) -> Result<(), LogError> {
    if let Some(cut) = &found.cut {
        tracing::warn!(
            file = cut.file,
            byte = cut.byte,
            bytes = cut.bytes,
            possibly_acknowledged = cut.possibly_acknowledged,
            detail = cut.detail,
            "the end of the log was cut"
        );
        if cut.possibly_acknowledged {
            cuts::record_cut(&config.folder, config.generation, cut, config.clock.now_nanos())?;
        }
    }
    if let Some(path) = &found.unborn {
        remove_durably(path)?;
    }
    let path = segment_path(home, found.end.segment);
    let file = open_segment(&path)?;
    if found.cut.is_some() {
        file.set_len(found.end.byte).map_err(io_error("cut", &path))?;
    }
    file.sync_all().map_err(io_error("sync", &path))?;
    remove_durably(&home.join(CLOSED))?;
    sync_parent(&path)
}

fn open_segment(path: &Path) -> Result<std::fs::File, LogError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(io_error("open", path))
}

fn start_writer(shared: &Arc<Shared>, writer: Writer) -> Result<JoinHandle<()>, LogError> {
    /// Refuses what comes after the writer has ended, for whatever reason.
    struct Ended(Arc<Shared>);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.queue.refuse("its writer stopped");
        }
    }
    let ended = Ended(Arc::clone(shared));
    let work = move || {
        let _ended = ended;
        writer.run();
    };
    std::thread::Builder::new()
        .name("pulso-log".into())
        .spawn(work)
        .map_err(|source| LogError::Io { doing: "start the writer of the log".into(), source })
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Log for EmbeddedLog {
    fn layout(&self) -> LogLayout {
        self.shared.layout
    }

    fn append(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        let bytes: usize = value.iter().map(Bytes::len).sum();
        let error = if partition >= self.shared.layout.partitions {
            LogError::NoPartition(partition)
        } else if bytes > RECORD_BYTES_MAX {
            LogError::TooLarge { bytes, limit: RECORD_BYTES_MAX }
        } else {
            return self.shared.queue.push(partition, value);
        };
        let (reply, answer) = oneshot::channel();
        let _ = reply.send(Err(error));
        answer
    }

    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        self.shared.watermarks(partition)
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(reader::EmbeddedReader::open(&self.shared, from)?))
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        reader::fetch(&self.shared, partition, offsets)
    }

    fn is_appendable(&self) -> bool {
        self.shared.queue.is_taking()
    }
}
