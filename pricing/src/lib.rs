//! Pricing: usage becomes charges and invoices.
//!
//! In flow order: a [`catalog`] document says what things cost.

pub mod catalog;
pub mod rate;
