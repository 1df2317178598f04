//! The command line of the measurements: `table` prints the table of `docs/benchmarks.md`, `load` sends pulses to a
//! running server and verifies every answer.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;
use clap::{Parser, Subcommand};
use pulso_benches::load::{self, Shape, rest::Api};
use pulso_benches::mix::{Mix, Pulses};
use pulso_benches::records;
use pulso_benches::role::Role;
use pulso_benches::table::{self, TableArgs};

/// The allocator that the `pulso` binary uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Pulso.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prints the speed table, each figure with its floor and goal; exit 1 when a floor does not hold.
    Table(TableArgs),
    /// Sends pulses to a running server, verifies every answer, and with `--api` every total.
    Load(LoadArgs),
    /// One process of a run; started by `table`.
    #[command(subcommand, hide = true)]
    Role(Role),
}

#[derive(clap::Args, Debug)]
struct LoadArgs {
    /// The ingest address.
    #[arg(long, env = "PULSO_INGEST", default_value = "127.0.0.1:7070")]
    ingest: String,
    /// The REST address; totals are verified there when it is given.
    #[arg(long, env = "PULSO_API")]
    api: Option<String>,
    /// Pulses to send.
    #[arg(long, default_value_t = 1_000_000)]
    pulses: u64,
    /// Pulses of one request.
    #[arg(long, default_value_t = 1000)]
    batch: usize,
    /// Another seed makes other ids: the same one again makes duplicates.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    mix: Mix,
    #[command(flatten)]
    shape: Shape,
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Table(args) => table::print(&args),
        Command::Load(args) => load(args).map(|()| ExitCode::SUCCESS),
        Command::Role(role) => role.play().map(|()| ExitCode::SUCCESS),
    }
}

fn load(args: LoadArgs) -> anyhow::Result<()> {
    let mut pulses = Pulses::new(args.mix, args.pulses, records::base_seconds(), args.seed);
    let batches = Arc::new(load::encode(&mut pulses, args.batch));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let api = args.api.as_deref().map(Api::new);
        let before = match &api {
            Some(api) => api.totals().await?,
            None => Default::default(),
        };
        let sent = load::send(&args.ingest, batches, args.shape).await?;
        let seconds = sent.elapsed.as_secs_f64();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{} pulses acknowledged in {seconds:.2} s ({:.0}/s); answers p50 {} us, p99 {} us, max {} us",
            sent.pulses,
            sent.pulses as f64 / seconds,
            sent.latency.value_at_quantile(0.5),
            sent.latency.value_at_quantile(0.99),
            sent.latency.max(),
        )?;
        if let Some(api) = &api {
            api.drained().await?;
            let after = api.totals().await?;
            let wanted = before.plus(pulses.totals());
            ensure!(after == wanted, "totals are {after:?}, not {wanted:?}");
            writeln!(out, "totals hold: {} pulses more, and their sum to the last digit", sent.pulses)?;
        }
        Ok(())
    })
}
