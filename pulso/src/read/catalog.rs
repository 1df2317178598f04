//! `pulso catalog`: says what a document would change, applies it, or prints what holds.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ApiAddress;
use crate::client::rest::{Body, Query, Rest, entries};

/// What to do with the catalog.
#[derive(clap::Subcommand, Debug)]
#[command(after_help = "Examples:\n  pulso catalog plan catalog.yaml\n  pulso catalog apply catalog.yaml")]
pub enum CatalogCommand {
    /// Validates a document and shows what it would change.
    #[command(
        after_help = "Examples:\n  pulso catalog plan catalog.yaml\n  pulso catalog plan more.json --mode merge"
    )]
    Plan(DocumentArgs),
    /// Applies a document as a new version.
    #[command(
        after_help = "Examples:\n  pulso catalog apply catalog.yaml\n  cat catalog.json | pulso catalog apply -"
    )]
    Apply(DocumentArgs),
    /// Prints the document that holds now, as JSON.
    #[command(after_help = "Examples:\n  pulso catalog get > catalog.json")]
    Get(GetArgs),
}

/// Flags of `pulso catalog plan` and `apply`.
#[derive(clap::Args, Debug)]
pub struct DocumentArgs {
    /// The document, YAML or JSON; `-` is stdin.
    pub file: PathBuf,
    /// Whether the document is the whole catalog, or adds and replaces single entries.
    #[arg(long, value_enum, default_value = "replace")]
    pub mode: Mode,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso catalog get`.
#[derive(clap::Args, Debug)]
pub struct GetArgs {
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// How a document changes the catalog.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Mode {
    /// The document is the whole catalog.
    Replace,
    /// Entries of the document are added, or replace those of the same key.
    Merge,
}

/// Plans, applies or prints.
///
/// # Errors
/// When the document is not there or wrong, or the server is not there.
pub async fn run(command: &CatalogCommand, format: Format) -> Outcome {
    match command {
        CatalogCommand::Plan(args) => post(args, "/v1/catalog:plan", format).await,
        CatalogCommand::Apply(args) => post(args, "/v1/catalog:apply", format).await,
        CatalogCommand::Get(args) => {
            let document = Rest::new(&args.server.api)?.get("/v1/catalog", &Query::new()).await?;
            output::json(&document)?;
            Ok(Exit::Ok)
        }
    }
}

async fn post(args: &DocumentArgs, path: &str, format: Format) -> Outcome {
    let body = read(&args.file)?;
    let mode = if args.mode == Mode::Merge { "merge" } else { "replace" };
    let answer = Rest::new(&args.server.api)?.post(path, &vec![("mode", mode.to_owned())], body).await?;
    let changes = entries(&answer, "changes");
    if format == Format::Table {
        let version = answer.get("version").map_or_else(String::new, Value::to_string);
        output::data(format!("version {version}, {} changes", changes.len()))?;
        changes.iter().try_for_each(|change| output::data(format!("  {}", sentence(change))))?;
    } else {
        output::rows(format, &answer, changes, &["action", "kind", "key"])?;
    }
    Ok(Exit::Ok)
}

fn sentence(change: &Value) -> String {
    match change {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let texts =
                fields.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn read(path: &Path) -> Result<Body, Failure> {
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(unreadable)?;
        bytes
    } else {
        std::fs::read(path).map_err(unreadable)?
    };
    // JSON begins with a brace; YAML documents of the catalog never do, and a flow mapping of YAML is parsed as YAML by name.
    let named_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let json = !named_yaml && bytes.trim_ascii_start().first() == Some(&b'{');
    Ok(Body { content_type: if json { "application/json" } else { "application/yaml" }, bytes })
}
