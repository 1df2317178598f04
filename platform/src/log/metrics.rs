//! The metrics of the log. Recorded once per group, never per record.

/// Groups made durable.
pub const LOG_GROUPS_TOTAL: &str = "pulso_log_groups_total";
/// Records made durable.
pub const LOG_RECORDS_TOTAL: &str = "pulso_log_records_total";
/// Bytes of their values, with padding.
pub const LOG_VALUE_BYTES_TOTAL: &str = "pulso_log_value_bytes_total";
/// Groups whose write or fsync failed; each is taken back. Must stay 0 on a healthy disk.
pub const LOG_FAILED_GROUPS_TOTAL: &str = "pulso_log_failed_groups_total";
/// Appends that the brokers did not confirm in time, so that nobody knows whether they were stored.
pub const LOG_UNKNOWN_APPENDS_TOTAL: &str = "pulso_log_unknown_appends_total";
/// How long the fsync of a group took.
pub const LOG_SYNC_SECONDS: &str = "pulso_log_sync_seconds";
