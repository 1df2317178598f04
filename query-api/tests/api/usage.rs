//! Usage: quantities by window, SKU, unit, region and resource.

use serde_json::{Value, json};

use crate::fixture::{World, pulse};

async fn filled() -> World {
    let mut world = World::new();
    let placed = |id: &str, amount: &str, at: &str, region: &str, resource: &str| {
        let mut pulse = pulse(id, amount, at);
        (pulse.region, pulse.resource_id) = (region.into(), resource.into());
        pulse
    };
    world
        .append(vec![
            placed("a", "1.50", "2026-03-01T00:10:00Z", "br-se1", "i-1"),
            placed("b", "2", "2026-03-01T00:20:00Z", "br-ne1", "i-2"),
            placed("c", "0.25", "2026-03-02T05:00:00Z", "br-se1", "i-1"),
            placed("c", "0.25", "2026-03-02T05:00:00Z", "br-se1", "i-1"),
        ])
        .await;
    let disk = |id: &str, at: &str| {
        let mut pulse = placed(id, "10", at, "", "");
        (pulse.product_sku, pulse.use_unit) = ("disk".into(), "GiB-Hours".into());
        pulse
    };
    world.count(vec![disk("d", "2026-03-02T05:30:00Z"), disk("e", "2026-02-27T00:00:00Z")]).await;
    world
}

fn brief(document: &Value) -> Vec<String> {
    let rows = document["usage"].as_array().expect("a list");
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or("-").to_owned();
    let names = ["window_start", "product_sku", "region", "resource_id", "quantity"];
    rows.iter().map(|row| names.map(|name| text(row, name)).join(" ")).collect()
}

#[tokio::test]
async fn the_month_to_date_is_a_row_per_sku_and_unit() {
    let world = filled().await;
    let document = world.read("/v1/tenants/acme/usage").await;
    let vm = json!({
        "product_sku": "vm", "use_unit": "Hours", "window_start": "2026-03-01T00:00:00Z",
        "window_end": "2026-04-01T00:00:00Z", "quantity": "3.75", "count": 3, "min": "0.25", "max": "2", "last": "0.25",
    });
    assert_eq!(document["usage"][1], vm);
    assert_eq!(document["usage"].as_array().expect("a list").len(), 2);
    assert!(document.get("next_page_token").is_none());
    let ledger = world.read("/v1/ledger").await;
    let as_of = &document["as_of"][0];
    let partition = as_of["partition"].as_u64().expect("a number") as usize;
    assert_eq!(as_of["offset"], ledger["partitions"][partition]["folded_offset"]);
}

#[tokio::test]
async fn rows_are_split_by_window_region_and_resource_as_asked() {
    let world = filled().await;
    let days = "/v1/tenants/acme/usage?from=2026-02-27T00:00:00Z&to=2026-03-03T00:00:00Z&granularity=day";
    assert_eq!(
        brief(&world.read(days).await),
        [
            "2026-02-27T00:00:00Z disk - - 10",
            "2026-03-01T00:00:00Z vm - - 3.5",
            "2026-03-02T00:00:00Z disk - - 10",
            "2026-03-02T00:00:00Z vm - - 0.25",
        ]
    );
    let split = format!("{days}&product_sku=vm&group_by=region");
    assert_eq!(
        brief(&world.read(&split).await),
        [
            "2026-03-01T00:00:00Z vm br-ne1 - 2",
            "2026-03-01T00:00:00Z vm br-se1 - 1.5",
            "2026-03-02T00:00:00Z vm br-se1 - 0.25",
        ]
    );
    let resources = "/v1/tenants/acme/usage?granularity=month&group_by=resource_id";
    assert_eq!(
        brief(&world.read(resources).await),
        [
            "2026-03-01T00:00:00Z disk -  10",
            "2026-03-01T00:00:00Z vm - i-1 1.75",
            "2026-03-01T00:00:00Z vm - i-2 2",
        ]
    );
    let both = "/v1/tenants/acme/usage?granularity=month&group_by=resource_id,region&product_sku=vm";
    assert_eq!(
        brief(&world.read(both).await),
        ["2026-03-01T00:00:00Z vm br-ne1 i-2 2", "2026-03-01T00:00:00Z vm br-se1 i-1 1.75"]
    );
}

#[tokio::test]
async fn hours_days_months_and_resources_add_up_to_the_same() {
    let world = filled().await;
    for group_by in ["", "&group_by=region", "&group_by=resource_id", "&group_by=region,resource_id"] {
        for granularity in ["hour", "day", "month"] {
            let path = format!(
                "/v1/tenants/acme/usage?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z\
                 &granularity={granularity}{group_by}"
            );
            let document = world.read(&path).await;
            let rows = document["usage"].as_array().expect("a list");
            let pulses: u64 = rows.iter().map(|row| row["count"].as_u64().expect("a number")).sum();
            assert_eq!(pulses, 4, "{path}");
        }
    }
}

#[tokio::test]
async fn csv_has_the_rows_of_json() {
    let world = filled().await;
    for query in
        ["granularity=day", "granularity=day&group_by=region", "group_by=region,resource_id&page_size=1"]
    {
        let path = format!("/v1/tenants/acme/usage?{query}");
        let document = world.read(&path).await;
        let answer = world.get_as(&path, "text/csv").await;
        assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
        let mut reader = csv::Reader::from_reader(answer.bytes.as_slice());
        let names: Vec<String> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
        let rows: Vec<Value> = reader
            .records()
            .map(|row| {
                let row = row.expect("a row");
                let cell = |(name, text): (&String, &str)| {
                    let value = if name == "count" {
                        json!(text.parse::<u64>().expect("a number"))
                    } else {
                        json!(text)
                    };
                    (name.clone(), value)
                };
                Value::Object(names.iter().zip(row.iter()).map(cell).collect())
            })
            .collect();
        assert_eq!(Value::Array(rows), document["usage"], "{path}");
        let token = document["next_page_token"].as_str().unwrap_or_default();
        assert_eq!(answer.header("x-next-page-token"), token);
    }
}

#[tokio::test]
async fn tenants_are_those_with_usage() {
    let mut world = filled().await;
    let mut other = pulse("a", "1", "2026-03-01T00:00:00Z");
    other.tenant_id = "acme-2".into();
    world.count(vec![other]).await;
    let tenants = world.read("/v1/tenants").await;
    assert_eq!(tenants, json!({ "tenants": [{ "tenant_id": "acme" }, { "tenant_id": "acme-2" }] }));
}
