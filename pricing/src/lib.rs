//! Pricing: usage becomes charges and invoices.
//!
//! In flow order: a [`catalog`] document says what things cost; [`rate`](mod@rate) turns usage rows and a catalog version
//! into charges, purely; [`charges`] are published as one set per tenant-month; an [`invoice`] is a view of such a set.
//! The [`service`] around them only moves data; [`door`] is where usage comes in from other processes.

#![deny(clippy::float_arithmetic)]

pub mod catalog;
pub mod charges;
pub mod door;
pub mod invoice;
pub mod metrics;
pub mod rate;
pub mod service;
