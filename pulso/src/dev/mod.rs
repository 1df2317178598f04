//! `pulso dev`: every role in one process, on one data folder.

pub mod folder;
pub mod server;
pub mod settings;

use pulso_platform::service::settings::print_config;
use pulso_platform::service::tasks::Exit as End;
use pulso_platform::service::telemetry;

pub use settings::DevArgs;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output;
use crate::dev::server::Server;

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
        Ok(server.run().await)
    });
    // Nobody waits for a task that is stuck in a system call: whatever had to be durable is, or was never acknowledged.
    runtime.shutdown_background();
    end.map(exit)
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
