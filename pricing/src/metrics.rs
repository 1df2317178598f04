//! The names of this crate's metrics.

/// Tenant-months rated.
pub const MONTHS_RATED: &str = "pulso_pricing_months_rated_total";
/// Publications that lost a compare-and-set and were rated again.
pub const PUBLICATIONS_LOST: &str = "pulso_pricing_publications_lost_total";
/// Rows found without a price while rating, by `reason`. Growth means usage that nobody will be billed for.
pub const UNPRICED_ROWS: &str = "pulso_pricing_unpriced_rows_total";
/// The catalog version in force.
pub const CATALOG_VERSION: &str = "pulso_pricing_catalog_version";
/// Times that the store or log could not be used and the work was tried again.
pub const RETRIES: &str = "pulso_pricing_retries_total";
