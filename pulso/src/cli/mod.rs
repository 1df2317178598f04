//! The command line: every command with its flags and examples, and the way from an outcome to an exit code.

pub mod exit;
pub mod instant;
pub mod output;
pub mod progress;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::Format;
use crate::roles::built::{self, RoleCommand};
use crate::{archive, audit, demo, dev, dlq, doctor, import, log_admin, read, republish, send};

/// Usage metering and billing: pulses in, exact charges out.
///
/// Every flag is also an environment variable: --data-dir is PULSO_DATA_DIR.
/// Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 not found, 4 pulses rejected, 5 unavailable.
#[derive(Parser, Debug)]
#[command(name = "pulso", bin_name = "pulso", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// How data is printed on stdout.
    #[arg(short, long, global = true, env = "PULSO_OUTPUT", default_value = "table", value_enum)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pulso demo                                   a filled server to look at
  pulso dev                                    an empty server on ./pulso-data
  pulso send pulses.ndjson                     send pulses to it
  pulso import focus bill.csv --month 2026-01  send a bill's usage
  pulso charges acme --period 2026-01          what it costs";

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs every role in one process, on a data folder.
    Dev(dev::DevArgs),
    /// Runs or prepares a role of a cluster.
    #[command(flatten)]
    Role(RoleCommand),
    /// Runs `dev` on a fresh folder, filled with a sample bill.
    Demo(demo::DemoArgs),
    /// Sends pulses from a file by gRPC.
    Send(send::SendArgs),
    /// Imports another system's data.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Plans, applies or prints the catalog.
    #[command(subcommand)]
    Catalog(read::catalog::CatalogCommand),
    /// Lists the tenants.
    Tenants(read::TenantsArgs),
    /// Shows a tenant's usage.
    Usage(read::usage::UsageArgs),
    /// Shows a tenant's charges.
    Charges(read::charges::ChargesArgs),
    /// Lists a tenant's invoices, or shows one.
    Invoice(read::invoice::InvoiceArgs),
    /// Shows the arithmetic of an invoice line and the pulses behind it.
    Explain(read::invoice::ExplainArgs),
    /// Lists, shows, fixes, previews, replays or drops dead letters.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Re-adds the archive and compares it with every total.
    Audit(audit::AuditArgs),
    /// Reads old pulses back from the archive.
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Hands stored usage records to pricing again.
    Republish(republish::RepublishArgs),
    /// Shows the log, reads it again, or goes on after a halt.
    #[command(subcommand)]
    Log(log_admin::LogCommand),
    /// Checks clock, ports, disk and data folder, or the servers of a cluster.
    Doctor(doctor::DoctorArgs),
    /// Prints a completion script for a shell.
    #[command(
        after_help = "Examples:\n  pulso completion bash > /etc/bash_completion.d/pulso\n  source <(pulso completion zsh)"
    )]
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the command line, runs the command, prints its failure, and gives the exit code.
#[must_use]
pub fn main() -> Exit {
    let cli = Cli::parse();
    run(cli).unwrap_or_else(|failure| {
        output::note(format!("error: {failure}"));
        failure.exit
    })
}

fn run(cli: Cli) -> Outcome {
    let format = cli.output;
    match cli.command {
        Command::Dev(args) => dev::run(&args),
        Command::Role(command) => built::run(&command, format),
        Command::Demo(args) => demo::run(args, format),
        Command::Archive(command) => archive::run(&command),
        Command::Republish(args) => republish::run(&args, format),
        Command::Audit(args) => audit::run(&args, format),
        Command::Log(command) => log_admin::run(&command, format),
        Command::Doctor(args) => doctor::run(&args, format),
        Command::Completion { shell } => completion(shell),
        client => client_runtime()?.block_on(run_client(client, format)),
    }
}

/// The commands that talk to a server need one thread only.
fn client_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the run time: {error}")))
}

async fn run_client(command: Command, format: Format) -> Outcome {
    match command {
        Command::Send(args) => send::run(&args, format).await,
        Command::Import(command) => import::run(&command, format).await,
        Command::Catalog(command) => read::catalog::run(&command, format).await,
        Command::Tenants(args) => read::tenants(&args, format).await,
        Command::Usage(args) => read::usage::run(&args, format).await,
        Command::Charges(args) => read::charges::run(&args, format).await,
        Command::Invoice(args) => read::invoice::run(&args, format).await,
        Command::Explain(args) => read::invoice::explain(&args, format).await,
        Command::Dlq(command) => dlq::run(&command, format).await,
        other => Err(Failure::failed(format!("{other:?} is not a client command"))),
    }
}

fn completion(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pulso", &mut script);
    output::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_examples() {
        Cli::command().debug_assert();
        let mut left = vec![Cli::command()];
        while let Some(command) = left.pop() {
            let name = command.get_name().to_owned();
            left.extend(command.get_subcommands().cloned());
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{name} has no example in its help");
        }
    }

    #[test]
    fn every_flag_that_is_a_setting_has_an_environment_variable_of_its_name() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let (Some(long), Some(variable)) = (argument.get_long(), argument.get_env()) else {
                    continue;
                };
                let expected = format!("PULSO_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(variable.to_str(), Some(expected.as_str()), "{}", command.get_name());
            }
        }
    }
}
