//! `pulso invoice` and `pulso explain`: a tenant's invoices, their lines, and the pulses behind a line.

use serde_json::Value;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::client::rest::{ListOf, Query, Rest, entries, path_part};
use crate::read::{Waiting, add, tenant_path};

/// Flags of `pulso invoice`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pulso invoice acme\n  pulso invoice acme INVOICE_ID --output json")]
pub struct InvoiceArgs {
    /// Whose invoices.
    pub tenant: String,
    /// Which invoice; all are listed without it.
    pub invoice: Option<String>,
    /// A position to wait for.
    #[command(flatten)]
    pub waiting: Waiting,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso explain`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  pulso invoice acme INVOICE_ID               shows the lines
  pulso explain acme INVOICE_ID LINE_ID
  pulso explain acme INVOICE_ID LINE_ID --limit 100000 --output csv")]
pub struct ExplainArgs {
    /// Whose invoice.
    pub tenant: String,
    /// Which invoice.
    pub invoice: String,
    /// Which line.
    pub line: String,
    /// Most pulses shown.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

const INVOICES: [&str; 5] = ["invoice_id", "period", "currency", "state", "total"];
const LINES: [&str; 7] = ["line_id", "product_sku", "use_unit", "region", "tier", "quantity", "amount"];

/// Lists invoices, or shows one with its lines.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn run(args: &InvoiceArgs, format: Format) -> Outcome {
    let rest = Rest::new(&args.server.api)?;
    let mut query = Query::new();
    add(&mut query, "wait_for", args.waiting.wait_for.as_ref());
    let path = tenant_path(&args.tenant, "invoices");
    let Some(invoice) = &args.invoice else {
        let document = rest.list(&path, &query, ListOf::all("invoices")).await?;
        output::rows(format, &document, entries(&document, "invoices"), &INVOICES)?;
        return Ok(Exit::Ok);
    };
    let document = rest.get(&format!("{path}/{}", path_part(invoice)), &query).await?;
    output::rows(format, &document, entries(&document, "lines"), &LINES)?;
    if format == Format::Table {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
        output::data(format!(
            "\n{} {}: {} {}",
            text("period"),
            text("state"),
            text("currency"),
            text("total")
        ))?;
    }
    Ok(Exit::Ok)
}

/// Shows the arithmetic of a line and its pulses.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn explain(args: &ExplainArgs, format: Format) -> Outcome {
    let rest = Rest::new(&args.server.api)?;
    let invoice = path_part(&args.invoice);
    let path =
        tenant_path(&args.tenant, &format!("invoices/{invoice}/lines/{}/explain", path_part(&args.line)));
    let list = ListOf { name: "pulses", limit: args.limit };
    let document = rest.list(&path, &Query::new(), list).await?;
    if format == Format::Table {
        arithmetic(&document)?;
        output::data("")?;
    }
    let pulses = entries(&document, "pulses");
    let columns = [
        "position",
        "id",
        "occurred_at",
        "used_amount",
        "use_unit",
        "region",
        "resource_id",
        "quantity",
        "billed_cost",
    ];
    output::rows(format, &document, pulses, &columns)?;
    if pulses.len() == args.limit && format != Format::Json {
        output::note(format!("the first {} pulses; --limit shows more", args.limit));
    }
    Ok(Exit::Ok)
}

/// Everything of the explanation that is no pulse, name by name.
fn arithmetic(document: &Value) -> Result<(), Failure> {
    for (name, value) in document.as_object().into_iter().flatten() {
        match value {
            Value::Array(rows) if name != "pulses" => {
                output::data(format!("{name}:"))?;
                rows.iter().try_for_each(|row| output::data(format!("  {}", plain(row))))?;
            }
            Value::Array(_) => {}
            other => output::data(format!("{name}: {}", plain(other)))?,
        }
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name} {}", plain(value)));
            fields.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
