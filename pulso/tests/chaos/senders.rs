//! Concurrent senders: new pulses, retries of what was never answered, duplicates, re-stamped duplicates, conflicts, late
//! pulses. Each sending and each answer goes into the record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pulso_platform::service::clock::Clock;
use pulso_proto::v1::SendPulsesRequest;
use pulso_proto::v1::ingest_service_client::IngestServiceClient;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::record::{Copy, Made, Record};
use crate::server::Server;

const TENANTS: u64 = 5;
const SKUS: u64 = 4;
const RESOURCES: u64 = 6;
/// A call without an answer by then is taken for never answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What all senders of a test share.
#[derive(Default)]
pub(crate) struct Shared {
    /// What was sent and answered.
    pub(crate) record: Mutex<Record>,
    /// Calls whose answer has not come.
    pub(crate) in_flight: AtomicU64,
    next_id: AtomicU64,
}

impl Shared {
    fn new_pulse(&self, dice: &mut impl Rng) -> Made {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let tenant = dice.random_range(0..TENANTS);
        // A tenth is late: up to 30 days, so that it falls into closed windows of other months too.
        let age = if dice.random_ratio(1, 10) {
            dice.random_range(0..30 * 86_400)
        } else {
            dice.random_range(0..60)
        };
        Made {
            name: (format!("tenant-{tenant}"), format!("p-{number}")),
            product_sku: format!("sku-{}", dice.random_range(0..SKUS)),
            resource_id: format!("r-{}", dice.random_range(0..RESOURCES)),
            thousandths: dice.random_range(0..100_000),
            occurred_at: now() - age,
        }
    }

    fn batch(&self, dice: &mut impl Rng) -> Vec<(Made, Copy)> {
        let mut record = self.record.lock();
        let mut batch = Vec::new();
        for _ in 0..dice.random_range(1..40) {
            let kind = dice.random_range(0..10);
            let known = record.accepted.len();
            let one = match kind {
                0 if known > 0 => {
                    let mut made = record.accepted[dice.random_range(0..known)].0.clone();
                    made.occurred_at -= dice.random_range(0..2) * 3600;
                    (made, Copy::Duplicate)
                }
                1 if known > 0 => {
                    let mut made = record.accepted[dice.random_range(0..known)].0.clone();
                    made.thousandths += 1;
                    (made, Copy::Conflict)
                }
                2..5 if !record.open.is_empty() => {
                    let place = dice.random_range(0..record.open.len());
                    (record.open.swap_remove(place), Copy::Original)
                }
                _ => (self.new_pulse(dice), Copy::Original),
            };
            batch.push(one);
        }
        batch
    }
}

/// Sends until stopped; a call that fails is noted as never answered.
async fn send_until(
    shared: Arc<Shared>,
    mut client: IngestServiceClient<Channel>,
    seed: u64,
    stop: CancellationToken,
) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        let batch = shared.batch(&mut dice);
        if !send(&shared, &mut client, batch).await {
            tokio::task::yield_now().await;
        }
    }
}

/// Sends one batch; whether it was answered.
async fn send(shared: &Shared, client: &mut IngestServiceClient<Channel>, batch: Vec<(Made, Copy)>) -> bool {
    let pulses = batch.iter().map(|(made, _)| made.pulse()).collect();
    shared.in_flight.fetch_add(1, Ordering::SeqCst);
    let call = client.send_pulses(SendPulsesRequest { pulses, request_id: String::new() });
    // A call may be left hanging by the client when its server is killed at the wrong moment.
    let answer = tokio::time::timeout(ANSWER_WITHIN, call).await;
    shared.in_flight.fetch_sub(1, Ordering::SeqCst);
    let results = answer.ok().and_then(Result::ok).map(|answer| answer.into_inner().results);
    let answered = results.is_some();
    shared.record.lock().answered(batch, results);
    answered
}

/// Sends again what was never answered, until all of it is.
async fn settle(shared: &Shared, client: &mut IngestServiceClient<Channel>) {
    for _ in 0..1000 {
        let open: Vec<_> = {
            let mut record = shared.record.lock();
            let count = record.open.len().min(500);
            record.open.drain(..count).map(|made| (made, Copy::Original)).collect()
        };
        if open.is_empty() {
            return;
        }
        send(shared, client, open).await;
    }
    panic!("the server does not answer");
}

/// Senders that run beside a test.
pub(crate) struct Senders {
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Senders {
    /// Starts as many senders as there are seeds.
    pub(crate) fn start(shared: &Arc<Shared>, server: &Server, seeds: impl IntoIterator<Item = u64>) -> Self {
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for seed in seeds {
            running.spawn(send_until(Arc::clone(shared), server.client(), seed, stop.clone()));
        }
        Self { stop, running }
    }

    /// Stops them, each after the call it is in.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(sender) = self.running.join_next().await {
            sender.expect("a sender ends");
        }
    }
}

/// Sends again what was never answered until all of it is, and gives the record.
pub(crate) async fn settled(shared: &Shared, server: &Server) -> Record {
    settle(shared, &mut server.client()).await;
    std::mem::take(&mut *shared.record.lock())
}

/// Seconds of the Unix epoch.
pub(crate) fn now() -> i64 {
    Clock::System.now().seconds()
}
