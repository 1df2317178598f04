//! The consumer's metrics, recorded per batch, never per pulse.

use metrics::{counter, gauge, histogram};
use pulso_domain::fate::FateCounts;

/// Pulses by fate: counted, duplicate, conflict, dead_lettered.
pub const PULSES: &str = "pulso_consumer_pulses_total";
/// Records folded.
pub const RECORDS: &str = "pulso_consumer_records_total";
/// Seconds that a flush took.
pub const FLUSH_SECONDS: &str = "pulso_consumer_flush_seconds";
/// Flushes that did not succeed and were tried again.
pub const RETRIES: &str = "pulso_consumer_retries_total";
/// Partitions that are halted; must stay 0.
pub const HALTED: &str = "pulso_consumer_halted_partitions";
/// Rows held in RAM.
pub const ROWS: &str = "pulso_consumer_rows";
/// Rows that may be held in RAM before some are evicted.
pub const ROWS_LIMIT: &str = "pulso_consumer_rows_limit";
/// Batches that wait between the reader and the fold workers.
pub const QUEUE: &str = "pulso_consumer_queue_batches";
/// Batches that may wait.
pub const QUEUE_LIMIT: &str = "pulso_consumer_queue_batches_limit";
/// Bytes of RAM that the filters of id runs take.
pub const FILTER_BYTES: &str = "pulso_consumer_filter_bytes";
/// Times that the maintenance of id runs failed and will be tried again.
pub const MAINTENANCE_FAILURES: &str = "pulso_consumer_maintenance_failures_total";
/// Pushes of usage to pricing that failed and were tried again.
pub const HANDOFF_RETRIES: &str = "pulso_consumer_handoff_retries_total";
/// Records of this member's partitions that wait in the log.
pub const BACKLOG_RECORDS: &str = "pulso_consumer_backlog_records";
/// How long the oldest of them has waited.
pub const BACKLOG_AGE_SECONDS: &str = "pulso_consumer_backlog_age_seconds";
/// Bursts of a schedule that ended before all was read.
pub const BURSTS_UNFINISHED: &str = "pulso_consumer_bursts_unfinished_total";

/// Every metric of this crate with its help text.
pub const ALL: [(&str, &str); 15] = [
    (BACKLOG_RECORDS, "Records of this member's partitions that wait in the log."),
    (BACKLOG_AGE_SECONDS, "How long the oldest of them has waited."),
    (BURSTS_UNFINISHED, "Bursts of a schedule that ended before all was read."),
    (HANDOFF_RETRIES, "Pushes of usage to pricing that had to be tried again."),
    (PULSES, "Pulses folded, by fate."),
    (RECORDS, "Log records folded."),
    (FLUSH_SECONDS, "Seconds a flush took."),
    (RETRIES, "Steps that had to be tried again because the log or the store could not be used."),
    (HALTED, "Partitions that are halted; must stay 0."),
    (ROWS, "Usage rows held in RAM."),
    (ROWS_LIMIT, "Usage rows that may be held in RAM before some are evicted."),
    (QUEUE, "Batches waiting between the reader and the fold workers."),
    (QUEUE_LIMIT, "Batches that may wait there."),
    (FILTER_BYTES, "Bytes of RAM the filters of id runs take."),
    (MAINTENANCE_FAILURES, "Times the maintenance of id runs failed and will be tried again."),
];

/// Records what one flush brought: the difference of two counts.
pub(crate) fn flushed(before: &FateCounts, after: &FateCounts, records: u64, seconds: f64) {
    counter!(PULSES, "fate" => "counted").increment(after.counted.saturating_sub(before.counted));
    counter!(PULSES, "fate" => "duplicate").increment(after.duplicate.saturating_sub(before.duplicate));
    counter!(PULSES, "fate" => "conflict").increment(after.conflict.saturating_sub(before.conflict));
    counter!(PULSES, "fate" => "dead_lettered")
        .increment(after.dead_lettered.saturating_sub(before.dead_lettered));
    counter!(RECORDS).increment(records);
    histogram!(FLUSH_SECONDS).record(seconds);
}

/// Records how much RAM a worker's state takes.
pub(crate) fn held(worker: usize, rows: usize, filter_bytes: usize) {
    gauge!(ROWS, "worker" => worker.to_string()).set(rows as f64);
    gauge!(FILTER_BYTES, "worker" => worker.to_string()).set(filter_bytes as f64);
}
