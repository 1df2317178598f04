//! The service around rating: it knows the catalog in force, rates the months that changed, and publishes their charges.
//! It only moves data; what things cost is decided by [`rate`](crate::rate::rate) alone.
//!
//! Its calls block, as the store's do: async callers go through a blocking thread, and [`PricingService::run`] has a
//! thread of its own.

mod error;
mod publish;
mod reading;
mod run;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use metrics::gauge;
use parking_lot::{Condvar, Mutex, RwLock};
use pulso_domain::usage::UsageChanged;
use pulso_platform::log::{LayoutBook, Log};
use pulso_platform::store::Store;
use tokio_util::sync::CancellationToken;

pub use error::PricingError;
pub use publish::published;
pub use reading::{Hours, month_usage};

use crate::catalog::{Change, Mode, Parsed, Plan, plan};
use crate::metrics as names;
use crate::rate::CompiledCatalog;

/// What the service works on.
#[derive(Clone)]
pub struct Settings {
    /// Where usage, catalog and charges stand.
    pub store: Arc<dyn Store>,
    /// In one process, the log that a catalog must survive in; none in a cluster.
    pub log: Option<Arc<dyn Log>>,
    /// The generations of the log, whose tenants are rated.
    pub layouts: LayoutBook,
    /// How long an apply waits after a start until the fold has read what the log held; only with a log.
    pub fold_wait: Duration,
    /// How often folded usage is looked for that nobody handed over; never in one process, where no change is lost.
    pub sweep_every: Option<Duration>,
    /// Whether this process rates; one that only reads and applies catalogs waits for those that do.
    pub rates: bool,
}

/// What an apply did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The catalog version in force behind it.
    pub version: u64,
    /// What changed; when nothing did, the version is the one before.
    pub changes: Vec<Change>,
}

/// The catalog in force and the rating of all tenants. A clone is the same service.
#[derive(Clone)]
pub struct PricingService {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    catalog: RwLock<Arc<CompiledCatalog>>,
    /// Held by the one apply in progress. It is the offset that the fold must have passed before, since a catalog that
    /// stands in the log but not yet in the store may be the newest one.
    applying: Mutex<u64>,
    work: Mutex<Work>,
    rested: Condvar,
    wake: (Sender<()>, Receiver<()>),
}

/// Stands for the end of the log as it is at the next apply: an append did not say what became of it.
const LOG_END: u64 = u64::MAX;

/// How late a process that does not rate may be with a new catalog.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// How often an apply looks whether the fold has come far enough.
const FOLD_POLL: Duration = Duration::from_millis(20);

/// What the run loop has to do and does.
#[derive(Default)]
struct Work {
    /// All months are to be rated again, since the catalog changed.
    all: bool,
    /// Something is being rated.
    busy: bool,
    /// What the run loop reads, once it runs.
    changes: Option<Receiver<UsageChanged>>,
}

impl Work {
    fn is_settled(&self) -> bool {
        !self.all && !self.busy && self.changes.as_ref().is_none_or(Receiver::is_empty)
    }
}

impl PricingService {
    /// Reads the catalog in force. Blocks.
    ///
    /// # Errors
    /// When the store or the log cannot be read.
    pub fn open(settings: Settings) -> Result<Self, PricingError> {
        let log_end = settings.log.as_deref().map_or(Ok(0), versions::log_end)?;
        let catalog = versions::newest(&*settings.store)?;
        gauge!(names::CATALOG_VERSION).set(catalog.version() as f64);
        let inner = Inner {
            settings,
            catalog: RwLock::new(Arc::new(catalog)),
            applying: Mutex::new(log_end),
            work: Mutex::new(Work::default()),
            rested: Condvar::new(),
            wake: crossbeam_channel::bounded(1),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The catalog in force, as far as this process knows.
    #[must_use]
    pub fn catalog(&self) -> Arc<CompiledCatalog> {
        self.inner.catalog.read().clone()
    }

    /// An older version; `None` when it does not exist. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    pub fn catalog_version(&self, version: u64) -> Result<Option<Arc<CompiledCatalog>>, PricingError> {
        let current = self.catalog();
        if current.version() == version {
            return Ok(Some(current));
        }
        Ok(versions::load(self.store(), version)?.map(Arc::new))
    }

    /// Whether pulses of a unit can be priced for a SKU; `None` when the SKU is unknown. For the ingestor.
    #[must_use]
    pub fn accepts_unit(&self, product_sku: &str, use_unit: &str) -> Option<bool> {
        self.inner.catalog.read().accepts_unit(product_sku, use_unit)
    }

    /// What applying a document would change. Blocks.
    ///
    /// # Errors
    /// [`PricingError::InvalidCatalog`] with every error, or when the store cannot be read.
    pub fn plan(&self, sent: &Parsed, mode: Mode) -> Result<Plan, PricingError> {
        self.refresh()?;
        plan(self.catalog().document(), &sent.document, mode).map_err(|mut errors| {
            sent.locate(&mut errors);
            PricingError::InvalidCatalog(errors)
        })
    }

    /// Applies a document as a whole, durably, and has all months rated again. Blocks; one apply at a time.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), or when log or store did not take it.
    pub fn apply(&self, sent: &Parsed, mode: Mode) -> Result<Applied, PricingError> {
        let mut fold_to = self.inner.applying.lock();
        self.check_folded(&mut fold_to)?;
        let planned = self.plan(sent, mode)?;
        let current = self.catalog();
        if planned.changes.is_empty() && planned.document == *current.document() {
            return Ok(Applied { version: current.version(), changes: Vec::new() });
        }
        let version = current.version() + 1;
        let document = planned.document.to_json().into();
        if let Some(log) = &self.inner.settings.log {
            *fold_to = LOG_END;
            *fold_to = versions::append(&**log, version, &document)? + 1;
        }
        versions::store(self.store(), version, &document)?;
        *fold_to = 0;
        self.take(CompiledCatalog::new(version, planned.document));
        Ok(Applied { version, changes: planned.changes })
    }

    /// Waits until everything known so far is rated: the changes received, and all months after an apply. False when
    /// that took longer. Blocks.
    #[must_use]
    pub fn settled(&self, within: Duration) -> bool {
        if !self.inner.settings.rates {
            return self.rated_elsewhere(within);
        }
        let mut work = self.inner.work.lock();
        let waiting = self.inner.rested.wait_while_for(&mut work, |work| !work.is_settled(), within);
        !waiting.timed_out() || work.is_settled()
    }

    /// Takes over catalogs that others apply, until the token is cancelled. Blocks; for a thread of its own in a process that
    /// does not rate.
    pub fn follow(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.refresh() {
                tracing::warn!(%error, "the newest catalog cannot be read now");
            }
            std::thread::sleep(FOLLOW_PAUSE);
        }
    }

    /// Waits until those that rate have rated every month under the catalog in force.
    fn rated_elsewhere(&self, within: Duration) -> bool {
        let version = self.catalog().version();
        let since = std::time::Instant::now();
        loop {
            if versions::rated(self.store()).is_ok_and(|rated| rated >= version) {
                return true;
            }
            if since.elapsed() >= within {
                return false;
            }
            std::thread::sleep(FOLD_POLL);
        }
    }

    fn check_folded(&self, fold_to: &mut u64) -> Result<(), PricingError> {
        if let Some(log) = self.inner.settings.log.as_ref().filter(|_| *fold_to == LOG_END) {
            *fold_to = versions::log_end(&**log)?;
        }
        let mut waited = Duration::ZERO;
        while !versions::is_folded_to(self.store(), *fold_to)? {
            if waited >= self.inner.settings.fold_wait {
                return Err(PricingError::NotReady);
            }
            // The fold writes its progress to the store and tells nobody, so that the store is asked again.
            std::thread::sleep(FOLD_POLL);
            waited += FOLD_POLL;
        }
        Ok(())
    }

    /// Takes over a catalog that someone else applied. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read or is damaged.
    pub fn refresh(&self) -> Result<(), PricingError> {
        if versions::head(self.store())? > self.catalog().version() {
            self.take(versions::newest(self.store())?);
        }
        Ok(())
    }

    /// Puts a newer catalog in force and asks for all months to be rated again.
    fn take(&self, catalog: CompiledCatalog) {
        gauge!(names::CATALOG_VERSION).set(catalog.version() as f64);
        {
            let mut held = self.inner.catalog.write();
            if held.version() >= catalog.version() {
                return;
            }
            *held = Arc::new(catalog);
        }
        self.inner.work.lock().all = self.inner.settings.rates;
        // A full channel means that the run loop is about to wake anyway.
        let _ = self.inner.wake.0.try_send(());
    }

    fn store(&self) -> &dyn Store {
        &*self.inner.settings.store
    }
}
