//! `pulso dlq`: what could not be counted, and why.

use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::client::rest::{ListOf, Query, Rest, entries, path_part};
use crate::read::add;

/// What to do with dead letters.
#[derive(clap::Subcommand, Debug)]
pub enum DlqCommand {
    /// Lists dead letters.
    List(ListArgs),
    /// Shows one with everything that is known of it.
    Show(ShowArgs),
}

/// Flags of `pulso dlq list`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  pulso dlq list\n  pulso dlq list --tenant acme --reason ID_CONFLICT --output csv"
)]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Only with this reason.
    #[arg(long)]
    pub reason: Option<String>,
    /// Most entries shown.
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso dlq show`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pulso dlq show ID")]
pub struct ShowArgs {
    /// Which, as the list names it.
    pub id: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

const COLUMNS: [&str; 8] = [
    "id",
    "reason",
    "tenant_id",
    "origin.topic",
    "origin.partition",
    "origin.offset",
    "origin.index",
    "detail",
];

/// Lists dead letters or shows one.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn run(command: &DlqCommand, format: Format) -> Outcome {
    match command {
        DlqCommand::List(args) => {
            let mut query = Query::new();
            add(&mut query, "tenant_id", args.tenant.as_ref());
            add(&mut query, "reason", args.reason.as_ref());
            let list = ListOf { name: "dead_letters", limit: args.limit };
            let document = Rest::new(&args.server.api)?.list("/v1/dead-letters", &query, list).await?;
            output::rows(format, &document, entries(&document, "dead_letters"), &COLUMNS)?;
        }
        DlqCommand::Show(args) => {
            let path = format!("/v1/dead-letters/{}", path_part(&args.id));
            let document = Rest::new(&args.server.api)?.get(&path, &Query::new()).await?;
            match format {
                Format::Csv => output::rows(format, &document, std::slice::from_ref(&document), &COLUMNS)?,
                _ => output::json(&document)?,
            }
        }
    }
    Ok(Exit::Ok)
}
