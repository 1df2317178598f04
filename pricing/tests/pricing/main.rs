//! The tests of pricing through its public face, in one binary so that they share their support.

mod catalog;
mod golden;
mod invoices;
mod properties;
mod rating;
mod service;
mod support;
