//! Pages cover every row once, whatever their size, and a token belongs to the request it was given out for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::fixture::{World, pulse};

/// 23 tenants in four partitions; `acme` has 30 rows of hours and 12 dead letters.
async fn filled() -> World {
    let mut world = World::new();
    for number in 0..22 {
        let mut pulse = pulse("a", "1", "2026-03-01T00:00:00Z");
        pulse.tenant_id = format!("tenant-{number}");
        world.append(vec![pulse]).await;
    }
    for hour in 0..10 {
        let mut pulses = Vec::new();
        for sku in ["disk", "ip", "vm"] {
            for resource in ["r-1", "r-2"] {
                let id = format!("{hour}-{sku}-{resource}");
                let mut pulse = pulse(&id, "1", &format!("2026-03-01T{hour:02}:00:00Z"));
                (pulse.product_sku, pulse.resource_id) = (sku.into(), resource.into());
                pulse.region = format!("region-{}", hour % 2);
                pulses.push(pulse);
            }
        }
        world.append(pulses).await;
    }
    for number in 0..12 {
        world.append(vec![pulse(&format!("bad-{number}"), "x", "2026-03-01T00:00:00Z")]).await;
    }
    world.fold();
    world
}

async fn all_pages(world: &World, path: &str, list: &str, size: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut token: Option<String> = None;
    let parameter = |path: &str| if path.contains('?') { '&' } else { '?' };
    loop {
        let mut page = format!("{path}{}page_size={size}", parameter(path));
        if let Some(token) = &token {
            page.push_str(&format!("&page_token={token}"));
        }
        let document = world.read(&page).await;
        let here = document[list].as_array().expect("a list");
        assert!(here.len() <= size, "{page}");
        rows.extend(here.iter().cloned());
        match document.get("next_page_token") {
            Some(next) => token = Some(next.as_str().expect("text").to_owned()),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_cover_every_row_once_in_order() {
    let world = filled().await;
    for (path, list, rows) in [
        ("/v1/tenants", "tenants", 23),
        ("/v1/dead-letters", "dead_letters", 12),
        ("/v1/dead-letters?tenant_id=acme", "dead_letters", 12),
        ("/v1/tenants/acme/usage?granularity=hour", "usage", 30),
        ("/v1/tenants/acme/usage?granularity=hour&group_by=resource_id", "usage", 60),
        ("/v1/tenants/acme/usage?granularity=day&group_by=region,resource_id", "usage", 12),
        ("/v1/tenants/acme/usage?granularity=day&group_by=region", "usage", 6),
        ("/v1/tenants/acme/usage?granularity=hour&product_sku=vm", "usage", 10),
    ] {
        let whole = all_pages(&world, path, list, 1000).await;
        assert_eq!(whole.len(), rows, "{path}");
        let distinct: BTreeSet<String> = whole.iter().map(Value::to_string).collect();
        assert_eq!(distinct.len(), rows, "{path}");
        for size in [1, 7, rows, rows + 1] {
            assert_eq!(all_pages(&world, path, list, size).await, whole, "{path} by {size}");
        }
    }
}

#[tokio::test]
async fn a_token_of_another_request_is_refused() {
    let world = filled().await;
    let token = |document: Value| document["next_page_token"].as_str().expect("a token").to_owned();
    let usage = "/v1/tenants/acme/usage?granularity=hour";
    let given = token(world.read(&format!("{usage}&page_size=2")).await);
    world.read(&format!("{usage}&page_size=3&page_token={given}")).await;
    let mut changed = given.clone();
    changed.replace_range(50..51, if &given[50..51] == "0" { "1" } else { "0" });
    for path in [
        format!("{usage}&page_token=nonsense"),
        format!("{usage}&page_token="),
        format!("{usage}&page_token={changed}"),
        format!("{usage}&page_token={}", &given[2..]),
        format!("{usage}&group_by=region&page_token={given}"),
        format!("{usage}&product_sku=vm&page_token={given}"),
        format!("/v1/tenants/acme/usage?granularity=day&page_token={given}"),
        format!("/v1/tenants/tenant-1/usage?granularity=hour&page_token={given}"),
        format!("/v1/tenants?page_token={given}"),
        format!("/v1/dead-letters?page_token={given}"),
    ] {
        let problem = world.problem(&path, 400, "INVALID_PAGE_TOKEN").await;
        assert_eq!(problem["field"], "page_token");
    }
}
