//! What every role needs around its work: a clock, settings, telemetry, health, supervised tasks, ordered shutdown.

pub mod clock;
