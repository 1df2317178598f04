//! The bounded queue between those who append and the one writer.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::log::{AppendReply, Appended, LogError};

/// What a waiting record costs beside its value.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// One record on its way.
pub(super) struct Pending {
    pub(super) partition: u32,
    pub(super) value: Vec<Bytes>,
    pub(super) value_bytes: usize,
    pub(super) reply: oneshot::Sender<Result<Appended, LogError>>,
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
    pending: VecDeque<Pending>,
    bytes: usize,
    /// Why nothing is taken now.
    refusal: Option<String>,
    closing: bool,
}

/// Records wait here while the group before them is made durable.
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    bytes_max: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), bytes_max }
    }

    /// A queue that takes nothing, for a log that is only read.
    pub(super) fn refusing(reason: &str) -> Self {
        let queue = Self::new(0);
        queue.refuse(reason);
        queue
    }

    /// Takes a record in, or answers at once that it cannot.
    pub(super) fn push(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        let (reply, answer) = oneshot::channel();
        let value_bytes: usize = value.iter().map(Bytes::len).sum();
        let cost = value_bytes + RECORD_OVERHEAD_BYTES;
        let mut state = self.state.lock();
        let refusal = match &state.refusal {
            Some(reason) => Some(reason.clone()),
            None if state.closing => Some("it is being closed".into()),
            None if !state.pending.is_empty() && state.bytes + cost > self.bytes_max => {
                Some("its queue is full".into())
            }
            None => None,
        };
        if let Some(reason) = refusal {
            drop(state);
            let _ = reply.send(Err(LogError::Unavailable(reason)));
            return answer;
        }
        state.bytes += cost;
        state.pending.push_back(Pending { partition, value, value_bytes, reply });
        let was_empty = state.pending.len() == 1;
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        answer
    }

    /// Moves waiting records to `batch`, up to about `bytes_max`; waits for some until the deadline.
    pub(super) fn take(&self, batch: &mut Vec<Pending>, bytes_max: usize, until: Option<Instant>) -> Taken {
        let mut state = self.state.lock();
        while state.pending.is_empty() {
            if state.closing {
                return Taken::Closing;
            }
            match until {
                None => self.arrived.wait(&mut state),
                Some(until) => {
                    if self.arrived.wait_until(&mut state, until).timed_out() && state.pending.is_empty() {
                        return if state.closing { Taken::Closing } else { Taken::Nothing };
                    }
                }
            }
        }
        let mut taken = 0;
        while let Some(next) = state.pending.front() {
            let cost = next.value_bytes + RECORD_OVERHEAD_BYTES;
            if taken > 0 && taken + cost > bytes_max {
                break;
            }
            taken += cost;
            batch.extend(state.pending.pop_front());
        }
        state.bytes -= taken;
        Taken::Records
    }

    /// From now on answers everything, also what waits, that it cannot be taken. Nothing of it was written.
    pub(super) fn refuse(&self, reason: &str) {
        let mut state = self.state.lock();
        state.refusal = Some(reason.into());
        state.bytes = 0;
        let refused = std::mem::take(&mut state.pending);
        drop(state);
        for pending in refused {
            let _ = pending.reply.send(Err(LogError::Unavailable(reason.into())));
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
