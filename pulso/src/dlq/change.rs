//! Fixing one letter, and giving letters up.

use serde_json::{Map, Value, json};

use super::replay::each_page;
use super::{DropArgs, FixArgs, look, post, rejected, signed};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};

/// Sets fields of one letter.
pub(super) async fn fix(args: &FixArgs, format: Format) -> Outcome {
    let mut request = signed(args.note.as_ref());
    request.insert("id".to_owned(), json!(args.id));
    request.insert("changes".to_owned(), Value::Object(changes(args)?));
    let document = post(&args.server, "fix", Value::Object(request)).await?;
    look::print(&document, format)?;
    output::note(format!("nothing is sent yet: see `pulso dlq preview {}`, then `replay`", args.id));
    Ok(Exit::Ok)
}

fn changes(args: &FixArgs) -> Result<Map<String, Value>, Failure> {
    let mut changes = Map::new();
    for given in &args.fields {
        let (field, value) = pair(given, "--set", "FIELD=VALUE")?;
        if changes.insert(field.to_owned(), json!(value)).is_some() {
            return Err(Failure::usage(format!("--set {field} is given twice; give it once")));
        }
    }
    if !args.tags.is_empty() || args.no_tags {
        let tags = args.tags.iter().map(|given| pair(given, "--tag", "KEY=VALUE"));
        let tags: Map<String, Value> = tags
            .map(|tag| tag.map(|(key, value)| (key.to_owned(), json!(value))))
            .collect::<Result<_, _>>()?;
        changes.insert("tags".to_owned(), Value::Object(tags));
    }
    Ok(changes)
}

fn pair<'a>(given: &'a str, flag: &str, shape: &str) -> Result<(&'a str, &'a str), Failure> {
    given.split_once('=').ok_or_else(|| Failure::usage(format!("write {flag} {shape}, not {given}")))
}

/// Gives letters up.
pub(super) async fn drop(args: &DropArgs, format: Format) -> Outcome {
    let request = signed(Some(&args.note));
    let answer = each_page(&args.server, "drop", (request, &args.wanted), "dropping").await?;
    let rows: Vec<Value> = answer.done.iter().map(|id| json!({ "id": id })).collect();
    let document = json!({ "dropped": answer.done, "refused": answer.refused });
    output::rows(format, &document, &rows, &["id"])?;
    answer.tell();
    Ok(rejected(&answer.refused))
}
