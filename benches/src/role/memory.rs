//! What keys and ids take in RAM: the fold's own structures, filled, and the process's resident memory before and after.

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;
use pulso_domain::usage::UsageRow;
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_ingestor_consumer::fold::ids::filter::Filter;
use pulso_ingestor_consumer::fold::ids::list::{ListedRun, RunIndex};
use pulso_ingestor_consumer::fold::ids::open::IdTimes;
use pulso_ingestor_consumer::fold::rows::{RowTable, SeriesKey};
use serde::{Deserialize, Serialize};

use crate::child::say;
use crate::cpu;

/// Ids of one filter: a range of 128 records of 1,000 pulses.
const FILTER_IDS: u64 = 128_000;

/// Arguments of [`hold_keys`].
#[derive(clap::Args, Debug)]
pub struct KeysArgs {
    /// Series (tenant, SKU, unit, region).
    #[arg(long)]
    pub series: u64,
    /// Hours of each series.
    #[arg(long)]
    pub hours: i64,
}

/// Arguments of [`hold_ids`].
#[derive(clap::Args, Debug)]
pub struct IdsArgs {
    /// Ids in closed runs.
    #[arg(long)]
    pub ids: u64,
}

/// What was held.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Held {
    /// Rows or ids.
    pub things: u64,
    /// By how much the process's resident memory grew.
    pub resident_bytes: u64,
    /// What the structures say of themselves.
    pub counted_bytes: u64,
}

/// Counts one pulse into each hour of each series and says what that took.
///
/// # Errors
/// When the kernel does not tell the resident memory.
pub fn hold_keys(args: &KeysArgs) -> anyhow::Result<()> {
    let before = cpu::resident_bytes()?;
    let mut table = RowTable::new(HashKey::new([7; 16]));
    let mut unknown = Vec::new();
    let first = 1_700_006_400; // The start of a day, so that all hours of a series share it.
    let rank = Rank::new(1, 0).ok_or_else(|| anyhow::anyhow!("a rank"))?;
    for series in 0..args.series {
        let (tenant, sku) =
            (format!("tenant-{:06}", series / 100), format!("compute-vm-{:02}", series / 4 % 25));
        let region = ["br-ne1", "br-se1", "br-mgl1", "us-east1"][(series % 4) as usize];
        let key = SeriesKey { tenant_id: &tenant, product_sku: &sku, use_unit: "GiB-Hours", region };
        let series = table.series(key);
        for hour in 0..args.hours {
            let at = Instant::new(first + hour * 3600, 0).ok_or_else(|| anyhow::anyhow!("a time"))?;
            let slot = table.hour_slot(series, at, &mut unknown);
            unknown.drain(..).for_each(|slot| table.supply(slot, None));
            let amount = Quantity::from_steps(1_500_000_000_000_000);
            table.count(slot, &UsageRow::first(amount, at, Position::new(rank, 0)));
        }
    }
    // As the shell does it: what is dirty is flushed and confirmed.
    let flushed = table.take_dirty();
    table.confirm(&flushed);
    drop((flushed, unknown));
    let resident_bytes = cpu::resident_bytes()?.saturating_sub(before);
    say(&Held { things: table.len() as u64, resident_bytes, counted_bytes: table.bytes() as u64 })
}

/// Builds the filters of closed runs and says what they take.
///
/// # Errors
/// When the kernel does not tell the resident memory.
pub fn hold_ids(args: &IdsArgs) -> anyhow::Result<()> {
    let before = cpu::resident_bytes()?;
    let hash_key = HashKey::new([7; 16]);
    let mut index = RunIndex::default();
    for run in 0..args.ids / FILTER_IDS {
        let ids = (0..FILTER_IDS).map(|id| hash_key.id_hash("acme", &(run * FILTER_IDS + id).to_string()));
        let mut ids: Vec<_> = ids.collect();
        ids.sort_unstable();
        let filter = Filter::build(ids.into_iter());
        index.runs.push(ListedRun {
            start: Rank::from_u64(run * RunShape::FORMAT.span(0)),
            level: 0,
            entries: FILTER_IDS,
            times: IdTimes { range: None, others: true },
            appended_at_max_nanos: 0,
            filters: vec![filter],
        });
    }
    let resident_bytes = cpu::resident_bytes()?.saturating_sub(before);
    let (counted, things) = index.filter_bytes();
    say(&Held { things, resident_bytes, counted_bytes: counted as u64 })
}
