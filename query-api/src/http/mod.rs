//! What every request passes: bounds, problem details, security headers, metrics; and what reads requests strictly.

pub(crate) mod body;
pub(crate) mod finish;
pub(crate) mod format;
pub(crate) mod json;
pub(crate) mod paging;
pub(crate) mod params;
