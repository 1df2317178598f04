//! The reader's thread: follows the group, opens what is assigned, reads it, sends it on, gives back what is revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use pulso_domain::position::partition_generation;
use pulso_platform::log::membership::{Change, Membership};
use pulso_platform::log::{LogError, LogReader};
use pulso_platform::service::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::fold::halt::{Halt, Stop};
use crate::fold_loop::OpenPartition;
use crate::opening::{Opening, open_partition};
use crate::owned::Owned;
use crate::pipeline::{ConsumerConfig, ConsumerDeps};
use crate::routes::Routes;
use crate::schedule::{self, Turn, Windows};

/// How long the reader waits for records before it looks after the rest.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// How long it waits while a worker takes nothing more.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// How long a step that failed waits before it is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Time between two commits for lag tools.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Where the reader stands.
pub(crate) struct Reading<'a> {
    config: &'a ConsumerConfig,
    deps: &'a ConsumerDeps,
    owned: &'a Owned,
    membership: &'a mut dyn Membership,
    routes: Routes,
    /// Assigned, and not opened yet.
    assigned: BTreeSet<u32>,
    open_not_before: Instant,
    /// The next offset to read of each open partition.
    next: BTreeMap<u32, u64>,
    /// Made anew whenever the open partitions change.
    reader: Option<Box<dyn LogReader>>,
    /// Revoked, and not yet let go by their workers.
    leaving: Vec<(Vec<u32>, Receiver<()>)>,
    /// To be halted, and why, once their workers have let them go: whoever acts on a halt counts on nothing being written.
    halting: Vec<(u32, String, Receiver<()>)>,
    committed_at: Instant,
    windows: Windows,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        (config, deps): (&'a ConsumerConfig, &'a ConsumerDeps),
        owned: &'a Owned,
        membership: &'a mut dyn Membership,
        routes: Routes,
    ) -> Self {
        Self {
            config,
            deps,
            owned,
            membership,
            routes,
            assigned: BTreeSet::new(),
            open_not_before: Instant::now(),
            next: BTreeMap::new(),
            reader: None,
            leaving: Vec::new(),
            halting: Vec::new(),
            committed_at: Instant::now(),
            windows: Windows::new(config.schedule, Clock::System),
        }
    }

    /// Reads until shutdown, or until a worker is gone. Dropping it ends the workers, each after its last flush.
    pub(crate) fn run(mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            self.follow_group();
            self.open_assigned();
            self.give_back();
            self.tell_lag();
            match self.routes.send_on() {
                Some(true) => self.read_in_turn(),
                Some(false) => thread::sleep(FULL_WAIT),
                None => return,
            }
        }
    }

    fn follow_group(&mut self) {
        for change in self.membership.changes() {
            match change {
                Change::Assigned(partitions) => self.assigned.extend(partitions),
                Change::Revoked(partitions) => {
                    let done = self.stop(&partitions, true);
                    self.leaving.push((partitions, done));
                }
                Change::Lost(partitions) => drop(self.stop(&partitions, false)),
            }
        }
    }

    /// Reads these no more and has their workers let them go.
    fn stop(&mut self, partitions: &[u32], flush: bool) -> Receiver<()> {
        for partition in partitions {
            self.assigned.remove(partition);
            self.owned.let_go(*partition);
            self.deps.halts.forget(*partition);
            self.halting.retain(|(halting, ..)| halting != partition);
            if self.next.remove(partition).is_some() {
                self.reader = None;
            }
        }
        self.routes.let_go(partitions, flush)
    }

    /// Opens what is assigned. A partition that must not be folded halts and the others go on; while store or log cannot be
    /// used it is tried again later.
    fn open_assigned(&mut self) {
        if self.assigned.is_empty() || Instant::now() < self.open_not_before {
            return;
        }
        let mut waiting = BTreeSet::new();
        while let Some(partition) = self.assigned.pop_first() {
            // While one of a generation waits for the one before, so do all.
            let generation = partition_generation(partition);
            if waiting.last().is_some_and(|other| partition_generation(*other) == generation) {
                waiting.insert(partition);
                continue;
            }
            match open_partition(self.config, self.deps, partition) {
                Ok(Opening::Waiting) => drop(waiting.insert(partition)),
                Ok(Opening::GivenUp) => self.deps.halts.clear(&*self.deps.store, partition),
                Ok(Opening::Open(worker)) => {
                    let offset = worker.fold().state().offset;
                    self.owned.take(partition, offset);
                    self.next.insert(partition, offset);
                    self.reader = None;
                    self.deps.halts.clear(&*self.deps.store, partition);
                    self.routes.take(OpenPartition { partition, worker: *worker });
                }
                Err(Stop::Halt(halt)) => self.halt(partition, &halt.to_string()),
                Err(Stop::Retry(reason)) => {
                    tracing::warn!(partition, reason, "the partition cannot be opened now");
                    self.assigned.insert(partition);
                    self.assigned.append(&mut waiting);
                    self.open_not_before = Instant::now() + RETRY_WAIT;
                    return;
                }
            }
        }
        if !waiting.is_empty() {
            self.assigned = waiting;
            self.open_not_before = Instant::now() + RETRY_WAIT;
        }
    }

    /// Tells the group which revoked partitions are let go, and the operator which are halted.
    fn give_back(&mut self) {
        let membership = &mut *self.membership;
        self.leaving.retain(|(partitions, done)| {
            let is_done = is_done(done);
            if is_done {
                membership.let_go(partitions);
            }
            !is_done
        });
        let deps = self.deps;
        self.halting.retain(|(partition, sentence, done)| {
            let is_done = is_done(done);
            if is_done {
                deps.halts.halt(&*deps.store, *partition, sentence);
            }
            !is_done
        });
    }

    fn tell_lag(&mut self) {
        if self.committed_at.elapsed() >= COMMIT_EVERY {
            self.committed_at = Instant::now();
            self.membership.folded(&self.owned.list());
        }
    }

    /// Reads, unless its schedule has it rest: then the log keeps what comes.
    fn read_in_turn(&mut self) {
        let (deps, owned) = (self.deps, self.owned);
        let backlog = || {
            let partitions: Vec<u32> = owned.list().iter().map(|(partition, _)| *partition).collect();
            schedule::backlog(&*deps.log, &*deps.store, &partitions)
        };
        match self.windows.turn(backlog) {
            Turn::Read => self.read(),
            Turn::Rest => thread::sleep(POLL_WAIT),
        }
    }

    fn read(&mut self) {
        let Some(reader) = self.reader() else {
            thread::sleep(POLL_WAIT);
            return;
        };
        match reader.poll(POLL_WAIT) {
            Ok(records) => {
                for record in &records {
                    self.next.insert(record.partition, record.offset + 1);
                }
                self.routes.fold(records);
            }
            Err(error) => self.reader_failed(&error),
        }
    }

    /// The reader of the open partitions; `None` while there are none, or while they cannot be read.
    fn reader(&mut self) -> Option<&mut Box<dyn LogReader>> {
        if self.reader.is_none() {
            self.next.retain(|partition, _| !self.deps.halts.is_halted(*partition));
            let from: Vec<(u32, u64)> =
                self.next.iter().map(|(partition, offset)| (*partition, *offset)).collect();
            if from.is_empty() {
                return None;
            }
            match self.deps.log.reader(&from) {
                Ok(reader) => self.reader = Some(reader),
                Err(error) => self.reader_failed(&error),
            }
        }
        self.reader.as_mut()
    }

    /// Damage halts the partition named, or all of them, and so does what the log no longer holds; anything else is tried
    /// again after a while.
    fn reader_failed(&mut self, error: &LogError) {
        match error {
            LogError::Damaged { partition: Some(partition), .. } => {
                self.halt(*partition, &Halt::LogDamaged(error.to_string()).to_string());
            }
            LogError::Damaged { partition: None, .. } => {
                let sentence = Halt::LogDamaged(error.to_string()).to_string();
                let all: Vec<u32> = self.next.keys().copied().collect();
                all.into_iter().for_each(|partition| self.halt(partition, &sentence));
            }
            LogError::OffsetOutOfRange { partition, offset } => match self.deps.log.watermarks(*partition) {
                Ok(marks) => {
                    let cut =
                        Halt::LogCut { start: marks.start_offset, end: marks.end_offset, wanted: *offset };
                    self.halt(*partition, &cut.to_string());
                }
                // It is asked for again with the next reader, and refused again.
                Err(_) => self.reader = None,
            },
            other => tracing::warn!(error = %other, "the log cannot be read now"),
        }
        thread::sleep(POLL_WAIT);
    }

    /// Reads a partition no more. What was folded up to the fault is good, and flushed.
    fn halt(&mut self, partition: u32, sentence: &str) {
        self.next.remove(&partition);
        let done = self.routes.let_go(&[partition], true);
        self.halting.push((partition, sentence.to_owned(), done));
    }
}

/// Whether the workers have let go what they were told to.
fn is_done(done: &Receiver<()>) -> bool {
    done.try_recv() == Err(TryRecvError::Disconnected)
}
