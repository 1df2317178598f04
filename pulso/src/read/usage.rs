//! `pulso usage`: a tenant's usage records.

use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::client::rest::{ListOf, Query, Rest, entries};
use crate::read::{Waiting, add, tenant_path};

/// Flags of `pulso usage`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  pulso usage acme
  pulso usage acme --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --granularity day
  pulso usage acme --product-sku egress --group-by region,resource_id --output csv")]
pub struct UsageArgs {
    /// Whose usage.
    pub tenant: String,
    /// The first instant, on a window's border; by default the month's first.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// The first instant after it.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// The window of each row: hour, day or month.
    #[arg(long)]
    pub granularity: Option<String>,
    /// One SKU only.
    #[arg(long, value_name = "SKU")]
    pub product_sku: Option<String>,
    /// Splits rows by these: region, resource_id.
    #[arg(long, value_name = "FIELDS")]
    pub group_by: Option<String>,
    /// A position to wait for.
    #[command(flatten)]
    pub waiting: Waiting,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Shows the usage.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn run(args: &UsageArgs, format: Format) -> Outcome {
    let mut query = Query::new();
    add(&mut query, "from", args.from.as_ref());
    add(&mut query, "to", args.to.as_ref());
    add(&mut query, "granularity", args.granularity.as_ref());
    add(&mut query, "product_sku", args.product_sku.as_ref());
    add(&mut query, "group_by", args.group_by.as_ref());
    add(&mut query, "wait_for", args.waiting.wait_for.as_ref());
    let rest = Rest::new(&args.server.api)?;
    let document = rest.list(&tenant_path(&args.tenant, "usage"), &query, ListOf::all("usage")).await?;
    let mut columns =
        vec!["window_start", "product_sku", "use_unit", "quantity", "count", "min", "max", "last"];
    let asked = args.group_by.iter().flat_map(|fields| fields.split(','));
    let split: Vec<&str> = asked.filter(|field| matches!(*field, "region" | "resource_id")).collect();
    columns.splice(3..3, split);
    output::rows(format, &document, entries(&document, "usage"), &columns)?;
    Ok(Exit::Ok)
}
