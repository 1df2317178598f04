//! kill -9 at random moments under concurrent senders, and what the totals are afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::bill;
use crate::senders::{Senders, Shared, settled};
use crate::server::{ALONE, Server, audit};

const CYCLES: u32 = 100;
const SENDERS: u64 = 3;
/// Kills that must fall on calls in flight, and on a flush: a run that misses them proves too little.
const IN_FLIGHT_MIN: u32 = 80;
const ON_FLUSH_MIN: u32 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn g09_a_hundred_kills_lose_nothing_and_double_nothing() {
    let _alone = ALONE.lock().await;
    let cycles =
        std::env::var("PULSO_KILL_CYCLES").ok().map_or(CYCLES, |text| text.parse().expect("a number"));
    let folder = TempDir::new().expect("a folder");
    let shared = Arc::new(Shared::default());
    let mut dice = ChaCha8Rng::seed_from_u64(9);
    let (mut in_flight, mut on_flush) = (0, 0);
    for cycle in 0..cycles {
        let server = Server::start(folder.path(), &["--flush-every", "50ms"]);
        let first_seed = u64::from(cycle) * SENDERS;
        let senders = Senders::start(&shared, &server, first_seed..first_seed + SENDERS);
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..120))).await;
        // Two of three kills wait for a flush, so that enough of them fall on one.
        if cycle % 3 != 0 {
            wait_for_a_flush(&server, Duration::from_micros(dice.random_range(0..1500)));
        }
        in_flight += u32::from(shared.in_flight.load(Ordering::SeqCst) > 0);
        on_flush += u32::from(server.heard(|heard| heard.flushing > 0));
        server.kill();
        senders.stop().await;
    }
    println!("{cycles} kills: {in_flight} with calls in flight, {on_flush} on a flush");
    assert!(in_flight * CYCLES >= IN_FLIGHT_MIN * cycles, "only {in_flight} kills fell on calls in flight");
    assert!(on_flush * CYCLES >= ON_FLUSH_MIN * cycles, "only {on_flush} kills fell on a flush");
    let server = Server::start(folder.path(), &[]);
    let record = settled(&shared, &server).await;
    println!(
        "{} pulses accepted, {} copies answered, {} sendings never answered",
        record.accepted.len(),
        record.copies.len(),
        record.unanswered
    );
    bill::compare(&server, &record).await;
    assert!(server.terminate().success(), "SIGTERM ends it with 0");
    let audit = audit(folder.path());
    assert!(audit.status.success(), "{audit:?}");
}

/// Waits until a flush begins, and then a moment, so that the kill falls inside it.
fn wait_for_a_flush(server: &Server, moment: Duration) {
    let since = Instant::now();
    let began =
        |heard: &crate::server::Heard| heard.flushing > 0 && heard.flush_began.is_some_and(|at| at > since);
    while !server.heard(began) && since.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_micros(50));
    }
    std::thread::sleep(moment / 2);
}
