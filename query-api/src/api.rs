//! What every handler has: the sources, the settings, and the few steps that all of them take.

use std::sync::Arc;

use axum::response::Response;
use pulso_ingestor_consumer::desk::Desk;

use crate::problem::Problem;
use crate::read::sources::{Sources, blocking};
use crate::read::tenants::unknown_tenant;
use crate::read::wait::{self, Until};
use crate::settings::QuerySettings;

/// The state of the router.
pub(crate) struct Api {
    /// From where everything is read.
    pub(crate) sources: Sources,
    /// The bounds.
    pub(crate) settings: QuerySettings,
}

impl Api {
    /// Waits for the position of `?wait_for=`, when it is given.
    pub(crate) async fn wait_for(&self, text: Option<&str>, until: Until) -> Result<(), Problem> {
        wait::wait_for(&self.sources, text, until, self.settings.wait_max).await
    }

    /// Reads, where blocking is allowed.
    pub(crate) async fn read(
        self: Arc<Self>,
        work: impl FnOnce(&Self) -> Result<Response, Problem> + Send + 'static,
    ) -> Result<Response, Problem> {
        blocking(move || work(&self)).await
    }

    /// Works at the desk where dead letters are mended, as of now.
    pub(crate) fn with_desk<T>(
        &self,
        work: impl FnOnce(Desk<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let catalog = self.sources.pricing.catalog();
        let units = |product_sku: &str, use_unit: &str| catalog.accepts_unit(product_sku, use_unit);
        work(Desk {
            log: &*self.sources.log,
            store: &*self.sources.store,
            hash_key: self.sources.hash_key,
            units: &units,
            now_nanos: self.sources.clock.now_nanos(),
            accept_future: self.settings.accept_future,
        })
    }

    /// An error unless the tenant is known and its partition is not halted.
    pub(crate) fn known_tenant(&self, tenant_id: &str) -> Result<(), Problem> {
        self.sources.refuse_halted_tenant(tenant_id)?;
        if self.sources.has_usage(tenant_id)? || self.sources.is_in_catalog(tenant_id) {
            return Ok(());
        }
        Err(unknown_tenant(tenant_id))
    }
}
