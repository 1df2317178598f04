//! The bounded queue between those who append and the one writer. Those who append digest their records, and put the parts
//! of one together, before they take the lock; a record that comes in one part is never copied until it is written.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::log::digest::value_digest;
use crate::log::{AppendReply, Appended, LogError};

/// What a waiting record costs beside its value.
const RECORD_OVERHEAD_BYTES: usize = 128;
/// Emptied batches kept for their memory: one is filled while another is written.
const SPARES_MAX: usize = 2;

/// One record of a batch, beside its value.
pub(super) struct Line {
    pub(super) partition: u32,
    pub(super) value_bytes: u32,
    pub(super) digest: u64,
    pub(super) reply: oneshot::Sender<Result<Appended, LogError>>,
}

/// Records that will be one group.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    /// The value of each.
    pub(super) values: Vec<Bytes>,
    pub(super) values_bytes: usize,
}

impl Batch {
    const fn cost(&self) -> usize {
        self.values_bytes + self.lines.len() * RECORD_OVERHEAD_BYTES
    }

    fn push(&mut self, line: Line, value: Bytes) {
        self.values_bytes += value.len();
        self.values.push(value);
        self.lines.push(line);
    }

    /// Makes it as good as new, with the memory it has.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.values.clear();
        self.values_bytes = 0;
    }
}

/// The parts of a value as one.
fn joined(mut parts: Vec<Bytes>) -> Bytes {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Bytes::from(parts.concat())
        }
        None => Bytes::new(),
    }
}

/// What the writer is to do.
pub(super) enum Taken {
    /// Records to be written as one group.
    Records,
    /// The time is up and nothing came.
    Nothing,
    /// The log is being closed and nothing is left.
    Closing,
}

#[derive(Default)]
struct State {
    /// The last one is being filled.
    batches: VecDeque<Batch>,
    spares: Vec<Batch>,
    bytes: usize,
    /// Why nothing is taken now.
    refusal: Option<String>,
    closing: bool,
}

impl State {
    fn refusal(&self, cost: usize, bytes_max: usize) -> Option<String> {
        match &self.refusal {
            Some(reason) => Some(reason.clone()),
            None if self.closing => Some("it is being closed".into()),
            None if self.bytes > 0 && self.bytes + cost > bytes_max => Some("its queue is full".into()),
            None => None,
        }
    }
}

/// Records wait here while the group before them is made durable.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    bytes_max: usize,
    group_bytes_max: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize, group_bytes_max: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), bytes_max, group_bytes_max }
    }

    /// A queue that takes nothing, for a log that is only read.
    pub(super) fn refusing(reason: &str) -> Self {
        let queue = Self::new(0, 0);
        queue.refuse(reason);
        queue
    }

    /// Takes a record in, or answers at once that it cannot.
    pub(super) fn push(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        let (reply, answer) = oneshot::channel();
        let value = joined(value);
        let value_bytes = u32::try_from(value.len()).expect("checked when it was appended");
        let line = Line { partition, value_bytes, digest: value_digest(&value), reply };
        let cost = value.len() + RECORD_OVERHEAD_BYTES;
        let mut state = self.state.lock();
        if let Some(reason) = state.refusal(cost, self.bytes_max) {
            drop(state);
            let _ = line.reply.send(Err(LogError::Unavailable(reason)));
            return answer;
        }
        state.bytes += cost;
        let was_empty = state.batches.is_empty();
        let fits = state.batches.back().is_some_and(|batch| batch.cost() + cost <= self.group_bytes_max);
        if !fits {
            let fresh = state.spares.pop().unwrap_or_default();
            state.batches.push_back(fresh);
        }
        if let Some(batch) = state.batches.back_mut() {
            batch.push(line, value);
        }
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        answer
    }

    /// Exchanges an emptied batch for the oldest waiting one; waits for one until the deadline.
    pub(super) fn take(&self, batch: &mut Batch, until: Option<Instant>) -> Taken {
        let mut state = self.state.lock();
        loop {
            if let Some(oldest) = state.batches.pop_front() {
                state.bytes -= oldest.cost();
                let emptied = std::mem::replace(batch, oldest);
                if state.spares.len() < SPARES_MAX {
                    state.spares.push(emptied);
                }
                return Taken::Records;
            }
            if state.closing {
                return Taken::Closing;
            }
            let timed_out = match until {
                None => {
                    self.arrived.wait(&mut state);
                    false
                }
                Some(until) => self.arrived.wait_until(&mut state, until).timed_out(),
            };
            if timed_out && state.batches.is_empty() && !state.closing {
                return Taken::Nothing;
            }
        }
    }

    /// From now on answers everything, also what waits, that it cannot be taken. Nothing of it was written.
    pub(super) fn refuse(&self, reason: &str) {
        let mut state = self.state.lock();
        state.refusal = Some(reason.into());
        state.bytes = 0;
        let refused = std::mem::take(&mut state.batches);
        drop(state);
        for line in refused.into_iter().flat_map(|batch| batch.lines) {
            let _ = line.reply.send(Err(LogError::Unavailable(reason.into())));
        }
    }

    /// Takes records again.
    pub(super) fn resume(&self) {
        self.state.lock().refusal = None;
    }

    /// Takes no more; what waits is still written.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.arrived.notify_all();
    }

    pub(super) fn is_taking(&self) -> bool {
        let state = self.state.lock();
        state.refusal.is_none() && !state.closing
    }
}
