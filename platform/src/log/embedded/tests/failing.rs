//! A disk that fails: what is answered, what stays, and that the log goes on by itself (G12, and G5 on the way).

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::{config, open, until};
use crate::log::conformance::{append, from_the_start, read_all};
use crate::log::embedded::{Disk, DiskOperation, EmbeddedLog, EmbeddedLogConfig, Fault, Faults};
use crate::log::{Log, LogError};

const NO_SPACE: i32 = 28;
const IO_ERROR: i32 = 5;

struct Failing {
    faults: Arc<Faults>,
    config: EmbeddedLogConfig,
    log: Arc<EmbeddedLog>,
    _folder: TempDir,
}

/// A log with one answered record, on a disk that can be made to fail.
fn failing() -> Failing {
    let folder = TempDir::new().unwrap();
    let faults = Arc::new(Faults::default());
    let config = EmbeddedLogConfig { disk: Disk::failing(&faults), ..config(&folder) };
    let log = open(&config);
    append(&*log, 0, b"before").unwrap();
    Failing { faults, config, log, _folder: folder }
}

fn always(operation: DiskOperation, errno: i32) -> Fault {
    Fault { operation, skip: 0, times: u64::MAX, errno }
}

fn once(operation: DiskOperation, errno: i32) -> Fault {
    Fault { operation, skip: 0, times: 1, errno }
}

fn values(log: &dyn Log) -> Vec<Bytes> {
    read_all(log, &[(0, 1)]).into_iter().map(|record| record.value).collect()
}

#[test]
fn g12_a_full_disk_stops_appends_and_the_log_resumes_by_itself() {
    let failing = failing();
    failing.faults.plan(always(DiskOperation::Write, NO_SPACE));
    let refused = append(&*failing.log, 0, b"refused").unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    assert!(!failing.log.is_appendable());
    for _ in 0..3 {
        assert!(matches!(append(&*failing.log, 1, b"refused"), Err(LogError::Unavailable(_))));
    }
    assert_eq!(values(&*failing.log), ["before"], "reads go on");
    failing.faults.clear();
    until("the log takes records again", || failing.log.is_appendable());
    assert_eq!(append(&*failing.log, 0, b"after").unwrap().offset, 2);
    assert_eq!(values(&*failing.log), ["before", "after"]);
    reopened_it_is_the_same(failing);
}

#[test]
fn g05_after_a_failed_fsync_nobody_knows_and_nothing_of_it_is_read() {
    let failing = failing();
    failing.faults.plan(once(DiskOperation::Sync, IO_ERROR));
    let answer = append(&*failing.log, 0, b"perhaps").unwrap_err();
    assert!(matches!(answer, LogError::Unknown(_)), "{answer}");
    until("the log takes records again", || failing.log.is_appendable());
    assert_eq!(append(&*failing.log, 0, b"after").unwrap().offset, 2);
    assert_eq!(values(&*failing.log), ["before", "after"]);
    assert!(failing.config.folder.join("g1/00000000000000000001.log").exists(), "it went on in a new file");
    reopened_it_is_the_same(failing);
}

#[test]
fn g05_a_write_that_cannot_be_taken_back_is_unknown() {
    let failing = failing();
    failing.faults.plan(once(DiskOperation::Write, IO_ERROR));
    failing.faults.plan(always(DiskOperation::Truncate, IO_ERROR));
    let answer = append(&*failing.log, 0, b"perhaps").unwrap_err();
    assert!(matches!(answer, LogError::Unknown(_)), "{answer}");
    assert!(!failing.log.is_appendable());
    failing.faults.clear();
    until("the log takes records again", || failing.log.is_appendable());
    append(&*failing.log, 0, b"after").unwrap();
    assert_eq!(values(&*failing.log), ["before", "after"]);
    reopened_it_is_the_same(failing);
}

#[test]
fn g12_a_crash_while_nothing_can_be_written_loses_nothing_that_was_answered() {
    let failing = failing();
    failing.faults.plan(once(DiskOperation::Write, IO_ERROR));
    failing.faults.plan(always(DiskOperation::Truncate, IO_ERROR));
    append(&*failing.log, 0, b"perhaps").unwrap_err();
    let Failing { log, config, _folder, .. } = failing;
    drop(log);
    let healthy = EmbeddedLogConfig { disk: Disk::default(), ..config };
    let (log, report) = EmbeddedLog::open(healthy).unwrap();
    assert!(!report.cut.unwrap().possibly_acknowledged, "half a group was never acknowledged");
    assert_eq!(values(&log), ["before"]);
}

#[test]
fn g12_a_segment_that_cannot_be_begun_stops_appends_until_it_can() {
    let Failing { faults, config, log, _folder } = failing();
    drop(log);
    let config = EmbeddedLogConfig { segment_bytes: 1, ..config };
    let log = open(&config);
    faults.plan(always(DiskOperation::Create, NO_SPACE));
    let refused = append(&*log, 0, b"refused").unwrap_err();
    assert!(matches!(refused, LogError::Unavailable(_)), "{refused}");
    faults.clear();
    until("the log takes records again", || log.is_appendable());
    append(&*log, 0, b"after").unwrap();
    assert_eq!(values(&*log), ["before", "after"]);
    reopened_it_is_the_same(Failing { faults, config, log, _folder });
}

#[test]
fn g12_whichever_operation_fails_answers_stay_true() {
    let operations = [
        DiskOperation::Create,
        DiskOperation::Write,
        DiskOperation::Sync,
        DiskOperation::Reserve,
        DiskOperation::Truncate,
    ];
    std::thread::scope(|scope| {
        for operation in operations {
            scope.spawn(move || (0..8).for_each(|skip| answers_stay_true_when(operation, skip)));
        }
    });
}

fn answers_stay_true_when(operation: DiskOperation, skip: u64) {
    let Failing { faults, config, log, _folder } = failing();
    drop(log);
    let config = EmbeddedLogConfig { segment_bytes: 600, ..config };
    let failing = Failing { log: open(&config), faults, config, _folder };
    failing.faults.plan(Fault { operation, skip, times: 3, errno: NO_SPACE });
    failing.faults.plan(Fault { operation: DiskOperation::Write, skip: 5, times: 1, errno: NO_SPACE });
    answers_stay_true(&failing);
    reopened_it_is_the_same(failing);
}

/// What was answered is there, what was refused is not.
fn answers_stay_true(failing: &Failing) {
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let value = format!("{number} {}", "x".repeat(100));
        until("the log takes records", || failing.log.is_appendable());
        match append(&*failing.log, 0, value.as_bytes()) {
            Ok(_) => stored.push(value),
            Err(LogError::Unavailable(_)) => refused.push(value),
            Err(LogError::Unknown(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let values = values(&*failing.log);
    let held: Vec<_> = values.iter().filter(|value| stored.iter().any(|stored| stored == *value)).collect();
    assert_eq!(held, stored.iter().collect::<Vec<_>>());
    assert!(values.iter().all(|value| !refused.iter().any(|refused| refused == value)));
}

fn reopened_it_is_the_same(failing: Failing) {
    let Failing { log, config, _folder, .. } = failing;
    let before = read_all(&*log, &from_the_start());
    drop(log);
    let healthy = EmbeddedLogConfig { disk: Disk::default(), ..config };
    let (log, report) = EmbeddedLog::open(healthy).unwrap();
    assert_eq!(report.cut, None);
    assert_eq!(read_all(&log, &from_the_start()), before);
}
