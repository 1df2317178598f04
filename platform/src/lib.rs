//! The edges of Pulso: where bytes leave the process. Nothing here decides anything about a pulse.
//!
//! [`log`] holds what was acknowledged, [`store`] what the fold and the pricing made of it, and [`service`] is what
//! every role needs around its work: settings, clock, telemetry, health, supervised tasks, ordered shutdown.

pub mod log;
pub mod service;
pub mod store;
