//! More than it can take: refused before the ack, memory under the ceiling, nothing accepted is lost (G11).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pulso_proto::v1::SendPulsesRequest;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;

use crate::bill;
use crate::record::{Copy, Made};
use crate::senders::{Shared, now, settled};
use crate::server::{ALONE, Server};

/// What the process may take: its own 128 MiB of pulses in flight would be too easy, so the test allows 1 MiB of them,
/// and this for everything else.
const MEMORY_MAX: u64 = 640 << 20;
const CALLERS: u64 = 48;
const BATCH: usize = 5_000;
const OVERLOAD: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn g11_overload_is_refused_and_memory_stays_under_its_ceiling() {
    let _alone = ALONE.lock().await;
    let folder = TempDir::new().expect("a folder");
    let server =
        Server::start(folder.path(), &["--in-flight-bytes-max", "1MiB", "--message-bytes-max", "512KiB"]);
    let shared = Arc::new(Shared::default());
    let calls = Arc::new(Calls::default());
    let since = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        callers.spawn(overload(server.client(), Arc::clone(&shared), Arc::clone(&calls), (number, since)));
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("a caller ends");
    }
    let (taken, refused) = (calls.taken.load(Ordering::Relaxed), calls.refused.load(Ordering::Relaxed));
    let peak = server.memory_peak();
    let accepted = shared.record.lock().accepted.len();
    println!(
        "{accepted} accepted; {taken} calls taken, {refused} refused, at most {} MiB of memory",
        peak >> 20
    );
    assert!(
        refused >= 2 * taken,
        "{taken} calls taken and {refused} refused: not three times what it can take"
    );
    assert!(accepted > 10 * BATCH, "only {accepted} pulses were accepted: overload must not stop service");
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    bill::compare(&server, &settled(&shared, &server).await).await;
    assert!(server.terminate().success());
}

async fn overload(
    mut client: pulso_proto::v1::ingest_service_client::IngestServiceClient<tonic::transport::Channel>,
    shared: Arc<Shared>,
    calls: Arc<Calls>,
    (caller, since): (u64, Instant),
) {
    let mut round = 0;
    while since.elapsed() < OVERLOAD {
        let batch: Vec<_> = (0..BATCH).map(|number| (made(caller, round, number), Copy::Original)).collect();
        round += 1;
        let pulses: Vec<_> = batch.iter().map(|(made, _)| made.pulse()).collect();
        loop {
            let request = SendPulsesRequest { pulses: pulses.clone(), request_id: String::new() };
            match client.send_pulses(request).await {
                Ok(answer) => {
                    calls.taken.fetch_add(1, Ordering::Relaxed);
                    shared.record.lock().answered(batch, Some(answer.into_inner().results));
                    break;
                }
                // Surely not stored: when it is sent no more, the totals must not know it, as the record does not.
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                    calls.refused.fetch_add(1, Ordering::Relaxed);
                    if since.elapsed() > OVERLOAD {
                        return;
                    }
                }
            }
        }
    }
}

/// What became of the calls.
#[derive(Default)]
struct Calls {
    taken: AtomicU64,
    refused: AtomicU64,
}

fn made(caller: u64, round: u64, number: usize) -> Made {
    Made {
        name: (format!("tenant-{}", caller % 7), format!("{caller}-{round}-{number}")),
        product_sku: format!("sku-{}", number % 5),
        resource_id: format!("r-{}", number % 3),
        thousandths: number as i64,
        occurred_at: now() - 60,
    }
}
