//! Dead letters as an operator meets them: bad pulses get into the log, are looked at, fixed, previewed, sent again and
//! given up, and everything adds up afterwards.

use std::path::Path;

use prost::Message;
use pulso::dev::folder::DataFolder;
use pulso_domain::partitioner::partition_of;
use pulso_platform::log::Log;
use pulso_proto::v1;
use serde_json::{Value, json};

use crate::harness::{Ran, Server, WAIT_MAX, now, pulse_line, pulso};
use crate::reads::{apply_catalog, send};

const PARTITIONS: u32 = 4;

fn own_partition() -> u32 {
    partition_of(b"acme", PARTITIONS)
}

fn pulse(id: &str, amount: &str) -> v1::Pulse {
    let now = pulso_platform::service::clock::Clock::System.now();
    v1::Pulse {
        id: id.into(),
        tenant_id: "acme".into(),
        product_sku: "block-storage".into(),
        used_amount: amount.into(),
        use_unit: "GiB-Hours".into(),
        occurred_at: Some(pulso::client::timestamp(now)),
        ..Default::default()
    }
}

fn batch(pulses: Vec<v1::Pulse>) -> Vec<u8> {
    v1::PulseBatch { format_version: 1, pulses, ..Default::default() }.encode_to_vec()
}

/// What a foreign producer does: writes records past the ingestor, into the log of a server that is stopped.
fn append(data: &Path, records: Vec<(u32, Vec<u8>)>) {
    let folder = DataFolder::open(data, PARTITIONS).expect("opens");
    for (partition, record) in records {
        let appended = folder.log.append(partition, vec![record.into()]);
        appended.blocking_recv().expect("answers").expect("durable");
    }
    folder.close().expect("closes");
}

fn letters(server: &Server, flags: &[&str]) -> Vec<Value> {
    let list = [&["dlq", "list", "--output", "json"], flags].concat();
    server.client(&list).expect_code(0).json()["dead_letters"].as_array().expect("a list").clone()
}

fn id_of<'a>(letters: &'a [Value], reason: &str) -> &'a str {
    let found = letters.iter().find(|letter| letter["reason"] == reason);
    found.and_then(|letter| letter["id"].as_str()).unwrap_or_else(|| panic!("no {reason} in {letters:?}"))
}

fn quantity(server: &Server) -> Value {
    let usage = server.client(&["usage", "acme", "--output", "json"]).expect_code(0).json();
    usage["usage"][0]["quantity"].clone()
}

/// Waits until everything in the log is folded and rated.
fn settle(server: &Server) {
    send(server, &[], 0);
}

fn field(ran: &Ran, list: &str, name: &str) -> Vec<String> {
    let document = ran.json();
    let entries = document[list].as_array().expect("a list").iter();
    entries.map(|entry| entry[name].as_str().unwrap_or_default().to_owned()).collect()
}

/// A server with a counted pulse, a conflict, and three records of a foreign producer: JSON, a bad amount, one that is
/// in the wrong partition.
fn filled(folder: &tempfile::TempDir) -> Server {
    let data = folder.path().join("data");
    let server = Server::start(&data);
    apply_catalog(&server, folder);
    let at = now();
    let line = |amount: &str| pulse_line(&[("id", "a"), ("used_amount", amount), ("occurred_at", &at)]);
    send(&server, &[line("2"), line("3")], 0);
    assert_eq!(server.stop(), 0);
    let own = own_partition();
    let records = vec![
        (own, br#"{"id": "j", "tenant": "acme", "amount": 7}"#.to_vec()),
        (own, batch(vec![pulse("b", "1e1")])),
        ((own + 1) % PARTITIONS, batch(vec![pulse("m", "4")])),
    ];
    append(&data, records);
    let server = Server::start(&data);
    settle(&server);
    server
}

#[test]
fn g13_an_operator_mends_what_could_not_be_counted_and_everything_adds_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = filled(&folder);
    let all = letters(&server, &["--state", "open"]);
    assert_eq!(all.len(), 4, "{all:?}");
    let [json, conflict, amount, misrouted] =
        ["UNDECODABLE", "ID_CONFLICT", "INVALID_AMOUNT", "MISROUTED"].map(|reason| id_of(&all, reason));
    let shown = server.client(&["dlq", "show", json]).expect_code(0).json();
    assert!(shown["original"]["text"].as_str().is_some_and(|text| text.contains("\"amount\": 7")), "{shown}");

    let preview = server.client(&["dlq", "preview", "--all", "--output", "json"]).expect_code(0);
    assert_eq!(field(&preview, "usage", "quantity"), ["4"]);
    assert_eq!(field(&preview, "money", "difference"), ["2"], "only the misrouted one would count");
    let mut codes = field(&preview, "refused", "code");
    codes.sort();
    assert_eq!(codes, ["ID_CONFLICT", "INVALID_AMOUNT", "UNDECODABLE"]);

    let refused = server.client(&["dlq", "fix", amount, "--set", "used_amount=ten"]).expect_code(2);
    assert!(
        refused.stderr.contains("INVALID_FIX") && refused.stderr.contains("/changes/used_amount"),
        "{refused:?}"
    );
    server
        .client(&["dlq", "fix", amount, "--set", "used_amount=10", "--note", "it wrote 1e1"])
        .expect_code(0);
    server.client(&["dlq", "fix", conflict, "--set", "id=a-2"]).expect_code(0);
    server.client(&["dlq", "drop", json, "--note", "the staging producer"]).expect_code(0);
    let preview = server.client(&["dlq", "preview", "--all", "--output", "json"]).expect_code(0);
    assert_eq!(field(&preview, "usage", "quantity"), ["17"]);
    assert_eq!(
        (field(&preview, "money", "before"), field(&preview, "money", "after")),
        (vec!["1".to_owned()], vec!["9.5".to_owned()])
    );
    assert_eq!(quantity(&server), "2", "nothing was changed by looking");

    let mut replayed = field(
        &server.client(&["dlq", "replay", "--all", "--output", "json"]).expect_code(0),
        "replayed",
        "id",
    );
    replayed.sort();
    let mut expected = [conflict, amount, misrouted].map(str::to_owned);
    expected.sort();
    assert_eq!(replayed, expected);
    let again = server.client(&["dlq", "replay", amount, "--output", "json"]).expect_code(4);
    assert_eq!(field(&again, "refused", "code"), ["ALREADY_REPLAYED"]);
    settle(&server);
    is_mended(&server, (amount, json));
    everything_survives(server, folder.path(), (amount, json));
}

/// The totals and the money are those of the preview; the letters say what was done.
#[track_caller]
fn is_mended(server: &Server, (amount, json): (&str, &str)) {
    assert_eq!(quantity(server), "19");
    let charges = server.client(&["charges", "acme", "--output", "json"]).expect_code(0).json();
    assert_eq!(charges["totals"][0]["billed_cost"], "9.5");
    let letter = server.client(&["dlq", "show", amount]).expect_code(0).json();
    assert_eq!(
        (&letter["state"], &letter["replay_fate"]),
        (&json!("replayed"), &json!("counted")),
        "{letter}"
    );
    assert_eq!(
        (&letter["actions"][0]["action"], &letter["actions"][0]["note"]),
        (&json!("fixed"), &json!("it wrote 1e1"))
    );
    let dropped = server.client(&["dlq", "show", json]).expect_code(0).json();
    assert_eq!(
        (&dropped["state"], &dropped["actions"][0]["note"]),
        (&json!("dropped"), &json!("the staging producer"))
    );
    let (_, ledger) = server.get("/v1/ledger");
    let total = |name: &str| ledger["total"][name].as_u64().expect("a number");
    assert_eq!(["counted", "duplicate", "conflict", "dead_lettered"].map(total), [4, 0, 1, 3]);
    assert_eq!(total("pulses"), 8);
}

/// A kill, a store that is made from the log again, and the audit.
fn everything_survives(mut server: Server, folder: &Path, mended: (&str, &str)) {
    let data = folder.join("data");
    server.kill();
    let server = Server::start(&data);
    settle(&server);
    is_mended(&server, mended);
    assert_eq!(server.stop(), 0);
    std::fs::remove_dir_all(data.join("store")).expect("removes");
    let server = Server::start(&data);
    settle(&server);
    is_mended(&server, mended);
    assert_eq!(server.stop(), 0);
    pulso(&["audit", "--data-dir", data.to_str().expect("UTF-8")]).expect_code(0);
}

#[test]
fn dlq_prints_tables_and_csv_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = filled(&folder);
    let list = server.client(&["dlq", "list", "--output", "csv"]).expect_code(0);
    assert!(list.stdout.starts_with("id,state,reason,tenant_id,"), "{list:?}");
    let misrouted = letters(&server, &["--reason", "MISROUTED"]);
    let misrouted = misrouted[0]["id"].as_str().expect("an id");
    let table = server.client(&["dlq", "preview", misrouted]).expect_code(0);
    assert!(table.stdout.contains("block-storage") && table.stdout.contains("DIFFERENCE"), "{table:?}");
    assert!(table.stderr.contains("1 would be counted, 0 refused; nothing was changed"), "{table:?}");
    let csv = server.client(&["dlq", "preview", "--tenant", "acme", "--output", "csv"]).expect_code(0);
    assert!(csv.stdout.starts_with("tenant_id,period,currency,before,after,difference\n"), "{csv:?}");
    let sent = server.client(&["dlq", "replay", "--all"]).expect_code(4);
    assert!(sent.stdout.contains(misrouted) && sent.stderr.contains("1 done, 3 refused"), "{sent:?}");
    for (arguments, code) in [
        (&["dlq", "replay", "9:9:9:9"][..], 3),
        (&["dlq", "show", "9:9:9:9"], 3),
        (&["dlq", "fix", misrouted, "--set", "used_amount"], 2),
        (&["dlq", "fix", misrouted, "--set", "colour=red"], 2),
        (&["dlq", "fix", misrouted], 2),
        (&["dlq", "drop", misrouted], 2),
        (&["dlq", "replay"], 2),
        (&["dlq", "replay", misrouted, "--all"], 2),
    ] {
        server.client(arguments).expect_code(code);
    }
}

/// Waits until the server says that it is not ready, and why: readiness is looked at now and then.
fn not_ready(server: &Server) -> String {
    let began = std::time::Instant::now();
    loop {
        let (status, told) = server.admin("/readyz");
        if status == 503 {
            return told;
        }
        assert!(began.elapsed() < WAIT_MAX, "{status} {told}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn g13_a_burst_of_foreign_bytes_stops_its_partition_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    assert_eq!(Server::start(&data).stop(), 0);
    let own = own_partition();
    append(&data, (0..5).map(|_| (own, b"no record".to_vec())).collect());
    let server = Server::start_with(&data, &["--undecodable-max", "3"]);
    let told = not_ready(&server);
    assert!(told.contains("--undecodable-max"), "{told}");
    let (_, ledger) = server.get("/v1/ledger");
    let line = &ledger["partitions"][own as usize];
    assert_eq!((&line["state"], &line["dead_lettered"]), (&json!("halted"), &json!(3)), "{line}");
    assert_eq!(letters(&server, &[]).len(), 3, "what was folded before it is kept");
    assert_eq!(server.stop(), 0);
    let server = Server::start_with(&data, &["--undecodable-max", "0"]);
    let end = line["end_offset"].as_u64().expect("an offset");
    assert_eq!(server.get(&format!("/v1/ledger?wait_for={own}:{}", end - 1)).0, 200);
    assert_eq!(letters(&server, &["--reason", "UNDECODABLE"]).len(), 5);
}
