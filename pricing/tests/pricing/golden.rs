//! Golden files: whole months as a person reads them. A change of any digit shows up as a difference of text.

use std::fmt::Write;

use pulso_domain::position::Rank;
use pulso_pricing::charges::{ChargeSet, totals};
use pulso_pricing::invoice::draft_invoices;

use crate::support::{catalog, usage};

/// A month that meets every rule: shared and regional tiers, a price that changes, units, a peak, and gaps.
fn month_set() -> ChargeSet {
    let used = usage(&[
        ("2026-01-01T00", "block-storage", "GiB-Hours", "br-se1", "1000"),
        ("2026-01-01T01", "block-storage", "MiB-Hours", "br-se1", "524288.5"),
        ("2026-01-02T00", "block-storage", "GB-Hours", "", "0.0000001"),
        ("2026-01-03T00", "egress", "GB", "br-se1", "99.5"),
        ("2026-01-04T00", "egress", "GB", "br-se1", "1.25"),
        ("2026-01-04T00", "egress", "GB", "", "7.333333333333333"),
        ("2026-01-15T23", "requests", "Requests", "", "1234"),
        ("2026-01-16T00", "requests", "Requests", "br-ne1", "9500"),
        ("2026-01-16T00", "requests", "Requests", "", "250"),
        ("2026-01-16T01", "requests", "Requests/1000", "", "1.5"),
        ("2026-01-20T00", "peak", "Connections", "", "17"),
        ("2026-01-21T00", "peak", "Connections", "", "41"),
        ("2026-01-22T00", "unheard-of", "Things", "", "5"),
    ]);
    let catalog = catalog(include_str!("../data/catalog.yaml"));
    ChargeSet::new(&catalog, &used, Rank::new(1, 13).expect("small"))
}

fn readable(set: &ChargeSet) -> String {
    let mut text = String::new();
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let tier = |tier: Option<u32>| tier.map_or("-".to_owned(), |tier| tier.to_string());
    writeln!(text, "charges: sku, unit, region, tier, quantity, list price, list, billed, price version")
        .expect("text");
    for charge in &set.rated.charges {
        let (sku, unit, region) = (&charge.product_sku, &charge.use_unit, or_dash(&charge.region));
        let (quantity, price, list) = (charge.quantity, charge.list_unit_price, charge.list_cost);
        let (billed, version) = (charge.billed_cost, &charge.price_version);
        let tier = tier(charge.tier);
        writeln!(text, "  {sku} {unit} {region} {tier} {quantity} {price} {list} {billed} {version}")
            .expect("text");
    }
    writeln!(text, "unpriced: sku, unit, region, quantity, reason").expect("text");
    for one in &set.rated.unpriced {
        let (sku, unit, region) = (&one.product_sku, &one.use_unit, or_dash(&one.region));
        writeln!(text, "  {sku} {unit} {region} {} {}", one.quantity, one.reason.as_str()).expect("text");
    }
    for total in totals(&set.rated.charges).expect("fits") {
        writeln!(text, "total {} list {} billed {}", total.currency, total.list_cost, total.billed_cost)
            .expect("text");
    }
    for invoice in draft_invoices(set).expect("fits") {
        writeln!(text, "invoice {} {} {}", invoice.invoice_id, invoice.state.as_str(), invoice.currency)
            .expect("text");
        for line in &invoice.lines {
            let (sku, unit, region) = (&line.product_sku, &line.use_unit, or_dash(&line.region));
            let (amount, tier) = (line.amount.to_fixed(2), tier(line.tier));
            writeln!(text, "  {} {sku} {unit} {region} {tier} {} {amount}", line.line_id, line.quantity)
                .expect("text");
        }
        writeln!(text, "  total {}", invoice.total.to_fixed(2)).expect("text");
    }
    text
}

#[test]
fn g07_a_month_is_rated_and_invoiced_to_the_last_digit_as_in_the_golden_file() {
    assert_eq!(readable(&month_set()), include_str!("../data/month.golden"));
}

#[test]
fn g07_the_stored_form_is_the_same_bytes_again_and_reads_back_whole() {
    let set = month_set();
    let stored = set.to_json();
    assert_eq!(month_set().to_json(), stored);
    let back = ChargeSet::from_json(&stored).expect("stored");
    assert_eq!(back, set);
    assert!(ChargeSet::from_json(&stored[1..]).is_err());
}

#[test]
fn a_set_supersedes_only_what_it_takes_nothing_back_of() {
    let set = month_set();
    let mut newer = set.clone();
    newer.catalog_version += 1;
    assert!(newer.supersedes(&set) && !set.supersedes(&newer) && set.supersedes(&set));
    let mut fewer = set.clone();
    fewer.rows.pop_first();
    assert!(set.supersedes(&fewer) && !fewer.supersedes(&set));
    let mut later = fewer;
    later.catalog_version += 1;
    assert!(!later.supersedes(&set), "a newer catalog over older rows takes rows back");
}
