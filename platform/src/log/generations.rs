//! All generations of a log as one: each partition by its number over all generations, the newest generation appended to.
//!
//! Below stand the logs of single generations, each of which knows its partitions by their indexes alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use pulso_domain::position::{partition_generation, partition_index, partition_number};
use tokio::sync::oneshot;

use super::{AppendReply, Log, LogError, LogLayout, LogReader, LogRecord, Watermarks};

/// What growing did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrowReport {
    /// The newest generation now.
    pub layout: LogLayout,
    /// Whether it was begun now.
    pub begun: bool,
}

/// The logs of all generations, the oldest first; there is always one.
pub struct Generations<L> {
    logs: RwLock<Vec<Arc<L>>>,
}

impl<L: Log> Generations<L> {
    /// Of the first generation, and those that followed it.
    #[must_use]
    pub const fn new(logs: Vec<Arc<L>>) -> Self {
        Self { logs: RwLock::new(logs) }
    }

    /// The log of each generation, the oldest first.
    #[must_use]
    pub fn logs(&self) -> Vec<Arc<L>> {
        self.logs.read().clone()
    }

    /// The newest generation's log.
    #[must_use]
    pub fn newest(&self) -> Arc<L> {
        Arc::clone(self.logs.read().last().expect("there is always a first generation"))
    }

    /// Goes on in a generation that followed.
    pub fn follow(&self, log: Arc<L>) {
        let mut logs = self.logs.write();
        if logs.iter().all(|known| known.layout().generation < log.layout().generation) {
            logs.push(log);
        }
    }

    /// The log of a partition, and its index there.
    pub(super) fn of(&self, partition: u32) -> Result<(Arc<L>, u32), LogError> {
        let generation = partition_generation(partition);
        let logs = self.logs.read();
        let log = logs.iter().find(|log| log.layout().generation == generation);
        Ok((Arc::clone(log.ok_or(LogError::NoPartition(partition))?), partition_index(partition)))
    }
}

/// What a single generation's log says of one of its partitions, as it is said of all generations.
fn numbered(generation: u32, error: LogError) -> LogError {
    let number = |index| partition_number(generation, index);
    match error {
        LogError::NoPartition(index) => LogError::NoPartition(number(index)),
        LogError::OffsetOutOfRange { partition, offset } => {
            LogError::OffsetOutOfRange { partition: number(partition), offset }
        }
        LogError::Damaged { place, partition, detail } => {
            LogError::Damaged { place, partition: partition.map(number), detail }
        }
        other => other,
    }
}

impl<L: Log> Log for Generations<L> {
    fn layout(&self) -> LogLayout {
        self.newest().layout()
    }

    fn generations(&self) -> Vec<LogLayout> {
        self.logs.read().iter().map(|log| log.layout()).collect()
    }

    fn append(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        match self.of(partition) {
            Ok((log, index)) => log.append(index, value),
            Err(error) => {
                let (reply, answer) = oneshot::channel();
                // Whoever does not wait for the answer any more does not need it.
                let _gone = reply.send(Err(error));
                answer
            }
        }
    }

    fn takes(&self, partition: u32) -> bool {
        self.of(partition).is_ok_and(|(log, index)| log.takes(index))
    }

    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        let (log, index) = self.of(partition)?;
        log.watermarks(index).map_err(|error| numbered(log.layout().generation, error))
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        let mut readers = Vec::new();
        let mut wanted = from.to_vec();
        wanted.sort_unstable();
        for places in
            wanted.chunk_by(|one, other| partition_generation(one.0) == partition_generation(other.0))
        {
            let (log, _) = self.of(places[0].0)?;
            let generation = log.layout().generation;
            let indexes: Vec<(u32, u64)> =
                places.iter().map(|(number, offset)| (partition_index(*number), *offset)).collect();
            let reader = log.reader(&indexes).map_err(|error| numbered(generation, error))?;
            readers.push(Part { generation, reader });
        }
        Ok(Box::new(Readers { parts: readers, failed: None }))
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        let (log, index) = self.of(partition)?;
        let mut records =
            log.fetch(index, offsets).map_err(|error| numbered(log.layout().generation, error))?;
        records.iter_mut().for_each(|record| record.partition = partition);
        Ok(records)
    }

    fn is_appendable(&self) -> bool {
        self.newest().is_appendable()
    }
}

struct Part {
    generation: u32,
    reader: Box<dyn LogReader>,
}

/// Readers of several generations. The newest has nearly all that comes; the others are asked in passing.
struct Readers {
    parts: Vec<Part>,
    /// What went wrong with one after another had given records.
    failed: Option<LogError>,
}

impl LogReader for Readers {
    fn poll(&mut self, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut records = Vec::new();
        let last = self.parts.len().saturating_sub(1);
        for (place, part) in self.parts.iter_mut().enumerate() {
            let wait = if place == last && records.is_empty() { wait } else { Duration::ZERO };
            match part.reader.poll(wait) {
                Ok(mut more) => {
                    let number = |record: &mut LogRecord| {
                        record.partition = partition_number(part.generation, record.partition);
                    };
                    more.iter_mut().for_each(number);
                    records.append(&mut more);
                }
                Err(error) if records.is_empty() => return Err(numbered(part.generation, error)),
                Err(error) => {
                    self.failed = Some(numbered(part.generation, error));
                    break;
                }
            }
        }
        Ok(records)
    }
}
