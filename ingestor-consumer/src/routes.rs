//! The ways from the reader to the fold workers: one bounded channel each, a batch of records per message.
//!
//! Nothing here blocks. What a full channel does not take waits, and while anything waits the reader is not polled: that is
//! the back-pressure, and the reader goes on looking after its place in the group meanwhile.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use metrics::gauge;
use pulso_platform::log::LogRecord;

use crate::fold_loop::OpenPartition;
use crate::metrics::{QUEUE, QUEUE_LIMIT};

/// Batches between the reader and each fold worker: enough to hide a flush, few enough to bound memory.
const QUEUE_BATCHES: usize = 8;

/// What a fold worker is told, in order.
pub(crate) enum Work {
    /// Fold this partition from now on.
    Take(Box<OpenPartition>),
    /// Fold these, as far as their partitions are the worker's.
    Fold(Vec<LogRecord>),
    /// Fold these partitions no more. `done` is dropped once that is so.
    LetGo {
        partitions: Vec<u32>,
        /// Whether to flush what was folded: not when someone else has the partition already.
        flush: bool,
        done: Sender<()>,
    },
}

/// The channels of all workers; a partition always goes the same way.
pub(crate) struct Routes(Vec<Route>);

struct Route {
    sender: Sender<Work>,
    waiting: VecDeque<Work>,
}

impl Routes {
    /// So many ways, with their other ends.
    pub(crate) fn new(workers: usize) -> (Self, Vec<Receiver<Work>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| bounded(QUEUE_BATCHES)).unzip();
        gauge!(QUEUE_LIMIT).set((QUEUE_BATCHES * workers) as f64);
        (
            Self(senders.into_iter().map(|sender| Route { sender, waiting: VecDeque::new() }).collect()),
            receivers,
        )
    }

    /// Gives a partition to its worker.
    pub(crate) fn take(&mut self, open: OpenPartition) {
        self.of(open.partition).waiting.push_back(Work::Take(Box::new(open)));
    }

    /// Gives records to the workers of their partitions.
    pub(crate) fn fold(&mut self, records: Vec<LogRecord>) {
        let mut batches: Vec<Vec<LogRecord>> = Vec::new();
        batches.resize_with(self.0.len(), Vec::new);
        for record in records {
            batches[record.partition as usize % self.0.len()].push(record);
        }
        let full = batches.into_iter().zip(&mut self.0).filter(|(batch, _)| !batch.is_empty());
        full.for_each(|(batch, route)| route.waiting.push_back(Work::Fold(batch)));
    }

    /// Has the workers let partitions go; the receiver is disconnected once all have.
    pub(crate) fn let_go(&mut self, partitions: &[u32], flush: bool) -> Receiver<()> {
        let (done, all_done) = bounded(0);
        let workers = self.0.len();
        for (number, route) in self.0.iter_mut().enumerate() {
            let its = partitions.iter().copied().filter(|partition| *partition as usize % workers == number);
            let partitions: Vec<u32> = its.collect();
            if !partitions.is_empty() {
                route.waiting.push_back(Work::LetGo { partitions, flush, done: done.clone() });
            }
        }
        all_done
    }

    /// Sends on what waits; whether nothing waits any more. `None` when a worker is gone, which its thread's end reports.
    pub(crate) fn send_on(&mut self) -> Option<bool> {
        let mut is_clear = true;
        for route in &mut self.0 {
            while let Some(work) = route.waiting.pop_front() {
                match route.sender.try_send(work) {
                    Ok(()) => {}
                    Err(TrySendError::Full(work)) => {
                        route.waiting.push_front(work);
                        is_clear = false;
                        break;
                    }
                    Err(TrySendError::Disconnected(_)) => return None,
                }
            }
        }
        gauge!(QUEUE).set(self.0.iter().map(|route| route.sender.len()).sum::<usize>() as f64);
        Some(is_clear)
    }

    fn of(&mut self, partition: u32) -> &mut Route {
        let place = partition as usize % self.0.len();
        &mut self.0[place]
    }
}
