//! Where a command that looks at log and store itself finds them: a data folder that no server holds, or a cluster.

use std::sync::Arc;

use pulso_domain::fingerprint::HashKey;
use pulso_ingestor_consumer::archive::{Archive, Kept};
use pulso_ingestor_consumer::fold::ids::RunShape;
use pulso_platform::log::Log;
use pulso_platform::service::settings::DataSettings;
use pulso_platform::store::Store;

use super::built::Elsewhere;
use crate::cli::exit::Failure;
use crate::dev::folder::DataFolder;

/// A log and a store that belong together.
pub struct Place {
    /// What was acknowledged.
    pub log: Arc<dyn Log>,
    /// What was made of it.
    pub store: Arc<dyn Store>,
    /// The key of the hash of ids.
    pub hash_key: HashKey,
    /// Where folded records are.
    pub kept: Kept,
    /// The folder; none of a cluster.
    folder: Option<DataFolder>,
}

impl Place {
    /// Opens the cluster when its flags are given, else the folder, to look at it.
    ///
    /// # Errors
    /// When neither is there, or it cannot be used.
    pub fn open(data: &DataSettings, elsewhere: &Elsewhere) -> Result<Self, Failure> {
        match elsewhere.open()? {
            Some(cluster) => Ok(cluster),
            None => Self::of_folder(data),
        }
    }

    /// As [`Self::open`], also when the cluster's log is not what it was.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_to_mend(data: &DataSettings, elsewhere: &Elsewhere) -> Result<Self, Failure> {
        match elsewhere.open_to_mend()? {
            Some(cluster) => Ok(cluster),
            None => Self::of_folder(data),
        }
    }

    fn of_folder(data: &DataSettings) -> Result<Self, Failure> {
        let folder = DataFolder::open_to_look(&data.data_dir)?;
        Ok(Self {
            log: Arc::clone(&folder.log) as Arc<dyn Log>,
            store: Arc::clone(&folder.store) as Arc<dyn Store>,
            hash_key: folder.hash_key,
            kept: Kept::InLog,
            folder: Some(folder),
        })
    }

    /// A cluster.
    #[must_use]
    pub fn of_cluster(log: Arc<dyn Log>, store: Arc<dyn Store>, hash_key: HashKey) -> Self {
        Self { log, store, hash_key, kept: Kept::InStore, folder: None }
    }

    /// The folder, when it is one.
    #[must_use]
    pub const fn folder(&self) -> Option<&DataFolder> {
        self.folder.as_ref()
    }

    /// The archived records.
    #[must_use]
    pub fn archive(&self) -> Archive<'_> {
        Archive { log: &*self.log, store: &*self.store, kept: self.kept, shape: RunShape::FORMAT }
    }

    /// Makes what was written survive a loss of power, and gives the folder free.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn close(self) -> Result<(), Failure> {
        let Self { log, store, folder, .. } = self;
        drop((log, store));
        folder.map_or(Ok(()), DataFolder::close)
    }
}
