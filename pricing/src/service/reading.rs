//! Reads what rating needs from the store: usage rows of a month, and which tenant-months exist.

use std::collections::{BTreeMap, BTreeSet};

use pulso_domain::position::Rank;
use pulso_domain::quantity::QuantitySum;
use pulso_domain::usage::{RowKey, UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_domain::window::{Level, Window};
use pulso_platform::store::{Cell, Range, Store, StoreError, Table, keys};

use super::error::PricingError;
use crate::rate::{CompiledCatalog, MonthUsage, UsedRow};

/// Cells read in one go.
const PAGE_CELLS: usize = 1000;
/// Readings of one month before giving up for now: a flush that is seen half done is over at the next one.
const READINGS_MAX: usize = 20;

/// Which hours to read with a month.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hours {
    /// Those that rating the month needs.
    Needed,
    /// All.
    All,
}

/// The usage of a tenant's month, with hours that add up to the month's rows.
///
/// # Errors
/// When the store cannot be read, is damaged, or is written without end.
pub fn month_usage(
    store: &dyn Store,
    catalog: &CompiledCatalog,
    (tenant_id, month): (&str, Window),
    hours: Hours,
) -> Result<MonthUsage, PricingError> {
    for _ in 0..READINGS_MAX {
        let month_rows = rows(store, tenant_id, month, &usage_clustering_prefix(month))?;
        let needed = catalog.hours_needed(tenant_id, month, &month_rows);
        let hour_rows = if hours == Hours::Needed && needed.is_empty() {
            Vec::new()
        } else {
            rows(store, tenant_id, month, &[Level::Hour as u8])?
        };
        let wanted = |product_sku: &str| hours == Hours::All || needed.contains(product_sku);
        let mut usage = MonthUsage { tenant_id: tenant_id.to_owned(), month, month_rows, hour_rows };
        usage.hour_rows.retain(|row| wanted(&row.product_sku));
        if adds_up(&usage, wanted) {
            return Ok(usage);
        }
    }
    Err(PricingError::Unsteady { tenant_id: tenant_id.to_owned(), month: month.to_string() })
}

/// Whether the hours of each wanted month row hold the same pulses as the row.
fn adds_up(usage: &MonthUsage, wanted: impl Fn(&str) -> bool) -> bool {
    let mut sums: BTreeMap<(&str, &str, &str), (QuantitySum, u64)> = BTreeMap::new();
    for row in &usage.hour_rows {
        let sum = sums.entry((&row.product_sku, &row.use_unit, &row.region)).or_default();
        sum.0.add_sum(row.usage.sum);
        sum.1 += row.usage.count;
    }
    for row in usage.month_rows.iter().filter(|row| wanted(&row.product_sku)) {
        let key = (row.product_sku.as_str(), row.use_unit.as_str(), row.region.as_str());
        if sums.remove(&key) != Some((row.usage.sum, row.usage.count)) {
            return false;
        }
    }
    sums.is_empty()
}

fn rows(
    store: &dyn Store,
    tenant_id: &str,
    month: Window,
    prefix: &[u8],
) -> Result<Vec<UsedRow>, PricingError> {
    let partition = usage_partition_key(tenant_id, month);
    let mut rows = Vec::new();
    each(store, Table::Usage, &partition, Range::prefix(prefix), |clustering, cell| {
        let key = RowKey::decode(&partition, clustering);
        let usage = UsageRow::decode(&cell.value);
        let (Some(key), Some(usage)) = (key, usage) else {
            let place = format!("usage of {tenant_id} in {month}");
            return Err(PricingError::Damaged { place, detail: "a row cannot be read".to_owned() });
        };
        rows.push(UsedRow::new(&key, usage));
        Ok(())
    })?;
    Ok(rows)
}

/// The tenant-months of a partition that were touched at `from` or later.
pub(super) fn months(
    store: &dyn Store,
    partition: u32,
    from: Rank,
) -> Result<BTreeSet<(String, Window)>, PricingError> {
    let mut months = BTreeSet::new();
    each(store, Table::Tenants, &keys::months_partition(partition), Range::all(), |clustering, cell| {
        let Some((tenant_id, month)) = keys::decode_month_clustering(clustering) else {
            let place = format!("months of partition {partition}");
            return Err(PricingError::Damaged { place, detail: "a key cannot be read".to_owned() });
        };
        if cell.version >= from.as_u64() {
            months.insert((tenant_id.to_owned(), month));
        }
        Ok(())
    })?;
    Ok(months)
}

fn each(
    store: &dyn Store,
    table: Table,
    partition: &[u8],
    mut range: Range,
    mut take: impl FnMut(&[u8], &Cell) -> Result<(), PricingError>,
) -> Result<(), PricingError> {
    loop {
        let page = scan(store, table, partition, &range)?;
        for (clustering, cell) in &page {
            take(clustering, cell)?;
        }
        let Some((last, _)) = page.last().filter(|_| page.len() == PAGE_CELLS) else { return Ok(()) };
        // The first key behind the last one.
        range.from = [last.as_slice(), &[0]].concat();
    }
}

fn scan(
    store: &dyn Store,
    table: Table,
    partition: &[u8],
    range: &Range,
) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
    store.scan(table, partition, range, PAGE_CELLS)
}
