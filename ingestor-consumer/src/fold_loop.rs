//! One fold worker's thread: folds the records of its partitions and flushes them in time.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use metrics::counter;
use pulso_domain::fate::FateCounts;
use pulso_platform::log::LogRecord;
use tokio_util::sync::CancellationToken;

use crate::burst::Burst;
use crate::fold::halt::Stop;
use crate::metrics::{self as names, RETRIES};
use crate::owned::Owned;
use crate::pipeline::{ConsumerConfig, ConsumerDeps};
use crate::routes::Work;
use crate::worker::PartitionWorker;

/// Rows that wait for a flush at most: a flush of this size stays well under a second.
const DIRTY_ROWS_MAX: usize = 200_000;
/// Ids of complete runs that wait for a flush in a worker at most, about: they are in RAM twice as large as stored. One
/// largest run, so that a stream of small records is not flushed with every range.
const COMPLETE_IDS_MAX: usize = 1 << 18;
/// Bytes of the archive that wait for a flush in a worker at most, about.
const ARCHIVE_BYTES_MAX: usize = 16 << 20;
/// Shortest time between two flushes when the log is drained: totals are fresh, and a quiet stream does not flush each
/// record alone.
const IDLE_FLUSH_EVERY: Duration = Duration::from_millis(20);
/// How long a step that failed waits before it is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// How long a revoked partition is held while its flush fails: whoever gets it reads again what was not flushed.
const LET_GO_MAX: Duration = Duration::from_secs(5);

/// A partition that can be folded.
pub(crate) struct OpenPartition {
    pub(crate) partition: u32,
    pub(crate) worker: PartitionWorker,
}

struct Folding {
    partition: u32,
    worker: PartitionWorker,
    /// What was in the last flush, for the metrics.
    counts: FateCounts,
    records: u64,
    burst: Burst,
}

/// One worker with its partitions.
pub(crate) struct FoldLoop<'a> {
    number: usize,
    partitions: Vec<Folding>,
    config: &'a ConsumerConfig,
    deps: &'a ConsumerDeps,
    owned: &'a Owned,
    flushed_at: Instant,
}

impl<'a> FoldLoop<'a> {
    pub(crate) fn new(
        number: usize,
        (config, deps): (&'a ConsumerConfig, &'a ConsumerDeps),
        owned: &'a Owned,
    ) -> Self {
        Self { number, partitions: Vec::new(), config, deps, owned, flushed_at: Instant::now() }
    }

    /// Runs until the reader is gone; then flushes once more. On shutdown a store that cannot be used is not waited for:
    /// what is not flushed is read again.
    pub(crate) fn run(mut self, work: &Receiver<Work>, shutdown: &CancellationToken) {
        loop {
            match work.recv_timeout(IDLE_FLUSH_EVERY) {
                Ok(Work::Take(open)) => self.take(*open),
                Ok(Work::Fold(batch)) => self.fold(&batch, shutdown),
                Ok(Work::LetGo { partitions, flush, done }) => {
                    partitions.iter().for_each(|partition| self.let_go(*partition, flush, shutdown));
                    drop(done);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.flush_when_due(work.is_empty(), shutdown);
        }
        self.flush(shutdown);
    }

    fn take(&mut self, open: OpenPartition) {
        self.partitions.push(Folding {
            partition: open.partition,
            counts: open.worker.fold().state().counts,
            worker: open.worker,
            records: 0,
            burst: Burst::new(self.config.undecodable_max),
        });
    }

    /// Folds a partition no more. What was folded is flushed while that is this member's to do; when someone else has the
    /// partition already it is dropped, and would only have been an older truth.
    fn let_go(&mut self, partition: u32, flush: bool, shutdown: &CancellationToken) {
        let Some(place) = self.partitions.iter().position(|one| one.partition == partition) else { return };
        let mut folding = self.partitions.remove(place);
        if !flush {
            return;
        }
        let until = Instant::now() + LET_GO_MAX;
        loop {
            match folding.worker.flush() {
                Ok(changed) => {
                    if let Some(changed) = changed {
                        self.deps.handoff.tell(changed);
                    }
                    return;
                }
                Err(Stop::Retry(reason)) if Instant::now() < until && !shutdown.is_cancelled() => {
                    retry_later(partition, &reason);
                }
                Err(stop) => {
                    tracing::warn!(partition, %stop, "the partition is let go without its last flush");
                    return;
                }
            }
        }
    }

    fn fold(&mut self, batch: &[LogRecord], shutdown: &CancellationToken) {
        for record in batch {
            let Some(place) = self.partitions.iter().position(|one| one.partition == record.partition) else {
                continue;
            };
            self.fold_record(place, record, shutdown);
            self.list_complete_runs(record.partition);
            let waiting = self.partitions.iter().map(|one| one.worker.fold().waiting());
            let (rows, ids) = waiting.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let archived: usize = self.partitions.iter().map(|one| one.worker.archive_bytes()).sum();
            if rows >= DIRTY_ROWS_MAX || ids >= COMPLETE_IDS_MAX || archived >= ARCHIVE_BYTES_MAX {
                self.flush(shutdown);
            }
        }
    }

    fn fold_record(&mut self, place: usize, record: &LogRecord, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let folding = &mut self.partitions[place];
            folding.worker.pass_gap();
            if record.offset < folding.worker.fold().state().offset {
                return;
            }
            if let Some(sentence) = folding.burst.stops_before(record) {
                self.halt(place, &sentence);
                return;
            }
            let letters = folding.worker.fold().state().counts.dead_lettered;
            match folding.worker.fold_record(record) {
                Ok(()) => {
                    let more = folding.worker.fold().state().counts.dead_lettered - letters;
                    folding.burst.note(record, more);
                    folding.records += 1;
                    return;
                }
                Err(Stop::Retry(reason)) => retry_later(folding.partition, &reason),
                Err(Stop::Halt(halt)) => {
                    self.halt(place, &halt.to_string());
                    return;
                }
            }
        }
    }

    /// Complete runs go ahead of the flush. What does not succeed here comes with the flush, which insists.
    fn list_complete_runs(&mut self, partition: u32) {
        let Some(folding) = self.partitions.iter_mut().find(|one| one.partition == partition) else { return };
        if let Err(stop) = folding.worker.list_complete_runs() {
            tracing::debug!(partition, %stop, "complete id runs are written with the next flush");
        }
    }

    /// What was folded up to the fault is good: it is flushed before the partition is let go.
    fn halt(&mut self, place: usize, sentence: &str) {
        let mut folding = self.partitions.remove(place);
        if let Ok(Some(changed)) = folding.worker.flush() {
            self.deps.handoff.tell(changed);
        }
        self.deps.halts.halt(&*self.deps.store, folding.partition, sentence);
    }

    fn flush_when_due(&mut self, drained: bool, shutdown: &CancellationToken) {
        let every =
            if drained { IDLE_FLUSH_EVERY.min(self.config.flush_every) } else { self.config.flush_every };
        if self.flushed_at.elapsed() >= every {
            self.flush(shutdown);
        }
    }

    fn flush(&mut self, shutdown: &CancellationToken) {
        let mut place = 0;
        let rows_max = self.config.rows_max / self.partitions.len().max(1);
        while place < self.partitions.len() {
            let folding = &mut self.partitions[place];
            let started = Instant::now();
            if folding.worker.fold().has_changes() {
                tracing::debug!(partition = folding.partition, "flush begins");
            }
            match folding.worker.flush() {
                Ok(changed) => {
                    if let Some(changed) = changed {
                        let counts = folding.worker.fold().state().counts;
                        let records = std::mem::take(&mut folding.records);
                        names::flushed(&folding.counts, &counts, records, started.elapsed().as_secs_f64());
                        folding.counts = counts;
                        self.owned.flushed(folding.partition, folding.worker.fold().state().offset);
                        tracing::debug!(partition = folding.partition, records, "flush ends");
                        folding.worker.evict(rows_max);
                        self.deps.handoff.tell(changed);
                    }
                    place += 1;
                }
                Err(Stop::Retry(reason)) => {
                    retry_later(folding.partition, &reason);
                    if shutdown.is_cancelled() {
                        return;
                    }
                }
                Err(Stop::Halt(halt)) => self.halt(place, &halt.to_string()),
            }
        }
        self.flushed_at = Instant::now();
        self.tell_memory();
    }

    fn tell_memory(&self) {
        let folds = self.partitions.iter().map(|one| one.worker.fold());
        let (rows, filters) = folds.fold((0, 0), |(rows, filters), fold| {
            (rows + fold.rows().len(), filters + fold.index().filter_bytes().0)
        });
        names::held(self.number, rows, filters);
    }
}

fn retry_later(partition: u32, reason: &str) {
    counter!(RETRIES).increment(1);
    tracing::warn!(partition, reason, "the step is tried again");
    thread::sleep(RETRY_WAIT);
}
