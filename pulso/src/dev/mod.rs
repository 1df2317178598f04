//! `pulso dev`: every role in one process, on one data folder.

pub mod folder;
pub mod server;
pub mod settings;
mod watch;

use std::io::IsTerminal;

use pulso_platform::service::settings::print_config;
use pulso_platform::service::tasks::Exit as End;
use pulso_platform::service::telemetry;

pub use settings::DevArgs;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output;
use crate::dev::server::{Addresses, Server};

/// Serves until a signal asks for the end.
///
/// # Errors
/// When a setting is wrong, a port is taken, or the folder cannot be used.
pub fn run(args: &DevArgs) -> Outcome {
    args.server.validate()?;
    if args.server.process.print_config {
        output::data(print_config(args))?;
        return Ok(Exit::Ok);
    }
    let process = &args.server.process;
    telemetry::start_logs(&process.log_level, process.log_format).map_err(Failure::usage)?;
    let runtime = runtime()?;
    let end = runtime.block_on(async {
        let server = Server::start(&args.data.data_dir, &args.server).await?;
        output::data(server.ready_line())?;
        if std::io::stderr().is_terminal() {
            welcome(args, server.addresses);
        }
        Ok(server.run().await)
    });
    // Nobody waits for a task that is stuck in a system call: whatever had to be durable is, or was never acknowledged.
    runtime.shutdown_background();
    end.map(exit)
}

/// What to do next, for a person who has just started it.
fn welcome(args: &DevArgs, addresses: Addresses) {
    let Addresses { ingest, api, admin } = addresses;
    let folder = args.data.data_dir.display();
    output::note(format!(
        "Pulso is up on {folder}\n  gRPC     {ingest}\n  REST     http://{api}/docs\n  metrics  http://{admin}/metrics\n\
         Next, in another terminal:\n  pulso catalog apply catalog.yaml --api {api}\n  pulso send pulses.ndjson --ingest {ingest}\n  \
         pulso tenants --api {api}\nCtrl-C stops it; everything stays in {folder}, and removing that folder wipes it."
    ));
}

/// The run time of a server: as many threads as there are processors.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pulso-io")
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the run time: {error}")))
}

/// How the process ends, as an exit code.
#[must_use]
pub const fn exit(end: End) -> Exit {
    match end {
        End::Clean => Exit::Ok,
        End::Failed | End::Forced => Exit::Failed,
    }
}
