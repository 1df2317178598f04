//! The metrics of the store on CQL. Recorded once per call of the trait, never per statement.

/// How long a call took, by `call`: get, scan, flush.
pub const STORE_CALL_SECONDS: &str = "pulso_store_call_seconds";
/// Calls that the store could not do now, and that come again; those that the circuit breaker answered are among them.
pub const STORE_UNAVAILABLE_TOTAL: &str = "pulso_store_unavailable_total";
/// Changes by compare-and-set that lost to another.
pub const STORE_SETS_LOST_TOTAL: &str = "pulso_store_sets_lost_total";
