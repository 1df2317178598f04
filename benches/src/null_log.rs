//! A log that keeps nothing and confirms at once: what is left is the cost of the door.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pulso_platform::log::{
    AppendReply, Appended, Log, LogError, LogLayout, LogReader, LogRecord, Watermarks,
};
use tokio::sync::oneshot;

/// The log.
#[derive(Default)]
pub struct NullLog {
    offset: AtomicU64,
}

impl Log for NullLog {
    fn layout(&self) -> LogLayout {
        LogLayout { generation: 1, partitions: crate::records::PARTITIONS, log_id: [0; 16] }
    }

    fn append(&self, partition: u32, _value: Vec<Bytes>) -> AppendReply {
        let (reply, answer) = oneshot::channel();
        let offset = self.offset.fetch_add(1, Ordering::Relaxed);
        // Nobody may wait for it.
        let _ = reply.send(Ok(Appended { generation: 1, partition, offset, appended_at_nanos: 0 }));
        answer
    }

    fn watermarks(&self, _partition: u32) -> Result<Watermarks, LogError> {
        Ok(Watermarks { start_offset: 0, end_offset: 0 })
    }

    fn reader(&self, _from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        Err(LogError::Unavailable("it keeps nothing".to_owned()))
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        let offset = offsets.first().copied().unwrap_or(0);
        Err(LogError::OffsetOutOfRange { partition, offset })
    }

    fn is_appendable(&self) -> bool {
        true
    }
}
