//! Handing stored usage records over again: rows as they stand, never sums of a slice, so that whoever has them already
//! changes nothing.

use std::collections::BTreeSet;

use pulso_domain::time::Instant;
use pulso_domain::usage::{RowKey, UsageRow, usage_partition_key};
use pulso_domain::window::Window;
use pulso_platform::log::LogLayout;
use pulso_platform::store::{Cell, Range, Store, StoreError, Table, keys};
use pulso_proto::{usage, v1};

use crate::fold::halt::Stop;
use crate::handoff::{Handoff, Handover};
use crate::{generations, lookup};

/// Cells read in one go.
const PAGE_CELLS: usize = 1000;

/// Which records.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Whose; everyone's when `None`.
    pub tenant_id: Option<String>,
    /// Windows that end behind this
    pub from: Instant,
    /// and begin before this.
    pub to: Instant,
}

impl Selection {
    fn takes(&self, window: Window) -> bool {
        window.end() > self.from && window.start() < self.to
    }
}

/// What was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Republished {
    /// Months of tenants.
    pub months: u64,
    /// Usage records.
    pub records: u64,
}

/// Hands every selected record of a log with these generations over again, a tenant's month at a time.
///
/// # Errors
/// When the store cannot be read, or the hand-off does not take them.
pub fn republish(
    store: &dyn Store,
    layouts: &[LogLayout],
    selection: &Selection,
    handoff: &dyn Handoff,
) -> Result<Republished, Stop> {
    let mut done = Republished::default();
    let of_tenant = |tenant: &str| generations::partitions_of_tenant(layouts, tenant);
    let all = || generations::partitions(layouts).collect();
    // A month whose pulses stand in several generations is listed in each, and is the same.
    let mut seen = BTreeSet::new();
    for partition in selection.tenant_id.as_deref().map_or_else(all, of_tenant) {
        // Everything below was handed over before the progress passed it, so this marker says nothing new.
        let through = lookup::folded_through(store, partition)?;
        for (tenant_id, month) in months(store, partition, selection)? {
            if layouts.len() > 1 && !seen.insert((tenant_id.clone(), month)) {
                continue;
            }
            let records = records(store, (&tenant_id, month), selection)?;
            done.months += 1;
            done.records += records.len() as u64;
            handoff.deliver(&Handover { partition, from: through, through, records })?;
        }
    }
    Ok(done)
}

fn months(
    store: &dyn Store,
    partition: u32,
    selection: &Selection,
) -> Result<Vec<(String, Window)>, StoreError> {
    let mut months = Vec::new();
    let mut range = Range::all();
    if let Some(tenant_id) = &selection.tenant_id {
        range = Range::prefix(&[tenant_id.as_bytes(), &[0]].concat());
    }
    each(store, (Table::Tenants, &keys::months_partition(partition)), range, |clustering, _| {
        let month = keys::decode_month_clustering(clustering);
        let month = month.filter(|(_, month)| selection.takes(*month));
        months.extend(month.map(|(tenant_id, month)| (tenant_id.to_owned(), month)));
    })?;
    Ok(months)
}

fn records(
    store: &dyn Store,
    (tenant_id, month): (&str, Window),
    selection: &Selection,
) -> Result<Vec<v1::UsageRecord>, StoreError> {
    let partition = usage_partition_key(tenant_id, month);
    let mut records = Vec::new();
    each(store, (Table::Usage, &partition), Range::all(), |clustering, cell| {
        let named = RowKey::decode(&partition, clustering).zip(UsageRow::decode(&cell.value));
        let named = named.filter(|(key, _)| selection.takes(key.window));
        records.extend(named.map(|(key, row)| usage::record(&key, &row)));
    })?;
    Ok(records)
}

fn each(
    store: &dyn Store,
    (table, partition): (Table, &[u8]),
    mut range: Range,
    mut visit: impl FnMut(&[u8], &Cell),
) -> Result<(), StoreError> {
    loop {
        let page = store.scan(table, partition, &range, PAGE_CELLS)?;
        page.iter().for_each(|(clustering, cell)| visit(clustering, cell));
        let Some((last, _)) = page.last().filter(|_| page.len() == PAGE_CELLS) else { return Ok(()) };
        // The first key behind the last one.
        range.from = [last.as_slice(), &[0]].concat();
    }
}
