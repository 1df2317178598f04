//! The conformance suite on the embedded log: as it is, and with segments so small that nearly each group has its own.

use std::sync::Arc;

use tempfile::TempDir;

use super::{config, open};
use crate::log::Log;
use crate::log::conformance::{Reopenable, run_all};
use crate::log::embedded::{EmbeddedLog, EmbeddedLogConfig};

struct Subject {
    config: EmbeddedLogConfig,
    log: Option<Arc<EmbeddedLog>>,
    _folder: TempDir,
}

impl Reopenable for Subject {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(open(&self.config));
    }
}

fn subject(segment_bytes: u64) -> Subject {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedLogConfig { segment_bytes, ..config(&folder) };
    Subject { log: Some(open(&config)), config, _folder: folder }
}

#[test]
fn the_embedded_log_passes_the_conformance_suite() {
    run_all(&|| subject(128 * 1024 * 1024));
}

#[test]
fn the_embedded_log_passes_the_conformance_suite_with_tiny_segments() {
    run_all(&|| subject(1024));
}
