//! The command line of the cluster's measurements.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pulso_benches::cluster::role::Role;
use pulso_benches::cluster::table::{self, TableArgs};

/// The allocator that the `pulso` binary uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Pulso on a cluster.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prints the table of the cluster, each figure with its floor and goal; exit 1 when a floor does not hold.
    Table(TableArgs),
    /// One process of a run; started by `table`.
    #[command(subcommand, hide = true)]
    Role(Role),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Table(args) => table::print(&args),
        Command::Role(role) => role.play().map(|()| ExitCode::SUCCESS),
    }
}
