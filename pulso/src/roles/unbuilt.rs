//! What a binary without the cluster says in the place of its commands: how to build one with it.

use std::sync::Arc;

use pulso_ingestor_consumer::handoff::Handoff;
use pulso_platform::log::generations::GrowReport;
use serde_json::Value;

use super::place::Place;
use crate::cli::exit::{Failure, Outcome};
use crate::cli::output::Format;
use crate::doctor::Finding;

/// The commands of the cluster.
#[derive(clap::Subcommand, Debug)]
pub enum RoleCommand {
    /// Makes or checks what a cluster stands on: topics, tables, the first generation.
    Init(Anything),
    /// Takes pulses into the log.
    Ingestor(Anything),
    /// Folds the log into usage.
    Consumer(Anything),
    /// Rates usage into charges.
    Pricing(Anything),
    /// Serves the REST API and its start page.
    Query(Anything),
}

/// Whatever flags are given.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
This binary was built without the cluster: Kafka's client takes some minutes to build.

Example:
  cargo build --release -p pulso --features cluster")]
pub struct Anything {
    /// What the command would take
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}

/// Says how to build it.
///
/// # Errors
/// Always.
pub fn run(_command: &RoleCommand, _format: Format) -> Outcome {
    Err(Failure::usage(
        "this binary was built without the cluster; build one with `cargo build --release -p pulso --features cluster`",
    ))
}

/// Where a cluster is: nowhere.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Elsewhere {}

impl Elsewhere {
    /// Never.
    #[must_use]
    pub const fn is_meant(&self) -> bool {
        false
    }

    /// No cluster.
    ///
    /// # Errors
    /// Never.
    pub const fn open(&self) -> Result<Option<Place>, Failure> {
        Ok(None)
    }

    /// No cluster.
    ///
    /// # Errors
    /// Never.
    pub const fn open_to_mend(&self) -> Result<Option<Place>, Failure> {
        Ok(None)
    }

    /// No cluster.
    ///
    /// # Errors
    /// Never.
    pub const fn grow(&self, _partitions: u32) -> Result<Option<GrowReport>, Failure> {
        Ok(None)
    }

    /// No cluster.
    ///
    /// # Errors
    /// Never.
    pub const fn mend(&self, _note: &str) -> Result<Option<Value>, Failure> {
        Ok(None)
    }

    /// Nothing to look at.
    #[must_use]
    pub const fn findings(&self) -> Option<Vec<Finding>> {
        None
    }
}

/// How usage would be handed over.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Handing {}

impl Handing {
    /// By no way.
    ///
    /// # Errors
    /// Never.
    pub fn open(&self, _elsewhere: &Elsewhere) -> Result<Option<Arc<dyn Handoff>>, Failure> {
        Ok(None)
    }
}
