//! What replays would change, before anything happens: the rows of usage they would add to, and the money of each tenant's
//! month before and after, by the same pure `rate` that bills.

use std::collections::BTreeMap;

use pulso_domain::money::Money;
use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::QuantitySum;
use pulso_domain::usage::UsageRow;
use pulso_domain::window::{Level, Window};
use pulso_ingestor_consumer::desk::Accepted;
use pulso_pricing::charges::totals;
use pulso_pricing::rate::{CompiledCatalog, MonthUsage, Rated, Unpriced, UsedRow, rate};
use pulso_pricing::service::{Hours, month_usage};

use super::sources::Sources;
use crate::problem::Problem;

/// What would be added to one row of usage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UsageChange {
    /// The row: tenant, month, SKU, unit, region.
    pub(crate) row: MonthRow,
    /// How much more.
    pub(crate) quantity: QuantitySum,
    /// How many pulses more.
    pub(crate) count: u64,
}

/// Names a row of a tenant's month.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct MonthRow {
    /// Whose.
    pub(crate) tenant_id: String,
    /// When.
    pub(crate) month: Window,
    /// Of what.
    pub(crate) product_sku: String,
    /// In which unit.
    pub(crate) use_unit: String,
    /// Where; empty when not given.
    pub(crate) region: String,
}

/// The billed cost of a tenant's month in one currency, unrounded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MoneyChange {
    /// Whose.
    pub(crate) tenant_id: String,
    /// When.
    pub(crate) month: Window,
    /// In which currency.
    pub(crate) currency: String,
    /// As it is.
    pub(crate) before: Money,
    /// As it would be.
    pub(crate) after: Money,
    /// What would be added.
    pub(crate) difference: Money,
}

/// Usage that would be there without a price.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UnpricedChange {
    /// Whose.
    pub(crate) tenant_id: String,
    /// When.
    pub(crate) month: Window,
    /// Of what, how much more, and why.
    pub(crate) more: Unpriced,
}

/// The change in money.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct MoneyChanges {
    /// By tenant, month, currency.
    pub(crate) money: Vec<MoneyChange>,
    /// By tenant, month, SKU, unit, region, reason.
    pub(crate) unpriced: Vec<UnpricedChange>,
}

/// The pulses that would be counted, added up by row and hour.
#[derive(Default)]
pub(crate) struct Additions {
    hours: BTreeMap<(MonthRow, Window), UsageRow>,
    pulses: u32,
}

impl Additions {
    /// Adds a pulse that would be counted.
    pub(crate) fn add(&mut self, pulse: &Accepted) {
        let hour = Window::containing(Level::Hour, pulse.occurred_at);
        let row = MonthRow {
            tenant_id: pulse.tenant_id.clone(),
            month: hour.widen(Level::Month),
            product_sku: pulse.product_sku.clone(),
            use_unit: pulse.use_unit.clone(),
            region: pulse.region.clone(),
        };
        // Behind everything that is counted: a replay stands at the end of the log.
        let position = Position::new(Rank::from_u64(u64::MAX >> 1), self.pulses);
        self.pulses += 1;
        let (amount, at) = (pulse.used_amount, pulse.occurred_at);
        self.hours
            .entry((row, hour))
            .and_modify(|held| held.add(amount, at, position))
            .or_insert_with(|| UsageRow::first(amount, at, position));
    }

    /// What would be added to each row.
    pub(crate) fn usage(&self) -> Vec<UsageChange> {
        let mut changes: Vec<UsageChange> = Vec::new();
        for ((row, _), added) in &self.hours {
            if let Some(change) = changes.last_mut().filter(|change| change.row == *row) {
                change.quantity.add_sum(added.sum);
                change.count += added.count;
            } else {
                changes.push(UsageChange { row: row.clone(), quantity: added.sum, count: added.count });
            }
        }
        changes
    }

    /// What that changes in money, under the catalog in force.
    pub(crate) fn money(&self, sources: &Sources) -> Result<MoneyChanges, Problem> {
        let catalog = sources.pricing.catalog();
        let mut changes = MoneyChanges::default();
        let mut months: Vec<(&str, Window)> =
            self.hours.keys().map(|(row, _)| (row.tenant_id.as_str(), row.month)).collect();
        months.dedup();
        for (tenant_id, month) in months {
            let usage = month_usage(&*sources.store, &catalog, (tenant_id, month), Hours::All)?;
            self.month_money(&catalog, usage, &mut changes)?;
        }
        Ok(changes)
    }

    fn month_money(
        &self,
        catalog: &CompiledCatalog,
        usage: MonthUsage,
        changes: &mut MoneyChanges,
    ) -> Result<(), Problem> {
        let (tenant_id, month) = (usage.tenant_id.clone(), usage.month);
        let before = rate(catalog, &usage);
        let after = rate(catalog, &self.added_to(usage));
        let overflow = |error| Problem::internal(&error);
        let mut costs: BTreeMap<String, [Money; 2]> = BTreeMap::new();
        for (place, rated) in [&before, &after].into_iter().enumerate() {
            for total in totals(&rated.charges).map_err(overflow)? {
                costs.entry(total.currency).or_default()[place] = total.billed_cost;
            }
        }
        for (currency, [before, after]) in costs {
            let difference = after.checked_sub(before).map_err(overflow)?;
            let tenant_id = tenant_id.clone();
            changes.money.push(MoneyChange { tenant_id, month, currency, before, after, difference });
        }
        let more = unpriced_more(before, after).into_iter();
        changes.unpriced.extend(more.map(|more| UnpricedChange {
            tenant_id: tenant_id.clone(),
            month,
            more,
        }));
        Ok(())
    }

    fn added_to(&self, mut usage: MonthUsage) -> MonthUsage {
        let own =
            |(row, _): &&(MonthRow, Window)| row.tenant_id == usage.tenant_id && row.month == usage.month;
        let keys: Vec<_> = self.hours.keys().filter(own).collect();
        for key in keys {
            let added = &self.hours[key];
            add(&mut usage.month_rows, (usage.month, &key.0), added);
            add(&mut usage.hour_rows, (key.1, &key.0), added);
        }
        // As the store has them: tiers run in this order.
        for rows in [&mut usage.month_rows, &mut usage.hour_rows] {
            let place = |row: &UsedRow| {
                (row.window.index(), row.product_sku.clone(), row.use_unit.clone(), row.region.clone())
            };
            rows.sort_by_cached_key(place);
        }
        usage
    }
}

fn add(rows: &mut Vec<UsedRow>, (window, name): (Window, &MonthRow), added: &UsageRow) {
    let own = |row: &&mut UsedRow| {
        row.window == window
            && row.product_sku == name.product_sku
            && row.use_unit == name.use_unit
            && row.region == name.region
    };
    match rows.iter_mut().find(own) {
        Some(row) => row.usage.merge(added),
        None => rows.push(UsedRow {
            window,
            product_sku: name.product_sku.clone(),
            use_unit: name.use_unit.clone(),
            region: name.region.clone(),
            usage: *added,
        }),
    }
}

/// What has no price after and had not before, or less of it.
fn unpriced_more(before: Rated, after: Rated) -> Vec<Unpriced> {
    let name =
        |one: &Unpriced| (one.product_sku.clone(), one.use_unit.clone(), one.region.clone(), one.reason);
    let held: BTreeMap<_, _> = before.unpriced.iter().map(|one| (name(one), one.quantity)).collect();
    let more = after.unpriced.into_iter().filter_map(|one| {
        let before = held.get(&name(&one)).map_or_else(Default::default, |held| held.steps());
        let quantity = QuantitySum::from_steps(one.quantity.steps().checked_sub(before)?)?;
        (!quantity.is_zero()).then_some(Unpriced { quantity, ..one })
    });
    more.collect()
}
