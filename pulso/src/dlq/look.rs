//! Looking: the list, and one letter with everything.

use serde_json::Value;

use super::{ListArgs, ShowArgs};
use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::client::rest::{ListOf, Query, Rest, entries, path_part};

const COLUMNS: [&str; 9] = [
    "id",
    "state",
    "reason",
    "tenant_id",
    "origin.topic",
    "origin.partition",
    "origin.offset",
    "origin.index",
    "detail",
];

/// Lists dead letters.
pub(super) async fn list(args: &ListArgs, format: Format) -> Outcome {
    let wanted = [("tenant_id", &args.tenant), ("reason", &args.reason), ("state", &args.state)];
    let given = wanted.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let list = ListOf { name: "dead_letters", limit: args.limit };
    let document =
        Rest::new(&args.server.api)?.list("/v1/dead-letters", &given.collect::<Query>(), list).await?;
    output::rows(format, &document, entries(&document, "dead_letters"), &COLUMNS)?;
    Ok(Exit::Ok)
}

/// Shows one.
pub(super) async fn show(args: &ShowArgs, format: Format) -> Outcome {
    let path = format!("/v1/dead-letters/{}", path_part(&args.id));
    let document = Rest::new(&args.server.api)?.get(&path, &Query::new()).await?;
    print(&document, format)?;
    Ok(Exit::Ok)
}

/// Prints one letter: too much for a table but as CSV.
pub(super) fn print(document: &Value, format: Format) -> Result<(), crate::cli::exit::Failure> {
    match format {
        Format::Csv => output::rows(format, document, std::slice::from_ref(document), &COLUMNS),
        Format::Table | Format::Json => output::json(document),
    }
}
