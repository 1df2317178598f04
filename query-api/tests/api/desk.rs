//! The desk: dead letters are fixed, previewed, sent again and given up; each counts once, and nothing is forgotten.

use prost::Message;
use pulso_domain::partitioner::partition_of;
use pulso_platform::store::Table;
use pulso_proto::v1;
use serde_json::{Value, json};

use crate::fixture::{NOW, PARTITIONS, World, pulse};
use crate::money::{CATALOG, rows};

/// A priced world with a counted pulse and one whose amount is none; the id of its dead letter.
pub(crate) async fn with_bad_amount() -> (World, String) {
    let mut world = World::new();
    assert_eq!(world.post("/v1/catalog:apply", "application/yaml", CATALOG).await.status, 200);
    let good = pulse("good", "2", "2026-03-01T00:00:00Z");
    let appended = world.append(vec![good, pulse("bad", "1e1", "2026-03-01T00:00:00Z")]).await;
    world.rate();
    (world, format!("1:{}:{}:1", appended.partition, appended.offset))
}

fn ids(letters: &Value, name: &str) -> Vec<String> {
    let of = |letter: &Value| letter["id"].as_str().or(letter.as_str()).expect("an id").to_owned();
    rows(letters, name).iter().map(of).collect()
}

#[tokio::test]
async fn g13_a_bad_pulse_is_fixed_previewed_and_counts_once_however_often_it_is_sent() {
    let (mut world, id) = with_bad_amount().await;
    let only = json!({ "ids": [id] });
    let refused = world.desk("preview", only.clone()).await;
    assert_eq!(
        (&refused["would_count"], &refused["refused"][0]["code"]),
        (&json!(0), &json!("INVALID_AMOUNT"))
    );
    assert_eq!((&refused["usage"], &refused["money"]), (&json!([]), &json!([])));

    let changes = json!({ "used_amount": "10" });
    let fix = json!({ "id": id, "changes": changes, "actor": "maria", "note": "the meter wrote 1e1" });
    let fixed = world.desk("fix", fix).await;
    assert_eq!(
        (&fixed["pulse"]["used_amount"], &fixed["fixed_pulse"]["used_amount"]),
        (&json!("1e1"), &json!("10"))
    );
    let preview = world.desk("preview", only.clone()).await;
    let row = &preview["usage"][0];
    assert_eq!(
        (&row["quantity"], &row["count"], &row["period"]),
        (&json!("10"), &json!(1), &json!("2026-03"))
    );
    let before = world.read("/v1/tenants/acme/charges").await;
    assert_eq!(before["totals"][0]["billed_cost"], preview["money"][0]["before"]);
    assert_eq!(before["totals"][0]["billed_cost"], "0.2222222202", "a preview changes nothing");
    assert_eq!(preview["money"][0]["difference"], "1.111111101");

    let replay = json!({ "ids": [id], "actor": "joao" });
    let sent = world.desk("replay", replay.clone()).await;
    assert_eq!((ids(&sent, "replayed"), &sent["refused"]), (vec![id.clone()], &json!([])));
    let ends = world.read("/v1/ledger").await["total"].clone();
    let again = world.desk("replay", replay).await;
    assert_eq!((&again["replayed"], &again["refused"][0]["code"]), (&json!([]), &json!("ALREADY_REPLAYED")));
    assert_eq!(again["refused"][0]["position"], sent["replayed"][0]["position"]);
    assert_eq!(world.read("/v1/ledger").await["total"], ends, "nothing was sent the second time");

    world.rate();
    let after = world.read("/v1/tenants/acme/charges").await;
    assert_eq!(after["totals"][0]["billed_cost"], preview["money"][0]["after"]);
    assert_eq!(world.read("/v1/tenants/acme/usage").await["usage"][0]["quantity"], "12");
    let letter = world.read(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!((&letter["replayed"], &letter["replay_fate"]), (&json!(true), &json!("counted")));
    assert_eq!(letter["replay_position"], sent["replayed"][0]["position"]);
    let done: Vec<_> = rows(&letter, "actions")
        .iter()
        .map(|action| format!("{} {} {} {}", action["action"], action["actor"], action["at"], action["note"]))
        .collect();
    let expected = [
        format!("\"fixed\" \"maria\" \"{NOW}\" \"the meter wrote 1e1\""),
        format!("\"replayed\" \"joao\" \"{NOW}\" null"),
    ];
    assert_eq!(done, expected);
    let late = json!({ "id": id, "changes": { "used_amount": "11" } });
    world.desk_problem("fix", late, (409, "DEAD_LETTER_REPLAYED")).await;
}

#[tokio::test]
async fn g13_two_replays_at_a_time_count_once() {
    let (mut world, id) = with_bad_amount().await;
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "10" } })).await;
    // Both look before either has sent: as two servers do, or one that died before it answered.
    let replay = json!({ "ids": [id] });
    let sent = tokio::join!(world.desk("replay", replay.clone()), world.desk("replay", replay));
    let copies = rows(&sent.0, "replayed").len() + rows(&sent.1, "replayed").len();
    assert!((1..=2).contains(&copies));
    let position = world.read(&format!("/v1/dead-letters/{id}")).await["replay_position"].clone();
    let place: Vec<u64> =
        position.as_str().expect("sent").split(':').map(|part| part.parse().expect("a number")).collect();
    // And once more, byte for byte.
    let log = std::sync::Arc::clone(&world.log);
    let record =
        pulso_platform::log::Log::fetch(&*log, place[1] as u32, &[place[2]]).expect("reads").remove(0);
    world.append_raw(place[1] as u32, record.value.to_vec()).await;
    world.fold();
    assert_eq!(world.read("/v1/tenants/acme/usage").await["usage"][0]["quantity"], "12");
    let ledger = world.read("/v1/ledger").await;
    assert_eq!(ledger["total"]["duplicate"], copies);
    let letter = world.read(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!(rows(&letter, "actions").len(), 1 + copies + 1, "every copy is told: {letter}");
    assert_eq!(letter["replay_fate"], "counted");
}

#[tokio::test]
async fn g13_what_was_done_is_in_the_log_and_comes_back_with_the_store() {
    let (mut world, id) = with_bad_amount().await;
    world.append(vec![pulse("dropped", "x", "2026-03-01T00:00:00Z")]).await;
    world.fold();
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "10", "tags": { "a": "b" } } })).await;
    let other = ids(&world.read("/v1/dead-letters?state=open").await, "dead_letters")[1].clone();
    world.desk("drop", json!({ "ids": [other], "note": "a test" })).await;
    world.desk("replay", json!({ "ids": [id] })).await;
    let table = |contents: Vec<_>, wanted| -> Vec<_> {
        let own = |(key, _): &(pulso_platform::store::Key, pulso_platform::store::Cell)| key.table == wanted;
        contents.into_iter().filter(own).collect()
    };
    let held = table(world.store.contents(), Table::LetterActions);
    assert_eq!(held.len(), 3);
    assert_eq!(table(world.folded_again().contents(), Table::LetterActions), held);
    // The fold comes by later and finds its own cells there.
    world.fold();
    assert_eq!(table(world.store.contents(), Table::LetterActions), held);
    assert_eq!(
        table(world.folded_again().contents(), Table::Usage),
        table(world.store.contents(), Table::Usage)
    );
}

#[tokio::test]
async fn g06_g13_a_conflict_needs_a_new_id_and_the_answer_says_so() {
    let (mut world, _) = with_bad_amount().await;
    let appended = world.count(vec![pulse("good", "3", "2026-03-01T00:00:00Z")]).await;
    let id = format!("1:{}:{}:0", appended.partition, appended.offset);
    for verb in ["preview", "replay"] {
        let refused = &world.desk(verb, json!({ "ids": [id] })).await["refused"][0];
        assert_eq!((&refused["code"], &refused["field"]), (&json!("ID_CONFLICT"), &json!("id")));
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("new id")), "{refused}");
        assert!(refused["position"].is_string());
    }
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "2" } })).await;
    let same = world.desk("preview", json!({ "ids": [id] })).await;
    assert_eq!(same["refused"][0]["code"], "DUPLICATE", "with the payload of the first it is a duplicate");
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "3", "id": "good-2" } })).await;
    assert_eq!(ids(&world.desk("replay", json!({ "ids": [id] })).await, "replayed"), [id]);
    world.fold();
    assert_eq!(world.read("/v1/tenants/acme/usage").await["usage"][0]["quantity"], "5");
}

#[tokio::test]
async fn g13_a_misrouted_pulse_goes_to_its_own_partition() {
    let mut world = World::new();
    let own = partition_of(b"acme", PARTITIONS);
    let elsewhere = (own + 1) % PARTITIONS;
    let batch = v1::PulseBatch {
        format_version: 1,
        pulses: vec![pulse("m", "4", "2026-03-01T00:00:00Z")],
        ..Default::default()
    };
    world.append_raw(elsewhere, batch.encode_to_vec()).await;
    world.fold();
    let letters = world.read("/v1/dead-letters?reason=MISROUTED").await;
    let sent = world.desk("replay", json!({ "filter": { "reason": "MISROUTED" } })).await;
    assert_eq!(ids(&sent, "replayed"), ids(&letters, "dead_letters"));
    world.fold();
    assert!(
        sent["replayed"][0]["position"].as_str().is_some_and(|text| text.starts_with(&format!("1:{own}:")))
    );
    assert_eq!(world.read("/v1/tenants/acme/usage").await["usage"][0]["quantity"], "4");
}

#[tokio::test]
async fn g13_a_record_that_cannot_be_read_is_written_anew_from_what_its_bytes_say() {
    let (mut world, _) = with_bad_amount().await;
    let foreign = br#"{"id": "f-1", "tenant": "acme", "hours": 7}"#;
    let appended = world.append_raw(partition_of(b"acme", PARTITIONS), foreign.to_vec()).await;
    world.fold();
    let id = format!("1:{}:{}", appended.partition, appended.offset);
    let letter = world.read(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!(letter["original"]["text"].as_str().map(str::as_bytes), Some(&foreign[..]));
    assert_eq!(world.desk("preview", json!({ "ids": [id] })).await["refused"][0]["code"], "UNDECODABLE");
    let mut changes = json!({ "id": "f-1", "tenant_id": "acme", "product_sku": "vm", "used_amount": "7" });
    let part = json!({ "id": id, "changes": changes });
    let problem = world.desk_problem("fix", part, (422, "INVALID_FIX")).await;
    assert_eq!(problem["errors"][0]["pointer"], "/changes/use_unit");
    changes["use_unit"] = json!("Hours");
    changes["occurred_at"] = json!("2026-03-01T00:00:00Z");
    world.desk("fix", json!({ "id": id, "changes": changes })).await;
    world.desk("replay", json!({ "ids": [id] })).await;
    world.fold();
    assert_eq!(world.read("/v1/tenants/acme/usage").await["usage"][0]["quantity"], "9");
}

#[tokio::test]
async fn g13_what_is_given_up_stays_marked_and_can_be_taken_up_again() {
    let (world, id) = with_bad_amount().await;
    let drop = json!({ "filter": { "tenant_id": "acme" }, "note": "a test of the meters", "actor": "maria" });
    assert_eq!(ids(&world.desk("drop", drop.clone()).await, "dropped"), [id.as_str()]);
    assert_eq!(world.desk("drop", drop).await["dropped"], json!([]), "none is open any more");
    let twice = world.desk("drop", json!({ "ids": [id], "note": "again" })).await;
    assert_eq!(ids(&twice, "dropped"), [id.as_str()]);
    let letter = world.read(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!((&letter["state"], rows(&letter, "actions").len()), (&json!("dropped"), 1));
    for (state, count) in [("open", 0), ("dropped", 1), ("replayed", 0)] {
        let list = world.read(&format!("/v1/dead-letters?state={state}")).await;
        assert_eq!(rows(&list, "dead_letters").len(), count, "{state}");
    }
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "1" } })).await;
    assert_eq!(ids(&world.desk("replay", json!({ "filter": {} })).await, "replayed"), [id.as_str()]);
    let refused = world.desk("drop", json!({ "ids": [id], "note": "too late" })).await;
    assert_eq!(refused["refused"][0]["code"], "ALREADY_REPLAYED");
}
