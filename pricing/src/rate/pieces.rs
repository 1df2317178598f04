//! Usage rows as pieces in the order that tiers run: by hour, then region, then unit. A month that has one price, and no
//! tiers shared between rows, is one piece per row.

use std::collections::{BTreeMap, HashMap};

use ethnum::I256;
use pulso_domain::quantity::{QUANTITY_ONE, QuantitySum};
use pulso_domain::usage::UsageRow;
use pulso_domain::window::{Level, Window};

use super::lines::Lines;
use super::tables::{CompiledCatalog, Holding, hours_of};
use super::units::Ratio;
use super::{MonthUsage, PulseUse, UnpricedReason, UsedRow};
use crate::catalog::document::{Aggregation, Sku};

/// A quantity that one price holds for.
pub(super) struct Piece<'a> {
    /// The hour whose price holds.
    pub(super) hour: i64,
    /// The window that its charge belongs to.
    pub(super) window: Window,
    /// The pulses' own unit.
    pub(super) use_unit: &'a str,
    pub(super) region: &'a str,
    /// In the SKU's unit.
    pub(super) quantity: QuantitySum,
    /// In the pulses' own unit.
    pub(super) own_quantity: QuantitySum,
    /// Whether it becomes a charge; one that does not still moves the tiers.
    pub(super) shown: bool,
}

impl<'a> Piece<'a> {
    /// One pulse; `None` when its unit does not convert.
    pub(super) fn of_pulse(sku: &Sku, pulse: &'a PulseUse) -> Option<Self> {
        let counted = sku.aggregation == Aggregation::Count;
        let quantity = if counted { whole(1) } else { convert(sku, &pulse.use_unit, pulse.quantity)? };
        Some(Self {
            hour: i64::from(pulse.hour.index()),
            window: pulse.hour,
            use_unit: &pulse.use_unit,
            region: &pulse.region,
            quantity,
            own_quantity: pulse.quantity,
            shown: true,
        })
    }
}

/// The rows of each SKU, in order.
pub(super) fn by_sku(rows: &[UsedRow]) -> BTreeMap<&str, Vec<&UsedRow>> {
    let mut skus: BTreeMap<&str, Vec<&UsedRow>> = BTreeMap::new();
    rows.iter().for_each(|row| skus.entry(&row.product_sku).or_default().push(row));
    skus
}

/// Whether the month of one SKU must be rated from its hours. `rows` are its month rows.
pub(super) fn needs_hours(
    catalog: &CompiledCatalog,
    tenant_id: &str,
    month: Window,
    rows: &[&UsedRow],
) -> bool {
    let Some(sku) = rows.first().and_then(|row| catalog.sku(&row.product_sku)) else { return false };
    if !sku.aggregation.is_additive() {
        return false;
    }
    let (first, _) = hours_of(month);
    let borders = catalog.borders(tenant_id, &sku.product_sku, month);
    let mut sharing: HashMap<Shared<'_>, usize> = HashMap::new();
    for row in rows {
        let held = |hour| catalog.holding(tenant_id, &sku.product_sku, &row.region, hour);
        let start = held(first);
        if borders.iter().any(|hour| !is_same(start.as_ref(), held(*hour).as_ref())) {
            return true;
        }
        let shared = start.map(|holding| shared_tiers(&holding)).unwrap_or_default();
        shared.into_iter().for_each(|counter| *sharing.entry(counter).or_default() += 1);
    }
    sharing.into_values().any(|rows| rows > 1)
}

/// Names a counter that rows may share.
#[derive(PartialEq, Eq, Hash)]
enum Shared<'a> {
    Listed(&'a str),
    Overriding(Option<&'a str>),
}

fn shared_tiers<'a>(holding: &Holding<'a>) -> Vec<Shared<'a>> {
    let listed = holding.listed.filter(|(entry, _)| !entry.tiers.is_flat);
    let overriding = holding.overriding.filter(|(tiers, _)| !tiers.is_flat);
    let listed = listed.map(|(entry, _)| Shared::Listed(&entry.version));
    listed.into_iter().chain(overriding.map(|(_, named)| Shared::Overriding(named))).collect()
}

fn is_same(one: Option<&Holding<'_>>, other: Option<&Holding<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (None, None) => true,
        _ => false,
    }
}

/// The pieces of a month of one SKU: of its hours where they are given, else of its month rows.
pub(super) fn of_month<'a>(
    catalog: &CompiledCatalog,
    usage: &'a MonthUsage,
    (sku, rows, hours): (&'a Sku, &[&'a UsedRow], Option<&[&'a UsedRow]>),
    lines: &mut Lines,
) -> Vec<Piece<'a>> {
    if let Some(hours) = hours {
        return of_hours(sku, hours, lines, &|_| true, Level::Month);
    }
    let mut pieces = Vec::with_capacity(rows.len());
    for row in rows {
        let own_quantity = own_quantity(sku, &row.usage);
        let Some(quantity) = converted(sku, &row.use_unit, own_quantity) else {
            lines.leave(row, own_quantity, UnpricedReason::UnitMismatch);
            continue;
        };
        pieces.push(Piece {
            hour: pricing_hour(catalog, usage, sku, &row.region),
            window: usage.month,
            use_unit: &row.use_unit,
            region: &row.region,
            quantity,
            own_quantity,
            shown: true,
        });
    }
    pieces.sort_by(|one, other| (one.region, one.use_unit).cmp(&(other.region, other.use_unit)));
    pieces
}

/// The pieces of hours of one SKU, grouped to windows of a level. When one hour of a row does not convert, none does.
pub(super) fn of_hours<'a>(
    sku: &'a Sku,
    rows: &[&'a UsedRow],
    lines: &mut Lines,
    inside: &dyn Fn(Window) -> bool,
    level: Level,
) -> Vec<Piece<'a>> {
    let mut groups: BTreeMap<(&str, &str), Vec<&'a UsedRow>> = BTreeMap::new();
    rows.iter().for_each(|row| groups.entry((&row.region, &row.use_unit)).or_default().push(row));
    let mut pieces = Vec::with_capacity(rows.len());
    for ((region, use_unit), rows) in groups {
        let own = |row: &UsedRow| own_quantity(sku, &row.usage);
        let quantities: Option<Vec<_>> = rows.iter().map(|row| converted(sku, use_unit, own(row))).collect();
        let Some(quantities) = quantities else {
            let shown = rows.iter().filter(|row| inside(row.window.widen(level)));
            shown.for_each(|row| lines.leave(row, own(row), UnpricedReason::UnitMismatch));
            continue;
        };
        pieces.extend(rows.iter().zip(quantities).map(|(row, quantity)| Piece {
            hour: i64::from(row.window.index()),
            window: row.window.widen(level),
            use_unit,
            region,
            quantity,
            own_quantity: own(row),
            shown: true,
        }));
    }
    pieces.sort_by(|one, other| {
        (one.hour, one.region, one.use_unit).cmp(&(other.hour, other.region, other.use_unit))
    });
    pieces
}

/// The hour whose price holds for a whole month. Quantities that are no sums belong to no hour: they have the price that
/// the month ends with, or the last one that held within it.
fn pricing_hour(catalog: &CompiledCatalog, usage: &MonthUsage, sku: &Sku, region: &str) -> i64 {
    let (first, end) = hours_of(usage.month);
    if sku.aggregation.is_additive() {
        return first;
    }
    let priced = |hour: i64| {
        let holding = catalog.holding(&usage.tenant_id, &sku.product_sku, region, hour);
        holding.is_some_and(|holding| holding.listed.is_some() || holding.overriding.is_some())
    };
    let mut last_hours = catalog.borders(&usage.tenant_id, &sku.product_sku, usage.month);
    last_hours.push(end);
    last_hours.into_iter().rev().map(|border| border - 1).find(|hour| priced(*hour)).unwrap_or(first)
}

/// The quantity of a row by its SKU's meter, in the pulses' own unit.
fn own_quantity(sku: &Sku, usage: &UsageRow) -> QuantitySum {
    match sku.aggregation {
        Aggregation::Sum => usage.sum,
        Aggregation::Count => whole(usage.count),
        Aggregation::Min => usage.min.into(),
        Aggregation::Max => usage.max.into(),
        Aggregation::Last => usage.last.into(),
        Aggregation::Avg => mean(usage),
    }
}

/// The mean, half_even to 15 decimals.
fn mean(usage: &UsageRow) -> QuantitySum {
    let count = I256::from(usage.count.max(1));
    let steps = usage.sum.steps();
    let (quotient, rest) = (steps / count, (steps % count).abs() * I256::from(2));
    let odd = quotient % I256::from(2) != I256::ZERO;
    let away = rest > count || (rest == count && odd);
    let step = if steps.is_negative() { I256::MINUS_ONE } else { I256::ONE };
    // A mean lies between the smallest and the largest amount, so it fits.
    QuantitySum::from_steps(if away { quotient + step } else { quotient }).unwrap_or_default()
}

fn whole(count: u64) -> QuantitySum {
    // Below 2^64 * 2^50.
    QuantitySum::from_steps(I256::from(count) * I256::from(QUANTITY_ONE)).unwrap_or_default()
}

/// A quantity in the SKU's unit; a count of pulses has no unit of its own.
fn converted(sku: &Sku, use_unit: &str, quantity: QuantitySum) -> Option<QuantitySum> {
    if sku.aggregation == Aggregation::Count { Some(quantity) } else { convert(sku, use_unit, quantity) }
}

fn convert(sku: &Sku, use_unit: &str, quantity: QuantitySum) -> Option<QuantitySum> {
    Ratio::between(use_unit, &sku.use_unit)?.convert(quantity)
}
