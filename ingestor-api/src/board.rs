//! One batch that waits for the log: a board on which the outcome of each of its chunks is noted.
//!
//! The board keeps the accounting, not the call: when a call is cancelled, its chunks still get their outcomes, are
//! counted once, and only then the bytes go back to the budget. A chunk whose ticket is lost is UNKNOWN, never forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use pulso_platform::log::Appended;
use tokio::sync::Notify;

use crate::admission::ByteLease;
use crate::answer;
use crate::batch::{Plan, Segment};
use crate::metrics::{Metrics, Tally};
use crate::refusal::IngestError;

/// What became of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// No answer yet.
    Pending,
    /// Durable.
    Stored {
        /// The record.
        at: Appended,
        /// The place of the chunk's first pulse in it.
        first_index: u32,
    },
    /// Surely not stored.
    NotStored,
    /// Perhaps stored.
    Unknown,
}

/// A chunk's pulses and their outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// How many pulses.
    pub(crate) pulses: u32,
    /// What became of them.
    pub(crate) outcome: Outcome,
}

/// One batch and its outcomes.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    settled: Notify,
    metrics: Arc<Metrics>,
    received: Instant,
    /// Held until both the log and the answer are done with the batch.
    _lease: ByteLease,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    runs: Vec<Run>,
    /// For each share the first of its runs.
    first_run: Vec<u32>,
    pending: u32,
    /// Set once the batch is counted; nothing changes after that.
    counted: bool,
}

impl Board {
    /// A board for a plan, and the number of chunks of each share in `first_run` order.
    pub(crate) fn new(plan: Plan, metrics: Arc<Metrics>, lease: ByteLease) -> Arc<Self> {
        let mut runs = Vec::with_capacity(plan.shares.len());
        let mut first_run = Vec::with_capacity(plan.shares.len());
        for share in &plan.shares {
            first_run.push(runs.len() as u32);
            runs.extend(
                share.chunks.iter().map(|chunk| Run { pulses: chunk.pulses, outcome: Outcome::Pending }),
            );
        }
        let pending = runs.len() as u32;
        let mut state = State { plan, runs, first_run, pending, counted: false };
        let received = Instant::now();
        metrics.received.increment(u64::from(state.plan.pulses));
        if pending == 0 {
            state.count(&metrics);
        }
        Arc::new(Self { state: Mutex::new(state), settled: Notify::new(), metrics, received, _lease: lease })
    }

    /// The shares with their chunks, to be given to the packer; and each chunk's ticket number in order.
    pub(crate) fn take_shares(&self) -> Vec<crate::batch::Share> {
        std::mem::take(&mut self.state.lock().plan.shares)
    }

    fn settle(&self, run: u32, outcome: Outcome) {
        let mut state = self.state.lock();
        if state.counted {
            return;
        }
        state.runs[run as usize].outcome = outcome;
        state.pending -= 1;
        if state.pending == 0 {
            state.count(&self.metrics);
            self.metrics.ack_seconds.record(self.received.elapsed().as_secs_f64());
            drop(state);
            self.settled.notify_one();
        }
    }

    /// Waits for all outcomes, at most so long, and writes the framed answer. What has no outcome by then is UNKNOWN.
    ///
    /// # Errors
    /// [`IngestError::LogUnavailable`] when surely nothing of the batch was stored.
    pub(crate) async fn answer(&self, ack_timeout: Duration) -> Result<Bytes, IngestError> {
        let waits = self.state.lock().pending > 0;
        if waits && tokio::time::timeout(ack_timeout, self.settled.notified()).await.is_err() {
            self.give_up();
        }
        let state = self.state.lock();
        if state.nothing_stored() {
            return Err(IngestError::LogUnavailable);
        }
        Ok(answer::encode(&state.plan, &state.runs, &state.first_run))
    }

    fn give_up(&self) {
        let mut state = self.state.lock();
        if state.counted {
            return;
        }
        for run in &mut state.runs {
            if run.outcome == Outcome::Pending {
                run.outcome = Outcome::Unknown;
            }
        }
        state.count(&self.metrics);
    }
}

impl State {
    /// Whether the log refused everything that it was given.
    fn nothing_stored(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(|run| run.outcome == Outcome::NotStored)
    }

    fn count(&mut self, metrics: &Metrics) {
        self.counted = true;
        if self.nothing_stored() {
            metrics.count(&Tally { refused: self.plan.pulses, ..Tally::default() });
            return;
        }
        let mut tally = Tally::default();
        for run in &self.runs {
            match run.outcome {
                Outcome::Stored { .. } => tally.accepted += run.pulses,
                Outcome::Pending | Outcome::NotStored | Outcome::Unknown => tally.unknown += run.pulses,
            }
        }
        for segment in &self.plan.segments {
            if let Segment::Rejected { rejection, pulses } = segment {
                let reason = self.plan.rejections[*rejection as usize].reason;
                tally.rejected[reason as usize - 1] += pulses;
            }
        }
        metrics.count(&tally);
    }
}

/// The right to note the outcome of one chunk, once. Dropped unused it notes UNKNOWN.
#[derive(Debug)]
pub(crate) struct Ticket {
    board: Option<Arc<Board>>,
    run: u32,
    pulses: u32,
}

impl Ticket {
    /// A ticket for the board's run.
    pub(crate) fn new(board: &Arc<Board>, run: u32, pulses: u32) -> Self {
        Self { board: Some(Arc::clone(board)), run, pulses }
    }

    /// How many pulses the chunk has.
    pub(crate) const fn pulses(&self) -> u32 {
        self.pulses
    }

    /// Notes the outcome.
    pub(crate) fn settle(mut self, outcome: Outcome) {
        if let Some(board) = self.board.take() {
            board.settle(self.run, outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(board) = self.board.take() {
            board.settle(self.run, Outcome::Unknown);
        }
    }
}
