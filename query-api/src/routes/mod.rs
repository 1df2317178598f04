//! One file for each thing that is asked for: its parameters, its answer, its handler.

pub(crate) mod catalog;
pub(crate) mod charges;
pub(crate) mod dead_letters;
pub(crate) mod desk;
pub(crate) mod desk_answers;
pub(crate) mod desk_requests;
pub(crate) mod document;
pub(crate) mod explain;
pub(crate) mod invoices;
pub(crate) mod ledger;
mod letter_bytes;
pub(crate) mod letter_view;
pub(crate) mod pages;
pub(crate) mod pulses;
pub(crate) mod tenants;
pub(crate) mod usage;
