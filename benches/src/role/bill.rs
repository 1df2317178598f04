//! The bill of one tenant's month, read from the store and rated, again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use pulso_domain::fingerprint::HashKey;
use pulso_domain::usage::{RowKey, UsageRow, usage_clustering_prefix, usage_partition_key};
use pulso_domain::window::{Level, Window};
use pulso_platform::log::Log;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::{Range, Store, Table, identity};
use pulso_pricing::catalog::{Format, parse};
use pulso_pricing::rate::{CompiledCatalog, MonthUsage, UsedRow, rate};
use serde::{Deserialize, Serialize};

use super::consume::{Folding, month_totals};
use crate::child::say;
use crate::mix::Totals;
use crate::records;

/// Bills whose median is taken.
const BILLS: usize = 2000;
/// A tenant that every mix has.
const TENANT: &str = "tenant-000000";

/// Arguments of [`bill`].
#[derive(clap::Args, Debug)]
pub struct BillArgs {
    /// The folder of the log.
    #[arg(long)]
    pub log: PathBuf,
    /// The folder of the store.
    #[arg(long)]
    pub store: PathBuf,
}

/// What a bill took.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Billed {
    /// The median of a bill, in nanoseconds.
    pub p50_nanos: u64,
    /// Its charges.
    pub charges: usize,
    /// What all months add up to.
    pub totals: Totals,
}

/// Folds a log into a new store, then makes the same bill many times and says how long one takes.
///
/// # Errors
/// When it cannot be folded, or usage has no price.
pub fn bill(args: &BillArgs) -> anyhow::Result<()> {
    let log = records::open(&args.log)? as Arc<dyn Log>;
    let store = Arc::new(EmbeddedStore::open(&args.store, EmbeddedOptions::default())?);
    let hash_key = HashKey::new(identity::hash_key(&*store)?);
    let folding = Folding::start(&log, Arc::clone(&store) as Arc<dyn Store>, hash_key);
    folding.drain(&*log, &*store)?;
    folding.stop()?;
    let catalog = catalog()?;
    let month = Window::containing(Level::Month, first_time()?);
    let mut took = Histogram::<u64>::new(3)?;
    let mut charges = 0;
    for _ in 0..BILLS {
        let begun = Instant::now();
        let rated = rate(&catalog, &usage(&*store, month)?);
        took.record(u64::try_from(begun.elapsed().as_nanos())?)?;
        ensure!(rated.unpriced.is_empty(), "usage without a price");
        charges = rated.charges.len();
    }
    ensure!(charges > 0, "a bill without charges");
    let totals = month_totals(&*store, &*log)?;
    say(&Billed { p50_nanos: took.value_at_quantile(0.5), charges, totals })
}

fn first_time() -> anyhow::Result<pulso_domain::time::Instant> {
    pulso_domain::time::Instant::new(records::base_seconds(), 0).context("a time")
}

/// A flat price for each SKU of the mixes.
fn catalog() -> anyhow::Result<CompiledCatalog> {
    let mut text = String::from("skus:\n");
    for sku in 0..25 {
        text += &format!(
            "  - {{ product_sku: compute-vm-{sku:02}, name: VM, service_name: Compute, service_category: Compute, use_unit: GiB-Hours, aggregation: sum }}\n"
        );
    }
    text += "rate_cards:\n  - name: public\n    currency: BRL\n    default: true\n    prices:\n";
    for sku in 0..25 {
        text += &format!(
            "      - {{ product_sku: compute-vm-{sku:02}, valid_from: 2020-01-01T00:00:00Z, model: {{ type: flat, unit_price: \"0.000812\" }} }}\n"
        );
    }
    let parsed = parse(text.as_bytes(), Format::Yaml).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(CompiledCatalog::new(1, parsed.document))
}

fn usage(store: &dyn Store, month: Window) -> anyhow::Result<MonthUsage> {
    let partition = usage_partition_key(TENANT, month);
    let range = Range::prefix(&usage_clustering_prefix(month));
    let mut month_rows = Vec::new();
    for (key, cell) in store.scan(Table::Usage, &partition, &range, usize::MAX)? {
        let key = RowKey::decode(&partition, &key).context("a row's key")?;
        month_rows.push(UsedRow::new(&key, UsageRow::decode(&cell.value).context("a row")?));
    }
    Ok(MonthUsage { tenant_id: TENANT.to_owned(), month, month_rows, hour_rows: Vec::new() })
}
