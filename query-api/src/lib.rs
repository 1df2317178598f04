//! Everything that can be asked: usage, charges, invoices, explanations, fates, the ledger, the catalog. REST under `/v1`.
//!
//! In the order a request meets them: [`server`] takes connections, [`router`] knows the paths, `http` reads requests
//! strictly and finishes answers, `routes` has a file for each thing that is asked for, `read` reads what was folded.
//! [`problem`] is every way to fail, [`metrics`] what is counted, [`settings`] what is bounded.

mod api;
mod http;
pub mod metrics;
mod openapi;
pub mod problem;
mod read;
pub mod router;
mod routes;
pub mod server;
pub mod settings;

pub use read::sources::Sources;
