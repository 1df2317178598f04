//! What the processes of a run do, each alone in its process, so that its CPU time is its own.

mod consume;
mod flush;
mod poll;
mod produce;

use std::sync::Arc;

use pulso_platform::log::Log;

use super::place::Place;
use crate::mix::Mix;
use crate::role::serve;

pub use self::consume::{ConsumeArgs, Consumed, Workers, WorkersArgs};
pub use self::produce::{ProduceArgs, produce};

/// A role.
#[derive(clap::Subcommand, Debug)]
pub enum Role {
    /// Serves ingest on Kafka, and nothing else.
    Ingest(TopicArgs),
    /// Folds a topic to totals.
    Consume(ConsumeArgs),
    /// Flushes usage rows through the store.
    Flush(FlushArgs),
    /// Writes the same rows with the driver alone.
    Write(FlushArgs),
    /// Folds records that it holds in RAM with some workers.
    Workers(WorkersArgs),
    /// What librdkafka does alone, here with the allocator of this binary.
    #[command(flatten)]
    Librdkafka(Librdkafka),
}

/// What librdkafka does alone. A binary of its own has it too, with the allocator of the C library.
#[derive(clap::Subcommand, Debug)]
pub enum Librdkafka {
    /// Produces one record per pulse.
    Produce(ProduceArgs),
    /// Polls all records of a topic.
    Poll(TopicArgs),
}

/// Which topic.
#[derive(clap::Args, Clone, Debug)]
pub struct TopicArgs {
    #[command(flatten)]
    place: Place,
    /// The topic.
    #[arg(long)]
    topic: String,
}

/// Which rows.
#[derive(clap::Args, Clone, Debug)]
pub struct FlushArgs {
    #[command(flatten)]
    place: Place,
    /// Tenants that have rows.
    #[arg(long)]
    tenants: u64,
}

impl Role {
    /// Plays it.
    ///
    /// # Errors
    /// When something it works on fails.
    pub fn play(self) -> anyhow::Result<()> {
        match self {
            Self::Ingest(args) => serve::ingest_on(args.place.log(&args.topic)? as Arc<dyn Log>),
            Self::Consume(args) => consume::consume(&args),
            Self::Flush(args) => flush::through_the_store(&args.place, args.tenants),
            Self::Write(args) => flush::with_the_driver(&args.place, args.tenants),
            Self::Workers(args) => consume::workers(&args),
            Self::Librdkafka(role) => role.play(),
        }
    }
}

impl Librdkafka {
    /// Plays it.
    ///
    /// # Errors
    /// When something it works on fails.
    pub fn play(self) -> anyhow::Result<()> {
        match self {
            Self::Produce(args) => produce::serve(&args),
            Self::Poll(args) => poll::poll(&args.place, &args.topic),
        }
    }
}

/// The pulses of the figures: the mix that counts.
pub const MIX: Mix = Mix::COUNTED;
