//! G19: every invoice line opens down to its pulses, and re-adding them gives the same cents.

use std::collections::BTreeSet;

use pulso_domain::money::RoundingMode;
use serde_json::Value;

use crate::fixture::{World, pulse};
use crate::money::{priced, rows, sum};

/// The explanation of a line with all pages of its pulses.
async fn explained(world: &World, line: &str, size: usize) -> Value {
    let path = format!("/v1/tenants/acme/invoices/acme-2026-03/lines/{line}/explain?page_size={size}");
    let mut whole = world.read(&path).await;
    let mut pulses = rows(&whole, "pulses").to_vec();
    let mut page = whole.clone();
    while let Some(token) = page.get("next_page_token") {
        page = world.read(&format!("{path}&page_token={}", token.as_str().expect("text"))).await;
        pulses.extend(rows(&page, "pulses").iter().cloned());
    }
    whole["pulses"] = Value::Array(pulses);
    whole
}

#[tokio::test]
async fn g19_re_adding_the_pulses_of_every_line_gives_the_same_cents() {
    let mut world = priced().await;
    // Usage that is folded and perhaps not rated yet does not come into what is explained.
    world.count(vec![pulse("late", "1", "2026-03-03T00:00:00Z")]).await;
    every_line_re_adds(&world).await;
}

#[tokio::test]
async fn g19_corrections_and_counted_pulses_re_add_too() {
    let mut world = priced().await;
    let calls = r#"{
        "skus": [{ "product_sku": "calls", "name": "Calls", "service_name": "API", "service_category": "Integration",
            "use_unit": "Requests", "aggregation": "count" }],
        "rate_cards": [{ "name": "public", "currency": "BRL", "prices": [{ "product_sku": "calls",
            "valid_from": "2026-01-01T00:00:00Z", "model": { "type": "graduated",
                "tiers": [{ "up_to": "7", "unit_price": "0.01" }, { "unit_price": "0.003" }] } }] }]
    }"#;
    let answer = world.post("/v1/catalog:apply?mode=merge", "application/json", calls).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut pulses = Vec::new();
    for number in 0..15_u32 {
        let at = format!("2026-03-01T{:02}:{number:02}:00Z", 20 - number);
        let mut call = pulse(&format!("call-{number}"), "3", &at);
        (call.product_sku, call.use_unit) = ("calls".into(), "Requests".into());
        let mut correction = pulse(&format!("correction-{number}"), &format!("-0.{number}"), &at);
        (correction.product_sku, correction.use_unit) = ("egress".into(), "GiB".into());
        correction.region = "br-se1".into();
        pulses.extend([call, correction]);
    }
    world.append(pulses).await;
    world.rate();
    let invoice = every_line_re_adds(&world).await;
    let calls = rows(&invoice, "lines").iter().filter(|line| line["product_sku"] == "calls");
    let quantities: Vec<_> = calls.map(|line| line["quantity"].as_str().expect("text")).collect();
    assert_eq!(quantities, ["7", "8"]);
}

/// Checks every line of the invoice of March, and gives it.
async fn every_line_re_adds(world: &World) -> Value {
    let invoice = world.read("/v1/tenants/acme/invoices/acme-2026-03").await;
    let lines = rows(&invoice, "lines");
    assert!(lines.iter().filter(|line| line["tier"].is_u64()).count() >= 4, "tiers in two regions");
    for line in lines {
        let id = line["line_id"].as_str().expect("text");
        for size in [3, 1000] {
            let explained = explained(world, id, size).await;
            assert_eq!(
                sum(rows(&explained, "charges"), "quantity"),
                sum(std::slice::from_ref(&explained["line"]), "quantity")
            );
            let pulses = rows(&explained, "pulses");
            let positions: BTreeSet<_> = pulses.iter().map(|pulse| pulse["position"].to_string()).collect();
            assert_eq!(positions.len(), pulses.len(), "each once");
            if line["product_sku"] == "ip" {
                assert_eq!(pulses.len(), 3);
                assert!(pulses.iter().all(|pulse| pulse.get("quantity").is_none()));
                continue;
            }
            let line = &explained["line"];
            assert_eq!(
                sum(pulses, "quantity").to_string(),
                line["quantity"].as_str().expect("text"),
                "{line}"
            );
            let cost = sum(pulses, "billed_cost");
            assert_eq!(cost.to_string(), line["billed_cost"].as_str().expect("text"), "{line}");
            let cents = cost.round(RoundingMode::HalfEven, 2).expect("fits");
            assert_eq!(cents.to_string(), line["amount"].as_str().expect("text"), "{line}");
            assert_eq!(explained["rounding"]["decimals"], 2);
        }
    }
    invoice
}

#[tokio::test]
async fn an_unknown_line_and_a_foreign_token_are_told() {
    let world = priced().await;
    let base = "/v1/tenants/acme/invoices/acme-2026-03";
    for line in ["0000000000000000", "x"] {
        world.problem(&format!("{base}/lines/{line}/explain"), 404, "LINE_NOT_FOUND").await;
    }
    let invoice = world.read(base).await;
    let id = |place: usize| invoice["lines"][place]["line_id"].as_str().expect("text").to_owned();
    let page = world.read(&format!("{base}/lines/{}/explain?page_size=1", id(0))).await;
    let token = page["next_page_token"].as_str().expect("a token");
    let path = format!("{base}/lines/{}/explain?page_token={token}", id(1));
    world.problem(&path, 400, "INVALID_PAGE_TOKEN").await;
}
