//! The catalog in force, and versions before it, as far as reads need them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pulso_pricing::rate::CompiledCatalog;

use super::sources::Sources;
use crate::problem::Problem;

/// How the catalog calls a tenant.
#[derive(Clone, Default, Debug)]
pub(crate) struct Profile {
    /// For people.
    pub(crate) name: Option<String>,
    /// Where it was imported from.
    pub(crate) source_id: Option<String>,
}

impl Sources {
    /// The tenants that the catalog names, by contract or by name.
    pub(crate) fn profiles(&self) -> BTreeMap<String, Profile> {
        let catalog = self.pricing.catalog();
        let document = catalog.document();
        let mut profiles = BTreeMap::new();
        for contract in &document.contracts {
            profiles.insert(contract.tenant_id.clone(), Profile::default());
        }
        for tenant in &document.tenants {
            let profile = Profile { name: tenant.name.clone(), source_id: tenant.source_id.clone() };
            profiles.insert(tenant.tenant_id.clone(), profile);
        }
        profiles
    }

    /// Whether the catalog names the tenant.
    pub(crate) fn is_in_catalog(&self, tenant_id: &str) -> bool {
        let catalog = self.pricing.catalog();
        let document = catalog.document();
        document.contracts.iter().any(|contract| contract.tenant_id == tenant_id)
            || document.tenants.iter().any(|tenant| tenant.tenant_id == tenant_id)
    }

    /// One version of the catalog: charges are explained under the one they were rated under.
    pub(crate) fn catalog_version(&self, version: u64) -> Result<Arc<CompiledCatalog>, Problem> {
        let held = self.pricing.catalog_version(version)?;
        held.ok_or_else(|| Problem::internal(&"a catalog version that charges name is not there"))
    }
}
