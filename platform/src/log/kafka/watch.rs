//! The watch over an open log: whether the brokers take records now, whether the topic is still the one that was opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::brokers::{PartitionFacts, partitions_of};
use super::source::Source;
use super::topics::begins_otherwise;
use crate::log::{LogError, Watermarks};

/// Time between two looks at the brokers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two comparisons of the topic with what it was.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// The same, while something looks wrong.
const COMPARE_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// A leader that was asleep may tell old ends until it learns that it leads no more, so what it says counts when it is said
/// so many times.
const STRIKES: u8 = 3;

/// What the watch last saw of each partition.
pub(super) struct Health {
    appendable: Vec<AtomicBool>,
    /// Replicas without which the brokers refuse.
    min_in_sync: usize,
}

impl Health {
    pub(super) fn new(partitions: u32, min_in_sync: usize) -> Self {
        Self { appendable: (0..partitions).map(|_| AtomicBool::new(true)).collect(), min_in_sync }
    }

    pub(super) fn is_appendable(&self, partition: u32) -> bool {
        self.appendable[partition as usize].load(Ordering::Relaxed)
    }

    pub(super) fn is_any_appendable(&self) -> bool {
        self.appendable.iter().any(|one| one.load(Ordering::Relaxed))
    }

    fn set(&self, found: Option<&[PartitionFacts]>) {
        for (partition, appendable) in self.appendable.iter().enumerate() {
            let facts = found.and_then(|found| found.get(partition));
            let takes = facts.is_some_and(|facts| facts.has_leader && facts.in_sync >= self.min_in_sync);
            if appendable.swap(takes, Ordering::Relaxed) != takes {
                tracing::warn!(partition, takes, "whether the brokers take records has changed");
            }
        }
    }
}

/// The thread of a watch; dropping it ends it.
pub(super) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(source: &Arc<Source>, health: &Arc<Health>) -> Result<Self, LogError> {
        let (stop, stopped) = channel();
        let watcher = Watcher::new(Arc::clone(source), Arc::clone(health));
        let work = move || watcher.run(&stopped);
        let thread = std::thread::Builder::new().name("pulso-kafka-watch".into()).spawn(work);
        let thread =
            thread.map_err(|source| LogError::Io { doing: "start the watch over the log".into(), source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watch over the log had panicked");
        }
    }
}

struct Watcher {
    source: Arc<Source>,
    health: Arc<Health>,
    /// The marks that were seen of each partition; neither may fall.
    seen: Vec<Option<Watermarks>>,
    /// How often in a row a partition was not what it was.
    strikes: Vec<u8>,
}

impl Watcher {
    fn new(source: Arc<Source>, health: Arc<Health>) -> Self {
        let partitions = source.layout.partitions as usize;
        Self { source, health, seen: vec![None; partitions], strikes: vec![0; partitions] }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let mut compared_at = Instant::now();
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            self.source.producer.mend();
            let is_there = self.look();
            let in_doubt = self.strikes.iter().any(|strikes| (1..STRIKES).contains(strikes));
            let every = if in_doubt { COMPARE_AGAIN_AFTER } else { COMPARE_EVERY };
            if is_there && compared_at.elapsed() >= every {
                compared_at = Instant::now();
                self.compare();
            }
        }
    }

    /// Looks at who leads the partitions; whether the brokers answered and know the topic.
    fn look(&self) -> bool {
        let found = match partitions_of(&self.source.producer.client(), &self.source.topic) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "the brokers cannot be asked");
                None
            }
        };
        self.health.set(found.as_deref());
        if found.is_some() {
            self.source.note_known();
        }
        found.is_some()
    }

    /// Compares each partition with what it was: one that was made again or cut is taken out of use, for good.
    fn compare(&mut self) {
        for partition in 0..self.source.layout.partitions {
            let place = partition as usize;
            match self.compare_one(partition) {
                Ok(None) => self.strikes[place] = 0,
                Ok(Some(sentence)) => {
                    self.strikes[place] += 1;
                    if self.strikes[place] >= STRIKES {
                        self.source.set_changed(partition, sentence);
                    }
                }
                Err(error) => tracing::debug!(partition, %error, "the partition cannot be compared now"),
            }
        }
    }

    fn compare_one(&mut self, partition: u32) -> Result<Option<String>, LogError> {
        if self.source.changed(partition).is_some() {
            return Ok(None);
        }
        let marks = self.source.watermarks(partition)?;
        let seen = &mut self.seen[partition as usize];
        let fell = |before: &Watermarks| {
            marks.start_offset < before.start_offset || marks.end_offset < before.end_offset
        };
        if let Some(before) = seen.filter(fell) {
            let topic = &self.source.topic;
            let (from, to) = (before.start_offset, before.end_offset);
            return Ok(Some(format!(
                "partition {partition} of topic {topic} held offsets {from}..{to} and now {}..{}: it was cut or made again",
                marks.start_offset, marks.end_offset
            )));
        }
        *seen = Some(marks);
        begins_otherwise(&self.source, partition)
    }
}
