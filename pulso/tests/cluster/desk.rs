//! The dead-letter desk on a cluster: what an operator does there by the query role goes through the log, is folded by a consumer
//! that is another process, and counts once.

use std::io::Write;

use prost::Message as _;
use pulso_domain::partitioner::partition_of;
use pulso_domain::time::Instant;
use pulso_platform::service::clock::Clock;
use pulso_proto::v1;
use serde_json::{Value, json};

use crate::fixture::{Cluster, Servers};
use crate::harness::{Ran, command, http_get, now, pulse_line};

const LOG: &str = "resource-consumption";
const PARTITIONS: u32 = 6;
const TENANT: &str = "desk";

/// The ids of the letters, by what is wrong with them.
struct Letters {
    conflict: String,
    amount: String,
    misrouted: String,
    text: String,
}

/// A record of a foreign producer.
fn batch(id: &str, amount: &str) -> Vec<u8> {
    let pulse = v1::Pulse {
        id: id.into(),
        tenant_id: TENANT.into(),
        product_sku: "block-storage".into(),
        used_amount: amount.into(),
        use_unit: "GiB-Hours".into(),
        occurred_at: Some(pulso::client::timestamp(Clock::System.now())),
        ..Default::default()
    };
    v1::PulseBatch { format_version: 1, pulses: vec![pulse], ..Default::default() }.encode_to_vec()
}

/// Writes a record past the ingestor.
fn produce(servers: &Servers, partition: u32, record: &[u8]) {
    // kcat takes a file as one message; of what it reads it would make one for each line.
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(record).expect("writes");
    let path = file.path().to_str().expect("UTF-8");
    servers.kcat(&["-P", "-t", LOG, "-p", &partition.to_string(), path], b"");
}

/// Runs `pulso dlq` as somebody.
fn dlq(cluster: &Cluster, who: &str, arguments: &[&str]) -> Ran {
    let mut command = command(&["dlq"]);
    command.args(arguments).args(["--output", "json", "--api", cluster.query.address("api")]);
    let output = command.env_remove("SUDO_USER").env("USER", who).output().expect("the binary ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn rows<'a>(document: &'a Value, list: &str) -> &'a [Value] {
    document[list].as_array().unwrap_or_else(|| panic!("no {list}: {document}"))
}

fn texts(document: &Value, list: &str, name: &str) -> Vec<String> {
    let text = |row: &Value| row[name].as_str().expect("a text").to_owned();
    rows(document, list).iter().map(text).collect()
}

/// The only letter of the tenant for a reason, as a filter of the list finds it.
fn letter(cluster: &Cluster, reason: &str) -> String {
    let filter = ["list", "--tenant", TENANT, "--state", "open", "--reason", reason];
    let found = dlq(cluster, "maria", &filter).expect_code(0).json();
    let ids = texts(&found, "dead_letters", "id");
    let [id] = &ids[..] else { panic!("one {reason}: {found}") };
    id.clone()
}

/// A counted pulse of 2, a conflict with it, and three records of a foreign producer: JSON, a bad amount, and one in the wrong
/// partition.
fn filled(cluster: &Cluster) -> Letters {
    let at = now();
    let line = |amount: &str| {
        pulse_line(&[("id", "a"), ("tenant_id", TENANT), ("used_amount", amount), ("occurred_at", &at)])
    };
    cluster.client_with_input(&["send", "-"], &(line("2") + &line("3"))).expect_code(0);
    let own = partition_of(TENANT.as_bytes(), PARTITIONS);
    let other = (own + 1) % PARTITIONS;
    produce(&cluster.servers, own, &batch("b", "1e1"));
    produce(&cluster.servers, other, &batch("m", "4"));
    produce(&cluster.servers, other, br#"{"id": "j", "amount": 7}"#);
    cluster.drain();
    let undecodable = ["list", "--reason", "UNDECODABLE", "--state", "open"];
    let undecodable = dlq(cluster, "maria", &undecodable).expect_code(0).json();
    let newest =
        rows(&undecodable, "dead_letters").iter().rfind(|letter| letter["origin"]["partition"] == other);
    let text = newest.and_then(|letter| letter["id"].as_str()).expect("the JSON").to_owned();
    let [conflict, amount, misrouted] =
        ["ID_CONFLICT", "INVALID_AMOUNT", "MISROUTED"].map(|reason| letter(cluster, reason));
    Letters { conflict, amount, misrouted, text }
}

fn quantity(cluster: &Cluster) -> Value {
    let usage = ["usage", TENANT, "--granularity", "month", "--output", "json"];
    let usage = cluster.client(&usage).expect_code(0).json();
    assert_eq!(rows(&usage, "usage").len(), 1, "{usage}");
    usage["usage"][0]["quantity"].clone()
}

/// How many pulses have these fates, as the ledger has it.
fn fates(cluster: &Cluster) -> [u64; 4] {
    let total = cluster.drain();
    ["counted", "duplicate", "conflict", "dead_lettered"].map(|fate| total[fate].as_u64().expect("a number"))
}

/// Each of these was done by whom and why, since then, and is told in this order.
#[track_caller]
fn is_told(cluster: &Cluster, id: &str, began: Instant, expected: &[[&str; 3]]) {
    let (status, body) = http_get(cluster.query.address("api"), &format!("/v1/dead-letters/{id}"));
    assert_eq!(status, 200, "{body}");
    let letter: Value = serde_json::from_str(&body).expect("JSON");
    let told = rows(&letter, "actions").iter().map(|action| {
        let at = action["at"].as_str().and_then(Instant::parse_rfc3339).expect("a time");
        assert!(began <= at && at <= Clock::System.now(), "{action}");
        ["action", "actor", "note"].map(|name| action[name].as_str().unwrap_or_default())
    });
    assert_eq!(told.collect::<Vec<_>>(), expected, "{letter}");
}

/// Mends three letters and gives up one; nothing is counted by that.
fn decide(cluster: &Cluster, letters: &Letters) {
    let maria = |arguments: &[&str]| dlq(cluster, "maria", arguments).expect_code(0);
    let shown = maria(&["show", &letters.text]).json();
    assert!(shown["original"]["text"].as_str().is_some_and(|text| text.contains("\"amount\": 7")), "{shown}");
    let conflict = maria(&["show", &letters.conflict]).json();
    assert_eq!(
        (&conflict["pulse"]["id"], &conflict["pulse"]["used_amount"]),
        (&json!("a"), &json!("3")),
        "{conflict}"
    );
    let preview = maria(&["preview", "--tenant", TENANT]).json();
    assert_eq!(texts(&preview, "usage", "quantity"), ["4"], "only the misrouted one would count: {preview}");
    maria(&["fix", &letters.amount, "--set", "used_amount=10", "--note", "the meter wrote 1e1"]);
    maria(&["fix", &letters.conflict, "--set", "id=a-2"]);
    maria(&["drop", &letters.text, "--note", "a test of the staging producer"]);
}

#[test]
fn g13_through_the_roles_letters_are_mended_previewed_and_sent_again_and_each_counts_once() {
    let cluster = Cluster::start(1, "topic");
    let (began, letters) = (Clock::System.now(), filled(&cluster));
    let before = fates(&cluster);
    decide(&cluster, &letters);
    let preview = dlq(&cluster, "joao", &["preview", "--tenant", TENANT]).expect_code(0).json();
    assert_eq!((&preview["would_count"], &preview["would_refuse"]), (&json!(3), &json!(0)), "{preview}");
    assert_eq!(texts(&preview, "usage", "quantity"), ["17"], "{preview}");
    assert_eq!((quantity(&cluster), fates(&cluster)), (json!("2"), before), "looking changes nothing");

    let replay = ["replay", "--tenant", TENANT, "--note", "ticket 4711"];
    let sent = dlq(&cluster, "joao", &replay).expect_code(0).json();
    let mut ids = texts(&sent, "replayed", "id");
    let mut expected = [&letters.conflict, &letters.amount, &letters.misrouted].map(Clone::clone);
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected, "{sent}");
    let [counted, duplicate, conflict, dead] = before;
    assert_eq!(fates(&cluster), [counted + 3, duplicate, conflict, dead]);
    assert_eq!(quantity(&cluster), "19", "as the preview said");

    let fixed = ["fixed", "maria", "the meter wrote 1e1"];
    let replayed = ["replayed", "joao", "ticket 4711"];
    is_told(&cluster, &letters.amount, began, &[fixed, replayed]);
    is_told(&cluster, &letters.conflict, began, &[["fixed", "maria", ""], replayed]);
    is_told(&cluster, &letters.misrouted, began, &[replayed]);
    is_told(&cluster, &letters.text, began, &[["dropped", "maria", "a test of the staging producer"]]);
    sent_again_counts_no_more(&cluster, &letters, &texts(&sent, "replayed", "position"));
    cluster.stop().audit();
}

/// A second replay is refused; the very records of the first, once more in the log, are duplicates.
fn sent_again_counts_no_more(cluster: &Cluster, letters: &Letters, positions: &[String]) {
    let [counted, duplicate, conflict, dead] = fates(cluster);
    for id in [&letters.conflict, &letters.amount, &letters.misrouted] {
        let again = dlq(cluster, "maria", &["replay", id]).expect_code(4).json();
        assert_eq!(texts(&again, "refused", "code"), ["ALREADY_REPLAYED"]);
    }
    assert_eq!(fates(cluster), [counted, duplicate, conflict, dead]);

    let place = |position: &String| -> [String; 2] {
        let [_, partition, offset, _] = position.split(':').collect::<Vec<_>>()[..] else {
            panic!("no position: {position}")
        };
        [partition, offset].map(str::to_owned)
    };
    let records: std::collections::BTreeSet<_> = positions.iter().map(place).collect();
    for [partition, offset] in records {
        let record = cluster.servers.value(LOG, &partition, &offset);
        produce(&cluster.servers, partition.parse().expect("a number"), &record);
    }
    assert_eq!(fates(cluster), [counted, duplicate + 3, conflict, dead]);
    assert_eq!(quantity(cluster), "19");
    let letter = dlq(cluster, "joao", &["show", &letters.amount]).expect_code(0).json();
    assert_eq!(
        (&letter["state"], &letter["replay_fate"]),
        (&json!("replayed"), &json!("counted")),
        "{letter}"
    );
}
