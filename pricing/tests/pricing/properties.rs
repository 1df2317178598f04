//! Properties that hold for any usage and any catalog of the generators, checked by rational arithmetic of its own.

use std::collections::BTreeMap;

use num_rational::BigRational;
use proptest::prelude::*;
use pulso_domain::money::Money;
use pulso_domain::position::Rank;
use pulso_domain::window::{Level, Window};
use pulso_pricing::charges::ChargeSet;
use pulso_pricing::invoice::draft_invoices;
use pulso_pricing::rate::{Charge, CompiledCatalog, MonthUsage, PulseUse, Rated, rate, rate_windows, trace};

use crate::support::{catalog, month, usage};

/// The exact value of a plain decimal text.
fn exact(text: impl ToString) -> BigRational {
    let text = text.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = format!("{whole}{fraction}").parse().expect("digits");
    let scale = format!("1{}", "0".repeat(fraction.len())).parse().expect("digits");
    BigRational::new(digits, scale)
}

#[derive(Clone, Debug)]
struct Used {
    day: u32,
    hour: u32,
    region: &'static str,
    unit: &'static str,
    amount: String,
}

fn used() -> impl Strategy<Value = Vec<Used>> {
    let region = prop::sample::select(vec!["", "ne", "se"]);
    let unit = prop::sample::select(vec!["GB", "MB", "TB"]);
    let one = (1_u32..=31, 0_u32..24, region, unit, 0_u64..200_000, 0_u32..=6);
    let one = one.prop_map(|(day, hour, region, unit, steps, decimals)| {
        let divisor = 10_u64.pow(decimals);
        let fraction = format!("{:0width$}", steps % divisor, width = decimals as usize);
        let amount =
            if decimals == 0 { steps.to_string() } else { format!("{}.{fraction}", steps / divisor) };
        Used { day, hour, region, unit, amount }
    });
    prop::collection::vec(one, 1..30)
}

/// Borders and prices of a model: one tier makes it flat.
fn model() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1_u64..500, 0_u64..5000), 1..4)
}

fn model_text(tiers: &[(u64, u64)]) -> String {
    if let [(_, price)] = tiers {
        return format!("{{ type: flat, unit_price: \"0.{price:05}\" }}");
    }
    let mut border = 0;
    let texts: Vec<String> = tiers
        .iter()
        .enumerate()
        .map(|(place, (width, price))| {
            border += width;
            let up_to =
                if place + 1 == tiers.len() { String::new() } else { format!("up_to: \"{border}\", ") };
            format!("{{ {up_to}unit_price: \"0.{price:05}\" }}")
        })
        .collect();
    format!("{{ type: graduated, tiers: [{}] }}", texts.join(", "))
}

fn catalog_of(
    list: &[(u64, u64)],
    later: &[(u64, u64)],
    overriding: Option<&[(u64, u64)]>,
) -> CompiledCatalog {
    let entry = |from: &str, region: &str, model: &[(u64, u64)]| {
        format!(
            "  - {{ product_sku: a, {region}valid_from: 2026-01-{from}T00:00:00Z, model: {} }}\n",
            model_text(model)
        )
    };
    let overrides = overriding
        .map(|model| format!("overrides: [{{ product_sku: a, model: {} }}], ", model_text(model)))
        .unwrap_or_default();
    catalog(&format!(
        "skus: [{{ product_sku: a, use_unit: GB }}]\nrate_cards:\n- name: p\n  currency: BRL\n  default: true\n  prices:\n\
         {}{}{}contracts: [{{ tenant_id: acme, rate_card: p, valid_from: 2026-01-11T00:00:00Z, {overrides}\
         discounts: [{{ product_sku: \"*\", percent: \"12.5\" }}, {{ product_sku: a, percent: \"0.0001\" }}] }}]\n",
        entry("01", "", list),
        entry("16", "", later),
        entry("06", "region: se, ", later),
    ))
}

fn month_of(used: &[Used]) -> MonthUsage {
    let hours: Vec<String> =
        used.iter().map(|one| format!("2026-01-{:02}T{:02}", one.day, one.hour)).collect();
    let pulses: Vec<_> = used
        .iter()
        .zip(&hours)
        .map(|(one, hour)| (hour.as_str(), "a", one.unit, one.region, one.amount.as_str()))
        .collect();
    usage(&pulses)
}

type Amounts =
    BTreeMap<(String, String, String, Option<u32>, Option<u32>), (BigRational, BigRational, BigRational)>;

/// What charges add up to, whatever windows they stand in.
fn amounts(charges: &[Charge]) -> Amounts {
    let mut sums = Amounts::new();
    let zero = || BigRational::from_integer(0.into());
    for charge in charges {
        let version =
            format!("{} {} {:?}", charge.price_version, charge.list_price_version, charge.contract_version);
        let key = (charge.region.clone(), charge.use_unit.clone(), version, charge.tier, charge.list_tier);
        let sum = sums.entry(key).or_insert_with(|| (zero(), zero(), zero()));
        sum.0 += exact(charge.quantity);
        sum.1 += exact(charge.list_cost);
        sum.2 += exact(charge.billed_cost);
    }
    sums
}

fn check_each_charge(rated: &Rated) -> Result<(), TestCaseError> {
    for charge in &rated.charges {
        let quantity = exact(charge.quantity);
        prop_assert_eq!(exact(charge.list_cost), quantity.clone() * exact(charge.list_unit_price));
        prop_assert_eq!(exact(charge.contracted_cost), quantity * exact(charge.contracted_unit_price));
        prop_assert_eq!(charge.billed_cost, charge.contracted_cost);
        prop_assert_eq!(charge.effective_cost, charge.contracted_cost);
    }
    Ok(())
}

/// What a quantity costs by one model, tier by tier, in rational arithmetic.
fn cost_by_oracle(model: &[(u64, u64)], quantity: &BigRational) -> BigRational {
    let mut rest = quantity.clone();
    let mut cost = BigRational::from_integer(0.into());
    for (place, (width, price)) in model.iter().enumerate() {
        let width = BigRational::from_integer((*width).into());
        let within = if place + 1 == model.len() { rest.clone() } else { rest.clone().min(width) };
        cost += within.clone() * exact(format!("0.{price:05}"));
        rest -= within;
    }
    cost
}

/// What all pulses together are in the SKU's unit.
fn used_quantity(used: &[Used]) -> BigRational {
    let size = |unit: &str| match unit {
        "MB" => exact("0.001"),
        "TB" => exact("1000"),
        _ => exact("1"),
    };
    used.iter().map(|one| exact(&one.amount) * size(one.unit)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn g14_every_cost_is_its_price_times_its_quantity_and_no_quantity_is_lost(
        used in used(), list in model(), later in model(), overriding in prop::option::of(model())
    ) {
        let catalog = catalog_of(&list, &later, overriding.as_deref());
        let rated = rate(&catalog, &month_of(&used));
        check_each_charge(&rated)?;
        prop_assert_eq!(&rated.unpriced, &[]);
        let charged: BigRational = rated.charges.iter().map(|charge| exact(charge.quantity)).sum();
        prop_assert_eq!(charged, used_quantity(&used));
    }

    #[test]
    fn g14_a_graduated_month_costs_what_the_rational_oracle_says(used in used(), list in model()) {
        let catalog = catalog(&format!(
            "skus: [{{ product_sku: a, use_unit: GB }}]\nrate_cards: [{{ name: p, currency: BRL, default: true, prices: [\
             {{ product_sku: a, valid_from: 2026-01-01T00:00:00Z, model: {} }}] }}]\n",
            model_text(&list)
        ));
        let rated = rate(&catalog, &month_of(&used));
        let cost: BigRational = rated.charges.iter().map(|charge| exact(charge.list_cost)).sum();
        prop_assert_eq!(cost, cost_by_oracle(&list, &used_quantity(&used)));
    }

    #[test]
    fn g07_order_of_rows_changes_nothing(used in used(), list in model(), later in model()) {
        let catalog = catalog_of(&list, &later, None);
        let month = month_of(&used);
        let mut turned = month.clone();
        turned.month_rows.reverse();
        turned.hour_rows.reverse();
        prop_assert_eq!(rate(&catalog, &month), rate(&catalog, &turned));
    }

    #[test]
    fn g14_hours_and_days_add_up_to_the_month(
        used in used(), list in model(), later in model(), overriding in prop::option::of(model())
    ) {
        let catalog = catalog_of(&list, &later, overriding.as_deref());
        let month_usage = month_of(&used);
        let whole = amounts(&rate(&catalog, &month_usage).charges);
        let range = month().start()..month().end();
        for level in [Level::Hour, Level::Day, Level::Month] {
            let rated = rate_windows(&catalog, &month_usage, level, &range);
            check_each_charge(&rated)?;
            prop_assert_eq!(&amounts(&rated.charges), &whole, "{:?}", level);
        }
        // A part of the month shows the same charges as the whole does for that part.
        let middle = Window::containing(Level::Day, month().start()).next().start()..month().end();
        let part = rate_windows(&catalog, &month_usage, Level::Hour, &middle);
        let all = rate_windows(&catalog, &month_usage, Level::Hour, &range);
        let inside: Vec<Charge> =
            all.charges.into_iter().filter(|charge| charge.window.start() >= middle.start).collect();
        prop_assert_eq!(part.charges, inside);
    }

    #[test]
    fn g19_the_parts_of_all_pulses_add_up_to_the_same_cents(
        used in used(), list in model(), later in model(), overriding in prop::option::of(model())
    ) {
        let catalog = catalog_of(&list, &later, overriding.as_deref());
        let month_usage = month_of(&used);
        let mut pulses: Vec<PulseUse> = month_usage.hour_rows.iter().map(|row| PulseUse {
            hour: row.window,
            use_unit: row.use_unit.clone(),
            region: row.region.clone(),
            quantity: row.usage.sum,
        }).collect();
        pulses.sort_by(|one, other| (one.hour, &one.region, &one.use_unit).cmp(&(other.hour, &other.region, &other.use_unit)));
        let parts: Vec<Charge> = trace(&catalog, "acme", "a", &pulses).into_iter().map(|(_, part)| part).collect();
        prop_assert_eq!(amounts(&parts), amounts(&rate(&catalog, &month_usage).charges));
    }

    #[test]
    fn g14_invoice_lines_are_rounded_once_and_add_up_to_the_total(
        used in used(), list in model(), later in model(), overriding in prop::option::of(model())
    ) {
        let catalog = catalog_of(&list, &later, overriding.as_deref());
        let set = ChargeSet::new(&catalog, &month_of(&used), Rank::ZERO);
        prop_assert_eq!(&ChargeSet::from_json(&set.to_json()).expect("stored"), &set);
        for invoice in draft_invoices(&set).expect("fits") {
            let total = invoice.lines.iter().try_fold(Money::ZERO, |sum, line| sum.checked_add(line.amount));
            prop_assert_eq!(total, Ok(invoice.total));
            for line in &invoice.lines {
                prop_assert_eq!(line.billed_cost.round(set.rounding, 2), Ok(line.amount));
            }
            let billed: BigRational = set.rated.charges.iter().map(|charge| exact(charge.billed_cost)).sum();
            let lines: BigRational = invoice.lines.iter().map(|line| exact(line.billed_cost)).sum();
            prop_assert_eq!(billed, lines);
        }
    }
}
