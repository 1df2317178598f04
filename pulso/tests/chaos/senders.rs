//! Concurrent senders: new pulses, retries of what was never answered, duplicates, re-stamped duplicates, conflicts, late
//! pulses. Each sending and each answer goes into the record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use pulso_proto::v1::SendPulsesRequest;
use pulso_proto::v1::ingest_service_client::IngestServiceClient;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::record::{Copy, Made, Record};

const TENANTS: u64 = 5;
const SKUS: u64 = 4;
const RESOURCES: u64 = 6;

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
        let mut record = self.record.lock().unwrap();
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
pub(crate) async fn send_until(
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
pub(crate) async fn send(
    shared: &Shared,
    client: &mut IngestServiceClient<Channel>,
    batch: Vec<(Made, Copy)>,
) -> bool {
    let pulses = batch.iter().map(|(made, _)| made.pulse()).collect();
    shared.in_flight.fetch_add(1, Ordering::SeqCst);
    let answer = client.send_pulses(SendPulsesRequest { pulses, request_id: String::new() }).await;
    shared.in_flight.fetch_sub(1, Ordering::SeqCst);
    let results = answer.ok().map(|answer| answer.into_inner().results);
    let answered = results.is_some();
    shared.record.lock().unwrap().answered(batch, results);
    answered
}

/// Sends again what was never answered, until all of it is.
pub(crate) async fn settle(shared: &Shared, client: &mut IngestServiceClient<Channel>) {
    for _ in 0..1000 {
        let open: Vec<_> = {
            let mut record = shared.record.lock().unwrap();
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

/// Seconds of the Unix epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}
