//! `pulso demo`: a server on a fresh folder, filled with the shipped sample bill over the published interface, and the
//! proof that every charge is right.
//!
//! The bill goes in twice: into the previous month, day by day, and into the part of the current month that is over.

mod story;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pulso_domain::time::Instant;
use pulso_domain::window::{Level, Window};
use pulso_platform::service::clock::Clock;
use pulso_platform::service::settings::print_config;
use pulso_platform::service::telemetry;
use serde_json::json;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::ingest::Ingest;
use crate::client::rest::Rest;
use crate::demo::story::{Period, Summary};
use crate::dev::server::{Addresses, Server};
use crate::dev::settings::ServerArgs;
use crate::import::bill::BillFile;
use crate::import::row::Move;
use crate::import::transfer::{self, Server as Target};

/// The sample travels in the binary, so that the demo runs anywhere.
const SAMPLE: &[u8] = include_bytes!("../../data/focus-1.0-sample.csv");
/// The first day of the previous month is at most 62 days back.
const ACCEPT_PAST_MIN: Duration = Duration::from_secs(63 * 86_400);
/// The newest pulses lie this far behind the clock, so that none is ahead of it.
const BEHIND_SECONDS: i64 = 5;
/// What one tenant's contract takes off, so that there is a contract to look at.
const DISCOUNT_PERCENT: &str = "10";

/// Flags of `pulso demo`.
#[derive(clap::Args, Clone, Debug, serde::Serialize)]
#[command(after_help = "\
Takes every flag of dev. The story goes to stderr; stdout has the ready line and, with --exit, the summary.

Examples:
  pulso demo
  pulso demo --exit
  pulso demo --exit --output json
  pulso demo --data-dir ./demo-data        keeps what it made; the folder must be new or empty")]
pub struct DemoArgs {
    /// A new or empty folder to keep everything in; by default a temporary one that is removed at the end
    #[arg(long, env = "PULSO_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Stops when the bill is loaded and compared
    #[arg(long, env = "PULSO_EXIT")]
    pub exit: bool,
    /// How the server works.
    #[command(flatten)]
    #[serde(flatten)]
    pub server: ServerArgs,
}

/// Runs the demo.
///
/// # Errors
/// When a setting is wrong, the folder is not empty, or the server cannot start.
pub fn run(mut args: DemoArgs, format: Format) -> Outcome {
    args.server.validate()?;
    args.server.taking.accept_past = args.server.taking.accept_past.max(ACCEPT_PAST_MIN);
    if args.server.process.print_config {
        output::data(print_config(&args))?;
        return Ok(Exit::Ok);
    }
    let process = &args.server.process;
    // The story is what people read here: of the logs only what is wrong, unless they ask for more.
    let level = if process.log_level == "info" { "warn" } else { &process.log_level };
    telemetry::start_logs(level, process.log_format).map_err(Failure::usage)?;
    let scratch = tempfile::Builder::new().prefix("pulso-demo-").tempdir().map_err(Failure::failed)?;
    let data_dir = fresh_folder(args.data_dir.as_deref(), scratch.path())?;
    let sample = scratch.path().join("focus-1.0-sample.csv");
    std::fs::write(&sample, SAMPLE).map_err(Failure::failed)?;
    let runtime = crate::dev::runtime()?;
    let outcome = runtime.block_on(tell(&args, &data_dir, &sample, format));
    runtime.shutdown_background();
    outcome
}

fn fresh_folder(wanted: Option<&Path>, scratch: &Path) -> Result<PathBuf, Failure> {
    let Some(folder) = wanted else { return Ok(scratch.join("data")) };
    let is_empty = std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        return Ok(folder.to_owned());
    }
    let place = folder.display();
    Err(Failure::usage(format!(
        "{place} is not empty; the demo wants a new folder, pulso dev serves what is there"
    )))
}

/// Serves and loads at once; whichever ends first decides.
async fn tell(args: &DemoArgs, data_dir: &Path, sample: &Path, format: Format) -> Outcome {
    let server = Server::start(data_dir, &args.server).await?;
    output::data(server.ready_line())?;
    let (addresses, tasks) = (server.addresses, server.tasks.clone());
    story::begin(data_dir, addresses);
    let mut serving = std::pin::pin!(server.run());
    let loaded = tokio::select! {
        end = &mut serving => return Ok(crate::dev::exit(end)),
        loaded = load(addresses, sample) => loaded,
    };
    let is_over = args.exit || loaded.is_err();
    if let Ok(summary) = &loaded {
        story::end(summary, addresses, args.exit);
        if args.exit {
            summary.print(format)?;
        }
    }
    if is_over {
        tasks.stop();
    }
    let end = crate::dev::exit(serving.await);
    let summary = loaded?;
    if args.exit && !summary.is_exact() {
        return Ok(Exit::Failed);
    }
    Ok(end)
}

async fn load(addresses: Addresses, sample: &Path) -> Result<Summary, Failure> {
    let target = Target {
        ingest: Ingest::connect(&addresses.ingest.to_string()).await?,
        rest: Rest::new(&addresses.api.to_string())?,
    };
    let mut periods = Vec::new();
    for (month, moved) in moves(Clock::System.now()) {
        let file = BillFile { path: sample.to_owned(), moved };
        let bill = file.read()?;
        let imported = transfer::import(&target, &file, bill, None).await?;
        let period = Period { month, imported };
        story::loaded(&period);
        periods.push(period);
    }
    let summary = Summary { periods };
    if let Some(tenant_id) = summary.largest_tenant() {
        agree(&target.rest, &tenant_id).await?;
    }
    Ok(summary)
}

/// The previous month whole, and the part of this one that is over.
fn moves(now: Instant) -> [(Window, Move); 2] {
    let seconds = now.seconds() - BEHIND_SECONDS;
    let until = Instant::new(seconds, 0).unwrap_or(now);
    let current = Window::containing(Level::Month, until);
    let previous = Window::from_index(Level::Month, current.index() - 1);
    [(previous, Move::To(previous)), (current, Move::ToPartOf(current, until))]
}

/// Gives one tenant a contract with a discount, in place of the plain one of the import.
async fn agree(rest: &Rest, tenant_id: &str) -> Result<(), Failure> {
    let contract = json!({
        "tenant_id": tenant_id,
        "rate_card": "focus-usd",
        "valid_from": "1970-01-01T00:00:00Z",
        "rounding": "half_even",
        "discounts": [{ "product_sku": "*", "percent": DISCOUNT_PERCENT }],
    });
    transfer::merge(rest, &json!({ "contracts": [contract] })).await?;
    output::note(format!(
        "  tenant {tenant_id} has a contract with {DISCOUNT_PERCENT} % off every list price"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_goes_into_the_previous_month_and_the_past_of_this_one() {
        let at = |text: &str| Instant::parse_rfc3339(text).expect("good");
        for (now, months) in [
            ("2026-01-15T12:00:00Z", ["2025-12", "2026-01"]),
            ("2026-03-01T00:00:01Z", ["2026-01", "2026-02"]),
        ] {
            let moves = moves(at(now));
            assert_eq!(moves.map(|(month, _)| month.to_string()), months);
            for (month, moved) in moves {
                let last = moved.apply(at("2024-09-30T23:59:59Z"));
                assert!(last < at(now) && Window::containing(Level::Month, last) == month, "{now}");
            }
        }
    }

    #[test]
    fn only_a_new_or_empty_folder_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(fresh_folder(Some(folder.path()), folder.path()).is_ok());
        assert!(fresh_folder(Some(&folder.path().join("new")), folder.path()).is_ok());
        std::fs::write(folder.path().join("file"), "").expect("writes");
        assert_eq!(fresh_folder(Some(folder.path()), folder.path()).map_err(|f| f.exit), Err(Exit::Usage));
    }
}
