//! Rating a tenant-month: flat prices, and graduated ones that need the hours.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pulso_domain::position::Position;
use pulso_domain::quantity::Quantity;
use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::{Level, Window};
use pulso_pricing::catalog::parse::{Format, parse};
use pulso_pricing::rate::{CompiledCatalog, MonthUsage, UsedRow, rate};

const SKUS: usize = 100;
const HOURS: i32 = 720;

fn catalog(model: &str) -> CompiledCatalog {
    let entries = |line: &dyn Fn(usize) -> String| (0..SKUS).map(line).collect::<String>();
    let skus = entries(&|sku| {
        format!(
            "  - {{ product_sku: sku-{sku}, name: S, service_name: S, service_category: Compute, use_unit: Hours, aggregation: sum }}\n"
        )
    });
    let prices = entries(&|sku| {
        format!("      - {{ product_sku: sku-{sku}, valid_from: 2020-01-01T00:00:00Z, model: {model} }}\n")
    });
    let text = format!(
        "skus:\n{skus}rate_cards:\n  - name: public\n    currency: BRL\n    default: true\n    prices:\n{prices}"
    );
    let parsed = parse(text.as_bytes(), Format::Yaml).expect("a good catalog");
    CompiledCatalog::new(1, parsed.document)
}

fn usage() -> MonthUsage {
    let month = Window::parse_month("2026-01").expect("a month");
    let rows = |window: Window| {
        (0..SKUS).map(move |sku| {
            let sku = format!("sku-{sku}");
            let key =
                RowKey { tenant_id: "acme", window, product_sku: &sku, use_unit: "Hours", region: "br-se1" };
            let amount = Quantity::parse(b"12.345678").expect("good");
            UsedRow::new(&key, UsageRow::first(amount, window.start(), Position::default()))
        })
    };
    let first = i32::try_from(month.start_seconds() / 3600).expect("small");
    let hours = (first..first + HOURS).map(|hour| Window::from_index(Level::Hour, hour));
    MonthUsage {
        tenant_id: "acme".to_owned(),
        month,
        month_rows: rows(month).collect(),
        hour_rows: hours.flat_map(rows).collect(),
    }
}

fn rating(criterion: &mut Criterion) {
    let usage = usage();
    let mut group = criterion.benchmark_group("rate");
    let tiers = "{ type: graduated, tiers: [ { up_to: \"3\", unit_price: \"0.5\" }, { up_to: \"6\", unit_price: \"0.4\" }, { unit_price: \"0.3\" } ] }";
    for (name, model) in
        [("flat", "{ type: flat, unit_price: \"0.000812\" }"), ("graduated in three tiers", tiers)]
    {
        let catalog = catalog(model);
        let rated = rate(&catalog, &usage);
        assert!(rated.unpriced.is_empty() && rated.charges.len() >= SKUS, "all usage has a price");
        group.throughput(Throughput::Elements(SKUS as u64));
        group.bench_function(name, |bencher| bencher.iter(|| rate(black_box(&catalog), black_box(&usage))));
    }
    group.finish();
}

criterion_group!(benches, rating);
criterion_main!(benches);
