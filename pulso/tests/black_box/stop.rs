//! G16: SIGTERM under load ends inside the grace period, and a restart folds nothing twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Server, now, pulso};

const PULSES: usize = 400_000;

/// A file that takes a while to send: `PULSES` pulses of one unit each.
fn load(path: &std::path::Path) {
    let now = now();
    let mut text = "id,tenant_id,product_sku,used_amount,use_unit,occurred_at\n".to_owned();
    for number in 0..PULSES {
        text += &format!("id-{number},tenant-{},s,1,u,{now}\n", number % 7);
    }
    std::fs::write(path, text).expect("writes");
}

/// Counted pulses and duplicates over all partitions, from the folder itself.
fn counts(data: &str) -> BTreeMap<&'static str, u64> {
    let status = pulso(&["log", "status", "--data-dir", data, "--output", "json"]).expect_code(0).json();
    let partitions = status["partitions"].as_array().expect("a list").clone();
    let sum = |name: &str| partitions.iter().filter_map(|partition| partition[name].as_u64()).sum::<u64>();
    ["counted", "duplicate", "conflict", "dead_lettered", "end_offset", "folded_offset"]
        .into_iter()
        .map(|name| (name, sum(name)))
        .collect()
}

#[test]
fn g16_sigterm_under_load_exits_inside_the_grace_period_and_a_restart_folds_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let path = data.to_str().expect("UTF-8");
    let file = folder.path().join("load.csv");
    load(&file);
    let file = file.to_str().expect("UTF-8");

    let mut server = Server::start_with(&data, &["--grace", "20s", "--flush-every", "50ms"]);
    let ingest = server.address("ingest").to_owned();
    let sender = {
        let file = file.to_owned();
        std::thread::spawn(move || pulso(&["send", &file, "--ingest", &ingest, "--output", "json"]))
    };
    wait_until_acknowledged(&server);
    let asked = Instant::now();
    server.terminate();
    let status = server.wait(Duration::from_secs(25)).expect("it stops");
    assert_eq!(status.code(), Some(0), "{}", server.stderr());
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());

    let sent = sender.join().expect("ends").expect_code(5);
    let summary: Value = serde_json::from_str(sent.stdout.lines().last().expect("a summary")).expect("JSON");
    let accepted = summary["accepted"].as_u64().expect("a count");
    assert!(accepted > 0 && accepted < PULSES as u64, "the stop must fall into the load: {summary}");

    // A clean stop folds what it has read; what it has not is folded by the next start, each once.
    let stopped = counts(path);
    assert!(stopped["counted"] <= PULSES as u64 && stopped["duplicate"] == 0, "{stopped:?}");
    let server = Server::start(&data);
    let all = server.client(&["send", file, "--output", "json"]).expect_code(0).json();
    assert_eq!(all["accepted"], PULSES);
    drain(&server);
    assert_eq!(server.stop(), 0);
    let restarted = counts(path);
    assert_eq!(restarted["counted"], PULSES as u64, "every pulse once: {restarted:?}");
    assert!(restarted["duplicate"] >= accepted, "{restarted:?}");
    assert_eq!(restarted["folded_offset"], restarted["end_offset"], "{restarted:?}");
    pulso(&["audit", "--data-dir", path]).expect_code(0);

    assert_eq!(Server::start(&data).stop(), 0);
    assert_eq!(counts(path), restarted, "a start and a stop change nothing");
}

#[test]
fn g04_a_rewind_and_a_restart_change_no_total() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let path = data.to_str().expect("UTF-8");
    let server = Server::start_with(&data, &["--accept-past", "65d"]);
    let month = crate::harness::previous_month();
    server.client(&["import", "focus", crate::harness::sample(), "--month", &month]).expect_code(0);
    let (from, to) = (format!("{month}-01T00:00:00Z"), format!("{}-01T00:00:00Z", &now()[..7]));
    let usage = |server: &Server| {
        let tenants = server.client(&["tenants", "--output", "json"]).expect_code(0).json();
        let tenants = tenants["tenants"].as_array().expect("a list").clone();
        let rows = tenants.iter().filter_map(|tenant| {
            let tenant = tenant["tenant_id"].as_str()?;
            let arguments =
                ["usage", tenant, "--granularity", "day", "--from", &from, "--to", &to, "--output", "csv"];
            Some(server.client(&arguments).expect_code(0).stdout)
        });
        rows.collect::<Vec<_>>()
    };
    let before = usage(&server);
    assert!(
        before.iter().map(|rows| rows.lines().count() - 1).sum::<usize>() > 100,
        "there must be something to compare"
    );
    assert_eq!(server.stop(), 0);
    let counted = counts(path);
    for partition in ["0", "1", "2", "3"] {
        pulso(&["log", "rewind", "--partition", partition, "--to", "0", "--data-dir", path]).expect_code(0);
    }
    pulso(&["log", "rewind", "--partition", "0", "--to", "999999", "--data-dir", path]).expect_code(2);
    pulso(&["log", "rewind", "--partition", "9", "--to", "0", "--data-dir", path]).expect_code(3);
    let server = Server::start(&data);
    drain(&server);
    assert_eq!(usage(&server), before);
    assert_eq!(server.stop(), 0);
    assert_eq!(counts(path), counted);
    pulso(&["audit", "--data-dir", path]).expect_code(0);
}

/// Waits until the log holds pulses, as its own metrics say.
fn wait_until_acknowledged(server: &Server) {
    let deadline = Instant::now() + crate::harness::WAIT_MAX;
    while Instant::now() < deadline {
        let (_, metrics) = server.admin("/metrics");
        let folded = metrics.lines().any(|line| {
            line.starts_with("pulso_consumer_pulses_total{fate=\"counted\"}") && !line.ends_with(" 0")
        });
        if folded {
            return;
        }
    }
    panic!("nothing was folded: {}", server.stderr());
}

/// Waits until everything is folded, by the ledger.
fn drain(server: &Server) {
    let deadline = Instant::now() + crate::harness::WAIT_MAX;
    while Instant::now() < deadline {
        let (status, ledger) = server.get("/v1/ledger");
        assert_eq!(status, 200, "{ledger}");
        let partitions = ledger["partitions"].as_array().expect("a list");
        if partitions.iter().all(|partition| partition["folded_offset"] == partition["end_offset"]) {
            return;
        }
    }
    panic!("the ledger did not drain");
}
