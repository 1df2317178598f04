//! What the demo tells: each step on stderr, and the summary that proves the charges.

use std::collections::BTreeMap;
use std::path::Path;

use pulso_domain::window::Window;
use serde_json::{Value, json};

use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::dev::server::Addresses;
use crate::import::exact::Exact;
use crate::import::transfer::Imported;

/// The bill in one month.
pub(super) struct Period {
    pub(super) month: Window,
    pub(super) imported: Imported,
}

/// What the demo did.
pub(super) struct Summary {
    pub(super) periods: Vec<Period>,
}

const COLUMNS: [&str; 9] = [
    "period",
    "pulses",
    "disagreeing_rows",
    "currency",
    "file",
    "product",
    "pulso",
    "difference",
    "difference_to_file",
];

impl Summary {
    /// Whether Pulso charges just what quantity x price is, and what the file itself says where its arithmetic holds.
    pub(super) fn is_exact(&self) -> bool {
        let costs = || self.periods.iter().flat_map(|period| &period.imported.costs);
        let complete = self.periods.iter().all(|period| period.imported.rejected.is_empty());
        let zero = costs().all(|cost| cost.difference.is_zero() && cost.difference_to_file.is_zero());
        complete && zero && costs().next().is_some()
    }

    /// The tenant with the largest bill; the first by name among equals.
    pub(super) fn largest_tenant(&self) -> Option<String> {
        let mut sums: BTreeMap<&str, Exact> = BTreeMap::new();
        for (key, group) in self.periods.iter().flat_map(|period| &period.imported.bill.groups) {
            let sum = sums.entry(&key.tenant_id).or_default();
            *sum = sum.plus(group.product)?;
        }
        let largest = sums.values().max().copied()?;
        sums.into_iter().find(|(_, sum)| *sum == largest).map(|(tenant_id, _)| tenant_id.to_owned())
    }

    fn rows(&self) -> Vec<Value> {
        let row = |period: &Period| {
            let bill = &period.imported.bill;
            let (month, pulses) = (period.month.to_string(), bill.pulses());
            let costs = period.imported.costs.iter().map(move |cost| {
                let mut row = cost.to_json();
                row["period"] = json!(month);
                row["pulses"] = json!(pulses);
                row["disagreeing_rows"] = json!(bill.disagreeing_rows());
                row["difference_to_file"] = json!(cost.difference_to_file.to_string());
                row
            });
            costs.collect::<Vec<_>>()
        };
        self.periods.iter().flat_map(row).collect()
    }

    /// Prints the summary on stdout.
    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        let rows = self.rows();
        let document = json!({
            "periods": self.periods.iter().map(|period| period.month.to_string()).collect::<Vec<_>>(),
            "tenants": self.periods.first().map_or(0, |period| period.imported.bill.tenants.len()),
            "pulses": self.periods.iter().map(|period| period.imported.bill.pulses()).sum::<u64>(),
            "costs": rows,
        });
        output::rows(format, &document, &rows, &COLUMNS)
    }
}

/// The server is up.
pub(super) fn begin(data_dir: &Path, addresses: Addresses) {
    output::note(format!(
        "Pulso is up: every role in one process, on {}\n  gRPC     {}\n  REST     http://{}/docs\n  metrics  http://{}/metrics\n\
         Loading the sample bill (FOCUS 1.0, FinOps Foundation, CC BY 4.0) over the same interface that you have:",
        data_dir.display(),
        addresses.ingest,
        addresses.api,
        addresses.admin,
    ));
}

/// A month is loaded and compared.
pub(super) fn loaded(period: &Period) {
    let (bill, month) = (&period.imported.bill, period.month);
    output::note(format!(
        "  {month}: {} pulses of {} tenants and {} SKUs",
        bill.pulses(),
        bill.tenants.len(),
        bill.skus.len()
    ));
    for (skip, rows) in &bill.skipped {
        output::note(format!("    {rows} rows of the file left out: {}", skip.code()));
    }
    for (reason, rows) in &period.imported.rejected {
        output::note(format!("    {rows} pulses refused: {reason}"));
    }
    for cost in &period.imported.costs {
        let (currency, pulso, difference) = (&cost.currency, cost.pulso, cost.difference);
        output::note(format!("    charged {currency} {pulso}, difference to quantity x price: {difference}"));
        output::note(format!(
            "    difference to the file's own cost: {} (without {} rows whose cost in the file is not quantity x price)",
            cost.difference_to_file,
            bill.disagreeing_rows()
        ));
    }
}

/// What to do next.
pub(super) fn end(summary: &Summary, addresses: Addresses, exits: bool) {
    let verdict =
        if summary.is_exact() { "Every charge is exact." } else { "The charges differ; this is a fault." };
    output::note(verdict);
    if exits {
        return;
    }
    let api = addresses.api;
    let tenant = summary.largest_tenant().unwrap_or_default();
    let period = summary.periods.first().map_or_else(String::new, |period| period.month.to_string());
    output::note(format!(
        "Look around at http://{api}/ or in another terminal:\n  pulso tenants --api {api}\n  pulso charges {tenant} --period {period} --api {api}\n  \
         pulso invoice {tenant} --api {api}\nCtrl-C stops it."
    ));
}
