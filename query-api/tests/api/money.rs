//! Charges and invoices: what usage costs, to the last digit.

use serde_json::{Value, json};

use crate::fixture::{World, pulse};

pub(crate) const CATALOG: &str = r#"
skus:
  - { product_sku: vm, name: VM, service_name: Compute, service_category: Compute, use_unit: Hours, aggregation: sum }
  - { product_sku: egress, name: Egress, service_name: Network, service_category: Networking, use_unit: GiB, aggregation: sum }
  - { product_sku: ip, name: Public addresses, service_name: Network, service_category: Networking, use_unit: Addresses, aggregation: max }
rate_cards:
  - name: public
    currency: BRL
    default: true
    prices:
      - { product_sku: vm, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: "0.123456789" } }
      - { product_sku: ip, valid_from: 2026-01-01T00:00:00Z, model: { type: flat, unit_price: "3.5" } }
      - product_sku: egress
        valid_from: 2026-01-01T00:00:00Z
        model: { type: graduated, tiers: [ { up_to: "10", unit_price: "0" }, { up_to: "25", unit_price: "0.335" }, { unit_price: "0.2015" } ] }
contracts:
  - tenant_id: acme
    rate_card: public
    valid_from: 2026-01-01T00:00:00Z
    rounding: half_even
    discounts: [ { product_sku: vm, percent: "10" } ]
tenants:
  - { tenant_id: acme, name: Acme Ltda, source_id: "Acme & Sons" }
"#;

/// A priced world: `acme` with hours of a VM, tiered egress in two regions whose pulses come out of order, addresses, and
/// a SKU without a price.
pub(crate) async fn priced() -> World {
    let mut world = World::new();
    let answer = world.post("/v1/catalog:apply", "application/yaml", CATALOG).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut pulses = Vec::new();
    for number in 0..40_u32 {
        let hour = (number * 17) % 40;
        let at = format!("2026-03-{:02}T{:02}:{:02}:00Z", 1 + hour / 24, hour % 24, number % 60);
        let mut egress = pulse(&format!("egress-{number}"), &format!("1.{:03}", number * 7), &at);
        (egress.product_sku, egress.use_unit) = ("egress".into(), "GiB".into());
        egress.region = if number % 3 == 0 { "br-ne1".into() } else { "br-se1".into() };
        pulses.extend([egress, pulse(&format!("vm-{number}"), "0.3333", &at)]);
    }
    for (id, amount) in [("ip-1", "2"), ("ip-2", "5"), ("ip-3", "4")] {
        let mut ip = pulse(id, amount, "2026-03-02T00:00:00Z");
        (ip.product_sku, ip.use_unit) = ("ip".into(), "Addresses".into());
        pulses.push(ip);
    }
    let mut gpu = pulse("gpu", "12", "2026-03-02T00:00:00Z");
    gpu.product_sku = "gpu".into();
    pulses.extend([gpu, pulse("last-month", "8", "2026-02-27T00:00:00Z")]);
    // Records of seven pulses, with a duplicate in each.
    for part in pulses.chunks(7) {
        let mut part = part.to_vec();
        part.push(part[0].clone());
        world.append(part).await;
    }
    world.rate();
    world
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}"))
}

pub(crate) fn rows<'a>(document: &'a Value, list: &str) -> &'a [Value] {
    document[list].as_array().expect("a list")
}

/// The sum of a field of decimals, scaled to 54 places.
pub(crate) fn sum(rows: &[Value], name: &str) -> pulso_domain::money::Money {
    let money = |row: &Value| pulso_domain::money::Money::parse(text(row, name)).expect("a decimal");
    rows.iter()
        .map(money)
        .fold(pulso_domain::money::Money::ZERO, |sum, one| sum.checked_add(one).expect("fits"))
}

#[tokio::test]
async fn a_months_charges_are_exact_with_their_totals_and_what_has_no_price() {
    let world = priced().await;
    let document = world.read("/v1/tenants/acme/charges?period=2026-03").await;
    let vm = rows(&document, "charges").iter().find(|row| row["product_sku"] == "vm").expect("is charged");
    let expected = json!({
        "product_sku": "vm", "use_unit": "Hours", "region": "", "window_start": "2026-03-01T00:00:00Z",
        "window_end": "2026-04-01T00:00:00Z", "quantity": "13.332", "currency": "BRL", "list_unit_price": "0.123456789",
        "contracted_unit_price": "0.1111111101", "list_cost": "1.645925910948", "contracted_cost": "1.4813333198532",
        "effective_cost": "1.4813333198532", "billed_cost": "1.4813333198532",
        "price_version": text(vm, "price_version"),
    });
    assert_eq!(vm, &expected);
    let unpriced = json!([{
        "product_sku": "gpu", "use_unit": "Hours", "region": "", "quantity": "12", "reason": "UNKNOWN_SKU",
    }]);
    assert_eq!(document["unpriced"], unpriced);
    assert_eq!(rows(&document, "totals").len(), 1);
    for cost in ["list_cost", "contracted_cost", "effective_cost", "billed_cost"] {
        let total = sum(rows(&document, "totals"), cost);
        assert_eq!(sum(rows(&document, "charges"), cost), total, "{cost}");
    }
    assert_eq!(world.read("/v1/tenants/acme/charges").await, document, "the current month is the default");
}

#[tokio::test]
async fn hours_and_days_add_up_to_the_month() {
    let world = priced().await;
    let of = |document: &Value, sku: &str| -> Vec<Value> {
        rows(document, "charges").iter().filter(|row| row["product_sku"] == sku).cloned().collect()
    };
    let month = world.read("/v1/tenants/acme/charges?period=2026-03").await;
    for granularity in ["hour", "day"] {
        let path = format!("/v1/tenants/acme/charges?period=2026-03&granularity={granularity}");
        let finer = world.read(&path).await;
        let span = format!(
            "/v1/tenants/acme/charges?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z&granularity={granularity}"
        );
        assert_eq!(world.read(&span).await, finer);
        for sku in ["vm", "egress"] {
            let (fine, whole) = (of(&finer, sku), of(&month, sku));
            assert!(fine.len() > whole.len());
            for field in ["quantity", "list_cost", "billed_cost"] {
                assert_eq!(sum(&fine, field), sum(&whole, field), "{sku} {granularity} {field}");
            }
        }
        assert!(of(&finer, "ip").is_empty(), "a maximum has no hours and days");
    }
    let both = world.read("/v1/tenants/acme/charges?from=2026-02-01T00:00:00Z&to=2026-04-01T00:00:00Z").await;
    assert_eq!(rows(&both, "charges").len(), rows(&month, "charges").len() + 1);
    assert_eq!(text(&rows(&both, "charges")[0], "window_start"), "2026-02-01T00:00:00Z");
}

#[tokio::test]
async fn pages_and_csv_of_charges_hold_the_same_rows() {
    let world = priced().await;
    let path = "/v1/tenants/acme/charges?period=2026-03&granularity=hour";
    let whole = world.read(path).await;
    for size in [1, 7, 1000] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let page = world.read(&format!("{path}&page_size={size}{token}")).await;
            assert_eq!((&page["totals"], &page["unpriced"]), (&whole["totals"], &whole["unpriced"]));
            found.extend(rows(&page, "charges").iter().cloned());
            let Some(next) = page.get("next_page_token") else { break };
            token = format!("&page_token={}", next.as_str().expect("text"));
        }
        assert_eq!(found, rows(&whole, "charges"), "by {size}");
    }
    let answer = world.get_as(path, "text/csv").await;
    let mut reader = csv::Reader::from_reader(answer.bytes.as_slice());
    let names: Vec<String> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    let read: Vec<Value> = reader
        .records()
        .map(|row| {
            let row = row.expect("a row");
            let cells =
                names.iter().zip(row.iter()).filter(|(name, text)| *name != "tier" || !text.is_empty());
            let cell = |(name, text): (&String, &str)| {
                let number = || json!(text.parse::<u32>().expect("a number"));
                (name.clone(), if name == "tier" { number() } else { json!(text) })
            };
            Value::Object(cells.map(cell).collect())
        })
        .collect();
    assert_eq!(read, rows(&whole, "charges"));
}

#[tokio::test]
async fn an_invoice_is_the_sum_of_its_rounded_lines() {
    let world = priced().await;
    let list = world.read("/v1/tenants/acme/invoices").await;
    let ids: Vec<_> = rows(&list, "invoices").iter().map(|one| text(one, "invoice_id")).collect();
    assert_eq!(ids, ["acme-2026-02", "acme-2026-03"]);
    let first = world.read("/v1/tenants/acme/invoices?page_size=1").await;
    let token = text(&first, "next_page_token");
    let second = world.read(&format!("/v1/tenants/acme/invoices?page_token={token}")).await;
    assert_eq!(rows(&second, "invoices"), &rows(&list, "invoices")[1..]);
    let invoice = world.read("/v1/tenants/acme/invoices/acme-2026-03").await;
    for name in ["invoice_id", "period", "currency", "state", "total"] {
        assert_eq!(invoice[name], list["invoices"][1][name]);
    }
    assert_eq!((text(&invoice, "state"), &invoice["adjustments"]), ("draft", &json!([])));
    assert_eq!(sum(rows(&invoice, "lines"), "amount").to_string(), text(&invoice, "total"));
    let ip = rows(&invoice, "lines").iter().find(|line| line["product_sku"] == "ip").expect("a line");
    assert_eq!((text(ip, "quantity"), text(ip, "amount")), ("5", "17.5"));
    for unknown in ["acme-2026-01", "acme", "acme-2026-03-USD", "other-2026-03", "x", "acme-2026-99"] {
        world.problem(&format!("/v1/tenants/acme/invoices/{unknown}"), 404, "INVOICE_NOT_FOUND").await;
    }
}

#[tokio::test]
async fn money_waits_until_its_receipt_is_rated() {
    let mut world = priced().await;
    let receipt = world.count(vec![pulse("late", "1", "2026-03-03T00:00:00Z")]).await;
    let place = format!("{}:{}", receipt.partition, receipt.offset);
    let document = world.read(&format!("/v1/tenants/acme/charges?wait_for={place}")).await;
    let vm = rows(&document, "charges").iter().find(|row| row["product_sku"] == "vm").expect("is charged");
    assert_eq!(text(vm, "quantity"), "14.332");
    let next = format!("{}:{}", receipt.partition, receipt.offset + 1);
    for path in ["charges", "invoices", "invoices/acme-2026-03"] {
        world.read(&format!("/v1/tenants/acme/{path}?wait_for={place}")).await;
        let path = format!("/v1/tenants/acme/{path}?wait_for={next}");
        world.problem(&path, 504, "WAIT_TIMEOUT").await;
    }
}

#[tokio::test]
async fn tenants_have_the_names_of_the_catalog() {
    let world = priced().await;
    let acme = json!({ "tenant_id": "acme", "name": "Acme Ltda", "source_id": "Acme & Sons" });
    assert_eq!(world.read("/v1/tenants").await, json!({ "tenants": [acme] }));
}
