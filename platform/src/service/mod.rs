//! What every role needs around its work: a clock, settings, telemetry, health, supervised tasks, ordered shutdown.

pub mod admin;
pub mod clock;
pub mod health;
pub mod http;
pub mod listen;
pub mod secret;
pub mod settings;
pub mod tasks;
pub mod telemetry;
