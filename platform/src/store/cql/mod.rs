//! The store of the cluster: ScyllaDB or Apache Cassandra, under the trait of [`crate::store`], by one code.
//!
//! **A cell is one CQL cell, written `USING TIMESTAMP <version>`** by a quorum and read by a quorum. The servers keep the
//! greater timestamp whatever the order of arrival: that is the trait's one rule, without a read before the write. A write
//! that times out may be there or not, and doing it again writes the same bytes. No TTL, no counter, no server's clock.
//!
//! **A register changes by compare-and-set**, a lightweight transaction on its version. One whose outcome is unknown is
//! read back with serial consistency, which decides it; a token says whose change is found.
//!
//! **A flush keeps the order of the trait**: every cell is confirmed before the first set, every set before the checkpoint,
//! the checkpoint before any removal. When one step fails nothing behind it is begun.
//!
//! **Trouble is back-pressure, never loss.** What cannot be done now is [`StoreError::Unavailable`] and the caller sends it
//! again; after several such calls in a row a circuit breaker answers at once for a second, so that callers do not pile up.

#[cfg(feature = "cluster-tests")]
pub mod apart;
mod layout;
pub mod metrics;
mod read;
pub mod schema;
mod session;
mod sets;
mod settings;
mod statements;
#[cfg(all(test, feature = "cluster-tests"))]
mod tests;
mod write;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ::metrics::{counter, histogram};
use parking_lot::Mutex;
use recloser::Recloser;
use scylla::client::session::Session;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use self::metrics::{STORE_CALL_SECONDS, STORE_SETS_LOST_TOTAL, STORE_UNAVAILABLE_TOTAL};
use super::{Cell, Flush, Flushed, Key, Range, Store, StoreError, Table};
pub use settings::CqlSettings;
use statements::Statements;

/// How long the breaker answers by itself before a call is tried again.
const REST: Duration = Duration::from_secs(1);
/// As many calls in a row are looked at; the breaker opens when half of them failed.
const CALLS_LOOKED_AT: usize = 8;
/// Requests and their bytes under way at once, over all callers, in KiB: each takes at least [`REQUEST_KIB_MIN`].
const FLIGHT_KIB_MAX: usize = 16 << 10;
/// At most 256 requests are under way at once.
const REQUEST_KIB_MIN: usize = 64;

/// The store on ScyllaDB or Apache Cassandra. Share it in an `Arc`.
pub struct CqlStore {
    inner: Inner,
    keyspace: String,
    breaker: Recloser,
    /// Taken only when the store is dropped.
    runtime: Option<Runtime>,
}

/// What requests need.
struct Inner {
    session: Session,
    statements: Statements,
    /// Bounds what is under way.
    flight: Semaphore,
    /// Buckets that stand in the list of their partition, as far as this process knows.
    listed_buckets: Mutex<HashSet<(Table, Vec<u8>, i64)>>,
}

impl CqlStore {
    /// Connects to a store that [`schema::init`] has made, and checks its version.
    ///
    /// # Errors
    /// When no node answers ([retryable](StoreError::is_retryable)); when the credentials or the certificate are refused, the
    /// keyspace or its tables are not there, or are of another version.
    pub fn open(settings: &CqlSettings) -> Result<Self, StoreError> {
        let store = Self::connect(settings)?;
        store.check_version()?;
        Ok(store)
    }

    fn connect(settings: &CqlSettings) -> Result<Self, StoreError> {
        settings.validate()?;
        let runtime = session::runtime()?;
        let keyspace = settings.cql_keyspace.clone();
        let session = session::wait(runtime.handle(), session::connect(settings, Some(&keyspace)));
        let session = match session {
            Ok(session) => session,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let inner = Inner {
            session,
            statements: Statements::new(),
            flight: Semaphore::new(FLIGHT_KIB_MAX),
            listed_buckets: Mutex::default(),
        };
        let breaker = Recloser::custom()
            .error_rate(0.5)
            .closed_len(CALLS_LOOKED_AT)
            .half_open_len(1)
            .open_wait(REST)
            .build();
        Ok(Self { inner, keyspace, breaker, runtime: Some(runtime) })
    }

    /// Waits for a piece of work, and lets the breaker know how it went.
    fn wait<T>(&self, work: impl AsyncFnOnce(&Inner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Unavailable("it is closed".to_owned()));
        };
        let call = || session::wait(runtime.handle(), work(&self.inner));
        let done = self.breaker.call_with(StoreError::is_retryable, call).map_err(|error| match error {
            recloser::Error::Inner(error) => error,
            recloser::Error::Rejected => {
                StoreError::Unavailable("its last requests failed; the next is tried in a second".to_owned())
            }
        });
        if done.as_ref().is_err_and(StoreError::is_retryable) {
            counter!(STORE_UNAVAILABLE_TOTAL).increment(1);
        }
        done
    }
}

impl Store for CqlStore {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Cell>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        timed("get", || self.wait(async |inner| inner.get(keys).await))
    }

    fn scan(
        &self,
        table: Table,
        partition: &[u8],
        range: &Range,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Cell)>, StoreError> {
        timed("scan", || self.wait(async |inner| inner.scan(table, partition, range, limit).await))
    }

    fn flush(&self, flush: Flush) -> Result<Flushed, StoreError> {
        write::check(&flush)?;
        let flushed = timed("flush", || self.wait(async |inner| inner.flush(&flush).await))?;
        if matches!(flushed, Flushed::Lost(_)) {
            counter!(STORE_SETS_LOST_TOTAL).increment(1);
        }
        Ok(flushed)
    }
}

/// Does a call and says how long it took, whatever came of it.
fn timed<T>(call: &'static str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    histogram!(STORE_CALL_SECONDS, "call" => call).record(begun.elapsed());
    done
}

impl Drop for CqlStore {
    fn drop(&mut self) {
        // Not waited for: the store may be dropped on a thread of another runtime, and nothing is under way any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for CqlStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CqlStore").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}
