//! What the processes of a run do, each alone in its process, so that its CPU time and memory are its own.

pub mod bill;
pub mod consume;
pub mod fill;
pub mod fold;
pub mod memory;
pub mod restart;
pub mod serve;

use clap::Subcommand;

/// A role.
#[derive(Subcommand, Debug)]
pub enum Role {
    /// Serves ingest on the embedded log, and nothing else.
    Ingest(serve::IngestArgs),
    /// Serves the same calls with tonic and prost alone, and stores nothing.
    Echo,
    /// Fills a log.
    Fill(fill::FillArgs),
    /// Folds a log into a new store.
    Consume(consume::ConsumeArgs),
    /// Folds a log into a new store on one thread.
    Fold(fold::FoldArgs),
    /// Folds a log while it is written, until it is killed.
    Run(restart::RunArgs),
    /// Starts on what a killed process left.
    Start(restart::StartArgs),
    /// Makes a bill again and again.
    Bill(bill::BillArgs),
    /// Holds keys in RAM.
    HoldKeys(memory::KeysArgs),
    /// Holds the filters of closed runs in RAM.
    HoldIds(memory::IdsArgs),
}

impl Role {
    /// Plays it.
    ///
    /// # Errors
    /// When something it works on fails.
    pub fn play(self) -> anyhow::Result<()> {
        match self {
            Self::Ingest(args) => serve::ingest(&args),
            Self::Echo => serve::echo(),
            Self::Fill(args) => fill::fill(&args),
            Self::Consume(args) => consume::consume(&args),
            Self::Fold(args) => fold::fold(&args),
            Self::Run(args) => restart::run(&args),
            Self::Start(args) => restart::start(&args),
            Self::Bill(args) => bill::bill(&args),
            Self::HoldKeys(args) => memory::hold_keys(&args),
            Self::HoldIds(args) => memory::hold_ids(&args),
        }
    }
}
