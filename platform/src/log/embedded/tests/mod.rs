//! The tests of the embedded log as a whole, and what they share.

mod conforming;
mod failing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{EmbeddedLog, EmbeddedLogConfig};
use crate::log::conformance::PARTITIONS;
use crate::service::clock::Clock;

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

/// A log in a folder of its own.
fn config(folder: &TempDir) -> EmbeddedLogConfig {
    EmbeddedLogConfig::new(folder.path(), PARTITIONS, Clock::manual(1_700_000_000_000_000_000))
}

fn open(config: &EmbeddedLogConfig) -> Arc<EmbeddedLog> {
    Arc::new(EmbeddedLog::open(config.clone()).unwrap().0)
}

/// Waits until something is true.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < end, "{what} does not come true");
        std::thread::yield_now();
    }
}
