//! A consumer that reads in bursts on real Kafka: what comes between two waits in the log, is told, and is then counted.

use std::time::{Duration, Instant};

use pulso_platform::service::clock::Clock;

use crate::fixture::{Cluster, SOON, metric};
use crate::harness::pulse_line;

const EVERY_SECONDS: i64 = 30;
const ONLINE_SECONDS: i64 = 10;

#[test]
fn between_two_bursts_the_log_keeps_what_comes_and_the_next_one_counts_it() {
    let mut cluster = Cluster::start(0, "topic");
    let every = format!("{EVERY_SECONDS}s");
    let online_for = format!("{ONLINE_SECONDS}s");
    let consumer = cluster.consumer_with(&["--every", &every, "--online-for", &online_for]);
    cluster.consumers.push(consumer);
    cluster.drain();
    let into_span = || Clock::System.now().seconds().rem_euclid(EVERY_SECONDS);
    while !(ONLINE_SECONDS + 1..ONLINE_SECONDS + 3).contains(&into_span()) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let lines: String =
        (0..100).map(|id| pulse_line(&[("id", &format!("p-{id}")), ("tenant_id", "burst")])).collect();
    cluster.client_with_input(&["send", "-"], &lines).expect_code(0);
    let since = Instant::now();
    while metric(&cluster.consumers[0], "pulso_consumer_backlog_records") == 0.0 {
        assert!(since.elapsed() < SOON, "{}", cluster.consumers[0].stderr());
        std::thread::sleep(Duration::from_millis(200));
    }
    if into_span() > ONLINE_SECONDS {
        let total = cluster.ledger()["total"].clone();
        assert!(total["folded_offset"].as_u64() < total["end_offset"].as_u64(), "{total}");
    }
    cluster.drain();
    let usage = cluster.client(&["usage", "burst", "--granularity", "month", "--output", "json"]).json();
    assert_eq!(usage["usage"][0]["count"], 100, "{usage}");
    cluster.stop().audit();
}
