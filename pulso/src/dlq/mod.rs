//! `pulso dlq`: what could not be counted, and what to do about it: look, fix, preview, send again, give up.

mod change;
mod look;
mod preview;
mod replay;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::Format;
use crate::client::ApiAddress;
use crate::client::rest::{Body, Query, Rest};
use crate::log_admin::actor_name;

/// What to do with dead letters.
#[derive(Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  pulso dlq list --state open\n  pulso dlq show 1:3:1024:17\n  pulso dlq replay 1:3:1024:17"
)]
pub enum DlqCommand {
    /// Lists dead letters.
    List(ListArgs),
    /// Shows one with its bytes, decoded as far as they go, and everything that was done about it.
    Show(ShowArgs),
    /// Sets fields of one, as a new version that a replay will send; the original stays.
    Fix(FixArgs),
    /// Says what a replay would change in usage and money, and what would be refused; changes nothing.
    Preview(PreviewArgs),
    /// Sends dead letters again; each counts once, however often it is sent.
    Replay(ReplayArgs),
    /// Gives dead letters up, with a note; they stay, marked.
    Drop(DropArgs),
}

/// Flags of `pulso dlq list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  pulso dlq list
  pulso dlq list --state open
  pulso dlq list --tenant acme --reason ID_CONFLICT --output csv")]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Only with this reason.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only in this state: open, replayed or dropped.
    #[arg(long)]
    pub state: Option<String>,
    /// Most entries shown.
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso dlq show`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  pulso dlq show 1:3:1024:17")]
pub struct ShowArgs {
    /// Which, as the list names it.
    pub id: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso dlq fix`.
#[derive(Args, Debug)]
#[command(after_help = "\
The fields are those of a pulse: id, tenant_id, product_sku, used_amount, use_unit, occurred_at, region, resource_id. An empty
value takes an optional one away. Nothing is sent before `pulso dlq replay`.

Examples:
  pulso dlq fix 1:3:1024:17 --set used_amount=100000 --note 'the meter wrote 1e5'
  pulso dlq fix 1:3:1024:18 --set id=p-18-corrected
  pulso dlq fix 1:3:1030 --set id=p-1 --set tenant_id=acme --set product_sku=vm --set used_amount=1 --set use_unit=Hours \\
    --set occurred_at=2026-01-31T23:00:00Z --tag zone=a")]
pub struct FixArgs {
    /// Which, as the list names it.
    pub id: String,
    /// A field to set; may be given several times.
    #[arg(long = "set", value_name = "FIELD=VALUE", required_unless_present_any = ["tags", "no_tags"])]
    pub fields: Vec<String>,
    /// A tag; those given take the place of all that are there.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// Takes all tags away.
    #[arg(long, conflicts_with = "tags")]
    pub no_tags: bool,
    /// Why, for whoever looks at it later.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Which dead letters: by id, or all open ones that fit.
#[derive(Args, Debug)]
pub struct Wanted {
    /// Which, as the list names them.
    #[arg(conflicts_with_all = ["all", "tenant", "reason"], required_unless_present_any = ["all", "tenant", "reason"])]
    pub ids: Vec<String>,
    /// All open ones.
    #[arg(long)]
    pub all: bool,
    /// All open ones of this tenant.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// All open ones with this reason.
    #[arg(long)]
    pub reason: Option<String>,
}

/// Flags of `pulso dlq preview`.
#[derive(Args, Debug)]
#[command(after_help = "\
The table shows the change in usage, then in money; CSV is the change in money.

Examples:
  pulso dlq preview 1:3:1024:17
  pulso dlq preview --tenant acme
  pulso dlq preview --all --output json")]
pub struct PreviewArgs {
    /// Which.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso dlq replay`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exits 4 when some were refused; they stay open, and stderr says why.

Examples:
  pulso dlq replay 1:3:1024:17
  pulso dlq replay --reason MISROUTED --note 'the producer had the wrong partitioner'
  pulso dlq replay --all --output json")]
pub struct ReplayArgs {
    /// Which.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Why, for whoever looks at it later.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Flags of `pulso dlq drop`.
#[derive(Args, Debug)]
#[command(after_help = "\
A fix takes one up again. Exits 4 when some were refused, since they were sent again before.

Examples:
  pulso dlq drop 1:3:1030 --note 'a test of the staging meters'
  pulso dlq drop --tenant staging --note 'no tenant of ours'")]
pub struct DropArgs {
    /// Which.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Why: it stays with them for good.
    #[arg(long, value_name = "TEXT")]
    pub note: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ApiAddress,
}

/// Does it.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn run(command: &DlqCommand, format: Format) -> Outcome {
    match command {
        DlqCommand::List(args) => look::list(args, format).await,
        DlqCommand::Show(args) => look::show(args, format).await,
        DlqCommand::Fix(args) => change::fix(args, format).await,
        DlqCommand::Drop(args) => change::drop(args, format).await,
        DlqCommand::Preview(args) => preview::run(args, format).await,
        DlqCommand::Replay(args) => replay::run(args, format).await,
    }
}

/// Sends a request to the desk.
async fn post(server: &ApiAddress, verb: &str, request: Value) -> Result<Value, Failure> {
    let body = Body { content_type: "application/json", bytes: request.to_string().into_bytes() };
    Rest::new(&server.api)?.post(&format!("/v1/dead-letters:{verb}"), &Query::new(), body).await
}

/// A request that says who asks and why.
fn signed(note: Option<&String>) -> Map<String, Value> {
    let mut request = Map::from_iter([("actor".to_owned(), json!(actor_name()))]);
    request.extend(note.map(|note| ("note".to_owned(), json!(note))));
    request
}

impl Wanted {
    /// The filter, when no ids are given.
    fn filter(&self) -> Option<Value> {
        self.ids.is_empty().then(|| {
            let mut filter = Map::new();
            filter.extend(self.tenant.as_ref().map(|tenant| ("tenant_id".to_owned(), json!(tenant))));
            filter.extend(self.reason.as_ref().map(|reason| ("reason".to_owned(), json!(reason))));
            Value::Object(filter)
        })
    }
}

/// Some letters were refused: said on stderr, and by the exit code.
fn rejected(refused: &[Value]) -> Exit {
    if refused.is_empty() { Exit::Ok } else { Exit::Rejected }
}
