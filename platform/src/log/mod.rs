//! The log: what was acknowledged, in order, per partition. Two siblings implement [`Log`]: the embedded one here, and
//! Apache Kafka. Both pass the same conformance suite.
//!
//! A log moves bytes and decides nothing: it stamps `appended_at`, gives each record the next offset of its partition,
//! and hands out only what is durable.

mod book;
#[cfg(test)]
pub(crate) mod conformance;
pub mod digest;
pub mod embedded;
mod generation;
pub mod generations;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod membership;
pub mod metrics;

use std::time::Duration;

use bytes::Bytes;
use pulso_domain::position::partition_number;
use tokio::sync::oneshot;

pub use self::book::LayoutBook;
pub use self::generation::{DEFAULT_TOPIC, generation_topic};
use self::membership::{EveryPartition, Membership};

/// Most bytes of one record's value. Kafka's default message limit is 1 MiB; half of it leaves room for headers and
/// keeps a record's id entries and its dead letter within their own bounds.
pub const RECORD_BYTES_MAX: usize = 512 * 1024;
/// Most pulses of one record: with 128 records an id run then has at most 2^18 entries, and its cells stay under 1 MiB.
pub const RECORD_PULSES_MAX: usize = 2048;

/// What a generation of the log is: fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLayout {
    /// The generation, from 1.
    pub generation: u32,
    /// Its partition count.
    pub partitions: u32,
    /// 16 random bytes that name it for ever: a swapped or re-created log has another.
    pub log_id: [u8; 16],
}

/// Where a durable record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// The generation it was appended to.
    pub generation: u32,
    /// The partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The log's own time, in nanoseconds since the Unix epoch; never falls within a partition, unless the clock of a Kafka
    /// broker does: the fold goes by the largest so far.
    pub appended_at_nanos: i64,
}

/// One record, as read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// The partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The log's own time, in nanoseconds since the Unix epoch.
    pub appended_at_nanos: i64,
    /// xxh3-64 of the value, verified by the log; the fold chains it.
    pub digest: u64,
    /// The bytes that were appended.
    pub value: Bytes,
}

/// Where a partition of the log begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    /// The lowest offset still held.
    pub start_offset: u64,
    /// One above the highest durable offset.
    pub end_offset: u64,
}

/// What can go wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The record was surely not stored: nothing of it will ever be read.
    #[error("the log cannot take records now ({0}); send again later")]
    Unavailable(String),
    /// Perhaps stored: only a retry with the same ids is safe.
    #[error("the log did not confirm the record in time ({0}); send again with the same ids")]
    Unknown(String),
    /// The record breaks a bound of the log.
    #[error("the record has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A partition that the log does not have.
    #[error("the log has no partition {0}")]
    NoPartition(u32),
    /// An offset that the log does not hold: below its start, or beyond its end.
    #[error("partition {partition} does not hold offset {offset}")]
    OffsetOutOfRange {
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
    },
    /// Bytes that were durable are not what was written: the partition must halt (G10).
    #[error("the log is damaged at {place}: {detail}")]
    Damaged {
        /// The file and byte, or the topic and offset.
        place: String,
        /// The partition, when only one is concerned.
        partition: Option<u32>,
        /// What was found.
        detail: String,
    },
    /// The log cannot be asked: nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// The log is not set up as it must be; the sentence says what to change.
    #[error("{0}")]
    Misconfigured(String),
    /// The log was made by a newer version.
    #[error("the log has format {found}, this binary reads up to {supported}; start a newer one")]
    NeedsUpgrade {
        /// The version found.
        found: u32,
        /// The newest version known.
        supported: u32,
    },
    /// Another process holds the log.
    #[error("{folder} is in use by process {pid}; stop it first")]
    InUse {
        /// The folder.
        folder: String,
        /// Who holds it.
        pid: u32,
    },
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl LogError {
    /// Whether the same call may succeed later without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unknown(_) | Self::Unreachable(_))
    }
}

/// Resolves when the record is durable, or when it is clear that it is not. A dropped sender means unknown.
pub type AppendReply = oneshot::Receiver<Result<Appended, LogError>>;

/// The log. Cheap to share; all methods may be called from any thread.
pub trait Log: Send + Sync + 'static {
    /// What the newest generation is, which is the one appended to.
    fn layout(&self) -> LogLayout;

    /// Every generation that can be read, the oldest first. Wherever a method or a record names a partition, it is by its
    /// number over all generations ([`pulso_domain::position::partition_number`]).
    fn generations(&self) -> Vec<LogLayout> {
        vec![self.layout()]
    }

    /// The partitions of all generations.
    fn partitions(&self) -> Vec<u32> {
        let numbers = |layout: LogLayout| {
            (0..layout.partitions).map(move |index| partition_number(layout.generation, index))
        };
        self.generations().into_iter().flat_map(numbers).collect()
    }

    /// Appends one record and answers through the channel once it is durable. Records of one partition become durable
    /// in the order of the calls. Never blocks: a full queue answers [`LogError::Unavailable`] at once.
    ///
    /// `value` comes in parts so that nobody needs to copy them together first.
    fn append(&self, partition: u32, value: Vec<Bytes>) -> AppendReply;

    /// Whether this partition takes appends now: false while it confirms nothing of what it was sent before. Then an append
    /// is refused at once, and nothing should wait for its turn.
    fn takes(&self, _partition: u32) -> bool {
        true
    }

    /// Where the partition begins and ends; only durable records count.
    ///
    /// # Errors
    /// When the partition does not exist or the log cannot be asked.
    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError>;

    /// Reads from the given offsets on, one for each partition wanted. A reader belongs to one thread.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] when an offset lies outside the watermarks (the end itself is inside).
    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError>;

    /// Reads single records by their offsets, in the order asked; all must be durable.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] for one that is not held.
    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError>;

    /// Whether appends are being taken: false while the disk is full or the brokers are gone.
    fn is_appendable(&self) -> bool;

    /// Joins those who fold this log under the group's name. A log of one process is folded by that process alone.
    ///
    /// # Errors
    /// When the log cannot be asked.
    fn join(&self, _group: &str) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(EveryPartition::of(self.partitions())))
    }
}

/// A place in the log that moves forward.
pub trait LogReader: Send {
    /// The next records, in order within each partition; empty when none came within `wait`.
    ///
    /// # Errors
    /// Damage halts the partition named; the reader goes on with the others when called again.
    fn poll(&mut self, wait: Duration) -> Result<Vec<LogRecord>, LogError>;
}
