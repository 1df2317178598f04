//! The data folder of a server in one process: `log/` holds what was acknowledged, `store/` what was made of it. The lock
//! of the log is the lock of the folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_platform::log::embedded::{EmbeddedGenerations, EmbeddedLogConfig, OpenReport};
use pulso_platform::log::{Log, LogError};
use pulso_platform::service::clock::Clock;
use pulso_platform::store::embedded::{EmbeddedOptions, EmbeddedStore};
use pulso_platform::store::{StoreError, identity};

use crate::cli::exit::Failure;

/// A folder that this process holds.
pub struct DataFolder {
    /// What was acknowledged. Dropped last: it holds the lock.
    pub log: Arc<EmbeddedGenerations>,
    /// What was made of it.
    pub store: Arc<EmbeddedStore>,
    /// The key of the hash of ids.
    pub hash_key: HashKey,
    /// What opening the log found.
    pub report: OpenReport,
}

/// Where the log lies in a data folder.
#[must_use]
pub fn log_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// Where the store lies in a data folder.
#[must_use]
pub fn store_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

impl DataFolder {
    /// Opens the folder to work on it, and makes what is not there.
    ///
    /// # Errors
    /// When it is in use, damaged, of a newer version, or cannot be read or written.
    pub fn open(data_dir: &Path, partitions: u32) -> Result<Self, Failure> {
        std::fs::create_dir_all(data_dir).map_err(|error| {
            let place = data_dir.display();
            Failure::usage(format!(
                "cannot make the data folder {place}: {error}; name another with --data-dir"
            ))
        })?;
        let config = EmbeddedLogConfig::new(log_folder(data_dir), partitions, Clock::System);
        let (log, report) = EmbeddedGenerations::open(&config).map_err(|error| log_failure(&error))?;
        Self::with_log(data_dir, log, report)
    }

    /// Opens a folder that is there and that nobody holds, to look at it: the log is not changed.
    ///
    /// # Errors
    /// When there is none, or as [`Self::open`].
    pub fn open_to_look(data_dir: &Path) -> Result<Self, Failure> {
        if !log_folder(data_dir).is_dir() {
            let place = data_dir.display();
            return Err(Failure::usage(format!(
                "there is no data folder at {place}; name it with --data-dir"
            )));
        }
        let config = EmbeddedLogConfig::new(log_folder(data_dir), 1, Clock::System);
        let (log, report) =
            EmbeddedGenerations::open_read_only(&config).map_err(|error| log_failure(&error))?;
        Self::with_log(data_dir, log, report)
    }

    /// Makes everything survive a loss of power and gives the folder free.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close(self) -> Result<(), Failure> {
        let synced = self.store.sync().map_err(|error| store_failure(&error));
        drop(self.store);
        self.log.close();
        synced
    }

    fn with_log(data_dir: &Path, log: EmbeddedGenerations, report: OpenReport) -> Result<Self, Failure> {
        let store = EmbeddedStore::open(store_folder(data_dir), EmbeddedOptions::default())
            .map_err(|error| store_failure(&error))?;
        // The first generation's log names it for ever.
        let first = log.generations().first().map_or([0; 16], |layout| layout.log_id);
        identity::bind_log(&store, first).map_err(|error| store_failure(&error))?;
        let hash_key = identity::hash_key(&store).map_err(|error| store_failure(&error))?;
        Ok(Self { log: Arc::new(log), store: Arc::new(store), hash_key: HashKey::new(hash_key), report })
    }
}

/// A folder in use is a fault of the call, anything else one of the folder.
#[must_use]
pub fn log_failure(error: &LogError) -> Failure {
    match error {
        LogError::InUse { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

/// What is wrong with a store, as a failure.
#[must_use]
pub fn store_failure(error: &StoreError) -> Failure {
    Failure::failed(error)
}
