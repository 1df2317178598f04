//! Reading what was folded: synchronous, without HTTP. [`sources`] says from where, the others answer one question each.

pub(crate) mod catalog;
pub(crate) mod charges;
pub(crate) mod explain;
pub(crate) mod invoices;
pub(crate) mod letters;
pub(crate) mod moved;
pub(crate) mod position;
pub(crate) mod preview;
pub(crate) mod pulse;
pub(crate) mod resources;
pub(crate) mod sources;
pub(crate) mod span;
pub(crate) mod tenants;
mod tiers;
pub(crate) mod usage;
pub(crate) mod wait;
