//! How fast Pulso is, measured so that it stays true: the table of `docs/benchmarks.md`, the load generator, and what the
//! criterion benches share.
//!
//! [`mix`] makes the pulses, from a seed; [`load`] sends them and verifies every answer; [`table`] is the table, one module
//! a row. A row that compares two things runs each in a process of its own, in turns, and counts CPU time first, since
//! wall time on a shared machine says little. Every run ends by adding up what came out: a figure whose totals are wrong
//! is a failure, not a figure. [`role`] is what the processes of a run do. `cluster` (a cargo feature) is the same on real
//! brokers and nodes, against their bare clients.

pub mod child;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod cpu;
pub mod load;
pub mod mix;
pub mod null_log;
pub mod records;
pub mod role;
pub mod table;
