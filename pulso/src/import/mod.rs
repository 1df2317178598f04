//! `pulso import focus`: the usage rows of a FOCUS file as pulses, the catalog their list prices imply, and the proof that
//! Pulso charges just what the rows cost.
//!
//! What a row becomes is pure ([`row`], [`identity`], [`bill`], [`catalog`]); [`run`] moves the data.

pub mod bill;
pub mod catalog;
pub mod costs;
pub mod exact;
pub mod identity;
pub mod row;
pub mod transfer;

use std::path::PathBuf;

use pulso_domain::window::Window;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ingest::Ingest;
use crate::client::rest::Rest;
use crate::client::{ApiAddress, IngestAddress};
use crate::import::bill::BillFile;
use crate::import::row::Move;
use crate::import::transfer::{Imported, Server};

/// What can be imported.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Examples:\n  pulso import focus bill.csv --month 2026-01")]
pub enum ImportCommand {
    /// A FOCUS cost and usage file (CSV, 1.0 and later).
    Focus(FocusArgs),
}

/// Flags of `pulso import focus`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Sends rows with ChargeCategory=Usage, a quantity and a list price as pulses, merges the prices into the catalog, and compares
what Pulso charges with quantity x price of the rows: exit 1 when the difference is not 0. Importing a file again changes nothing.

Examples:
  pulso import focus bill.csv
  pulso import focus bill.csv --month 2026-01     moves the bill to another month
  pulso import focus bill.csv --currency EUR --output json")]
pub struct FocusArgs {
    /// The file.
    pub file: PathBuf,
    /// Which currency to import, when the file has several.
    #[arg(long, env = "PULSO_CURRENCY", value_name = "CODE")]
    pub currency: Option<String>,
    /// Moves the bill to this month; the moved rows are other pulses than those of the original month.
    #[arg(long, env = "PULSO_MONTH", value_name = "YYYY-MM", value_parser = parse_month)]
    pub month: Option<Window>,
    /// Where pulses are sent.
    #[command(flatten)]
    pub ingest: IngestAddress,
    /// Where the catalog and the charges are.
    #[command(flatten)]
    pub api: ApiAddress,
}

/// Reads a month for the command line.
///
/// # Errors
/// When it is none.
pub fn parse_month(text: &str) -> Result<Window, String> {
    Window::parse_month(text).ok_or_else(|| "write a month as YYYY-MM, such as 2026-01".to_owned())
}

/// Imports the file.
///
/// # Errors
/// When the file cannot be read or the server is not there.
pub async fn run(command: &ImportCommand, format: Format) -> Outcome {
    let ImportCommand::Focus(args) = command;
    let file = BillFile { path: args.file.clone(), moved: args.month.map_or(Move::Stay, Move::To) };
    // The file is read before the server is asked, so that a wrong file is told as such.
    let bill = file.read()?;
    let server =
        Server { ingest: Ingest::connect(&args.ingest.ingest).await?, rest: Rest::new(&args.api.api)? };
    let imported = transfer::import(&server, &file, bill, args.currency.as_deref()).await?;
    print(format, &imported)?;
    Ok(exit(&imported))
}

/// A difference is worse news than a refused row, which alone may still leave none.
fn exit(imported: &Imported) -> Exit {
    if imported.costs.iter().any(|cost| !cost.difference.is_zero()) {
        return Exit::Failed;
    }
    if imported.rejected.is_empty() { Exit::Ok } else { Exit::Rejected }
}

fn print(format: Format, imported: &Imported) -> Result<(), Failure> {
    let document = imported.to_json();
    match format {
        Format::Json => output::json(&document),
        Format::Csv => costs::print(Format::Csv, &imported.costs),
        Format::Table => {
            output::rows(Format::Table, &document, &imported.counts(), &["what", "rows"])?;
            output::data("")?;
            costs::print(Format::Table, &imported.costs)
        }
    }
}
