//! Rating: a tenant's usage of a month under one catalog version becomes charges. Pure: no I/O, no clock, no order of
//! arrival; the same rows and catalog give the same charges, byte for byte (G7).
//!
//! A charge has one unit price: a graduated price is split at its tier borders, in order of time, then region, then unit.
//! Quantities of other units are converted to the SKU's, exactly or not at all, and a charge's `use_unit` is the unit of
//! its quantity and price. What has no price is not a charge but an [`Unpriced`], never billed at zero.

mod lines;
mod pieces;
mod tables;
mod tiers;
mod units;

use std::collections::BTreeSet;
use std::ops::Range;

use pulso_domain::money::Money;
use pulso_domain::price::UnitPrice;
use pulso_domain::quantity::QuantitySum;
use pulso_domain::time::Instant;
use pulso_domain::usage::{RowKey, UsageRow};
use pulso_domain::window::{Level, Window};
use serde::{Deserialize, Serialize};

pub use tables::CompiledCatalog;
pub use units::Ratio;

use pieces::Piece;

/// One usage row with its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedRow {
    /// The bucket: the month or one of its hours.
    pub window: Window,
    /// Of what.
    pub product_sku: String,
    /// The pulses' own unit.
    pub use_unit: String,
    /// Where; empty when not given.
    pub region: String,
    /// How much.
    pub usage: UsageRow,
}

impl UsedRow {
    /// A row under its key.
    #[must_use]
    pub fn new(key: &RowKey<'_>, usage: UsageRow) -> Self {
        Self {
            window: key.window,
            product_sku: key.product_sku.to_owned(),
            use_unit: key.use_unit.to_owned(),
            region: key.region.to_owned(),
            usage,
        }
    }
}

/// What one tenant used in one month.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MonthUsage {
    /// Who.
    pub tenant_id: String,
    /// When.
    pub month: Window,
    /// All rows of the month's own level.
    pub month_rows: Vec<UsedRow>,
    /// The hour rows, at least of the SKUs that [`CompiledCatalog::hours_needed`] names.
    pub hour_rows: Vec<UsedRow>,
}

/// The quantity of one SKU, region and tier in one window, with what it costs. Nothing is rounded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// Of what.
    pub product_sku: String,
    /// The unit of the quantity and the prices: the SKU's.
    pub use_unit: String,
    /// Where; empty when not given.
    pub region: String,
    /// When.
    pub window: Window,
    /// The tier of the price that bills, from 1; none for a flat price.
    pub tier: Option<u32>,
    /// The quantity behind which that tier begins; none for a flat price.
    pub tier_begin: Option<QuantitySum>,
    /// How much.
    pub quantity: QuantitySum,
    /// The currency of all amounts.
    pub currency: String,
    /// What the rate card says (the override, where the rate card has no entry).
    pub list_unit_price: UnitPrice,
    /// What the tenant agreed: override and discounts.
    pub contracted_unit_price: Money,
    /// `quantity * list_unit_price`.
    pub list_cost: Money,
    /// `quantity * contracted_unit_price`.
    pub contracted_cost: Money,
    /// After commitments, of which there are none: the contracted cost.
    pub effective_cost: Money,
    /// After allowances and credits, of which there are none: the contracted cost.
    pub billed_cost: Money,
    /// The entry that gave the price that bills: `card@valid_from`, `card/region@valid_from`, or
    /// `contract:tenant@valid_from` for an override. It names the entry, not its content: that is the catalog version's.
    pub price_version: String,
    /// The rate card's entry, which gave the list price; the override where there is none.
    pub list_price_version: String,
    /// The tier of the list price; none for a flat one.
    pub list_tier: Option<u32>,
    /// The contract in force, `contract:tenant@valid_from`.
    pub contract_version: Option<String>,
}

/// Why usage has no price.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnpricedReason {
    /// The catalog does not know the SKU.
    UnknownSku,
    /// The tenant has no contract at that time and no rate card is the default.
    NoRateCard,
    /// Neither the rate card nor the contract has a price at that time.
    NoPrice,
    /// The pulses' unit does not convert exactly to the SKU's.
    UnitMismatch,
    /// The cost does not fit the money type.
    Overflow,
}

impl UnpricedReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::UnknownSku, Self::NoRateCard, Self::NoPrice, Self::UnitMismatch, Self::Overflow];

    /// The stable code of API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSku => "UNKNOWN_SKU",
            Self::NoRateCard => "NO_RATE_CARD",
            Self::NoPrice => "NO_PRICE",
            Self::UnitMismatch => "UNIT_MISMATCH",
            Self::Overflow => "OVERFLOW",
        }
    }
}

/// Usage without a price: shown, counted, never billed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unpriced {
    /// Of what.
    pub product_sku: String,
    /// The pulses' own unit (the SKU's for `OVERFLOW`).
    pub use_unit: String,
    /// Where; empty when not given.
    pub region: String,
    /// How much of that unit.
    pub quantity: QuantitySum,
    /// Why.
    pub reason: UnpricedReason,
}

/// What rating gives: every quantity is in one of the two.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rated {
    /// By SKU, unit, region, window, price version, then tier.
    pub charges: Vec<Charge>,
    /// By SKU, unit, region, then reason.
    pub unpriced: Vec<Unpriced>,
}

/// One pulse as rating sees it, for explaining a charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PulseUse {
    /// The hour it occurred in.
    pub hour: Window,
    /// The pulse's own unit.
    pub use_unit: String,
    /// Where; empty when not given.
    pub region: String,
    /// How much.
    pub quantity: QuantitySum,
}

impl CompiledCatalog {
    /// The SKUs of which a month can only be rated from its hours: their price changes within the month, or their tiers
    /// are shared by several rows, so that the order of time decides.
    #[must_use]
    pub fn hours_needed(&self, tenant_id: &str, month: Window, month_rows: &[UsedRow]) -> BTreeSet<String> {
        let skus = pieces::by_sku(month_rows).into_iter();
        let needed = skus.filter(|(_, rows)| pieces::needs_hours(self, tenant_id, month, rows));
        needed.map(|(product_sku, _)| product_sku.to_owned()).collect()
    }
}

/// Rates a tenant's month.
#[must_use]
pub fn rate(catalog: &CompiledCatalog, usage: &MonthUsage) -> Rated {
    let needed = catalog.hours_needed(&usage.tenant_id, usage.month, &usage.month_rows);
    let hour_rows = pieces::by_sku(&usage.hour_rows);
    let mut lines = lines::Lines::default();
    for (product_sku, rows) in pieces::by_sku(&usage.month_rows) {
        let Some(sku) = catalog.sku(product_sku) else {
            rows.iter().for_each(|row| lines.leave(row, row.usage.sum, UnpricedReason::UnknownSku));
            continue;
        };
        let hours =
            needed.contains(product_sku).then(|| hour_rows.get(product_sku).map_or(&[][..], Vec::as_slice));
        let pieces = pieces::of_month(catalog, usage, (sku, &rows, hours), &mut lines);
        lines.price(catalog, &usage.tenant_id, sku, &pieces);
    }
    lines.finish()
}

/// Rates the windows of one month that begin within a range. `usage` must hold all hour rows of the month, since tiers
/// run through it: the windows of a whole month add up to [`rate`] of it. Quantities that are no sums have no hours and days.
#[must_use]
pub fn rate_windows(
    catalog: &CompiledCatalog,
    usage: &MonthUsage,
    granularity: Level,
    range: &Range<Instant>,
) -> Rated {
    let inside = |window: Window| window.start() >= range.start && window.start() < range.end;
    if granularity == Level::Month {
        return if inside(usage.month) { rate(catalog, usage) } else { Rated::default() };
    }
    let mut lines = lines::Lines::default();
    for (product_sku, rows) in pieces::by_sku(&usage.hour_rows) {
        let shown = |row: &&&UsedRow| inside(row.window.widen(granularity));
        let Some(sku) = catalog.sku(product_sku) else {
            let shown = rows.iter().filter(shown);
            shown.for_each(|row| lines.leave(row, row.usage.sum, UnpricedReason::UnknownSku));
            continue;
        };
        if sku.aggregation.is_additive() {
            let mut pieces = pieces::of_hours(sku, &rows, &mut lines, &inside, granularity);
            pieces.iter_mut().for_each(|piece| piece.shown = inside(piece.window));
            lines.price(catalog, &usage.tenant_id, sku, &pieces);
        }
    }
    lines.finish()
}

/// Splits pulses of one SKU over its charges, in the order given, which must be that of the hours, then region, unit and
/// position. Answers for each part of a pulse its index and the part as a charge of its hour; all pulses of a month together add up to
/// [`rate`] of it. A pulse without a price has no part.
#[must_use]
pub fn trace(
    catalog: &CompiledCatalog,
    tenant_id: &str,
    product_sku: &str,
    pulses: &[PulseUse],
) -> Vec<(usize, Charge)> {
    let Some(sku) = catalog.sku(product_sku) else { return Vec::new() };
    let mut parts = Vec::new();
    let mut counters = tiers::Counters::default();
    for (index, pulse) in pulses.iter().enumerate() {
        let Some(piece) = Piece::of_pulse(sku, pulse) else { continue };
        let mut lines = lines::Lines::default();
        lines.price_on(catalog, tenant_id, (sku, std::slice::from_ref(&piece)), &mut counters);
        parts.extend(lines.finish().charges.into_iter().map(|charge| (index, charge)));
    }
    parts
}
