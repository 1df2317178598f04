//! Whether the store answers, for readiness: asked every second, since a role that only waits for it would look idle.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pulso_platform::service::tasks::Stage;
use pulso_platform::store::{Store, keys};

use crate::cli::exit::Failure;
use crate::roles::host::Host;

/// How late `/readyz` may be about the store.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How soon a stop is seen.
const STEP: Duration = Duration::from_millis(50);

impl Host {
    /// Follows whether the store answers.
    pub(super) fn start_store_watch(&self, store: Arc<dyn Store>) -> Result<(), Failure> {
        let part = self.health.part("store");
        let stop = self.tasks.stop_of(Stage::Close);
        let watch = move || {
            let mut asked: Option<Instant> = None;
            while !stop.is_cancelled() {
                if asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
                    match store.get(&[keys::meta("hash_key")]) {
                        Ok(_) => part.ready(),
                        Err(error) => part.not_ready(error.to_string()),
                    }
                    asked = Some(Instant::now());
                }
                thread::sleep(STEP);
            }
            Ok(())
        };
        self.tasks.spawn_blocking(Stage::Close, "store-watch", watch).map_err(Failure::failed)
    }
}
