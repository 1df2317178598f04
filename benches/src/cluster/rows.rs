//! The usage rows of the store's figures: of each tenant's month, every series in one hour, its day and its month.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use pulso_domain::position::{Position, Rank};
use pulso_domain::quantity::Quantity;
use pulso_domain::time::Instant;
use pulso_domain::usage::{RowKey, UsageRow, usage_partition_key};
use pulso_domain::window::{Level, Window};
use pulso_platform::store::{Cell, Key, Range, Store, Table};

/// Series of one tenant.
const SERIES: u64 = 100;
/// Rows of one series.
const LEVELS: [Level; 3] = [Level::Hour, Level::Day, Level::Month];
/// Rows of one tenant.
pub const TENANT_ROWS: u64 = SERIES * LEVELS.len() as u64;

/// The rows of so many tenants as a flush of this turn writes them: each turn has counted one more pulse into every row.
///
/// # Errors
/// When a number is too large, which none is.
pub fn rows(side: &str, tenants: u64, turn: u64) -> anyhow::Result<Vec<(Key, Cell)>> {
    let at = Instant::new(1_700_000_000, 0).context("an instant")?;
    let position = Position::new(Rank::from_u64((1 << 40) + turn), 0);
    let mut row = UsageRow::first(Quantity::parse(b"1.5")?, at, position);
    (1..turn).for_each(|_| row.add(Quantity::parse(b"1.5").expect("it was good before"), at, position));
    let cell = Cell { version: row.hwm.as_u64(), value: row.encode().to_vec().into() };
    let mut rows = Vec::new();
    for tenant in 0..tenants {
        let tenant_id = tenant_id(side, tenant);
        for series in 0..SERIES {
            let product_sku = format!("compute-vm-{:02}", series / 4);
            let region = format!("br-se{}", series % 4);
            for level in LEVELS {
                let window = Window::containing(level, at);
                let (use_unit, region) = ("GiB-Hours", region.as_str());
                let key =
                    RowKey { tenant_id: &tenant_id, window, product_sku: &product_sku, use_unit, region };
                rows.push((Key::new(Table::Usage, key.partition_key(), key.clustering_key()), cell.clone()));
            }
        }
    }
    Ok(rows)
}

fn tenant_id(side: &str, tenant: u64) -> String {
    format!("bench-{side}-{tenant:05}")
}

/// Insists that the store has every row as the last turn wrote it.
///
/// # Errors
/// When one is missing or is another.
pub fn verify(store: &Arc<dyn Store>, side: &str, tenants: u64, turn: u64) -> anyhow::Result<()> {
    let wanted = rows(side, 1, turn)?.pop().context("a row")?.1;
    let month = Window::containing(Level::Month, Instant::new(1_700_000_000, 0).context("an instant")?);
    let mut found = 0;
    for tenant in 0..tenants {
        let partition = usage_partition_key(&tenant_id(side, tenant), month);
        let cells = store.scan(Table::Usage, &partition, &Range::all(), usize::MAX)?;
        found += cells.len() as u64;
        ensure!(
            cells.iter().all(|(_, cell)| *cell == wanted),
            "a row of {side} is not what was written last"
        );
    }
    ensure!(found == tenants * TENANT_ROWS, "{found} rows of {side}, not {}", tenants * TENANT_ROWS);
    Ok(())
}
