//! The commands from outside: exit codes, what goes to stdout and stderr, and what stops a server from starting.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Server, pulse_line, pulso};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_command_without_a_server_is_exit_5_and_a_missing_file_exit_2() {
    let nobody = "127.0.0.1:1";
    let file = folder().path().join("none.ndjson");
    let missing = pulso(&["send", file.to_str().expect("UTF-8"), "--ingest", nobody]).expect_code(2);
    assert!(missing.stderr.contains("cannot read"), "{missing:?}");
    let sent = pulso(&["send", "-", "--ingest", nobody]).expect_code(5);
    assert!(sent.stdout.is_empty() && sent.stderr.contains("no server answers at 127.0.0.1:1"), "{sent:?}");
    pulso(&["tenants", "--api", nobody]).expect_code(5);
    pulso(&["import", "focus", crate::harness::sample(), "--ingest", nobody, "--api", nobody]).expect_code(5);
    pulso(&["import", "focus", "none.csv", "--ingest", nobody]).expect_code(2);
    pulso(&["catalog", "apply", "none.yaml", "--api", nobody]).expect_code(2);
}

#[test]
fn a_wrong_command_line_is_exit_2_and_help_has_examples() {
    pulso(&["frobnicate"]).expect_code(2);
    pulso(&["dev", "--accept-past", "yesterday"]).expect_code(2);
    let reachable = pulso(&["dev", "--api-addr", "0.0.0.0:0"]).expect_code(2);
    assert!(reachable.stderr.contains("--api-addr"), "{reachable:?}");
    assert!(pulso(&["send", "--help"]).expect_code(0).stdout.contains("Examples:"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(pulso(&["completion", shell]).expect_code(0).stdout.contains("pulso"));
    }
}

#[test]
fn the_ready_line_is_the_first_line_and_names_three_free_ports() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"));
    assert_eq!(server.ready()["event"], "ready");
    let keys: Vec<&String> = server.ready().as_object().expect("an object").keys().collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    for listener in ["ingest", "api", "admin"] {
        assert!(!server.address(listener).ends_with(":0"));
    }
    assert_eq!(server.admin("/readyz").0, 200);
    assert_eq!(server.stop(), 0);
}

#[test]
fn send_prints_each_rejection_with_its_line_and_keeps_the_neighbours() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"));
    let input = [
        pulse_line(&[("id", "a")]),
        pulse_line(&[("id", "b"), ("used_amount", "1e3")]),
        "nonsense\n".to_owned(),
        pulse_line(&[("id", "c"), ("occurred_at", "2001-01-01T00:00:00Z")]),
        pulse_line(&[("id", "d")]),
    ]
    .concat();
    let ran = server.client_with_input(&["send", "-", "--output", "json"], &input).expect_code(4);
    let last = ran.stdout.lines().last().expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(summary, serde_json::json!({"sent": 5, "accepted": 2, "rejected": 3, "unknown": 0}));
    assert!(ran.stderr.contains("line 2: INVALID_AMOUNT: used_amount"), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 3: UNDECODABLE"), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 4: TOO_OLD: occurred_at"), "{}", ran.stderr);
}

#[test]
fn send_reads_csv_with_tags_and_sends_more_than_one_batch_in_order() {
    let folder = folder();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("pulses.csv");
    let mut text = "id,tenant_id,product_sku,used_amount,use_unit,occurred_at,tags.team\n".to_owned();
    let now = crate::harness::now();
    for number in 0..4321 {
        text += &format!("id-{number},acme,s,0.5,u,{now},blue\n");
    }
    std::fs::write(&file, text).expect("writes");
    let file = file.to_str().expect("UTF-8");
    let summary = server.client(&["send", file, "--output", "json"]).expect_code(0).json();
    assert_eq!(summary["accepted"], 4321);
    let again = server.client(&["send", file, "--output", "csv"]).expect_code(0);
    assert_eq!(again.stdout, "sent,accepted,rejected,unknown\n4321,4321,0,0\n");
}

#[test]
fn a_taken_port_is_one_sentence_and_a_non_zero_exit() {
    let folder = folder();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound").to_string();
    for flag in ["--ingest-addr", "--api-addr", "--admin-addr"] {
        let ran = Server::try_start(&folder.path().join("data"), &[flag, &taken]).expect_err("taken");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(flag) && ran.stderr.contains("taken"), "{ran:?}");
    }
}

#[test]
fn a_folder_in_use_is_told_with_its_holder() {
    let folder = folder();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let pid = server.pid().to_string();
    let second = Server::try_start(&data, &[]).expect_err("in use");
    assert!(second.code != Some(0) && second.stderr.contains(&pid), "{second:?}");
    let path = data.to_str().expect("UTF-8");
    let audit = pulso(&["audit", "--data-dir", path]).expect_code(2);
    assert!(audit.stderr.contains(&pid), "{audit:?}");
    let note = ["log", "resume", "--note", "x", "--data-dir", path];
    assert!(pulso(&note).expect_code(2).stderr.contains(&pid));
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", path]).expect_code(0);
}

#[test]
fn a_data_folder_that_is_not_there_is_exit_2_for_commands_that_only_look() {
    let folder = folder();
    let path = folder.path().join("none");
    pulso(&["audit", "--data-dir", path.to_str().expect("UTF-8")]).expect_code(2);
    pulso(&["log", "status", "--data-dir", path.to_str().expect("UTF-8")]).expect_code(2);
    assert!(!path.exists(), "looking makes nothing");
}

#[test]
fn doctor_finds_nothing_on_a_free_machine_and_a_held_folder_with_its_mend() {
    let folder = folder();
    let data = folder.path().join("data");
    let path = data.to_str().expect("UTF-8");
    let free = ["--ingest-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let doctor =
        |output: &str| pulso(&[&["doctor", "--data-dir", path, "--output", output][..], &free[..]].concat());
    doctor("table").expect_code(0);
    let server = Server::start(&data);
    let findings = doctor("json").expect_code(1).json();
    let fault =
        findings["findings"].as_array().expect("a list").iter().find(|finding| finding["state"] == "fault");
    let fault = fault.expect("a fault");
    assert!(fault["mend"].as_str().is_some_and(|mend| mend.contains("stop that process")), "{fault}");
    assert_eq!(server.stop(), 0);
    doctor("table").expect_code(0);
}

#[test]
fn one_signal_is_enough_for_a_clean_stop() {
    let folder = folder();
    let mut server = Server::start(&folder.path().join("data"));
    server.terminate();
    let status = server.wait(Duration::from_secs(25)).expect("it stops in time");
    assert_eq!(status.code(), Some(0), "{}", server.stderr());
}
