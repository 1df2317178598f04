//! Fates, the ledger, dead letters: every pulse accounted for.

use pulso_ingestor_consumer::halts::Halts;
use serde_json::{Value, json};

use crate::fixture::{World, pulse};

/// One record: counted, duplicate (stamped again), conflict, counted, bad amount; then a record that is none.
async fn filled() -> (World, u32, u64) {
    let mut world = World::new();
    let pulses = vec![
        pulse("a", "1.50", "2026-03-01T00:00:00Z"),
        pulse("a", "1.5", "2026-03-01T00:00:09Z"),
        pulse("a", "2", "2026-03-01T00:00:00Z"),
        pulse("b/ç 1", "1", "2026-03-01T00:00:00Z"),
        pulse("bad", "1e5", "2026-03-01T00:00:00Z"),
    ];
    let appended = world.append(pulses).await;
    world.append_raw(appended.partition, b"garbage".to_vec()).await;
    world.fold();
    (world, appended.partition, appended.offset)
}

#[tokio::test]
async fn a_pulse_is_found_by_its_id_with_its_fate_and_position() {
    let (world, partition, offset) = filled().await;
    let found = world.read("/v1/tenants/acme/pulses/a").await;
    let position = |index: u32| format!("1:{partition}:{offset}:{index}");
    let pulse = json!({
        "id": "a", "tenant_id": "acme", "product_sku": "vm", "used_amount": "1.5", "use_unit": "Hours",
        "occurred_at": "2026-03-01T00:00:00Z",
    });
    assert_eq!(found, json!({ "fate": "counted", "position": position(0), "pulse": pulse }));
    let found = world.read("/v1/tenants/acme/pulses/b%2F%C3%A7%201").await;
    assert_eq!(found["position"], position(3));
    let found = world.read("/v1/tenants/acme/pulses/bad").await;
    assert_eq!((&found["fate"], &found["reason"]), (&json!("dead_lettered"), &json!("INVALID_AMOUNT")));
    assert_eq!(found["pulse"]["used_amount"], "1e5");
}

#[tokio::test]
async fn a_position_answers_the_fate_of_that_very_copy() {
    let (world, partition, offset) = filled().await;
    for (index, fate) in [(0, "counted"), (1, "duplicate"), (2, "conflict")] {
        for generation in ["", "1:"] {
            let place = format!("{generation}{partition}:{offset}:{index}");
            let found = world.read(&format!("/v1/tenants/acme/pulses/a?position={place}")).await;
            assert_eq!(found["fate"], fate);
            let first = if index == 0 { json!(null) } else { json!(format!("1:{partition}:{offset}:0")) };
            assert_eq!(found.get("first_position").cloned().unwrap_or_default(), first);
        }
    }
    let later = world.append(vec![pulse("new", "1", "2026-03-01T00:00:00Z")]).await;
    let path = format!("/v1/tenants/acme/pulses/new?position={}:{}:0", later.partition, later.offset);
    assert_eq!(world.read(&path).await["fate"], "pending");
    world.problem("/v1/tenants/acme/pulses/new", 404, "PULSE_NOT_FOUND").await;
    for other in ["3:0", "0:99", "9:0", "2:9999999:0"] {
        let path = format!("/v1/tenants/acme/pulses/a?position={partition}:{offset}:4");
        world.problem(&path, 404, "PULSE_NOT_FOUND").await;
        let path = format!("/v1/tenants/acme/pulses/a?position={partition}:{other}");
        let answer = world.get(&path).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}");
    }
}

#[tokio::test]
async fn g17_a_pulse_is_not_found_through_another_tenant() {
    let (mut world, partition, offset) = filled().await;
    let mut other = pulse("z", "1", "2026-03-01T00:00:00Z");
    other.tenant_id = "other".into();
    world.count(vec![other]).await;
    world.problem("/v1/tenants/other/pulses/a", 404, "PULSE_NOT_FOUND").await;
    let path = format!("/v1/tenants/other/pulses/a?position={partition}:{offset}:0");
    world.problem(&path, 404, "PULSE_NOT_FOUND").await;
    world.problem("/v1/tenants/nobody/pulses/a", 404, "TENANT_NOT_FOUND").await;
}

#[tokio::test]
async fn g02_the_ledger_accounts_for_every_pulse() {
    let (world, partition, _) = filled().await;
    let ledger = world.read("/v1/ledger").await;
    let line = &ledger["partitions"][partition as usize];
    let counts = |line: &Value| {
        ["pulses", "counted", "duplicate", "conflict", "dead_lettered", "moved"]
            .map(|name| line[name].as_u64().expect("a number"))
    };
    assert_eq!(counts(line), [6, 2, 1, 1, 2, 0]);
    assert_eq!(counts(&ledger["total"]), [6, 2, 1, 1, 2, 0]);
    assert_eq!(line["end_offset"], line["folded_offset"]);
    assert_eq!((&line["state"], &line["gaps"]), (&json!("ok"), &json!([])));
    assert_eq!(ledger["partitions"].as_array().expect("a list").len(), 4);
}

#[tokio::test]
async fn g13_dead_letters_are_listed_filtered_and_shown() {
    let (world, partition, offset) = filled().await;
    let list = world.read("/v1/dead-letters").await;
    let brief = |list: &Value| -> Vec<String> {
        let letters = list["dead_letters"].as_array().expect("a list").iter();
        letters.map(|letter| format!("{} {}", letter["id"], letter["reason"]).replace('"', "")).collect()
    };
    let (conflict, bad) = (format!("1:{partition}:{offset}:2"), format!("1:{partition}:{offset}:4"));
    let whole = format!("1:{partition}:{}", offset + 1);
    let all =
        [format!("{conflict} ID_CONFLICT"), format!("{bad} INVALID_AMOUNT"), format!("{whole} UNDECODABLE")];
    assert_eq!(brief(&list), all);
    assert_eq!(brief(&world.read("/v1/dead-letters?tenant_id=acme").await), all[..2]);
    assert_eq!(brief(&world.read("/v1/dead-letters?reason=INVALID_AMOUNT").await), all[1..2]);
    assert_eq!(brief(&world.read("/v1/dead-letters?tenant_id=other").await), Vec::<String>::new());
    for (place, id) in [&conflict, &bad, &whole].into_iter().enumerate() {
        let one = world.read(&format!("/v1/dead-letters/{id}")).await;
        for (name, value) in list["dead_letters"][place].as_object().expect("a letter") {
            assert_eq!(&one[name], value, "{id}: {name}");
        }
        assert_eq!((&one["state"], &one["actions"]), (&json!("open"), &json!([])));
        assert_eq!(one["replayed"], false);
        assert_eq!(one["origin"]["partition"], partition);
    }
    assert_eq!(list["dead_letters"][0]["first_position"], format!("1:{partition}:{offset}:0"));
    assert!(list["dead_letters"][2].get("pulse").is_none());
    let whole = world.read(&format!("/v1/dead-letters/{whole}")).await;
    assert_eq!(
        (&whole["original"]["hex"], &whole["original"]["text"]),
        (&json!("67617262616765"), &json!("garbage"))
    );
    for unknown in ["1:0:99:0", "1:0:0", "x", "1:9:0:0", "1:0:0:0:0"] {
        world.problem(&format!("/v1/dead-letters/{unknown}"), 404, "DEAD_LETTER_NOT_FOUND").await;
    }
}

#[tokio::test]
async fn g10_reads_of_a_halted_partition_are_refused_and_the_ledger_says_why() {
    let (world, partition, _) = filled().await;
    Halts::default().halt(&*world.store, partition, "the log is damaged; restore the file");
    for path in ["/v1/tenants/acme/usage", "/v1/tenants/acme/pulses/a"] {
        let problem = world.problem(path, 503, "PARTITION_HALTED").await;
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("restore the file")));
    }
    let waiting = format!("/v1/ledger?wait_for={partition}:999");
    world.problem(&waiting, 503, "PARTITION_HALTED").await;
    let ledger = world.read("/v1/ledger").await;
    let line = &ledger["partitions"][partition as usize];
    assert_eq!(line["state"], "halted");
    assert_eq!(line["halt_reason"], "the log is damaged; restore the file");
    Halts::default().clear(&*world.store, partition);
    world.read("/v1/tenants/acme/usage").await;
}
