//! The journey of a batch in one place: read and judged, given to the log by partition, answered when durable.
//!
//! [`Ingest::handle`] is the whole door without a socket, for whoever has a request as bytes; [`Ingest::take`] is the same
//! for whoever has pulses one by one, as sources do.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use pulso_domain::position::partition_number;
use pulso_platform::log::{Appended, Log, LogError};
use pulso_platform::service::clock::Clock;
use pulso_proto::v1;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, ByteLease};
use crate::answer;
use crate::batch;
use crate::board::{Board, Ticket};
use crate::door::{Caller, Door, Floor, Known, UnitBook};
use crate::lanes::Lanes;
use crate::metrics::Metrics;
use crate::refusal::IngestError;
use crate::settings::IngestSettings;
use crate::sources::poison::Poison;
use crate::wire::{bytes_len, put_bytes};

/// The key of `SendPulsesRequest.pulses`.
const REQUEST_PULSE_TAG: u8 = 0x0a;

/// What the ingestor needs from around it.
#[derive(Clone)]
pub struct IngestDeps {
    /// Where accepted pulses go.
    pub log: Arc<dyn Log>,
    /// Tells the acceptance window.
    pub clock: Clock,
    /// The units that the catalog knows.
    pub units: UnitBook,
    /// Before this no pulse is taken.
    pub floor: Floor,
}

/// The tasks behind an [`Ingest`]; dropped, they end and what waits is answered UNKNOWN.
#[derive(Debug)]
pub struct IngestTasks {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl IngestTasks {
    /// Resolves when a task ends although nobody asked it to: the ingestor is then broken and must stop.
    pub(crate) async fn unexpected_end(&mut self) {
        while self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until every record on its way has its outcome, then ends the tasks.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The front door without its socket.
pub struct Ingest {
    settings: IngestSettings,
    log: Arc<dyn Log>,
    lanes: Arc<Lanes>,
    clock: Clock,
    units: UnitBook,
    floor: Floor,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

impl Ingest {
    /// Starts the lanes to the log. The recorder of metrics must be installed before.
    #[must_use]
    pub fn start(settings: IngestSettings, deps: IngestDeps) -> (Arc<Self>, IngestTasks) {
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        let ingest = Self {
            lanes: Lanes::start(Arc::clone(&deps.log), &mut tasks, &stop),
            log: deps.log,
            clock: deps.clock,
            units: deps.units,
            floor: deps.floor,
            admission: Admission::new(settings.calls_in_flight_max, settings.bytes_in_flight_max),
            metrics: Arc::new(Metrics::new()),
            settings,
        };
        (Arc::new(ingest), IngestTasks { tasks, stop })
    }

    /// Takes one `SendPulsesRequest` as bytes and gives its `SendPulsesResponse` as bytes, once every pulse is durable,
    /// refused or unknown.
    ///
    /// # Errors
    /// What concerns the whole call; nothing of it was stored then.
    pub async fn handle(&self, request: Bytes, caller: Caller) -> Result<Bytes, IngestError> {
        let answer = self.admit_and_answer(request, caller).await;
        answer.inspect_err(|error| self.metrics.count_failed(error))
    }

    /// Takes pulses as the bytes of one `pulso.v1.Pulse` each and gives one result for each, in order, once every one is
    /// durable, refused or unknown.
    ///
    /// # Errors
    /// As [`Self::handle`].
    pub async fn take(&self, pulses: &[&Bytes], caller: Caller) -> Result<Vec<v1::PulseResult>, IngestError> {
        Ok(results(self.handle(request(pulses), caller).await?))
    }

    /// As [`Self::take`], for a caller that was admitted before its pulses arrived: the lease covers their bytes.
    pub(crate) async fn take_admitted(
        &self,
        pulses: &[&Bytes],
        lease: ByteLease,
        caller: Caller,
    ) -> Result<Vec<v1::PulseResult>, IngestError> {
        let received = Received { bytes: request(pulses), lease };
        let answer = async { self.begin(received, caller)?.answer().await }.await;
        let answer = answer.inspect_err(|error| self.metrics.count_failed(error))?;
        Ok(results(answer::message(&answer)))
    }

    /// Puts what is no good pulse into the log, where the fold makes a dead letter of it.
    ///
    /// # Errors
    /// When the log does not confirm it.
    pub(crate) async fn bury(&self, poison: &Poison, origin: &str) -> Result<Appended, LogError> {
        let layout = self.log.layout();
        let (index, value) = poison.record(origin, self.clock.now(), layout.partitions);
        let partition = partition_number(layout.generation, index);
        let reply = self.log.append(partition, vec![value]);
        let unknown = |why: &str| Err(LogError::Unknown(why.to_owned()));
        match tokio::time::timeout(self.settings.ack_timeout, reply).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => unknown("the log went away"),
            Err(_) => unknown("it took too long"),
        }
    }

    async fn admit_and_answer(&self, request: Bytes, caller: Caller) -> Result<Bytes, IngestError> {
        let _permit = self.admission.enter()?;
        let mut lease = self.admission.lease();
        lease.grow(request.len())?;
        let answer = self.begin(Received { bytes: request, lease }, caller)?.answer().await?;
        Ok(answer::message(&answer))
    }

    /// The part that needs no waiting: reads the request and gives its shares to the log. Batches that are begun one
    /// after the other stand in the log in that order.
    pub(crate) fn begin(&self, received: Received, caller: Caller) -> Result<Waiting, IngestError> {
        let Received { bytes, mut lease } = received;
        let now = self.clock.now();
        let accept = (self.settings.accept_past, self.settings.accept_future);
        let door = Door::new(now, accept, caller, Known { units: &self.units, floor: &self.floor });
        let packer = self.lanes.newest();
        let plan = batch::read(&bytes, &door, packer.layout().partitions)?;
        lease.grow(plan.answer_bytes)?;
        self.metrics.request_bytes.increment(bytes.len() as u64);
        // The shares hold copies of what was accepted: the request itself is not needed while the log works.
        drop(bytes);

        let board = Board::new(plan, Arc::clone(&self.metrics), lease);
        let mut run = 0;
        for share in board.take_shares() {
            for chunk in share.chunks {
                let ticket = Ticket::new(&board, run, chunk.pulses);
                packer.offer(share.partition, (chunk, ticket));
                run += 1;
            }
        }
        Ok(Waiting { board, ack_timeout: self.settings.ack_timeout })
    }

    /// The budgets.
    #[must_use]
    pub const fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    pub(crate) const fn settings(&self) -> &IngestSettings {
        &self.settings
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// A `SendPulsesRequest` of these pulses.
fn request(pulses: &[&Bytes]) -> Bytes {
    let mut request = Vec::with_capacity(pulses.iter().map(|pulse| bytes_len(pulse.len())).sum());
    for pulse in pulses {
        put_bytes(&mut request, REQUEST_PULSE_TAG, pulse);
    }
    request.into()
}

fn results(answer: Bytes) -> Vec<v1::PulseResult> {
    v1::SendPulsesResponse::decode(answer).expect("the answer is written as the generated type would").results
}

/// A request that has arrived, and the budget it holds.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) lease: ByteLease,
}

/// A batch on its way to the log.
#[derive(Debug)]
pub(crate) struct Waiting {
    board: Arc<Board>,
    ack_timeout: std::time::Duration,
}

impl Waiting {
    /// The answer, framed, once it is sure or the time is up.
    ///
    /// # Errors
    /// [`IngestError::LogUnavailable`] when surely nothing was stored.
    pub(crate) async fn answer(&self) -> Result<Bytes, IngestError> {
        self.board.answer(self.ack_timeout).await
    }
}
