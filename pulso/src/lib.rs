//! The one binary, `pulso`: every role in one process, and the commands that talk to a server.
//!
//! [`cli`] reads the command line. [`send`], [`import`] and [`read`] are clients of the published interface and use
//! nothing else. [`dev`] wires log, store, ingestor, consumer, pricing and query into one process; [`demo`] fills such a
//! process with a sample bill. [`sources`] are the settings of the ways in beside gRPC. [`audit`], [`log_admin`] and [`doctor`] look at a data folder themselves.

pub mod archive;
pub mod audit;
pub mod cli;
pub mod client;
pub mod demo;
pub mod dev;
pub mod dlq;
pub mod doctor;
pub mod import;
pub mod log_admin;
pub mod read;
pub mod republish;
pub mod roles;
pub mod send;
pub mod sources;
