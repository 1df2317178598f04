//! Rating as a pure function: tiers, splits, overrides, discounts, units, and the sums that must hold.

use crate::support::{catalog, month, usage};
use pulso_domain::window::Level;
use pulso_pricing::rate::{Charge, CompiledCatalog, Rated, UnpricedReason, rate, rate_windows};

/// Lines as `sku unit region tier quantity list contracted`.
fn lines(rated: &Rated) -> Vec<String> {
    rated.charges.iter().map(line).collect()
}

fn line(charge: &Charge) -> String {
    let tier = charge.tier.map_or("-".to_owned(), |tier| tier.to_string());
    let region = if charge.region.is_empty() { "-" } else { &charge.region };
    format!(
        "{} {} {region} {tier} {} {} {}",
        charge.product_sku, charge.use_unit, charge.quantity, charge.list_cost, charge.contracted_cost
    )
}

fn card(prices: &str) -> CompiledCatalog {
    catalog(&format!(
        "skus: [{{ product_sku: a, use_unit: GB }}, {{ product_sku: peak, use_unit: GB, aggregation: max }},\n\
         {{ product_sku: n, use_unit: Calls, aggregation: count }}, {{ product_sku: mean, use_unit: GB, aggregation: avg }}]\n\
         rate_cards:\n- name: p\n  currency: BRL\n  default: true\n  prices:\n{prices}"
    ))
}

const GRADUATED: &str = "  - { product_sku: a, valid_from: 2026-01-01T00:00:00Z,\n      model: { type: graduated, tiers: [{ up_to: \"10\", unit_price: \"1\" }, { up_to: \"20\", unit_price: \"0.5\" }, { unit_price: \"0.1\" }] } }\n";

#[test]
fn a_tier_holds_the_quantity_up_to_and_including_its_border() {
    let catalog = card(GRADUATED);
    let at_border = rate(&catalog, &usage(&[("2026-01-01T00", "a", "GB", "", "10")]));
    assert_eq!(lines(&at_border), ["a GB - 1 10 10 10"]);
    let beyond = rate(&catalog, &usage(&[("2026-01-01T00", "a", "GB", "", "25.5")]));
    assert_eq!(lines(&beyond), ["a GB - 1 10 10 10", "a GB - 2 10 5 5", "a GB - 3 5.5 0.55 0.55"]);
    assert_eq!(beyond.charges[2].tier_begin.expect("a tier").to_string(), "20");
}

#[test]
fn tiers_are_shared_by_regions_in_order_of_hour_then_region_then_unit() {
    let catalog = card(GRADUATED);
    let shared = usage(&[
        ("2026-01-01T01", "a", "GB", "a", "8"),
        ("2026-01-01T00", "a", "GB", "b", "8"),
        ("2026-01-01T01", "a", "GB", "", "1"),
    ]);
    let needed = catalog.hours_needed("acme", month(), &shared.month_rows);
    assert_eq!(needed.into_iter().collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        lines(&rate(&catalog, &shared)),
        ["a GB - 1 1 1 1", "a GB a 1 1 1 1", "a GB a 2 7 3.5 3.5", "a GB b 1 8 8 8"]
    );
}

#[test]
fn an_entry_that_names_the_region_goes_first_and_has_its_own_tiers() {
    let regional = "  - { product_sku: a, region: sp, valid_from: 2026-01-01T00:00:00Z,\n      model: { type: graduated, tiers: [{ up_to: \"5\", unit_price: \"2\" }, { unit_price: \"3\" }] } }\n";
    let catalog = card(&format!("{GRADUATED}{regional}"));
    let used = usage(&[("2026-01-01T00", "a", "GB", "sp", "6"), ("2026-01-01T00", "a", "GB", "rj", "10")]);
    assert_eq!(lines(&rate(&catalog, &used)), ["a GB rj 1 10 10 10", "a GB sp 1 5 10 10", "a GB sp 2 1 3 3"]);
}

#[test]
fn a_new_version_of_an_entry_restarts_its_tiers_and_splits_the_month() {
    let next = "  - { product_sku: a, valid_from: 2026-01-16T00:00:00Z,\n      model: { type: graduated, tiers: [{ up_to: \"10\", unit_price: \"7\" }, { unit_price: \"6\" }] } }\n";
    let catalog = card(&format!("{GRADUATED}{next}"));
    let used = usage(&[("2026-01-15T23", "a", "GB", "", "12"), ("2026-01-16T00", "a", "GB", "", "4")]);
    assert_eq!(lines(&rate(&catalog, &used)), ["a GB - 1 10 10 10", "a GB - 2 2 1 1", "a GB - 1 4 28 28"]);
}

#[test]
fn overrides_split_at_both_borders_and_discounts_follow_one_by_one() {
    let contract = "contracts: [{ tenant_id: acme, rate_card: p, valid_from: 2026-01-01T00:00:00Z,\n\
        overrides: [{ product_sku: a, model: { type: graduated, tiers: [{ up_to: \"4\", unit_price: \"3\" }, { unit_price: \"2\" }] } }],\n\
        discounts: [{ product_sku: \"*\", percent: \"10\" }, { product_sku: a, percent: \"50\" }] }]\n";
    let catalog = card(&format!("{GRADUATED}{contract}"));
    let rated = rate(&catalog, &usage(&[("2026-01-01T00", "a", "GB", "", "12")]));
    assert_eq!(
        lines(&rated),
        ["a GB - 1 4 4 5.4", "a GB - 2 6 6 5.4", "a GB - 2 2 1 1.8"],
        "the tier is the override's, the list price the rate card's"
    );
    assert_eq!(rated.charges[0].contracted_unit_price.to_string(), "1.35");
    assert_eq!(rated.charges[0].price_version, "contract:acme@2026-01-01T00:00:00Z");
    assert_eq!(rated.charges[0].list_price_version, "p@2026-01-01T00:00:00Z");
}

#[test]
fn an_override_prices_its_sku_where_the_rate_card_has_no_entry() {
    let contract = "contracts: [{ tenant_id: acme, rate_card: p, valid_from: 2026-01-01T00:00:00Z,\n\
        overrides: [{ product_sku: a, model: { type: flat, unit_price: \"3\" } }] }]\n";
    let catalog = card(contract);
    let rated = rate(&catalog, &usage(&[("2026-01-01T00", "a", "GB", "", "2")]));
    assert_eq!(lines(&rated), ["a GB - - 2 6 6"]);
    assert_eq!(rated.charges[0].list_unit_price.to_string(), "3");
}

#[test]
fn quantities_that_are_no_sums_come_from_the_month_row() {
    let flat = |sku: &str| {
        format!(
            "  - {{ product_sku: {sku}, valid_from: 2026-01-01T00:00:00Z, model: {{ type: flat, unit_price: \"1\" }} }}\n"
        )
    };
    let catalog = card(&(flat("peak") + &flat("n") + &flat("mean")));
    let used = usage(&[
        ("2026-01-01T00", "peak", "GB", "", "5"),
        ("2026-01-02T00", "peak", "GB", "", "9"),
        ("2026-01-01T00", "n", "anything", "", "5"),
        ("2026-01-02T00", "n", "anything", "", "5"),
        ("2026-01-01T00", "mean", "GB", "", "1"),
        ("2026-01-02T00", "mean", "GB", "", "1"),
        ("2026-01-03T00", "mean", "GB", "", "2"),
    ]);
    assert_eq!(
        lines(&rate(&catalog, &used)),
        [
            "mean GB - - 1.333333333333333 1.333333333333333 1.333333333333333",
            "n Calls - - 2 2 2",
            "peak GB - - 9 9 9"
        ]
    );
    let range = month().start()..month().end();
    let days = rate_windows(&catalog, &used, Level::Day, &range);
    assert_eq!(lines(&days), ["n Calls - - 1 1 1", "n Calls - - 1 1 1"]);
}

#[test]
fn usage_without_a_price_is_shown_with_its_reason_and_never_billed() {
    let entry = "  - { product_sku: a, valid_from: 2026-01-10T00:00:00Z, valid_to: 2026-01-20T00:00:00Z, model: { type: flat, unit_price: \"99999999999999999999999\" } }\n";
    let catalog = card(entry);
    let used = usage(&[
        ("2026-01-01T00", "a", "GB", "", "3"),
        ("2026-01-10T00", "a", "GB", "x", "99999999999999999999999"),
        ("2026-01-10T00", "a", "Hours", "", "1"),
        ("2026-01-10T00", "unheard-of", "GB", "", "4"),
    ]);
    let rated = rate(&catalog, &used);
    assert_eq!(rated.charges, []);
    let reasons: Vec<_> = rated
        .unpriced
        .iter()
        .map(|one| (one.use_unit.as_str(), one.quantity.to_string(), one.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("GB", "3".to_owned(), UnpricedReason::NoPrice),
            ("GB", "99999999999999999999999".to_owned(), UnpricedReason::Overflow),
            ("Hours", "1".to_owned(), UnpricedReason::UnitMismatch),
            ("GB", "4".to_owned(), UnpricedReason::UnknownSku),
        ]
    );
    let nobody = catalog_without_default();
    let rated = rate(&nobody, &usage(&[("2026-01-01T00", "a", "GB", "", "3")]));
    assert_eq!(rated.unpriced[0].reason, UnpricedReason::NoRateCard);
}

fn catalog_without_default() -> CompiledCatalog {
    catalog("skus: [{ product_sku: a, use_unit: GB }]")
}

#[test]
fn units_are_converted_to_the_skus_and_corrections_walk_back_down_the_tiers() {
    let catalog = card(GRADUATED);
    let used = usage(&[
        ("2026-01-01T00", "a", "MB", "", "12000"),
        ("2026-01-01T01", "a", "GB", "", "3"),
        ("2026-01-01T02", "a", "GB", "", "-4"),
    ]);
    assert_eq!(lines(&rate(&catalog, &used)), ["a GB - 1 10 10 10", "a GB - 2 1 0.5 0.5"]);
    let undone = usage(&[("2026-01-01T00", "a", "GB", "", "3"), ("2026-01-01T02", "a", "GB", "", "-3")]);
    assert_eq!(rate(&catalog, &undone).charges, [], "a row of quantity 0 does not exist");
}
