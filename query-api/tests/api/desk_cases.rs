//! The desk's edges: many letters, the horizon, what the door asks, halted partitions, bad requests.

use prost::Message;
use pulso_domain::partitioner::partition_of;
use pulso_ingestor_consumer::halts::Halts;
use pulso_proto::v1;
use serde_json::{Value, json};

use crate::desk::with_bad_amount;
use crate::fixture::{PARTITIONS, World, pulse};
use crate::money::{CATALOG, rows};

#[tokio::test]
async fn g13_many_letters_are_previewed_and_sent_part_by_part() {
    let mut world = World::new();
    assert_eq!(world.post("/v1/catalog:apply", "application/yaml", CATALOG).await.status, 200);
    let own = partition_of(b"acme", PARTITIONS);
    let mut letters: Vec<v1::Pulse> = (0..300_u32)
        .map(|number| {
            let at = format!("2026-03-{:02}T{:02}:00:00Z", 1 + number % 9, number % 24);
            let mut egress = pulse(&format!("m-{number}"), "0.3", &at);
            (egress.product_sku, egress.use_unit) = ("egress".into(), "GiB".into());
            egress.region = if number % 2 == 0 { "br-se1".into() } else { "br-ne1".into() };
            egress
        })
        .collect();
    // The last one is a copy of the first, and one is in error.
    letters.push(letters[0].clone());
    letters.push(pulse("bad", "-", "2026-03-01T00:00:00Z"));
    for part in letters.chunks(50) {
        let batch = v1::PulseBatch { format_version: 1, pulses: part.to_vec(), ..Default::default() };
        world.append_raw((own + 1) % PARTITIONS, batch.encode_to_vec()).await;
    }
    world.count(vec![pulse("counted", "1", "2026-03-01T00:00:00Z")]).await;
    let preview = world.desk("preview", json!({ "filter": {} })).await;
    let counts = ["letters", "would_count", "would_refuse", "more"].map(|name| preview[name].clone());
    assert_eq!(counts, [json!(302), json!(300), json!(2), json!(false)]);
    let quantities: Vec<_> =
        rows(&preview, "usage").iter().map(|row| (&row["region"], &row["quantity"])).collect();
    assert_eq!(quantities, [(&json!("br-ne1"), &json!("45")), (&json!("br-se1"), &json!("45"))]);

    let (mut sent, mut requests, mut token) = (0, 0, Value::Null);
    loop {
        let mut request = json!({ "filter": {}, "page_size": 100 });
        if token.is_string() {
            request["page_token"] = token;
        }
        let answer = world.desk("replay", request).await;
        sent += rows(&answer, "replayed").len();
        requests += 1;
        token = answer["next_page_token"].clone();
        if token.is_null() {
            break;
        }
        world.fold();
    }
    assert_eq!((sent, requests), (300, 4));
    world.rate();
    let charges = world.read("/v1/tenants/acme/charges").await;
    assert_eq!(charges["totals"][0]["billed_cost"], preview["money"][0]["after"], "tiers and all");
    assert_eq!(rows(&world.read("/v1/dead-letters?state=open").await, "dead_letters").len(), 2);
}

#[tokio::test]
async fn g13_a_replay_reaches_back_to_the_floor_and_no_further() {
    let mut world = World::new();
    let day = 86_400;
    let fact = v1::control::Fact::IdHorizon(v1::IdHorizon { seconds: 60 * day });
    let control = v1::Control { fact: Some(fact) };
    let batch = v1::PulseBatch { format_version: 1, control: Some(control), ..Default::default() };
    let own = partition_of(b"acme", PARTITIONS);
    world.append_raw(own, batch.encode_to_vec()).await;
    let appended = world.count(vec![pulse("old", "1", "2025-12-01T00:00:00Z")]).await;
    let id = format!("1:{own}:{}:0", appended.offset);
    let refused = &world.desk("replay", json!({ "ids": [id] })).await["refused"][0];
    assert_eq!((&refused["code"], &refused["field"]), (&json!("BEYOND_HORIZON"), &json!("occurred_at")));
    // Older than what a door accepts, and younger than the floor.
    world.desk("fix", json!({ "id": id, "changes": { "occurred_at": "2026-01-15T00:00:00Z" } })).await;
    assert_eq!(rows(&world.desk("replay", json!({ "ids": [id] })).await, "replayed").len(), 1);
    world.fold();
    let usage = world.read("/v1/tenants/acme/usage?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z").await;
    assert_eq!(usage["usage"][0]["quantity"], "1");
}

#[tokio::test]
async fn g13_a_replay_that_does_not_count_either_leads_back_to_its_letter() {
    let (mut world, id) = with_bad_amount().await;
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "10" } })).await;
    // Somebody takes the id between the look and the fold.
    world.append(vec![pulse("bad", "99", "2026-03-01T00:00:00Z")]).await;
    let sent = world.desk("replay", json!({ "ids": [id] })).await;
    world.fold();
    let letter = world.read(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!(letter["replay_fate"], "conflict");
    let position = sent["replayed"][0]["position"].as_str().expect("sent");
    let next = world.read(&format!("/v1/dead-letters/{position}")).await;
    assert_eq!((&next["replay_of"], &next["reason"]), (&json!(id), &json!("ID_CONFLICT")));
    assert_eq!(next["state"], "open");
}

#[tokio::test]
async fn what_the_door_refuses_is_refused_here_too() {
    let (world, id) = with_bad_amount().await;
    for (changes, code) in [
        (json!({ "use_unit": "Bananas" }), "UNIT_MISMATCH"),
        (json!({ "use_unit": "Hours", "occurred_at": "2026-03-10T12:36:00Z" }), "TOO_NEW"),
    ] {
        let mut changes = changes;
        changes["used_amount"] = json!("1");
        world.desk("fix", json!({ "id": id, "changes": changes })).await;
        let refused = world.desk("replay", json!({ "ids": [id] })).await;
        assert_eq!(refused["refused"][0]["code"], code);
    }
    let negative = json!({ "id": id, "changes": { "used_amount": "-1" } });
    let problem = world.desk_problem("fix", negative, (422, "INVALID_FIX")).await;
    assert!(problem["errors"][0]["detail"].as_str().is_some_and(|text| text.starts_with("NEGATIVE_AMOUNT")));
}

#[tokio::test]
async fn g10_nothing_is_sent_into_a_halted_partition() {
    let (world, id) = with_bad_amount().await;
    world.desk("fix", json!({ "id": id, "changes": { "used_amount": "1" } })).await;
    let own = partition_of(b"acme", PARTITIONS);
    Halts::default().halt(&*world.store, own, "the log is damaged; restore the file");
    let refused = world.desk("replay", json!({ "ids": [id] })).await;
    assert_eq!(refused["refused"][0]["code"], "PARTITION_HALTED");
}

#[tokio::test]
async fn usage_without_a_price_is_previewed_as_such() {
    let (world, id) = with_bad_amount().await;
    let changes = json!({ "used_amount": "3", "product_sku": "gpu", "use_unit": "GPU-Hours" });
    world.desk("fix", json!({ "id": id, "changes": changes })).await;
    let preview = world.desk("preview", json!({ "ids": [id] })).await;
    let unpriced = &preview["unpriced"][0];
    assert_eq!((&unpriced["quantity"], &unpriced["reason"]), (&json!("3"), &json!("UNKNOWN_SKU")));
    assert_eq!(preview["money"][0]["difference"], "0");
}

#[tokio::test]
async fn bad_requests_of_the_desk_are_told() {
    let (world, id) = with_bad_amount().await;
    let long = "x".repeat(1001);
    let many: Vec<String> = (0..1001).map(|number| format!("1:0:{number}:0")).collect();
    for (verb, request) in [
        ("preview", json!({})),
        ("preview", json!({ "ids": [id], "filter": {} })),
        ("preview", json!({ "ids": [] })),
        ("preview", json!({ "ids": many })),
        ("preview", json!({ "ids": null })),
        ("preview", json!({ "ids": [id], "note": "x" })),
        ("preview", json!([])),
        ("replay", json!({ "filter": { "state": null } })),
        ("replay", json!({ "filter": { "colour": "red" } })),
        ("replay", json!({ "filter": {}, "page_size": 0 })),
        ("replay", json!({ "filter": {}, "page_size": 1001 })),
        ("replay", json!({ "ids": [id], "page_token": "00" })),
        ("replay", json!({ "ids": [id], "actor": " " })),
        ("replay", json!({ "ids": [id], "note": long })),
        ("drop", json!({ "ids": [id] })),
        ("drop", json!({ "ids": [id], "note": "" })),
        ("drop", json!({ "ids": [id], "note": "a\u{0}b" })),
        ("fix", json!({ "id": id, "changes": {} })),
        ("fix", json!({ "id": id, "changes": { "used_amount": 1 } })),
        ("fix", json!({ "id": id, "changes": { "amount": "1" } })),
        ("fix", json!({ "id": id })),
    ] {
        world.desk_problem(verb, request, (400, "INVALID_BODY")).await;
    }
    for filter in [json!({ "reason": "BECAUSE" }), json!({ "tenant_id": "a b" }), json!({ "state": "gone" })]
    {
        world.desk_problem("replay", json!({ "filter": filter }), (400, "INVALID_PARAMETER")).await;
    }
    let token = json!({ "filter": {}, "page_token": "00" });
    world.desk_problem("replay", token, (400, "INVALID_PAGE_TOKEN")).await;
    for unknown in ["1:0:99:0", "x", "9:9:9:9"] {
        let both = json!({ "ids": [id, unknown] });
        for verb in ["preview", "replay"] {
            world.desk_problem(verb, both.clone(), (404, "DEAD_LETTER_NOT_FOUND")).await;
        }
        let fix = json!({ "id": unknown, "changes": { "id": "a" } });
        world.desk_problem("fix", fix, (404, "DEAD_LETTER_NOT_FOUND")).await;
    }
    let answer = world.post("/v1/dead-letters:replay", "text/plain", "{}").await;
    answer.is_problem("/v1/dead-letters:replay", 415, "UNSUPPORTED_MEDIA_TYPE");
    let answer = world.post("/v1/dead-letters:replay?x=1", "application/json", "{}").await;
    answer.is_problem("/v1/dead-letters:replay?x=1", 400, "UNKNOWN_PARAMETER");
}
