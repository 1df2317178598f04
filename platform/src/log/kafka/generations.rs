//! The whole log of a cluster: all of its generations as one, and a look at the directory for the next.
//!
//! Whoever appends goes on in a generation that followed without being told, and whoever folds learns of its partitions. Until
//! then nothing is lost: what is appended behind a seal is moved by those who fold.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::brokers::Brokers;
use super::directory::{Directory, Following, Generation};
use super::membership::{Joining, KafkaMembership};
use super::{KafkaLog, KafkaLogOptions, KafkaSettings};
use crate::log::generations::Generations;
use crate::log::membership::Membership;
use crate::log::{AppendReply, LayoutBook, Log, LogError, LogLayout, LogReader, LogRecord, Watermarks};

/// How long the look at the directory waits for a record that is on its way.
const LOOK_WAIT: Duration = Duration::from_millis(100);

/// The log of a cluster with all its generations.
pub struct KafkaGenerations {
    settings: KafkaSettings,
    options: KafkaLogOptions,
    known: Arc<Generations<KafkaLog>>,
    /// Ends before the logs do.
    follower: Option<Follower>,
}

impl KafkaGenerations {
    /// Opens a log that `pulso init` has made, with all generations that followed. Blocks while the brokers are asked; give it
    /// a thread that may.
    ///
    /// # Errors
    /// As [`KafkaLog::open`] of the newest generation. Of those before it nothing is demanded: what is gone of them is told by
    /// their partitions.
    pub fn open(settings: &KafkaSettings, options: KafkaLogOptions) -> Result<Self, LogError> {
        let brokers = Brokers::connect(settings)?;
        let directory = Directory::open(&brokers, &options.topic)?;
        let layouts = complete(&directory.read()?);
        let newest = layouts.last().copied().ok_or_else(|| super::not_begun(&options))?;
        let mut logs = Vec::with_capacity(layouts.len());
        for layout in layouts {
            logs.push(Arc::new(open_one(&brokers, &options, layout, newest)?));
        }
        let known = Arc::new(Generations::new(logs));
        let next = Next { brokers, options: options.clone(), known: Arc::clone(&known) };
        let follower = Some(Follower::start(next, directory.follow())?);
        Ok(Self { settings: settings.clone(), options, known, follower })
    }

    /// The topic of the newest generation.
    #[must_use]
    pub fn topic(&self) -> String {
        self.known.newest().topic().to_owned()
    }

    /// The brokers' settings, for whoever needs more topics of theirs.
    #[must_use]
    pub const fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    /// Why a partition is not the one that was begun, when it is not.
    #[must_use]
    pub fn changed(&self, partition: u32) -> Option<String> {
        let (log, index) = self.known.of(partition).ok()?;
        log.changed(index)
    }
}

/// The generations that have begun in every partition, the oldest first.
fn complete(found: &[Generation]) -> Vec<LogLayout> {
    let complete = found.iter().filter(|one| one.is_complete);
    let mut layouts: Vec<LogLayout> = complete.map(|one| one.layout).collect();
    layouts.sort_by_key(|layout| layout.generation);
    layouts
}

/// Opens one generation; what is gone of one that is not the newest does not keep the others from being used.
fn open_one(
    brokers: &Brokers,
    options: &KafkaLogOptions,
    layout: LogLayout,
    newest: LogLayout,
) -> Result<KafkaLog, LogError> {
    let to_mend = options.to_mend || layout.generation < newest.generation;
    KafkaLog::of(brokers, &KafkaLogOptions { to_mend, ..options.clone() }, layout)
}

impl Drop for KafkaGenerations {
    fn drop(&mut self) {
        self.follower = None;
    }
}

impl Log for KafkaGenerations {
    fn layout(&self) -> LogLayout {
        self.known.layout()
    }

    fn generations(&self) -> Vec<LogLayout> {
        self.known.generations()
    }

    fn append(&self, partition: u32, value: Vec<Bytes>) -> AppendReply {
        self.known.append(partition, value)
    }

    fn takes(&self, partition: u32) -> bool {
        self.known.takes(partition)
    }

    fn watermarks(&self, partition: u32) -> Result<Watermarks, LogError> {
        self.known.watermarks(partition)
    }

    fn reader(&self, from: &[(u32, u64)]) -> Result<Box<dyn LogReader>, LogError> {
        self.known.reader(from)
    }

    fn fetch(&self, partition: u32, offsets: &[u64]) -> Result<Vec<LogRecord>, LogError> {
        self.known.fetch(partition, offsets)
    }

    fn is_appendable(&self) -> bool {
        self.known.is_appendable()
    }

    fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        let joining = Joining {
            topic: &self.options.topic,
            group,
            member_timeout: self.options.member_timeout,
            book: LayoutBook::of(Arc::clone(&self.known) as Arc<dyn Log>),
        };
        Ok(Box::new(KafkaMembership::join(self.settings.client()?, joining)?))
    }
}

/// What opens a generation that followed.
struct Next {
    brokers: Brokers,
    options: KafkaLogOptions,
    known: Arc<Generations<KafkaLog>>,
}

impl Next {
    /// Looks at the directory until it is told to stop. Brokers that are away are asked again the next time.
    fn run(&self, mut directory: Following, stopped: &Receiver<()>) {
        let mut is_told = false;
        while stopped.recv_timeout(self.options.directory_every) == Err(RecvTimeoutError::Timeout) {
            match directory.read_on(LOOK_WAIT) {
                Ok(found) => {
                    is_told = false;
                    self.follow(&complete(found));
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(%error, "the directory of generations cannot be read; a next one is not followed until it can");
                }
                Err(error) => tracing::debug!(%error, "the directory of generations cannot be read yet"),
            }
        }
    }

    fn follow(&self, layouts: &[LogLayout]) {
        let newest = self.known.layout();
        for layout in layouts.iter().filter(|layout| layout.generation > newest.generation) {
            match open_one(&self.brokers, &self.options, *layout, *layout) {
                Ok(log) => {
                    let (topic, partitions) = (log.topic(), layout.partitions);
                    tracing::info!(topic, partitions, "the log goes on in a next generation");
                    self.known.follow(Arc::new(log));
                }
                Err(error) => {
                    tracing::warn!(generation = layout.generation, %error, "a next generation cannot be opened yet");
                    return;
                }
            }
        }
    }
}

/// The thread that looks at the directory; dropping it ends it.
struct Follower {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    fn start(next: Next, directory: Following) -> Result<Self, LogError> {
        let (stop, stopped) = channel();
        let work = move || next.run(directory, &stopped);
        let thread = std::thread::Builder::new().name("pulso-kafka-generations".into()).spawn(work);
        let doing = || "start the look at the directory of generations".into();
        let thread = thread.map_err(|source| LogError::Io { doing: doing(), source })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the look at the directory of generations had panicked");
        }
    }
}
