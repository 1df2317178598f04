//! The command line of librdkafka alone: the other side of the rows of Kafka, with the allocator that every program gets that
//! links librdkafka and asks for nothing else.

use clap::{Parser, Subcommand};
use pulso_benches::cluster::role::Librdkafka;

/// The other side of Pulso's measurements on a cluster.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// One process of a run; started by `pulso-benches-cluster table`.
    #[command(subcommand)]
    Role(Librdkafka),
}

fn main() -> anyhow::Result<()> {
    let Command::Role(role) = Cli::parse().command;
    role.play()
}
