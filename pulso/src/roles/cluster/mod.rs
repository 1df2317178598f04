//! The commands of the cluster: what must be there (`init`), and one process for each role.
//!
//! Every role works on the log and the store alone and needs no disk, so that any number of each may run and any of them may
//! be killed.

mod consumer;
mod doctor;
mod elsewhere;
mod ingestor;
mod init;
mod pricing;
mod query;
mod settings;
mod shared;
mod store_watch;

pub use elsewhere::{Elsewhere, Handing};

use pulso_platform::service::settings::{ProcessSettings, print_config};
use pulso_platform::service::telemetry;
use serde::Serialize;

use super::host::Host;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};

/// The commands.
#[derive(clap::Subcommand, Debug)]
pub enum RoleCommand {
    /// Makes or checks what a cluster stands on: topics, tables, the first generation.
    Init(init::InitArgs),
    /// Takes pulses into the log.
    Ingestor(Box<ingestor::IngestorArgs>),
    /// Folds the log into usage.
    Consumer(consumer::ConsumerArgs),
    /// Rates usage into charges.
    Pricing(pricing::PricingArgs),
    /// Serves the REST API and its start page.
    Query(query::QueryArgs),
}

/// Runs the command.
///
/// # Errors
/// When a setting is wrong, a port is taken, or log or store cannot be used.
pub fn run(command: &RoleCommand, format: Format) -> Outcome {
    match command {
        RoleCommand::Init(args) => init::run(args, format),
        RoleCommand::Ingestor(args) => {
            args.validate()?;
            serve(args.as_ref(), &args.process, ingestor::start(args))
        }
        RoleCommand::Consumer(args) => {
            args.network.validate(&[("--admin-addr", args.process.admin_addr)])?;
            serve(args, &args.process, consumer::start(args))
        }
        RoleCommand::Pricing(args) => {
            args.network.validate(&[
                ("--pricing-addr", args.pricing_addr),
                ("--admin-addr", args.process.admin_addr),
            ])?;
            serve(args, &args.process, pricing::start(args))
        }
        RoleCommand::Query(args) => {
            args.network
                .validate(&[("--api-addr", args.api.api_addr), ("--admin-addr", args.process.admin_addr)])?;
            serve(args, &args.process, query::start(args))
        }
    }
}

/// Serves one role until a signal asks for the end, and closes what it stands on behind it.
fn serve(
    args: &impl Serialize,
    process: &ProcessSettings,
    start: impl Future<Output = Result<(Host, shared::Cluster), Failure>>,
) -> Outcome {
    if process.print_config {
        output::data(print_config(args))?;
        return Ok(Exit::Ok);
    }
    telemetry::start_logs(&process.log_level, process.log_format).map_err(Failure::usage)?;
    let runtime = crate::dev::runtime()?;
    let end = runtime.block_on(async {
        let (host, cluster) = start.await?;
        output::data(host.ready_line())?;
        let end = host.run().await;
        let closed = tokio::task::spawn_blocking(move || cluster.close()).await;
        closed.map_err(Failure::failed)?;
        Ok(end)
    });
    // Nobody waits for a task that is stuck in a system call: whatever had to be durable is, or was never acknowledged.
    runtime.shutdown_background();
    end.map(crate::dev::exit)
}
