//! `pulso charges`: what a tenant's usage costs, before rounding.

use serde_json::Value;

use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::client::rest::{ListOf, Query, Rest, entries};
use crate::read::{Waiting, add, tenant_path};

/// Flags of `pulso charges`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  pulso charges acme
  pulso charges acme --period 2026-01
  pulso charges acme --from 2026-01-01T00:00:00Z --to 2026-01-03T00:00:00Z --granularity day --output csv")]
pub struct ChargesArgs {
    /// Whose charges.
    pub tenant: String,
    /// The month; by default the current one.
    #[arg(long, value_name = "YYYY-MM", conflicts_with_all = ["from", "to"])]
    pub period: Option<String>,
    /// The first instant, on a window's border.
    #[arg(long, value_name = "TIME", requires = "to")]
    pub from: Option<String>,
    /// The first instant after it.
    #[arg(long, value_name = "TIME", requires = "from")]
    pub to: Option<String>,
    /// The window of each row: hour, day or month.
    #[arg(long)]
    pub granularity: Option<String>,
    /// A position to wait for.
    #[command(flatten)]
    pub waiting: Waiting,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

const COLUMNS: [&str; 12] = [
    "window_start",
    "product_sku",
    "use_unit",
    "region",
    "tier",
    "quantity",
    "currency",
    "list_unit_price",
    "list_cost",
    "contracted_cost",
    "effective_cost",
    "billed_cost",
];
const TOTALS: [&str; 5] = ["currency", "list_cost", "contracted_cost", "effective_cost", "billed_cost"];

/// Shows the charges and their totals; usage without a price is told on stderr.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn run(args: &ChargesArgs, format: Format) -> Outcome {
    let mut query = Query::new();
    add(&mut query, "period", args.period.as_ref());
    add(&mut query, "from", args.from.as_ref());
    add(&mut query, "to", args.to.as_ref());
    add(&mut query, "granularity", args.granularity.as_ref());
    add(&mut query, "wait_for", args.waiting.wait_for.as_ref());
    let rest = Rest::new(&args.server.api)?;
    let document = rest.list(&tenant_path(&args.tenant, "charges"), &query, ListOf::all("charges")).await?;
    output::rows(format, &document, entries(&document, "charges"), &COLUMNS)?;
    if format == Format::Table {
        output::data("")?;
        output::rows(format, &document, entries(&document, "totals"), &TOTALS)?;
    }
    tell_unpriced(entries(&document, "unpriced"));
    Ok(Exit::Ok)
}

fn tell_unpriced(unpriced: &[Value]) {
    for row in unpriced {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let (quantity, unit, sku) = (text("quantity"), text("use_unit"), text("product_sku"));
        output::note(format!("unpriced: {quantity} {unit} of {sku}: {}", text("reason")));
    }
}
