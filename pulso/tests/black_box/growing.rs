//! `pulso log grow`, killed at any moment and run again: what was sent before counts once behind the border too.

use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Server, command, pulse_line, pulso};

/// Pulses of several tenants, as `pulso send` reads them.
fn lines(ids: std::ops::Range<u32>) -> String {
    let line = |id: u32| {
        let tenant = format!("tenant-{}", id % 7);
        pulse_line(&[("id", &format!("p-{id}")), ("tenant_id", &tenant)])
    };
    ids.map(|id| line(id).trim_end().to_owned() + "\n").collect()
}

#[test]
fn g03_g09_a_log_that_grows_under_kills_counts_what_was_sent_before_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let data_dir = data.to_str().expect("UTF-8");
    let server = Server::start_with(&data, &["--partitions", "4"]);
    server.client_with_input(&["send", "-"], &lines(0..500)).expect_code(0);
    assert_eq!(server.stop(), 0);
    let grow = ["log", "grow", "--partitions", "6", "--data-dir", data_dir, "--output", "json"];
    for delay in 0..24 {
        let mut growing =
            command(&grow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(delay * 2));
        // It may be done already.
        let _ = growing.kill();
        growing.wait().expect("it ends");
    }
    let grown = pulso(&grow).expect_code(0).json();
    assert_eq!((&grown["generation"], &grown["partitions"]), (&2.into(), &6.into()), "{grown}");
    let server = Server::start(&data);
    server.client_with_input(&["send", "-"], &lines(250..750)).expect_code(0);
    let (status, ledger) = server.get("/v1/ledger?wait_for=1:0:1");
    assert_eq!(status, 200, "a receipt of the generation before is waited for: {ledger}");
    assert_eq!(ledger["partitions"].as_array().map(Vec::len), Some(10), "{ledger}");
    server.client(&["usage", "tenant-3", "--output", "json"]).expect_code(0);
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", data_dir]).expect_code(0);
    let status = pulso(&["log", "status", "--data-dir", data_dir, "--output", "json"]).expect_code(0).json();
    let sum = |name: &str| -> u64 {
        let partitions = status["partitions"].as_array().expect("partitions");
        partitions.iter().map(|partition| partition[name].as_u64().expect("a count")).sum()
    };
    assert_eq!((sum("counted"), sum("duplicate")), (750, 250), "{status}");
    let export = ["archive", "export", "--data-dir", data_dir, "--from", "2020-01-01T00:00:00Z"];
    let export = pulso(&[&export[..], &["--to", "2100-01-01T00:00:00Z"]].concat()).expect_code(0);
    assert_eq!(export.stdout.lines().count(), 750, "each counted pulse once, of both generations");
    pulso(&["log", "rewind", "--generation", "1", "--partition", "0", "--to", "0", "--data-dir", data_dir])
        .expect_code(0);
    let server = Server::start(&data);
    server.client_with_input(&["send", "-"], &lines(0..750)).expect_code(0);
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", data_dir]).expect_code(0);
}
