//! The only place that reads the wall clock. Logic takes a [`Clock`], so that tests set the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pulso_domain::time::Instant;

/// Tells the time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// A test's, in nanoseconds since the Unix epoch.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands still until it is set.
    #[must_use]
    pub fn manual(nanos: i64) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(nanos)))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub fn now_nanos(&self) -> i64 {
        match self {
            Self::System => system_nanos(),
            Self::Manual(nanos) => nanos.load(Ordering::Relaxed),
        }
    }

    /// Now, as an instant.
    #[must_use]
    pub fn now(&self) -> Instant {
        let nanos = self.now_nanos();
        let rest = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
        Instant::new(nanos.div_euclid(1_000_000_000), rest).unwrap_or(Instant::EPOCH)
    }

    /// Sets a manual clock; the machine's own is left alone.
    pub fn set_nanos(&self, to: i64) {
        if let Self::Manual(nanos) = self {
            nanos.store(to, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn system_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
