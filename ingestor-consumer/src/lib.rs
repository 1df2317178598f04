//! Pulses become usage: reads the log, folds each partition, writes rows, id runs, directories and dead letters.
//!
//! [`fold`] is the protocol, pure; everything else is the thin shell around it.

pub mod fold;
pub mod runs;
pub mod worker;
