//! A log that holds all its records in RAM: what folds it spends nothing on reading.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pulso_platform::log::{AppendReply, Log, LogError, LogLayout, LogReader, LogRecord, Watermarks};
use tokio::sync::oneshot;

/// Records that one poll gives.
const POLL_RECORDS: usize = 64;

/// The log: the records of each partition, in order from offset 0.
pub struct HeldLog {
    layout: LogLayout,
    partitions: Arc<Vec<Vec<LogRecord>>>,
}

impl HeldLog {
    /// Takes the records of a log into RAM.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(log: &dyn Log) -> anyhow::Result<Self> {
        let layout = log.layout();
        let mut partitions = vec![Vec::new(); layout.partitions as usize];
        for (number, records) in (0..).zip(&mut partitions) {
            records.extend(log.fetch(number, &[0])?);
        }
        super::place::visit(log, |record| {
            partitions[record.partition as usize].push(record);
            Ok(())
        })?;
        Ok(Self { layout, partitions: Arc::new(partitions) })
    }
}

impl Log for HeldLog {
    fn layout(&self) -> LogLayout {
        self.layout
    }

    fn append(&self, _partition: u32, _value: Vec<Bytes>) -> AppendReply {
        let (reply, answer) = oneshot::channel();
        // Nobody may wait for it.
        let _ = reply.send(Err(LogError::Unavailable("it holds what it holds".to_owned())));
        answer
    }

    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        Ok(Watermarks { start_offset: 0, end_offset: self.partitions[partition as usize].len() as u64 })
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        let next = from.iter().map(|(partition, offset)| (*partition as usize, *offset as usize)).collect();
        Ok(Box::new(HeldReader { partitions: Arc::clone(&self.partitions), next }))
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        let records = &self.partitions[partition as usize];
        let one = |offset: &u64| {
            let found = records.get(*offset as usize).cloned();
            found.ok_or(LogError::OffsetOutOfRange { partition, offset: *offset })
        };
        offsets.iter().map(one).collect()
    }

    fn is_appendable(&self) -> bool {
        false
    }
}

struct HeldReader {
    partitions: Arc<Vec<Vec<LogRecord>>>,
    next: Vec<(usize, usize)>,
}

impl LogReader for HeldReader {
    fn poll(&mut self, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let share = POLL_RECORDS / self.next.len().max(1);
        let mut records = Vec::new();
        for (partition, next) in &mut self.next {
            let left = self.partitions[*partition].get(*next..).unwrap_or_default();
            records.extend(left.iter().take(share).cloned());
            *next += left.len().min(share);
        }
        if records.is_empty() {
            std::thread::sleep(wait);
        }
        Ok(records)
    }
}
