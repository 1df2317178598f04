//! Draft invoices: minor units, rounding by contract, months in several currencies, and months without a charge.

use pulso_domain::position::Rank;
use pulso_pricing::charges::ChargeSet;
use pulso_pricing::invoice::{Invoice, draft_invoices};

use crate::support::{Pulse, catalog, usage};

fn invoices(contract: &str, pulses: &[Pulse<'_>]) -> Vec<Invoice> {
    let card = |name: &str, currency: &str, price: &str| {
        format!(
            "- name: {name}\n  currency: {currency}\n  prices: [{{ product_sku: a, valid_from: 2026-01-01T00:00:00Z, \
             model: {{ type: flat, unit_price: \"{price}\" }} }}]\n"
        )
    };
    let text = format!(
        "skus: [{{ product_sku: a, use_unit: GB }}]\nrate_cards:\n{}{}{}contracts: [{contract}]\n",
        card("real", "BRL", "0.125"),
        card("yen", "JPY", "0.5"),
        card("dinar", "BHD", "0.0005") + "  default: true\n",
    );
    let set = ChargeSet::new(&catalog(&text), &usage(pulses), Rank::ZERO);
    draft_invoices(&set).expect("fits")
}

fn amounts(invoices: &[Invoice]) -> Vec<String> {
    invoices
        .iter()
        .map(|invoice| {
            format!(
                "{} {} {}",
                invoice.invoice_id,
                invoice.currency,
                invoice.total.to_fixed(invoice.decimals as usize)
            )
        })
        .collect()
}

const ONE: &[Pulse<'_>] = &[("2026-01-05T00", "a", "GB", "", "1")];

#[test]
fn g14_a_line_is_rounded_once_to_the_minor_unit_with_the_contracts_mode() {
    let contract = |rest: &str| format!("{{ tenant_id: acme, valid_from: 2026-01-01T00:00:00Z, {rest} }}");
    for (rest, expected) in [
        ("rate_card: real", "acme-2026-01 BRL 0.12"),
        ("rate_card: real, rounding: half_up", "acme-2026-01 BRL 0.13"),
        ("rate_card: real, rounding: up", "acme-2026-01 BRL 0.13"),
        ("rate_card: real, rounding: down", "acme-2026-01 BRL 0.12"),
        ("rate_card: yen", "acme-2026-01 JPY 0"),
        ("rate_card: yen, rounding: half_up", "acme-2026-01 JPY 1"),
        ("rate_card: dinar, rounding: up", "acme-2026-01 BHD 0.001"),
    ] {
        assert_eq!(amounts(&invoices(&contract(rest), ONE)), [expected], "{rest}");
    }
}

#[test]
fn a_month_that_leaves_the_default_card_for_another_currency_has_an_invoice_of_each() {
    let contract = "{ tenant_id: acme, rate_card: real, valid_from: 2026-01-16T00:00:00Z }";
    let pulses = [("2026-01-05T00", "a", "GB", "", "4000"), ("2026-01-20T00", "a", "GB", "", "8")];
    let both = invoices(contract, &pulses);
    assert_eq!(amounts(&both), ["acme-2026-01-BHD BHD 2.000", "acme-2026-01-BRL BRL 1.00"]);
}

#[test]
fn a_line_of_amount_zero_stays_and_a_month_without_charges_has_an_empty_invoice() {
    let small = invoices("", &[("2026-01-05T00", "a", "GB", "", "0.1")]);
    assert_eq!((small[0].lines.len(), small[0].total.to_fixed(3)), (1, "0.000".to_owned()));
    let nothing = invoices("", &[("2026-01-05T00", "unheard-of", "GB", "", "1")]);
    assert_eq!(amounts(&nothing), ["acme-2026-01 BHD 0.000"]);
    assert!(nothing[0].lines.is_empty());
}

#[test]
fn line_ids_name_sku_unit_region_and_tier_and_nothing_else() {
    let one = invoices("", &[("2026-01-05T00", "a", "GB", "x", "1")]);
    let other =
        invoices("", &[("2026-01-09T00", "a", "GB", "x", "7"), ("2026-01-09T00", "a", "GB", "", "7")]);
    assert_eq!(one[0].lines[0].line_id, other[0].lines[1].line_id);
    assert_ne!(other[0].lines[0].line_id, other[0].lines[1].line_id);
}
