//! The catalog in force, as far as a read needs it: which tenants it names.

use std::collections::BTreeMap;

use bytes::Bytes;
use pulso_platform::store::keys;
use serde::Deserialize;

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

/// The part of the document that names tenants.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    tenants: Vec<TenantEntry>,
    #[serde(default)]
    contracts: Vec<TenantEntry>,
}

#[derive(Deserialize)]
struct TenantEntry {
    tenant_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    source_id: Option<String>,
}

impl Sources {
    /// The newest catalog version and its document; `None` before the first.
    pub(crate) fn catalog(&self) -> Result<Option<(u64, Bytes)>, Problem> {
        let damaged = || Problem::internal(&"the head of the catalog names no version");
        let Some(head) = self.store.get(&[keys::catalog_head()])?.pop().flatten() else { return Ok(None) };
        let version = u64::from_be_bytes(head.value.as_ref().try_into().map_err(|_| damaged())?);
        let document =
            self.store.get(&[keys::catalog_version(version)])?.pop().flatten().ok_or_else(damaged)?;
        Ok(Some((version, document.value)))
    }

    /// The tenants that the catalog names, by contract or by name.
    pub(crate) fn profiles(&self) -> Result<BTreeMap<String, Profile>, Problem> {
        let Some((_, document)) = self.catalog()? else { return Ok(BTreeMap::new()) };
        let names: Names = serde_json::from_slice(&document).map_err(|error| Problem::internal(&error))?;
        let mut profiles = BTreeMap::new();
        for contract in names.contracts {
            profiles.insert(contract.tenant_id, Profile::default());
        }
        for tenant in names.tenants {
            let profile = Profile { name: tenant.name, source_id: tenant.source_id };
            profiles.insert(tenant.tenant_id, profile);
        }
        Ok(profiles)
    }
}
