//! The REST API for a terminal: each command is one request and a table.

pub mod catalog;
pub mod charges;
pub mod invoice;
pub mod usage;

use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::client::rest::{ListOf, Query, Rest, entries, path_part};

/// Flags of `pulso tenants`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pulso tenants\n  pulso tenants --output json")]
pub struct TenantsArgs {
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// A position that a read waits for.
#[derive(clap::Args, Clone, Debug)]
pub struct Waiting {
    /// Waits until this position of the log, as a receipt gives it, is counted.
    #[arg(long, value_name = "[GENERATION:]PARTITION:OFFSET")]
    pub wait_for: Option<String>,
}

/// Lists the tenants.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn tenants(args: &TenantsArgs, format: Format) -> Outcome {
    let list = ListOf::all("tenants");
    let document = Rest::new(&args.server.api)?.list("/v1/tenants", &Query::new(), list).await?;
    output::rows(format, &document, entries(&document, "tenants"), &["tenant_id", "name", "source_id"])?;
    Ok(Exit::Ok)
}

/// The path of something that belongs to a tenant.
fn tenant_path(tenant_id: &str, rest: &str) -> String {
    format!("/v1/tenants/{}/{rest}", path_part(tenant_id))
}

/// Adds a parameter that was given.
fn add(query: &mut Query, name: &'static str, value: Option<&String>) {
    query.extend(value.map(|value| (name, value.clone())));
}
