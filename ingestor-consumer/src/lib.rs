//! Pulses become usage: reads the log, folds each partition, writes rows, id runs, directories and dead letters.
//!
//! [`fold`] is the protocol, pure. [`pipeline`] is the journey of a pulse, top to bottom; read it first. [`worker`] is the
//! shell around one partition that both the pipeline and the simulator drive. [`handoff`] is the way to pricing; [`archive`],
//! [`lookup`] and [`audit`] read what was folded; [`desk`] mends what could not be counted.

pub mod admin;
pub mod archive;
pub mod audit;
mod blobs;
mod burst;
pub mod desk;
pub mod fold;
mod fold_loop;
pub mod generations;
pub mod halts;
pub mod handoff;
#[cfg(feature = "kafka")]
pub mod letter_topic;
pub mod lookup;
#[cfg(feature = "kafka")]
pub mod mending;
pub mod metrics;
mod moving;
pub mod opening;
mod owned;
pub mod pipeline;
mod reading;
pub mod republish;
mod routes;
pub mod runs;
pub mod schedule;
mod tending;
pub mod worker;
