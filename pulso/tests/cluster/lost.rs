//! A topic that is deleted under the roles, and records that retention took before they were folded: `pulso log resume` gives up
//! what was lost, and everything goes on. On a broker of its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Cluster, SOON, Servers};
use crate::harness::{http_get, now, pulse_line};

const LOG: &str = "resource-consumption";
const TENANT: &str = "losing";

/// Sends pulses until all are acknowledged.
fn send(cluster: &Cluster, numbers: std::ops::Range<u32>, at: &str) {
    let line = |number| {
        let id = format!("p-{number}");
        pulse_line(&[("id", &id), ("tenant_id", TENANT), ("used_amount", "1"), ("occurred_at", at)])
    };
    let lines: String = numbers.map(line).collect();
    let since = Instant::now();
    while cluster.client_with_input(&["send", "-"], &lines).code != Some(0) {
        assert!(since.elapsed() < SOON, "they are not taken: {}", cluster.ingestor.stderr());
    }
}

fn count(cluster: &Cluster) -> Value {
    let usage = cluster.client(&["usage", TENANT, "--granularity", "month", "--output", "json"]).json();
    usage["usage"][0]["count"].clone()
}

fn stop_consumers(cluster: &mut Cluster) {
    for consumer in cluster.consumers.drain(..) {
        assert_eq!(consumer.stop(), 0);
    }
}

/// The partition of the tenant in this generation, as the ledger has it.
fn partition(cluster: &Cluster, generation: u64) -> Value {
    let ledger = cluster.ledger();
    let mut all = ledger["partitions"].as_array().expect("a list").iter();
    let of = all.find(|one| one["generation"] == generation && one["counted"] != 0);
    of.unwrap_or_else(|| panic!("nothing is counted in generation {generation}: {ledger}")).clone()
}

#[test]
fn g10_what_was_lost_with_a_topic_is_given_up_by_log_resume_and_the_roles_go_on() {
    let mut cluster = Cluster::start_on(Servers::take_own("losing"), 1, "topic");
    let at = now();
    send(&cluster, 0..50, &at);
    cluster.drain();
    let resume = ["log", "resume", "--note", "deleted by mistake", "--output", "json"];
    cluster.servers.pulso(&resume).expect_code(3);
    stop_consumers(&mut cluster);
    cluster.servers.kafka_tool("org.apache.kafka.tools.TopicCommand", &["--delete", "--topic", LOG]);
    let refused = cluster.try_consumer().expect_err("its topic is not there");
    assert!(refused.code == Some(2) && refused.stderr.contains("pulso log resume"), "{refused:?}");
    let resumed = cluster.servers.pulso(&resume).expect_code(0).json();
    assert_eq!(
        (&resumed["generation"], &resumed["given_up"].as_array().map(Vec::len)),
        (&json!(2), &Some(6))
    );
    cluster.servers.pulso(&resume).expect_code(3);
    let consumer = cluster.consumer();
    cluster.consumers.push(consumer);
    // The ingestor was never stopped: it follows.
    send(&cluster, 0..80, &at);
    cluster.drain();
    assert_eq!(count(&cluster), 80);
    let gap = partition(&cluster, 1)["gaps"][0].clone();
    assert_eq!((&gap["note"], &gap["rest"]), (&json!("deleted by mistake"), &json!(true)), "{gap}");
    ask_for_what_is_lost(&cluster);
    cluster.servers.pulso(&["doctor"]).expect_code(0);
    cluster.servers.init().expect_code(0);
    skip_what_retention_took(&mut cluster, &at);
    cluster.stop().audit();
}

/// A receipt that leads into what is given up is not waited for, and nothing of it is read again.
fn ask_for_what_is_lost(cluster: &Cluster) {
    let lost = partition(cluster, 1);
    let (number, from) = (&lost["partition"], lost["gaps"][0]["from"].as_u64().expect("an offset"));
    for offset in [from, from + 5] {
        let since = Instant::now();
        let path = format!("/v1/tenants/{TENANT}/usage?wait_for=1:{number}:{offset}");
        let (status, body) = http_get(cluster.query.address("api"), &path);
        assert!(status == 404 && body.contains("PULSE_NOT_FOUND"), "{status} {body}");
        assert!(since.elapsed() < Duration::from_secs(5), "it is not waited for");
    }
    let rewind = ["log", "rewind", "--generation", "1", "--partition", &number.to_string(), "--to", "0"];
    let refused = cluster.servers.pulso(&rewind).expect_code(2);
    assert!(refused.stderr.contains("given up"), "{refused:?}");
}

/// Records go before they are folded: no rank falls, and they are skipped by their offsets.
fn skip_what_retention_took(cluster: &mut Cluster, at: &str) {
    stop_consumers(cluster);
    send(cluster, 80..90, at);
    let before = partition(cluster, 2);
    let (number, end) = (before["partition"].to_string(), before["end_offset"].to_string());
    let file = tempfile::NamedTempFile::new().expect("a file");
    let deleted = json!({ "version": 1, "partitions": [
        { "topic": format!("{LOG}.g2"), "partition": before["partition"], "offset": before["end_offset"] },
    ] });
    std::fs::write(file.path(), deleted.to_string()).expect("writes");
    let path = file.path().to_string_lossy().into_owned();
    let tool = "org.apache.kafka.tools.DeleteRecordsCommand";
    cluster.servers.kafka_tool(tool, &["--offset-json-file", &path]);
    let resume =
        ["log", "resume", "--partition", &number, "--skip-to", &end, "--note", "retention was too short"];
    let refused = cluster.servers.pulso(&resume).expect_code(2);
    assert!(refused.stderr.contains("is not halted"), "{refused:?}");
    let consumer = cluster.consumer();
    let since = Instant::now();
    while http_get(consumer.address("admin"), "/readyz").0 == 200 {
        assert!(since.elapsed() < SOON, "it does not halt: {}", consumer.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    let since = Instant::now();
    while partition(cluster, 2)["state"] != "halted" {
        assert!(since.elapsed() < SOON, "nobody else is told: {}", cluster.ledger());
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.servers.pulso(&resume).expect_code(0);
    assert_eq!(consumer.stop(), 0);
    let consumer = cluster.consumer();
    cluster.consumers.push(consumer);
    send(cluster, 70..100, at);
    cluster.drain();
    assert_eq!(count(cluster), 100, "whoever sends again what was lost has it counted");
    assert_eq!(partition(cluster, 2)["gaps"][0]["rest"], json!(false));
}
