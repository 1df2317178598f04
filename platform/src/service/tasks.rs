//! Supervised tasks and the ordered shutdown of a process.
//!
//! Every long-lived task and thread is spawned here, under a name and in a [`Stage`]. One that ends while nobody asked
//! for it stops the process with exit code 1: work that silently stopped would look like an idle system. A shutdown
//! goes stage by stage: a stage is told to stop, and only when all of its tasks have ended is the next one told.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::health::Health;

/// What a task may end with.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// The order of a shutdown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// Takes work in: stops accepting, and answers what is in flight.
    Accept,
    /// Works on what was taken in: finishes it.
    Work,
    /// Makes the work durable: flushes and checkpoints.
    Flush,
    /// Holds what the others stand on: log, store, admin listener.
    Close,
}

/// All stages, in order.
const STAGES: [Stage; 4] = [Stage::Accept, Stage::Work, Stage::Flush, Stage::Close];

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Everything was asked to stop and did.
    Clean,
    /// A task failed, or ended without being asked.
    Failed,
    /// The grace period was over, or a second signal came, before everything had stopped.
    Forced,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failed | Self::Forced => 1,
        }
    }
}

/// Spawns supervised tasks. A clone spawns into the same process.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stops: [CancellationToken; STAGES.len()],
    /// Who runs; a task's name leaves it before its end is told.
    running: Mutex<Vec<(Stage, String)>>,
    events: mpsc::UnboundedSender<Event>,
}

#[derive(Debug)]
enum Event {
    Ended { name: String, outcome: Result<(), String> },
    Stop,
}

/// Waits for the end of a process and carries it out.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    signals: Signals,
    failed: bool,
}

impl Tasks {
    /// Tasks, and the supervisor that must be run for them.
    #[must_use]
    pub fn new(signals: Signals) -> (Self, Supervisor) {
        let (sender, events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            stops: std::array::from_fn(|_| CancellationToken::new()),
            running: Mutex::default(),
            events: sender,
        });
        (Self { shared: shared.clone() }, Supervisor { shared, events, signals, failed: false })
    }

    /// What tells the tasks of a stage to stop.
    #[must_use]
    pub fn stop_of(&self, stage: Stage) -> CancellationToken {
        self.shared.stops[stage as usize].clone()
    }

    /// Asks for an orderly end, as SIGTERM does.
    pub fn stop(&self) {
        // It fails only when the supervisor is gone, and with it the process.
        let _ = self.shared.events.send(Event::Stop);
    }

    /// Runs a future until its stage stops.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn spawn<F>(&self, stage: Stage, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let running = self.begin(stage, name.into());
        let task = tokio::spawn(future);
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            running.end(outcome);
        });
    }

    /// Runs a closure on a thread of its own until its stage stops; for work that blocks.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn spawn_blocking<F>(&self, stage: Stage, name: impl Into<String>, work: F) -> std::io::Result<()>
    where
        F: FnOnce() -> Result<(), TaskError> + Send + 'static,
    {
        let name = name.into();
        let thread = std::thread::Builder::new().name(name.clone());
        let running = self.begin(stage, name);
        thread.spawn(move || {
            let outcome = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(panic) => Err(format!("panicked: {}", panic_text(panic.as_ref()))),
            };
            running.end(outcome);
        })?;
        Ok(())
    }

    fn begin(&self, stage: Stage, name: String) -> Running {
        self.shared.running.lock().push((stage, name.clone()));
        Running { shared: self.shared.clone(), stage, name, ended: false }
    }
}

/// A task's entry among those that run; its end is told exactly once, also when it is dropped.
struct Running {
    shared: Arc<Shared>,
    stage: Stage,
    name: String,
    ended: bool,
}

impl Running {
    fn end(mut self, outcome: Result<(), String>) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Result<(), String>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut running = self.shared.running.lock();
        if let Some(at) = running.iter().position(|(stage, name)| *stage == self.stage && *name == self.name)
        {
            running.swap_remove(at);
        }
        drop(running);
        let _ = self.shared.events.send(Event::Ended { name: std::mem::take(&mut self.name), outcome });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tell(Err("it was dropped before its end".to_owned()));
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

impl Supervisor {
    /// Waits for a signal, a request to stop or a task that ends on its own, then stops stage by stage within `grace`.
    /// A stage may take half of what is left of it, the last one all: a client that never ends its call must not keep
    /// what is done from being flushed.
    pub async fn run(mut self, health: &Health, grace: Duration) -> Exit {
        tokio::select! {
            () = self.signals.next() => tracing::info!("a signal asks for the end: stopping"),
            event = self.events.recv() => self.judge_early(event),
        }
        health.begin_shutdown();
        let deadline = Instant::now() + grace;
        for stage in STAGES {
            self.shared.stops[stage as usize].cancel();
            let left = deadline.saturating_duration_since(Instant::now());
            let until = if stage == Stage::Close { deadline } else { Instant::now() + left / 2 };
            while self.runs(stage) {
                tokio::select! {
                    event = self.events.recv() => self.judge(event),
                    () = self.signals.next() => return self.forced("a second signal came"),
                    () = tokio::time::sleep_until(until) => break,
                }
            }
        }
        if !self.shared.running.lock().is_empty() {
            return self.forced("the grace period is over");
        }
        while let Ok(event) = self.events.try_recv() {
            self.judge(Some(event));
        }
        if self.failed { Exit::Failed } else { Exit::Clean }
    }

    fn runs(&self, stage: Stage) -> bool {
        self.shared.running.lock().iter().any(|(of, _)| *of == stage)
    }

    /// What came before any shutdown: a task that ended has failed, whatever it says.
    fn judge_early(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Ended { name, outcome }) => {
                let reason = outcome.err().unwrap_or_else(|| "without an error".to_owned());
                tracing::error!(task = name, reason, "a task ended while nobody asked for it: stopping");
                self.failed = true;
            }
            Some(Event::Stop) | None => tracing::info!("stopping"),
        }
    }

    /// What came during the shutdown: only an error is a failure.
    fn judge(&mut self, event: Option<Event>) {
        if let Some(Event::Ended { name, outcome: Err(reason) }) = event {
            tracing::error!(task = name, reason, "a task failed while it stopped");
            self.failed = true;
        }
    }

    fn forced(&self, why: &str) -> Exit {
        let running: Vec<String> = self.shared.running.lock().iter().map(|(_, name)| name.clone()).collect();
        tracing::error!(running = running.join(", "), "{why}: ending without waiting for the rest");
        Exit::Forced
    }
}

/// Where requests to end come from.
#[derive(Debug)]
pub struct Signals {
    receiver: mpsc::UnboundedReceiver<()>,
    /// Keeps the channel open, so that no sender is needed for it to stay silent.
    _sender: mpsc::UnboundedSender<()>,
}

impl Signals {
    /// SIGTERM and SIGINT of this process. From now on they no longer end it by themselves.
    ///
    /// # Errors
    /// When the system refuses to hand them over.
    #[expect(
        clippy::disallowed_methods,
        reason = "it lives as long as the process, and its end is the channel's"
    )]
    pub fn of_process() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, signals) = Self::manual();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => (),
                    _ = interrupt.recv() => (),
                }
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(signals)
    }

    /// Signals that are sent by hand.
    #[must_use]
    pub fn manual() -> (mpsc::UnboundedSender<()>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender.clone(), Self { receiver, _sender: sender })
    }

    async fn next(&mut self) {
        if self.receiver.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests;
