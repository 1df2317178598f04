//! What every handler has: the sources, the settings, and the few steps that all of them take.

use std::sync::Arc;

use axum::response::Response;

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

    /// An error unless the tenant is known and its partition is not halted.
    pub(crate) fn known_tenant(&self, tenant_id: &str) -> Result<(), Problem> {
        self.sources.refuse_halted(self.sources.partition_of(tenant_id))?;
        if self.sources.has_usage(tenant_id)? || self.sources.is_in_catalog(tenant_id) {
            return Ok(());
        }
        Err(unknown_tenant(tenant_id))
    }
}
