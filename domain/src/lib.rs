//! The nouns of Pulso: what a pulse is, when it is good, how quantities, windows and positions behave.
//!
//! Pure: no I/O, no async, no clock. Everything that counts or bills is built from these types, so they own the
//! exactness: sums cannot overflow, times cannot be confused with one another, and a rejected pulse always has a
//! [`Reason`](reason::Reason).

#![deny(clippy::float_arithmetic)]

pub mod fate;
pub mod fingerprint;
pub mod hasher;
pub mod ids;
pub mod money;
pub mod partitioner;
pub mod position;
pub mod price;
pub mod pulse;
pub mod quantity;
pub mod reason;
mod sip;
pub mod text;
pub mod time;
pub mod usage;
pub mod window;
