//! What the roles stand on: the log and the store, opened and checked before a role serves.

use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_platform::log::kafka::{KafkaGenerations, KafkaLogOptions};
use pulso_platform::log::{Log, LogError};
use pulso_platform::store::cql::{CqlSettings, CqlStore};
use pulso_platform::store::{Store, StoreError, identity};

use super::settings::ClusterFlags;
use crate::cli::exit::Failure;

/// What a role holds until its end: the log, and the store when it has to have one.
pub(super) struct Cluster {
    pub(super) log: Arc<KafkaGenerations>,
    pub(super) store: Option<Arc<CqlStore>>,
}

impl Cluster {
    /// Closes both; blocks, since the log's client flushes what it holds.
    pub(super) fn close(self) {
        let Self { log, store } = self;
        drop(store);
        drop(log);
    }
}

/// Log, store, and the key of the hash of ids.
pub(super) struct Opened {
    /// To hold until the end.
    pub cluster: Cluster,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The key of the hash of ids.
    pub hash_key: HashKey,
}

/// Opens the log. Blocks for some seconds when nobody answers.
///
/// # Errors
/// One sentence with the mend.
pub(super) async fn open_log(flags: &ClusterFlags) -> Result<Arc<KafkaGenerations>, Failure> {
    let settings = flags.kafka.clone();
    let opened = blocking(move || KafkaGenerations::open(&settings, KafkaLogOptions::default())).await?;
    opened.map(Arc::new).map_err(|error| log_failure(&error))
}

/// Opens both.
///
/// # Errors
/// One sentence with the mend.
pub(super) async fn open(flags: &ClusterFlags) -> Result<Opened, Failure> {
    let log = open_log(flags).await?;
    let settings = flags.cql.clone();
    let (store, hash_key) =
        blocking(move || open_store(&settings)).await?.map_err(|error| store_failure(&error))?;
    Ok(Opened {
        log: Arc::clone(&log) as Arc<dyn Log>,
        store: Arc::clone(&store) as Arc<dyn Store>,
        cluster: Cluster { log, store: Some(store) },
        hash_key,
    })
}

/// Opens the store alone. Blocks.
///
/// # Errors
/// As the store says.
pub(super) fn open_store(settings: &CqlSettings) -> Result<(Arc<CqlStore>, HashKey), StoreError> {
    let store = CqlStore::open(settings)?;
    let hash_key = identity::hash_key(&store)?;
    Ok((Arc::new(store), HashKey::new(hash_key)))
}

/// Runs what blocks where blocking is allowed.
///
/// # Errors
/// When it panics.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::failed)
}

/// A log that is not as it must be, or is not there, is a fault of the configuration.
#[must_use]
pub(super) fn log_failure(error: &LogError) -> Failure {
    match error {
        LogError::Damaged { .. } | LogError::Io { .. } => Failure::failed(error),
        _ => Failure::usage(error),
    }
}

/// The same of a store.
#[must_use]
pub(super) fn store_failure(error: &StoreError) -> Failure {
    match error {
        StoreError::Damaged { .. } => Failure::failed(error),
        _ => Failure::usage(error),
    }
}
