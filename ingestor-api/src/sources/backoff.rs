//! How long a source waits before it tries to reach its broker again.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The waits between tries to reach a broker: they grow, and begin anew when it held for a while.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
    since: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);
    /// A session of this length was a good one.
    const GOOD: Duration = Duration::from_secs(10);

    /// Waits before the next try; false when told to stop meanwhile.
    pub(crate) async fn wait(&mut self, stop: &CancellationToken) -> bool {
        if self.since.is_some_and(|since| since.elapsed() >= Self::GOOD + Self::MAX) {
            self.tries = 0;
        }
        self.since = Some(Instant::now());
        let wait = Self::FIRST.saturating_mul(1 << self.tries.min(10)).min(Self::MAX);
        self.tries += 1;
        tokio::time::timeout(wait, stop.cancelled()).await.is_err()
    }
}
