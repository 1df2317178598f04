//! The front door from outside: a true server on a socket, the generated client, and a log that does as it is told.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be set up is a failed test")]

mod accounting;
mod bad_input;
mod bad_message;
mod delivering;
mod embedded;
mod events;
mod failing_log;
mod fixture;
mod forwarding;
mod http2;
mod listener;
mod overload;
mod sending;
mod streaming;
