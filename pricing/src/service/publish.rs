//! Publishes the charges of a tenant's month by compare-and-set: whoever loses reads and rates again, and nobody takes
//! back what is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::counter;
use pulso_domain::position::Rank;
use pulso_domain::window::Window;
use pulso_platform::store::{CompareAndSet, Flush, Flushed, Store, keys};

use super::error::PricingError;
use super::reading::{Hours, month_usage};
use crate::charges::ChargeSet;
use crate::metrics as names;
use crate::rate::{CompiledCatalog, MonthUsage};

/// Attempts at one month before it is tried again later.
const ATTEMPTS_MAX: usize = 20;

/// The published charges of a tenant's month; `None` when there are none.
///
/// # Errors
/// When the store cannot be read or is damaged.
pub fn published(
    store: &dyn Store,
    tenant_id: &str,
    month: Window,
) -> Result<Option<ChargeSet>, PricingError> {
    Ok(published_at(store, tenant_id, month)?.1)
}

fn published_at(
    store: &dyn Store,
    tenant_id: &str,
    month: Window,
) -> Result<(u64, Option<ChargeSet>), PricingError> {
    let Some(cell) = store.get(&[keys::charges(tenant_id, month)])?.pop().flatten() else {
        return Ok((0, None));
    };
    Ok((cell.version, Some(ChargeSet::from_json(&cell.value)?)))
}

/// Month rows, by SKU, unit and region, and how new each must be.
pub(super) type Seen = BTreeMap<(String, String, String), Rank>;

/// What is rated: a tenant's month.
pub(super) struct Rating<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) month: Window,
    /// Everything of the tenant below this rank is then in it.
    pub(super) as_of: Rank,
    /// What the consumer handed over; when it is all that is asked, and no news, nothing is done.
    pub(super) seen: &'a Seen,
}

/// Rates a tenant's month and publishes it. `catalog` gives the newest version known, each time it is asked.
pub(super) fn publish(
    store: &dyn Store,
    catalog: &dyn Fn() -> Result<Arc<CompiledCatalog>, PricingError>,
    rating: &Rating<'_>,
) -> Result<(), PricingError> {
    let Rating { tenant_id, month, as_of, seen } = *rating;
    for _ in 0..ATTEMPTS_MAX {
        let catalog = catalog()?;
        // The published set is read first: a loser of the race then sees rows that are at least as new.
        let (version, held) = published_at(store, tenant_id, month)?;
        if !seen.is_empty() && held.as_ref().is_some_and(|held| is_known(held, seen, &catalog)) {
            return Ok(());
        }
        let usage = month_usage(store, &catalog, (tenant_id, month), Hours::Needed)?;
        check_as_new(&usage, seen)?;
        let as_of = held.as_ref().map_or(as_of, |held| held.as_of.max(as_of));
        let set = ChargeSet::new(&catalog, &usage, as_of);
        if held.as_ref().is_some_and(|held| held.is_of_same_inputs(&set)) {
            return Ok(());
        }
        if held.as_ref().is_none_or(|held| set.supersedes(held)) && offer(store, version, &set)? {
            record(&set);
            return Ok(());
        }
        counter!(names::PUBLICATIONS_LOST).increment(1);
    }
    Err(PricingError::Unsteady { tenant_id: tenant_id.to_owned(), month: month.to_string() })
}

/// Whether a set was made from all that is handed over: a record is taken only with a higher hwm.
fn is_known(held: &ChargeSet, seen: &Seen, catalog: &CompiledCatalog) -> bool {
    let known = |(row, hwm): (_, &Rank)| held.rows.get(row).is_some_and(|known| known >= hwm);
    held.catalog_version >= catalog.version() && seen.iter().all(known)
}

/// The rows that were read must be at least as new as those that the consumer confirmed before it handed them over: a store
/// that shows older ones has lost a quorum, and rating waits.
fn check_as_new(usage: &MonthUsage, seen: &Seen) -> Result<(), PricingError> {
    let mut left = seen.clone();
    for row in &usage.month_rows {
        let name = (row.product_sku.clone(), row.use_unit.clone(), row.region.clone());
        if left.get(&name).is_some_and(|hwm| row.usage.hwm >= *hwm) {
            left.remove(&name);
        }
    }
    match left.into_iter().next() {
        None => Ok(()),
        Some(((product_sku, ..), hwm)) => {
            let (tenant_id, month) = (usage.tenant_id.clone(), usage.month.to_string());
            Err(PricingError::Stale { tenant_id, month, product_sku, hwm })
        }
    }
}

/// Puts a set in the place of the version that was read; false when another was faster.
pub(super) fn offer(store: &dyn Store, expected: u64, set: &ChargeSet) -> Result<bool, PricingError> {
    let change = CompareAndSet {
        key: keys::charges(&set.tenant_id, set.month),
        expected,
        value: set.to_json().into(),
    };
    Ok(store.flush(Flush { sets: vec![change], ..Flush::default() })? == Flushed::Done)
}

fn record(set: &ChargeSet) {
    counter!(names::MONTHS_RATED).increment(1);
    for unpriced in &set.rated.unpriced {
        counter!(names::UNPRICED_ROWS, "reason" => unpriced.reason.as_str()).increment(1);
    }
}
