//! What a replay would change, before anything happens.

use serde_json::{Map, Value, json};

use super::replay::tell_refused;
use super::{PreviewArgs, post};
use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::client::rest::entries;

const USAGE: [&str; 7] = ["tenant_id", "period", "product_sku", "use_unit", "region", "quantity", "count"];
const MONEY: [&str; 6] = ["tenant_id", "period", "currency", "before", "after", "difference"];

/// Previews.
pub(super) async fn run(args: &PreviewArgs, format: Format) -> Outcome {
    let mut request = Map::new();
    match args.wanted.filter() {
        Some(filter) => request.insert("filter".to_owned(), filter),
        None => request.insert("ids".to_owned(), json!(args.wanted.ids)),
    };
    let document = post(&args.server, "preview", Value::Object(request)).await?;
    if format == Format::Table {
        output::rows(format, &document, entries(&document, "usage"), &USAGE)?;
        output::data("")?;
    }
    output::rows(format, &document, entries(&document, "money"), &MONEY)?;
    if format != Format::Json {
        tell(&document);
    }
    Ok(Exit::Ok)
}

fn tell(document: &Value) {
    for row in entries(document, "unpriced") {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let (quantity, unit, sku) = (text("quantity"), text("use_unit"), text("product_sku"));
        output::note(format!("unpriced: {quantity} {unit} of {sku}: {}", text("reason")));
    }
    entries(document, "refused").iter().for_each(tell_refused);
    let number = |name: &str| document.get(name).map_or_else(String::new, Value::to_string);
    let (count, refuse) = (number("would_count"), number("would_refuse"));
    output::note(format!("{count} would be counted, {refuse} refused; nothing was changed"));
    if document.get("more").and_then(Value::as_bool) == Some(true) {
        output::note("there are more than one preview looks at; narrow it with --tenant or --reason");
    }
}
