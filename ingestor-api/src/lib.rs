//! The front door: tenants send pulses here and read receipts.
//!
//! The journey of a batch, in the order of the modules: [`server`] listens, `driver` runs each connection with hand-set
//! limits and `routes` finds the service of a call. `unary` speaks gRPC for one plain message; for streams and compressed
//! messages `service` does, where `meter` counts the bytes as they arrive and `codec` hands them over raw.
//! [`admission`] bounds what is in flight, [`ingest`] ties the steps together, `batch` walks the bytes and sorts the
//! pulses by partition with `door` judging each one, `lanes` knows the log's newest generation, `packer` makes its records,
//! `board` waits for their fates, and `answer` writes the response. [`sources`] are the other ways in: HTTP and brokers, whose messages [`formats`] reads.
//!
//! Two invariants: a pulse is answered ACCEPTED only after the log confirmed it (G1), and memory in flight never exceeds
//! what the settings allow (G11).

pub mod settings;

pub mod server;

mod connection;

mod driver;

mod routes;

mod unary;

mod service;

mod stream;

mod meter;

mod codec;

pub mod admission;

pub mod ingest;

mod batch;

pub mod door;

mod lanes;

mod outbox;
mod packer;

mod board;

mod answer;

mod wire;

pub mod formats;

pub mod sources;

pub mod refusal;

pub mod metrics;
